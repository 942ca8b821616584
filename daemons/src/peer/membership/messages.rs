//! Messages to a scheduler: what goes up, in batches, and how long the answer takes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use df_api::base::UrlMeta;
use df_api::convert;
use df_api::scheduler::host_event::Event as Up;
use df_api::scheduler::{self as wire, AnnounceRequest, HostEvent};
use df_core::downloader::Report;
use df_core::id::{PieceDigest, TaskId};
use df_core::time::Instant;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;

use super::{BATCH_LIMIT, DIGEST_LIMIT, PENDING_LIMIT, Peer};
use crate::env::Env;
use crate::peer::store::Deletion;
use crate::sync::lock;

/// Deletions told at once.
const DELETION_BATCH: usize = 1000;

/// Events gathered into messages, as many as wait.
pub(super) fn outgoing(
    mut events: mpsc::Receiver<HostEvent>,
    clock: RoundTrips,
) -> impl tokio_stream::Stream<Item = AnnounceRequest> + Send {
    async_stream::stream! {
        let mut sequence = 0;
        while let Some(event) = events.recv().await {
            let mut batch = vec![event];
            while batch.len() < BATCH_LIMIT && let Ok(event) = events.try_recv() {
                batch.push(event);
            }
            sequence += 1;
            clock.sent(sequence);
            yield AnnounceRequest { sequence, events: batch };
        }
    }
    .fuse()
}

/// Measures control round trips by the sequence numbers of messages.
#[derive(Clone)]
pub(super) struct RoundTrips {
    env: Env,
    pending: Arc<Mutex<BTreeMap<u64, Instant>>>,
}

impl RoundTrips {
    pub(super) fn new(env: Env) -> Self {
        Self { env, pending: Arc::default() }
    }

    pub(super) fn sent(&self, sequence: u64) {
        let mut pending = lock(&self.pending);
        if pending.len() >= PENDING_LIMIT {
            pending.pop_first();
        }
        pending.insert(sequence, self.env.clock.now());
    }

    pub(super) fn answered(&self, sequence: u64, ago: Duration) -> Option<Duration> {
        let mut pending = lock(&self.pending);
        let sent = pending.remove(&sequence)?;
        pending.retain(|older, _| *older > sequence);
        Some((self.env.clock.now() - sent).saturating_sub(ago))
    }
}

/// What this host has of a task, as its scheduler is told.
pub(super) fn registration(peer: &Peer, task: &TaskId) -> Option<wire::Register> {
    let job = peer.job(task);
    let stored = match &job {
        Some(job) => job.stored.clone(),
        None => peer.store().look(task)?,
    };
    let (label, keeping) = (stored.label(), stored.keeping());
    let mut held = stored.held();
    let mut digests: Vec<(u32, PieceDigest)> = stored.digests();
    if digests.len() > DIGEST_LIMIT {
        digests.truncate(DIGEST_LIMIT);
        held = held.iter().take_while(|piece| digests.iter().any(|(number, _)| *number == piece.get())).collect();
    }
    let (url, meta, piece_len, can_fetch_source) = match &job {
        _ if !label.cid.is_empty() => {
            let meta = UrlMeta { tag: label.tag.clone(), ..UrlMeta::default() };
            (String::new(), Some(meta), 0, false)
        }
        Some(job) => {
            let request = &job.request;
            (request.url.to_string(), Some(request.meta.clone()), request.piece_len, job.options().may_fetch_source)
        }
        None => (String::new(), None, 0, false),
    };
    Some(wire::Register {
        session: 0,
        task_id: task.as_bytes().to_vec(),
        peer_id: peer.peer_id(task).as_bytes().to_vec(),
        url,
        url_meta: meta,
        plan: stored.plan().map(|plan| convert::plan_message(&plan)),
        held: held.to_bytes(),
        digests: Some(convert::digests_message(&digests)),
        // Whoever announces what is here must not end what somebody waits for.
        is_wanting: job.is_some(),
        can_fetch_source,
        spares_seeds: job.as_ref().is_some_and(|job| !job.options().wakes_seeds),
        piece_length: piece_len,
        is_migrating: !held.is_empty(),
        cid: label.cid.clone(),
        is_imported: stored.is_unconfirmed(),
        replicas: keeping.replicas,
        stamp: stored.stamp(),
        version: if held.is_empty() { 0 } else { stored.version_hash() },
    })
}

/// Deletions this host has heard of, in messages of a sound length.
pub(super) fn deletions(known: &[Deletion]) -> impl Iterator<Item = HostEvent> + '_ {
    known.chunks(DELETION_BATCH).map(|some| {
        let told = wire::Deletions {
            task_ids: some.iter().flat_map(|deletion| *deletion.task.as_bytes()).collect(),
            stamps: some.iter().map(|deletion| deletion.stamp).collect(),
            ages_secs: some.iter().map(|deletion| deletion.age.as_secs()).collect(),
        };
        HostEvent { event: Some(Up::Deletions(told)) }
    })
}

pub(super) fn report_event(session: u64, report: Report) -> Up {
    match report {
        Report::NearlyFinished { grant } => Up::NearlyFinished(wire::NearlyFinished { grant: grant.0 }),
        Report::Progressed { grant } => Up::Progressed(wire::Progressed { grant: grant.0 }),
        Report::Finished { grant } => Up::PieceFinished(wire::PieceFinished { grant: grant.0 }),
        Report::Failed { grant, failure } => Up::PieceFailed(wire::PieceFailed {
            grant: grant.0,
            failure: convert::piece_failure_message(failure).into(),
        }),
        Report::Held { piece } => Up::PieceHeld(wire::PieceHeld { session, piece: piece.get() }),
        Report::PlanLearned { plan, is_ranged, version } => {
            Up::PlanLearned(wire::PlanLearned { session, plan: Some(convert::plan_message(&plan)), is_ranged, version })
        }
        Report::SourceStarted { piece } => Up::SourceStarted(wire::SourceStarted { session, piece: piece.get() }),
        Report::SourceProgressed => Up::SourceProgressed(wire::SourceProgressed { session }),
        Report::SourceStored { piece, digest } => {
            Up::SourceStored(wire::SourceStored { session, piece: piece.get(), blake3: digest.as_bytes().to_vec() })
        }
        Report::SourceEnded => Up::SourceEnded(wire::SourceEnded { session }),
        Report::SourceFailed { failure } => Up::SourceFailed(wire::SourceFailed {
            session,
            is_final: failure.is_final,
            is_changed: failure.is_changed,
            failure: None,
        }),
        Report::Done => Up::PeerDone(wire::PeerDone { session }),
        Report::Stopped => Up::PeerStopped(wire::PeerStopped { session }),
    }
}
