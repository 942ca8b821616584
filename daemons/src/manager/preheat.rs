//! Preheats on the manager's side: which contents a job is about, and what schedulers are told of them.

mod image;
mod registry;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use df_api::base::UrlMeta;
use df_api::failure::{Code, Failure};
use df_api::manager as wire;
use df_api::task::{TaskRequest, redacted};
use df_core::registry::preheat::Selection;
use df_core::registry::{ClusterId, Input, Job, JobId, JobSpec, PartSpec};
use prost::Message;
use url::Url;

use super::convert;
use super::desk::Desk;
use crate::peer::source::SourceClient;
use image::Platform;
use registry::Registry;

/// URLs of one job.
const URL_LIMIT: usize = 100;

/// Contents of one job.
const PART_LIMIT: usize = 512;

/// Dragonfly's defaults and limits.
const PARTS_AT_ONCE: u32 = 8;
const PARTS_AT_ONCE_LIMIT: u32 = 100;
const HOSTS_AT_ONCE: u32 = 500;
const HOSTS_AT_ONCE_LIMIT: u32 = 1000;
const TIMEOUT: Duration = Duration::from_secs(3600);
const TIMEOUT_LIMIT: Duration = Duration::from_secs(24 * 3600);
const IP_LIMIT: usize = 100;
const COUNT_LIMIT: u32 = 200;
const PIECE_LEN_FLOOR: u64 = 4 << 20;
const PIECE_LEN_LIMIT: u64 = 64 << 20;

/// What is kept of a job besides what the registry knows: with its secrets in memory, without them in
/// the store.
#[derive(Clone, Default)]
pub(super) struct Order {
    request: wire::PreheatRequest,
    /// Headers for the contents: secrets.
    headers: BTreeMap<String, String>,
    contents: Vec<Content>,
}

/// One content, as the store knows it.
#[derive(Clone, PartialEq, Message)]
struct Content {
    #[prost(string, tag = "1")]
    url: String,
    /// Without headers.
    #[prost(message, optional, tag = "2")]
    meta: Option<UrlMeta>,
    #[prost(uint64, tag = "3")]
    piece_len: u64,
}

/// An order in the store.
#[derive(Clone, PartialEq, Message)]
struct StoredOrder {
    #[prost(message, optional, tag = "1")]
    request: Option<wire::PreheatRequest>,
    #[prost(message, repeated, tag = "2")]
    contents: Vec<Content>,
}

impl Order {
    /// Without secrets: whoever reads the store can ask for nothing with it.
    pub(super) fn stored(&self) -> Vec<u8> {
        let request = wire::PreheatRequest {
            headers: BTreeMap::new(),
            username: String::new(),
            password: String::new(),
            ..self.request.clone()
        };
        StoredOrder { request: Some(request), contents: self.contents.clone() }.encode_to_vec()
    }

    /// What the store has of it.
    pub(super) fn restored(bytes: &[u8]) -> Self {
        let stored = StoredOrder::decode(bytes).unwrap_or_default();
        Self { request: stored.request.unwrap_or_default(), headers: BTreeMap::new(), contents: stored.contents }
    }

    /// What a scheduler is told of a part: every cluster has the same contents.
    pub(super) fn part(&self, id: JobId, job: &Job, part: u32, left: Duration) -> Option<wire::PreheatPart> {
        let known = job.parts.get(part as usize)?;
        let content = self.contents.get(part as usize % self.contents.len().max(1))?;
        let mut meta = content.meta.clone().unwrap_or_default();
        meta.header = self.headers.clone();
        let selection = &job.spec.selection;
        Some(wire::PreheatPart {
            job_id: id.0,
            part,
            task_id: known.spec.task.as_bytes().to_vec(),
            url: content.url.clone(),
            url_meta: Some(meta),
            piece_length: content.piece_len,
            scope: convert::scope_message(selection.scope).into(),
            ips: selection.ips.iter().map(ToString::to_string).collect(),
            count: selection.count,
            percentage: selection.percentage,
            concurrent_host_limit: job.spec.concurrent_host_limit,
            timeout_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
        })
    }
}

