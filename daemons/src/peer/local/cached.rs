//! `ImportTask`, `StatTask`, `ExportTask`, `DeleteTask` and what our own tools ask beside them.

use std::path::Path;

use df_api::base::UrlMeta;
use df_api::dfdaemon as wire;
use df_api::failure::{Code, Failure};
use df_api::task::TaskRequest;
use futures_util::stream::BoxStream;
use tonic::Status;

use super::offer::Offers;
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
    if request.piece_length > df_core::piece::plan::PIECE_LEN_LIMIT {
        return Err(Failure::new(Code::Usage, "the piece length is too long"));
    }
    let _place = offers.place()?;
    let source = if request.path.is_empty() {
        offers.redeem(&request.ticket, caller)?
    } else {
        let path = own_path(caller, &request.path)?;
        let shown = request.path.clone();
        let disk = peer.env().disk.clone();
        let opened = peer.env().blocking(move || disk.open_foreign(&path)).await;
        let cannot = |error| Failure::new(Code::LocalIo, format!("cannot read {shown}")).because(error);
        Source::File(opened.map_err(cannot)?)
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

/// A path that a caller names is opened only for one that runs as the daemon does: anybody else would
/// borrow its rights.
fn own_path(caller: Remote, path: &str) -> Result<std::path::PathBuf, Failure> {
    let own = rustix::process::geteuid().as_raw();
    if !matches!(caller, Remote::Local { uid, .. } if uid == own) {
        return Err(Failure::new(Code::Blocked, "the daemon opens no paths for other users")
            .hint("use our dfcache, which opens its files itself"));
    }
    let is_path = path.len() <= PATH_LIMIT && !path.contains('\0') && Path::new(path).is_absolute();
    is_path.then(|| path.into()).ok_or_else(|| Failure::new(Code::Usage, "the path is not an absolute one"))
}

/// Exports a content to a path, for a caller that runs as the daemon does (a Dragonfly v1 client).
pub(super) async fn export_to(peer: &Peer, caller: Remote, request: wire::ExportTaskRequest) -> Result<(), Failure> {
    let name = named(&request.cid, request.url_meta.as_ref())?;
    let path = own_path(caller, &request.output)?;
    let term = request.timeout;
    let work = async {
        let rate = super::download::rate_of(request.limit);
        let waiting = peer.export(name, request.local_only, false, rate).await?;
        let mut outcome = waiting.job().outcome();
        let ended = outcome.wait_for(Option::is_some).await.ok().and_then(|ended| ended.clone());
        ended.unwrap_or_else(|| Err(Failure::new(Code::Internal, "the export has no end")))?;
        let stored = waiting.job().stored.clone();
        peer.env().blocking(move || crate::client::deliver(&stored, &path)).await
    };
    if term == 0 {
        return work.await;
    }
    let late = |_| Err(Failure::new(Code::Timeout, "the export took longer than it may"));
    tokio::time::timeout(std::time::Duration::from_millis(term), work).await.unwrap_or_else(late)
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
        })
        .collect();
    let batches: Vec<_> =
        entries.chunks(LIST_BATCH).map(|some| Ok(wire::ListResult { entries: some.to_vec() })).collect();
    Box::pin(tokio_stream::iter(batches))
}
