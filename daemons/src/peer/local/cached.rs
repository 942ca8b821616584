//! `ImportTask`, `StatTask`, `ExportTask`, `DeleteTask` and what our own tools ask beside them.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use df_api::base::UrlMeta;
use df_api::dfdaemon as wire;
use df_api::failure::{Code, Failure};
use df_api::task::{LABEL_LIMIT, TaskRequest};
use df_core::piece::ByteRange;
use futures_util::stream::BoxStream;
use tonic::Status;

use super::caller::Caller;
use super::offer::Offers;
use super::target::{Copy, Target};
use crate::env::net::Remote;
use crate::peer::Peer;
use crate::peer::cached::import::{self, Source, Wish};
use crate::peer::store::index::IndexRecord;

/// Entries of a list in one message.
const LIST_BATCH: usize = 500;

/// Longest path accepted, in bytes (that of Linux).
const PATH_LIMIT: usize = 4096;

/// The content a request names.
pub(super) fn named(cid: &str, meta: Option<&UrlMeta>) -> Result<TaskRequest, Failure> {
    TaskRequest::cached(cid, meta.map_or("", |meta| &meta.tag))
}

/// Imports what the caller offered, or a file by its path.
pub(super) async fn import(
    peer: &Peer,
    offers: &Offers,
    caller: Remote,
    request: wire::ImportTaskRequest,
) -> Result<wire::ImportTaskResult, Failure> {
    let mut name = named(&request.cid, request.url_meta.as_ref())?;
    if request.no_verify {
        name.meta.digest.clear();
    }
    name.meta.application = request.url_meta.map(|meta| meta.application).unwrap_or_default();
    if name.meta.application.len() > LABEL_LIMIT {
        return Err(Failure::new(Code::Usage, format!("the application has more than {LABEL_LIMIT} bytes")));
    }
    if request.piece_length > df_core::piece::plan::PIECE_LEN_LIMIT {
        return Err(Failure::new(Code::Usage, "the piece length is too long"));
    }
    let _place = offers.place()?;
    let source = if request.path.is_empty() {
        offers.redeem(&request.ticket, caller)?
    } else {
        Source::File(open_as(peer, caller, &request.path).await?)
    };
    let wish = Wish {
        request: name,
        piece_len: request.piece_length,
        ttl_ms: request.ttl,
        replicas: request.replicas,
        is_hard_link: request.hard_link,
    };
    import::import(peer, wish, source).await
}

/// Opens a file that a caller names, with the caller's rights. What is no file has no end, and opening
/// it must not wait for one.
async fn open_as(peer: &Peer, remote: Remote, path: &str) -> Result<File, Failure> {
    let caller = Caller::of(Some(remote))?;
    if path.len() > PATH_LIMIT || path.contains('\0') || !Path::new(path).is_absolute() {
        return Err(Failure::new(Code::Usage, "the path is not an absolute one"));
    }
    let shown = path.to_owned();
    let open = {
        let (disk, path) = (peer.env().disk.clone(), shown.clone());
        move || disk.open_foreign(Path::new(&path))
    };
    let opened = caller.act(peer.env(), open).await;
    let cannot = |error| Failure::new(Code::LocalIo, format!("cannot read {shown}")).because(error);
    opened.map_err(cannot)
}

/// Exports a content to a path, for a Dragonfly v1 client: written with its rights, under its name when
/// it is whole.
pub(super) async fn export_to(peer: &Peer, remote: Remote, request: wire::ExportTaskRequest) -> Result<(), Failure> {
    let name = named(&request.cid, request.url_meta.as_ref())?;
    let caller = Caller::of(Some(remote))?;
    let owner = caller.owner(request.uid, request.gid)?;
    // v1 clients send a Go duration.
    let term = Duration::from_nanos(request.timeout);
    let work = async {
        let target = Target::open(peer.env(), caller, owner, &request.output, false).await?;
        let rate = super::download::rate_of(request.limit);
        let waiting = peer.export(name, request.local_only, false, rate).await?;
        let mut outcome = waiting.job().outcome();
        let ended = outcome.wait_for(Option::is_some).await.ok().and_then(|ended| ended.clone());
        ended.unwrap_or_else(|| Err(Failure::new(Code::Internal, "the export has no end")))?;
        let stored = waiting.job().stored.clone();
        let len = stored.plan().and_then(|plan| plan.content_len()).unwrap_or(0);
        let copy = Copy { stored, range: ByteRange { start: 0, len }, digest: None };
        target.fill(peer.env(), copy).await
    };
    if term.is_zero() {
        return work.await;
    }
    let late = |_| Err(Failure::new(Code::Timeout, "the export took longer than it may"));
    tokio::time::timeout(term, work).await.unwrap_or_else(late)
}

/// Cached contents that are here, in batches.
pub(super) fn list(peer: &Peer, tag: &str) -> BoxStream<'static, Result<wire::ListResult, Status>> {
    let is_meant = |record: &IndexRecord| !record.cid.is_empty() && (tag.is_empty() || record.tag == tag);
    let records = peer.store().records().into_iter().filter(|(_, record)| is_meant(record));
    let entries: Vec<wire::ListEntry> = records
        .map(|(task, record)| wire::ListEntry {
            cid: record.cid,
            tag: record.tag,
            task_id: task.to_string(),
            content_length: record.content_len,
            stored_length: record.stored_bytes,
            is_complete: record.is_complete,
            is_pinned: record.is_pinned,
            created: record.created_secs,
            used: record.used_secs,
            expires: record.expires_secs,
            application: record.application,
        })
        .collect();
    let batches: Vec<_> =
        entries.chunks(LIST_BATCH).map(|some| Ok(wire::ListResult { entries: some.to_vec() })).collect();
    Box::pin(tokio_stream::iter(batches))
}