fn usage(message: impl Into<String>) -> Failure {
    Failure::new(Code::Usage, message)
}

/// A number that may be left out.
fn within(what: &str, given: u32, otherwise: u32, limit: u32) -> Result<u32, Failure> {
    match given {
        0 => Ok(otherwise),
        given if given <= limit => Ok(given),
        given => Err(usage(format!("{what} is {given}; at most {limit} is accepted"))),
    }
}

/// What is asked for, checked.
pub(super) fn spec(request: &wire::PreheatRequest, user: &str, now_ms: u64) -> Result<JobSpec, Failure> {
    if request.urls.is_empty() || request.urls.len() > URL_LIMIT {
        return Err(usage(format!("a preheat has 1 to {URL_LIMIT} URLs")));
    }
    let is_image = request.r#type() == wire::PreheatType::Image;
    let shown = request.urls.iter().map(|text| shown_url(text, is_image)).collect::<Result<Vec<_>, _>>()?;
    if !request.platform.is_empty() {
        request.platform.parse::<Platform>()?;
    }
    if request.ips.len() > IP_LIMIT {
        return Err(usage(format!("at most {IP_LIMIT} addresses are accepted")));
    }
    let ip = |text: &String| text.parse::<IpAddr>().map_err(|_| usage(format!("{text:?} is not an IP address")));
    if request.piece_length != 0 && !(PIECE_LEN_FLOOR..=PIECE_LEN_LIMIT).contains(&request.piece_length) {
        return Err(usage("a piece length is from 4 MiB to 64 MiB"));
    }
    let timeout = Duration::from_millis(request.timeout_ms);
    if timeout > TIMEOUT_LIMIT {
        return Err(usage("a preheat takes a day at most"));
    }
    // Every one of its parts becomes such a request: it is wrong now or never.
    let meta = meta(request, "");
    for (text, _) in request.urls.iter().zip(&shown).filter(|_| !is_image) {
        TaskRequest::new(text, UrlMeta { header: request.headers.clone(), ..meta.clone() }, request.piece_length)?;
    }
    Ok(JobSpec {
        is_image,
        urls: shown,
        platform: request.platform.clone(),
        tag: request.tag.clone(),
        application: request.application.clone(),
        selection: Selection {
            scope: convert::scope(request.scope()),
            ips: request.ips.iter().map(ip).collect::<Result<_, _>>()?,
            count: within("count", request.count, 0, COUNT_LIMIT)?,
            percentage: within("percentage", request.percentage, 0, 100)?,
        },
        clusters: request.cluster_ids.iter().map(|id| ClusterId(*id)).collect(),
        concurrent_part_limit: within(
            "concurrent_task_limit",
            request.concurrent_task_limit,
            PARTS_AT_ONCE,
            PARTS_AT_ONCE_LIMIT,
        )?,
        concurrent_host_limit: within(
            "concurrent_host_limit",
            request.concurrent_host_limit,
            HOSTS_AT_ONCE,
            HOSTS_AT_ONCE_LIMIT,
        )?,
        timeout: if timeout.is_zero() { TIMEOUT } else { timeout },
        created_by: user.to_owned(),
        created_at_ms: now_ms,
        ticket: 0,
    })
}

fn shown_url(text: &str, is_image: bool) -> Result<String, Failure> {
    let url = if is_image { image::manifest_url(text)? } else { http_url(text)? };
    Ok(redacted(&url))
}

fn http_url(text: &str) -> Result<Url, Failure> {
    let url = Url::parse(text).map_err(|error| usage(format!("{text:?} is not a URL")).because(error))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(usage(format!("{:?} sources cannot be preheated", url.scheme())));
    }
    Ok(url)
}

fn meta(request: &wire::PreheatRequest, digest: &str) -> UrlMeta {
    UrlMeta {
        digest: digest.to_owned(),
        tag: request.tag.clone(),
        application: request.application.clone(),
        filter: request.filtered_query_params.join("&"),
        ..UrlMeta::default()
    }
}

/// Finds out what jobs are about. Cheap to clone.
#[derive(Clone)]
pub(super) struct Preheater {
    desk: Desk,
    source: SourceClient,
}

