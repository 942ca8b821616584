//! What goes between hosts and the scheduler.

use df_core::downloader::{self, Report};
use df_core::machine::Machine;
use df_core::scheduler::{self, GrantKey, Mode, PeerKey, PieceFailure, Registration, RequestId};
use slotmap::{Key, KeyData};

use super::super::names::{host_number, peer_id, task_id, task_number};
use super::node::Manner;
use super::{CHECK_LIMIT, Event, Full, Message, grant_id};

/// Tells registrations from announcements among requests.
const REGISTRATION: u64 = 1 << 63;

impl Full {
    /// The scheduler hears a host.
    pub(super) fn hear(&mut self, number: u32, incarnation: u32, message: Message) {
        if self.nodes[number as usize].incarnation != incarnation {
            return;
        }
        match message {
            Message::Register { task } => self.register(number, task),
            Message::Report { task, report } => {
                let Some(peer) = self.nodes[number as usize].peers[task] else { return };
                let report = match report {
                    Report::Finished { grant } if self.nodes[number as usize].manner == Manner::Slandering => {
                        Report::Failed { grant, failure: PieceFailure::Corrupt }
                    }
                    other => other,
                };
                self.tell_scheduler(translate(peer, report));
            }
        }
    }

    fn register(&mut self, number: u32, task: usize) {
        let node = &self.nodes[number as usize];
        let registration = Registration {
            request: RequestId(REGISTRATION | (task as u64) << 32 | u64::from(number)),
            host: node.key,
            peer: peer_id(number),
            task: task_id(task as u32),
            plan: None,
            held: node.held[task].clone(),
            digests: Vec::new(),
            version: 0,
            is_wanting: true,
            has_source: true,
            cached: None,
            can_fetch_source: true,
            wakes_seeds: true,
            order: self.order_of(number),
            mode: Mode::Granted,
        };
        self.tell_scheduler(scheduler::Input::PeerRegistered(Box::new(registration)));
    }

    pub(super) fn tell_scheduler(&mut self, input: scheduler::Input) {
        self.scheduler.handle_input(self.instant(), input);
        self.drain_scheduler();
    }

    pub(super) fn drain_scheduler(&mut self) {
        if cfg!(debug_assertions) && self.plan.peers <= CHECK_LIMIT {
            self.scheduler.check_invariants();
        }
        while let Some(output) = self.scheduler.poll_output() {
            self.carry_out(output);
        }
        if self.sweep_at == 0
            && let Some(deadline) = self.scheduler.poll_timeout()
        {
            self.sweep_at = deadline.at.as_micros().max(self.now + 1);
            self.wheel.add(self.sweep_at, Event::Sweep);
        }
    }

    fn carry_out(&mut self, output: scheduler::Output) {
        use df_core::scheduler::Output;
        match output {
            Output::HostAccepted { request, host } => self.nodes[request.0 as usize].key = host,
            Output::Registered { request, peer } => {
                let (number, task) = (request.0 as u32, (request.0 & !REGISTRATION) >> 32);
                self.nodes[number as usize].peers[task as usize] = Some(peer);
            }
            Output::Refuse { .. } | Output::OfferParents { .. } | Output::TaskTold { .. } => {}
            Output::TellPlan { peer, plan } => {
                self.send(peer, |task| downloader::Input::PlanTold { task, plan });
            }
            Output::Reassure { peer } => self.send(peer, |task| downloader::Input::Reassured { task }),
            Output::TellDigests { peer, from, to } => {
                let digests = self.scheduler.digests(peer)[from as usize..to as usize].to_vec();
                self.send(peer, |task| downloader::Input::DigestsTold { task, digests });
            }
            Output::Grant { peer, grant, piece, parent } => {
                let Some(parent) = self.scheduler.peer(parent).map(|view| view.host_id) else { return };
                self.tally.grants += 1;
                let grant = grant_id(grant.data().as_ffi());
                self.send(peer, |task| downloader::Input::Granted { task, grant, piece: piece.get(), parent });
            }
            Output::Revoke { peer, grant } => {
                let grant = grant_id(grant.data().as_ffi());
                self.send(peer, |task| downloader::Input::Revoked { task, grant });
            }
            Output::FetchSource { peer, from, to } => {
                self.send(peer, |task| downloader::Input::SourceGranted { task, from, to });
            }
            Output::TrimSource { peer, to } => {
                self.send(peer, |task| downloader::Input::SourceTrimmed { task, to });
            }
            Output::WakeSeed { host, task } => {
                if let Some(seed) = self.nodes.iter().position(|node| node.key == host) {
                    self.tally.messages += 1;
                    self.open(seed as u32, task_number(&task));
                }
            }
            Output::FailTask { peer, why } => self.send(peer, |task| downloader::Input::TaskRefused { task, why }),
            Output::Forget { .. } => {}
            Output::ListHost { host, .. } => {
                if let Some(info) = self.scheduler.host(host) {
                    let number = host_number(&info.id);
                    self.tally.hosts[number as usize].is_listed = true;
                }
            }
        }
    }

    /// A message to a peer. One that the scheduler has just taken out hears nothing.
    fn send(&mut self, peer: PeerKey, input: impl FnOnce(df_core::id::TaskId) -> downloader::Input) {
        if let Some(view) = self.scheduler.peer(peer) {
            self.tally.messages += 1;
            self.send_down(host_number(&view.host_id), input(view.task));
        }
    }
}

fn translate(peer: PeerKey, report: Report) -> scheduler::Input {
    use df_core::scheduler::Input;
    let key = |grant: downloader::GrantId| GrantKey::from(KeyData::from_ffi(grant.0));
    match report {
        Report::NearlyFinished { grant } => Input::NearlyFinished { grant: key(grant) },
        Report::Progressed { grant } => Input::Progressed { grant: key(grant) },
        Report::Finished { grant } => Input::PieceFinished { grant: key(grant) },
        Report::Failed { grant, failure } => Input::PieceFailed { grant: key(grant), failure },
        Report::Held { piece } => Input::PieceHeld { peer, piece: piece.get() },
        Report::PlanLearned { plan, is_ranged, version } => Input::PlanLearned { peer, plan, is_ranged, version },
        Report::SourceProgressed => Input::SourceProgressed { peer },
        Report::SourceStarted { piece } => Input::SourceStarted { peer, piece: piece.get() },
        Report::SourceStored { piece, digest } => Input::SourceStored { peer, piece: piece.get(), digest },
        Report::SourceEnded => Input::SourceEnded { peer },
        Report::SourceFailed { failure } => Input::SourceFailed { peer, failure },
        Report::Done => Input::PeerDone { peer },
        Report::Stopped => Input::PeerStopped { peer },
    }
}
