//! The wires between the scheduler of a town and its citizens.

use df_core::downloader::{self, GrantId, Report};
use df_core::id::PeerId;
use df_core::machine::Machine;
use df_core::piece::Order;
use df_core::scheduler::{self, GrantKey, Mode, PeerKey, Registration, RequestId};
use slotmap::{Key, KeyData};

use super::{Event, ToScheduler, Town};

impl Town {
    pub(super) fn input(&mut self, input: scheduler::Input) {
        self.note(format!("scheduler is told {input:?}"));
        if let Some(scheduler) = &mut self.scheduler {
            scheduler.handle_input(self.now, input);
        }
    }

    pub(super) fn hear(&mut self, who: usize, message: ToScheduler) {
        match message {
            ToScheduler::Register => self.register(who, true),
            ToScheduler::Input(input) => self.input(input),
            ToScheduler::Report(report) => {
                if let Some(input) = self.citizens[who].peer_key.and_then(|peer| translate(peer, report)) {
                    self.input(input);
                }
            }
        }
        self.drain_scheduler();
    }

    pub(super) fn register(&mut self, who: usize, is_wanting: bool) {
        let citizen = &self.citizens[who];
        let Some(host) = citizen.host_key else { return };
        let request = RequestId(self.sequence);
        self.sequence += 1;
        self.requests.insert(request, who);
        let registration = Registration {
            request,
            host,
            peer: PeerId::from_bytes([who as u8; 16]),
            task: self.task,
            plan: citizen.plan,
            held: citizen.held.clone(),
            digests: citizen.digests.iter().map(|(piece, digest)| (*piece, *digest)).collect(),
            version: 0,
            is_wanting,
            has_source: true,
            cached: None,
            can_fetch_source: citizen.may_fetch_source,
            wakes_seeds: citizen.wakes_seeds,
            order: Order::RarestFirst,
            mode: Mode::Granted,
        };
        self.input(scheduler::Input::PeerRegistered(Box::new(registration)));
        self.drain_scheduler();
    }

    pub(super) fn drain_scheduler(&mut self) {
        let Some(scheduler) = &mut self.scheduler else { return };
        scheduler.check_invariants();
        while let Some(output) = self.scheduler.as_mut().and_then(|scheduler| scheduler.poll_output()) {
            self.carry_out(output);
        }
    }

    pub(super) fn carry_out(&mut self, output: scheduler::Output) {
        use scheduler::Output;
        self.note(format!("scheduler wants {output:?}"));
        let task = self.task;
        match output {
            Output::HostAccepted { request, host } => {
                let who = self.requests.remove(&request).unwrap();
                self.citizens[who].host_key = Some(host);
            }
            Output::Registered { request, peer } => {
                let who = self.requests.remove(&request).unwrap();
                self.citizens[who].peer_key = Some(peer);
            }
            Output::Refuse { why, .. } => panic!("refused: {why:?}"),
            Output::Reassure { peer } => self.send(peer, downloader::Input::Reassured { task }),
            Output::TellPlan { peer, plan } => self.send(peer, downloader::Input::PlanTold { task, plan }),
            Output::TellDigests { peer, from, to } => {
                let digests = self.scheduler.as_ref().unwrap().digests(peer)[from as usize..to as usize].to_vec();
                self.send(peer, downloader::Input::DigestsTold { task, digests });
            }
            Output::Grant { peer, grant, piece, parent } => {
                let parent = self.scheduler.as_ref().unwrap().peer(parent).unwrap().host_id;
                let grant = GrantId(grant.data().as_ffi());
                self.send(peer, downloader::Input::Granted { task, grant, piece: piece.get(), parent });
            }
            Output::Revoke { peer, grant } => {
                let grant = GrantId(grant.data().as_ffi());
                self.send(peer, downloader::Input::Revoked { task, grant });
            }
            Output::FetchSource { peer, from, to } => {
                self.send(peer, downloader::Input::SourceGranted { task, from, to });
            }
            Output::TrimSource { peer, to } => self.send(peer, downloader::Input::SourceTrimmed { task, to }),
            Output::WakeSeed { host, .. } => {
                let who = self.citizens.iter().position(|citizen| citizen.host_key == Some(host));
                who.into_iter().for_each(|who| self.open(who));
            }
            Output::FailTask { peer, why } => self.send(peer, downloader::Input::TaskRefused { task, why }),
            Output::ListHost { host, .. } => {
                let id = self.scheduler.as_ref().unwrap().host(host).unwrap().id;
                self.listed.push(id);
            }
            Output::OfferParents { .. } | Output::TaskTold { .. } => {}
            Output::Forget { peer } => {
                let who = self.citizens.iter().position(|citizen| citizen.peer_key == Some(peer)).unwrap();
                self.citizens[who].held.clear();
                self.citizens[who].digests.clear();
                self.citizens[who].plan = None;
            }
        }
    }

    pub(super) fn send(&mut self, peer: PeerKey, input: downloader::Input) {
        let who = self.citizens.iter().position(|citizen| citizen.peer_key == Some(peer));
        if let Some(who) = who {
            self.after(self.latency, Event::Down(who, input));
        }
        // A peer the scheduler itself has just taken out hears nothing.
    }
}

fn translate(peer: PeerKey, report: Report) -> Option<scheduler::Input> {
    use scheduler::Input;
    let key = |grant: GrantId| GrantKey::from(KeyData::from_ffi(grant.0));
    Some(match report {
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
    })
}
