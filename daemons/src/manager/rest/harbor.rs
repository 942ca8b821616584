//! Jobs as Harbor's preheat drivers write and read them: since 2.12 as Dragonfly's open API has them,
//! before as its first API had.

use std::collections::BTreeMap;
use std::time::Duration;

use df_api::failure::{Code, Failure};
use df_api::manager as wire;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// A job as it is asked for. What is not known is read over.
#[derive(Deserialize)]
pub(super) struct JobRequest {
    r#type: String,
    #[serde(default)]
    args: JobArgs,
    #[serde(default)]
    scheduler_cluster_ids: Option<Vec<u64>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct JobArgs {
    r#type: String,
    url: String,
    urls: Vec<String>,
    tag: String,
    application: String,
    /// With `&` between them.
    filtered_query_params: String,
    headers: Option<BTreeMap<String, String>>,
    username: String,
    password: String,
    platform: String,
    piece_length: Option<u64>,
    scope: String,
    ips: Vec<String>,
    count: Option<u32>,
    percentage: Option<u32>,
    concurrent_task_count: u32,
    concurrent_peer_count: u32,
    /// Nanoseconds, as Go writes durations.
    timeout: u64,
}

impl JobRequest {
    /// What is wanted.
    pub(super) fn preheat(self) -> Result<wire::PreheatRequest, Failure> {
        let usage = |message: String| Failure::new(Code::Usage, message);
        if self.r#type != "preheat" {
            return Err(usage(format!("jobs of type {:?} are not made here; preheat is", self.r#type)));
        }
        let args = self.args;
        let kind = match args.r#type.as_str() {
            "image" => wire::PreheatType::Image,
            "file" => wire::PreheatType::File,
            other => return Err(usage(format!("args.type is {other:?}; image and file are known"))),
        };
        let scope = match args.scope.as_str() {
            "" | "single_seed_peer" => wire::PreheatScope::SingleSeedPeer,
            "all_seed_peers" => wire::PreheatScope::AllSeedPeers,
            "all_peers" => wire::PreheatScope::AllPeers,
            other => return Err(usage(format!("there is no scope {other:?}"))),
        };
        let mut urls = args.urls;
        if !args.url.is_empty() {
            urls.insert(0, args.url);
        }
        let filtered = args.filtered_query_params.split('&').filter(|name| !name.is_empty());
        Ok(wire::PreheatRequest {
            r#type: kind.into(),
            urls,
            platform: args.platform,
            headers: args.headers.unwrap_or_default(),
            username: args.username,
            password: args.password,
            tag: args.tag,
            application: args.application,
            filtered_query_params: filtered.map(str::to_owned).collect(),
            piece_length: args.piece_length.unwrap_or_default(),
            scope: scope.into(),
            ips: args.ips,
            count: args.count.unwrap_or_default(),
            percentage: args.percentage.unwrap_or_default(),
            concurrent_task_limit: args.concurrent_task_count,
            concurrent_host_limit: args.concurrent_peer_count,
            timeout_ms: u64::try_from(Duration::from_nanos(args.timeout).as_millis()).unwrap_or(u64::MAX),
            cluster_ids: self.scheduler_cluster_ids.unwrap_or_default(),
            is_dry_run: false,
        })
    }
}

fn time(at_ms: u64) -> String {
    let ms = i64::try_from(at_ms).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

/// Harbor takes any other word for a failure.
const fn state(job: wire::JobState) -> &'static str {
    use wire::JobState as S;
    match job {
        S::Resolving | S::Preheating | S::Planned => "PENDING",
        S::Succeeded | S::PartlySucceeded => "SUCCESS",
        S::JobFailed | S::Cancelled | S::TimedOut => "FAILURE",
    }
}

/// Why a job that did not succeed did not; empty if it did, or is not over.
fn error(job: &wire::Job) -> String {
    match job.state() {
        wire::JobState::Cancelled => "it was cancelled".to_owned(),
        wire::JobState::TimedOut => "it took too long".to_owned(),
        _ => job.failure.clone(),
    }
}

/// A job since Harbor 2.12.
pub(super) fn job(job: &wire::Job) -> Value {
    let kind = if job.r#type() == wire::PreheatType::Image { "image" } else { "file" };
    let scope = match job.scope() {
        wire::PreheatScope::SingleSeedPeer => "single_seed_peer",
        wire::PreheatScope::AllSeedPeers => "all_seed_peers",
        wire::PreheatScope::AllPeers => "all_peers",
    };
    let clusters: Vec<Value> = job.cluster_ids.iter().map(|id| json!({ "id": id })).collect();
    json!({
        "id": job.id,
        "created_at": time(job.created_at_ms),
        "updated_at": time(job.updated_at_ms),
        "task_id": format!("group_{}", job.id),
        "bio": "",
        "type": "preheat",
        "state": state(job.state()),
        // Without headers and passwords.
        "args": {
            "type": kind,
            "url": job.urls.first(),
            "urls": job.urls,
            "tag": job.tag,
            "application": job.application,
            "platform": job.platform,
            "scope": scope,
        },
        "result": result(job),
        "scheduler_clusters": clusters,
    })
}

fn result(job: &wire::Job) -> Value {
    let mut results: BTreeMap<u64, (Vec<Value>, Vec<Value>)> = BTreeMap::new();
    for part in &job.parts {
        let (good, bad) = results.entry(part.cluster_id).or_default();
        for target in &part.target_list {
            let mut row = Map::new();
            row.insert("url".to_owned(), part.url.clone().into());
            row.insert("hostname".to_owned(), target.hostname.clone().into());
            row.insert("ip".to_owned(), target.ip.clone().into());
            match target.state() {
                wire::TargetState::Finished => good.push(row.into()),
                wire::TargetState::GaveUp => {
                    row.insert("description".to_owned(), target.failure.clone().into());
                    bad.push(row.into());
                }
                _ => {}
            }
        }
        if part.target_list.is_empty() && part.state() == wire::PartState::PartFailed {
            bad.push(json!({ "url": part.url, "hostname": "", "ip": "", "description": part.failure }));
        }
    }
    let results: Vec<Value> = results
        .into_iter()
        .map(|(cluster, (good, bad))| {
            json!({ "success_tasks": good, "failure_tasks": bad, "scheduler_cluster_id": cluster })
        })
        .collect();
    json!({ "job_states": [{ "error": error(job), "results": results }] })
}

/// A preheat as Harbor before 2.12 asks for it; Go reads keys in any case, and so do we.
#[derive(Deserialize)]
#[serde(from = "Map<String, Value>")]
pub(super) struct OldRequest {
    is_file: bool,
    url: String,
    headers: BTreeMap<String, String>,
}

impl From<Map<String, Value>> for OldRequest {
    fn from(body: Map<String, Value>) -> Self {
        let body: BTreeMap<String, Value> =
            body.into_iter().map(|(key, value)| (key.to_ascii_lowercase(), value)).collect();
        let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let headers = body.get("headers").and_then(Value::as_object);
        let header = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
        Self {
            is_file: text("type") == "file",
            url: text("url"),
            headers: headers.map(|all| all.iter().filter_map(header).collect()).unwrap_or_default(),
        }
    }
}

impl OldRequest {
    pub(super) fn preheat(self) -> wire::PreheatRequest {
        let kind = if self.is_file { wire::PreheatType::File } else { wire::PreheatType::Image };
        wire::PreheatRequest {
            r#type: kind.into(),
            urls: vec![self.url],
            headers: self.headers,
            ..wire::PreheatRequest::default()
        }
    }
}

/// A job before Harbor 2.12.
pub(super) fn old_job(job: &wire::Job) -> Value {
    use wire::JobState as S;
    let (status, is_over) = match job.state() {
        S::Resolving => ("WAITING", false),
        S::Preheating | S::Planned => ("RUNNING", false),
        S::Succeeded | S::PartlySucceeded => ("SUCCESS", true),
        S::JobFailed | S::Cancelled | S::TimedOut => ("FAIL", true),
    };
    json!({
        "ID": job.id.to_string(),
        "StartTime": time(job.created_at_ms),
        "FinishTime": if is_over { time(job.updated_at_ms) } else { String::new() },
        "Status": status,
        "ErrorMsg": error(job),
    })
}
