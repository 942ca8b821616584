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
            Output::Registered { request, peer } => books.registered(request, peer, self.0.inbox()),
            Output::Refuse { request, why: Refusal::Deleted } => books.refused_deleted(request),
            Output::Refuse { request, why } => books.refused(request, refusal(why)),
            Output::TellPlan { peer, plan } => {
                let (plan, version) = (Some(convert::plan_message(&plan)), machine.source_version(peer));
                books.tell(peer, |session| Down::Plan(wire::TellPlan { session, plan, version }));
            }
            Output::TellDigests { peer, from, to } => {
                let known = machine.digests(peer).get(from as usize..to as usize).unwrap_or_default();
                let digests = Some(convert::digests_message(known));
                books.tell(peer, |session| Down::Digests(wire::TellDigests { session, digests }));
            }
            Output::Grant { peer, grant, piece, parent } => {
                let grant = grant.data().as_ffi();
                let parent =
                    machine.peer(parent).and_then(|view| books.parent(view.host).or_else(|| self.1.parent(view.host)));
                books.tell_grant(peer, grant, |session| {
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
            Output::TaskTold { request, view } => books.told(request, view),
            Output::WakeSeed { host, task } => wake(&mut books, host, &task),
            Output::FailTask { peer, why } => fail(&mut books, peer, why),
            Output::Forget { peer } => books.forget(peer),
            // Only v1 peers are offered parents, and they have been seen to.
            Output::OfferParents { .. } => {}
            Output::ListHost { host, until } => {
                let term = until - self.0.now();
                let id = machine.host(host).map(|info| info.id);
                tracing::warn!(host = ?id, term_secs = term.as_secs(), "host listed: several children accuse it");
            }
        }
    }

    fn settled(&mut self, machine: &Scheduler) {
        debug_assert!(machine.poll_timeout().is_none_or(|deadline| deadline.at > df_core::time::Instant::ZERO));
        self.0.books().flush(self.0.now());
        self.1.expire();
    }
}

fn wake(books: &mut Books, host: HostKey, task: &TaskId) {
    let Some(wish) = books.wish(task) else { return };
    let wake = wire::WakeSeed {
        task_id: task.as_bytes().to_vec(),
        url: wish.url,
        url_meta: Some(wish.meta),
        piece_length: wish.piece_len,
        cid: wish.cid,
    };
    books.tell_host(host, Down::WakeSeed(wake));
}

fn fail(books: &mut Books, peer: PeerKey, why: TaskFailure) {
    let said = books.task(peer).and_then(|task| books.wish(&task)).and_then(|wish| wish.failure);
    let failure = match why {
        TaskFailure::Source => said.unwrap_or_else(|| Failure::new(Code::Network, "the source cannot be read")),
        TaskFailure::SourceChanged => Failure::new(Code::Protocol, "the content changed at its source"),
        TaskFailure::NoSource => Failure::new(Code::NotFound, "no reachable peer has the content"),
    };
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