impl Preheater {
    pub(super) const fn new(desk: Desk, source: SourceClient) -> Self {
        Self { desk, source }
    }

    /// Takes a request for a job: answers what the registry is to be told.
    pub(super) fn take(&self, request: wire::PreheatRequest, user: &str) -> Result<JobSpec, Failure> {
        let mut spec = spec(&request, user, self.desk.times().now_ms())?;
        spec.ticket = self.desk.next();
        let order = Order { headers: request.headers.clone(), request, contents: Vec::new() };
        self.desk.keep_order(spec.ticket, order);
        Ok(spec)
    }

    /// What a job would be about, without making one.
    pub(super) async fn plan(&self, request: wire::PreheatRequest, user: &str) -> Result<wire::Job, Failure> {
        let times = self.desk.times();
        let spec = spec(&request, user, times.now_ms())?;
        let mut order = Order { headers: request.headers.clone(), request, contents: Vec::new() };
        let parts = self.contents(&mut order).await?;
        let part = |(number, part): (usize, PartSpec)| wire::JobPart {
            number: u32::try_from(number).unwrap_or(u32::MAX),
            url: part.url,
            digest: part.digest,
            task_id: part.task.as_bytes().to_vec(),
            content_length: part.content_len,
            ..wire::JobPart::default()
        };
        let parts: Vec<wire::JobPart> = parts.into_iter().enumerate().map(part).collect();
        Ok(wire::Job {
            r#type: order.request.r#type,
            urls: spec.urls,
            platform: spec.platform,
            scope: order.request.scope,
            state: wire::JobState::Planned.into(),
            created_by: user.to_owned(),
            created_at_ms: times.now_ms(),
            part_count: u32::try_from(parts.len()).unwrap_or(u32::MAX),
            parts,
            ..wire::Job::default()
        })
    }

    /// Finds out what a job is about, in the background.
    pub(super) fn resolve(&self, job: JobId, spec: JobSpec) {
        let this = self.clone();
        tokio::spawn(async move {
            let Some(mut order) = this.desk.order(spec.ticket) else { return };
            let parts = match tokio::time::timeout(spec.timeout, this.contents(&mut order)).await {
                Ok(parts) => parts.map_err(|failure| failure.to_string()),
                Err(_) => Err("its manifests did not come in time".to_owned()),
            };
            // What a registry gave for the manifests goes with the contents.
            this.desk.keep_order(spec.ticket, order);
            this.desk.tell(Input::JobResolved { job, parts }).await;
        });
    }

    /// The contents of an order, which then knows how to ask for them.
    async fn contents(&self, order: &mut Order) -> Result<Vec<PartSpec>, Failure> {
        let request = order.request.clone();
        let mut found = Vec::new();
        if request.r#type() == wire::PreheatType::File {
            let file = |url: &String| (url.clone(), String::new(), None);
            found.extend(request.urls.iter().map(file));
        } else {
            let platform = match request.platform.as_str() {
                "" => None,
                text => Some(text.parse::<Platform>()?),
            };
            for text in &request.urls {
                let manifest = image::manifest_url(text)?;
                let mut registry = Registry::new(self.source.clone(), &order.headers, &request);
                let blobs = image::blobs(&mut registry, &manifest, platform.as_ref()).await?;
                order.headers = registry.into_headers();
                found.extend(blobs.into_iter().map(|blob| (blob.url, blob.digest, Some(blob.len))));
            }
        }
        if found.len() > PART_LIMIT {
            return Err(usage(format!("{} contents are more than {PART_LIMIT}", found.len())));
        }
        let mut parts = Vec::new();
        for (url, digest, content_len) in found {
            let meta = meta(&request, &digest);
            let with_headers = UrlMeta { header: order.headers.clone(), ..meta.clone() };
            let task = TaskRequest::new(&url, with_headers, request.piece_length)?;
            parts.push(PartSpec { url: redacted(&task.url), digest, task: task.id(), content_len });
            order.contents.push(Content { url, meta: Some(meta), piece_len: request.piece_length });
        }
        Ok(parts)
    }
}
