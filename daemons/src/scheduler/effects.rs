//! Carrying out what the scheduler's machine decides: messages on the hosts' streams.

use df_api::convert;
use df_api::failure::{Code, Failure};
use df_api::scheduler as wire;
use df_api::scheduler::scheduler_event::Event as Down;
use df_core::id::TaskId;
use df_core::machine::Machine;
use df_core::scheduler::{HostKey, Output, PeerKey, Refusal, Scheduler, TaskFailure};
use slotmap::Key;

use super::stream::{Books, Desk};
use super::v1::V1;
use crate::pump::Driver;

/// The scheduler's driver.
pub(super) struct Effects(Desk, V1);

impl Effects {
    pub(super) const fn new(desk: Desk, v1: V1) -> Self {
        Self(desk, v1)
    }
}

impl Driver<Scheduler> for Effects {
    fn act(&mut self, machine: &Scheduler, output: Output) {
        let mut books = self.0.books();
        if self.1.act(machine, &output, &books) {
            return;
        }
        match output {
            Output::HostAccepted { request, host } => books.host_accepted(request, host),
            Output::Registered { request, peer } => {
                books.registered(request, peer, stamp_of(machine, peer), self.0.inbox());
            }
            Output::Refuse { request, why: Refusal::Deleted } => books.refused_deleted(request, machine),
            Output::Refuse { request, why } => books.refused(request, refusal(why)),
            Output::TellPlan { peer, plan } => {
                let (plan, stamp) = (Some(convert::plan_message(&plan)), stamp_of(machine, peer));
                let version = machine.source_version(peer);
                books.tell(peer, |session| Down::Plan(wire::TellPlan { session, plan, stamp, version }));
            }
            Output::Reassure { peer } => books.tell(peer, |session| Down::Reassure(wire::Reassure { session })),
            Output::TellDigests { peer, from, to } => {
                let known = machine.digests(peer).get(from as usize..to as usize).unwrap_or_default();
                let digests = Some(convert::digests_message(known));
                books.tell(peer, |session| Down::Digests(wire::TellDigests { session, digests }));
            }
            Output::Grant { peer, grant, piece, parent } => {
                let transfer = machine.transfer(grant);
                let grant = grant.data().as_ffi();
                let parent =
                    machine.peer(parent).and_then(|view| books.parent(view.host).or_else(|| self.1.parent(view.host)));
                books.tell_grant(peer, (grant, transfer), |session| {
                    Down::Grant(wire::Grant { session, grant, piece: piece.get(), parent })
                });
            }
            Output::Revoke { peer, grant } => {
                let grant = grant.data().as_ffi();
                books.forget_grant(grant);
                books.tell(peer, |session| Down::Revoke(wire::Revoke { grant, session }));
            }
            Output::FetchSource { peer, from, to } => {
                books.tell(peer, |session| Down::FetchSource(wire::FetchSource { session, from, to }));
            }
            Output::TrimSource { peer, to } => {
                books.tell(peer, |session| Down::TrimSource(wire::TrimSource { session, to }));
            }
            Output::TaskTold { request, view } => match books.looker(request) {
                Some(look) => look(machine, &mut books),
                None => books.told(request, view),
            },
            Output::WakeSeed { host, task } => wake(&mut books, host, &task, false),
            Output::FailTask { peer, why } => fail(&mut books, machine, peer, why),
            Output::Forget { peer } => {
                let deleted = books.task(peer).and_then(|task| machine.tombstone(&task));
                books.forget(peer, deleted);
            }
            // Only v1 peers are offered parents, and they have been seen to.
            Output::OfferParents { .. } => {}
            Output::ListHost { host, until } => {
                let term = until - self.0.now();
                let id = machine.host(host).map(|info| info.id);
                tracing::warn!(host = ?id, term_secs = term.as_secs(), "host listed: several children accuse it");
                books.note_listed(host, self.0.now());
            }
        }
    }

    fn settled(&mut self, machine: &Scheduler) {
        debug_assert!(machine.poll_timeout().is_none_or(|deadline| deadline.at > df_core::time::Instant::ZERO));
        self.0.books().flush(self.0.now());
        self.1.expire();
    }
}

/// The version of a cached content's name, as a peer is told.
fn stamp_of(machine: &Scheduler, peer: PeerKey) -> u64 {
    machine.peer(peer).map_or(0, |view| view.stamp)
}

/// Has a host register for a task.
pub(super) fn wake(books: &mut Books, host: HostKey, task: &TaskId, is_preheat: bool) {
    let Some(wish) = books.wish(task) else { return };
    let wake = wire::WakeSeed {
        task_id: task.as_bytes().to_vec(),
        url: wish.url,
        url_meta: Some(wish.meta),
        piece_length: wish.piece_len,
        cid: wish.cid,
        is_preheat,
    };
    books.tell_host(host, Down::WakeSeed(wake));
}

fn fail(books: &mut Books, machine: &Scheduler, peer: PeerKey, why: TaskFailure) {
    let wish = books.task(peer).and_then(|task| books.wish(&task)).unwrap_or_default();
    let is_cached = !wish.cid.is_empty();
    let failure = match why {
        TaskFailure::Source => wish.failure.unwrap_or_else(|| Failure::new(Code::Network, "the source cannot be read")),
        TaskFailure::SourceChanged => Failure::new(Code::Protocol, "the content changed at its source"),
        TaskFailure::NoSource if is_cached => Failure::new(Code::NotFound, "no reachable peer has the content"),
        TaskFailure::NoSource => Failure::new(Code::NotFound, "no reachable peer has the content")
            .because("or only one that neither a second nor a seed peer confirms, and the source may not be asked")
            .hint("allow the source, or run a seed peer"),
    };
    if let Some(view) = machine.peer(peer) {
        books.note_failure(view.task, view.host_id, &failure);
    }
    let is_changed = why == TaskFailure::SourceChanged;
    books.tell(peer, |session| Down::FailTask(wire::FailTask { session, failure: Some(failure.into()), is_changed }));
}

pub(super) fn refusal(why: Refusal) -> Failure {
    match why {
        Refusal::Full => Failure::new(Code::Busy, "the scheduler has as many hosts, tasks or peers as it may have"),
        Refusal::PlanMismatch => {
            Failure::new(Code::Protocol, "the swarm's content is cut in another way, or is of another length")
        }
        Refusal::ContentMismatch => Failure::new(Code::Exists, "other hosts have other bytes under the same name")
            .hint("delete it first, or use another name or tag"),
        Refusal::Deleted => Failure::new(Code::NotFound, "the content was deleted"),
        Refusal::UnknownHost => Failure::new(Code::Busy, "the host's stream is over"),
    }
}
