//! Properties of the machines: nonsense harms nobody, and whatever fails, everybody comes to an end.

use df_core::id::{HostId, PeerId, TaskId};
use df_core::machine::Machine;
use df_core::piece::{Order, PiecePlan, PieceSet};
use df_core::rng::Rng;
use df_core::scheduler::{
    Cached, HostInfo, HostKey, HostKind, Input, Mode, Output, PeerKey, PieceFailure, Registration, RequestId,
    Scheduler, SchedulerConfig, SourceFailure, Zone,
};
use df_core::time::{Duration, Instant};
use proptest::prelude::*;

use crate::town::{Manner, Town, true_digest};

/// A driver that says anything at any time about anybody, in bounds or not, alive or not.
struct Babbler {
    scheduler: Scheduler,
    rng: Rng,
    now: Instant,
    hosts: Vec<HostKey>,
    peers: Vec<PeerKey>,
    grants: Vec<df_core::scheduler::GrantKey>,
}

impl Babbler {
    fn new(seed: u64) -> Self {
        let config = SchedulerConfig { host_limit: 12, task_limit: 3, peer_limit: 10, ..SchedulerConfig::default() };
        Self {
            scheduler: Scheduler::new(config, seed),
            rng: Rng::new(seed),
            now: Instant::from_micros(1),
            hosts: vec![HostKey::default()],
            peers: vec![PeerKey::default()],
            grants: vec![df_core::scheduler::GrantKey::default()],
        }
    }

    fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
        from[rng.index(from.len())]
    }

    fn plan(&mut self) -> PiecePlan {
        match self.rng.below(8) {
            0 => PiecePlan::open(10).unwrap(),
            1 => PiecePlan::with_piece_len(self.rng.below(700), 10).unwrap(),
            _ => PiecePlan::with_piece_len(655, 10).unwrap(),
        }
    }

    fn registration(&mut self) -> Input {
        let plan = PiecePlan::with_piece_len(655, 10).unwrap();
        let knows = self.rng.chance(1, 3);
        let held: PieceSet =
            if knows { plan.pieces().filter(|_| self.rng.chance(1, 2)).collect() } else { PieceSet::new() };
        let digests = held.iter().map(|piece| (piece.get(), true_digest(piece))).collect();
        Input::PeerRegistered(Box::new(Registration {
            request: RequestId(self.rng.next_u64()),
            host: Self::pick(&mut self.rng, &self.hosts),
            peer: PeerId::from_bytes([self.rng.next_u64() as u8; 16]),
            task: TaskId::from_bytes([self.rng.below(4) as u8; 32]),
            plan: knows.then_some(plan),
            held,
            digests,
            version: 0,
            is_wanting: self.rng.chance(4, 5),
            has_source: self.rng.chance(4, 5),
            cached: self.rng.chance(1, 4).then_some(Cached { is_imported: true, replicas: 3, stamp: 1 }),
            can_fetch_source: self.rng.chance(4, 5),
            wakes_seeds: self.rng.chance(4, 5),
            order: Order::RarestFirst,
            mode: if self.rng.chance(1, 3) { Mode::Candidates } else { Mode::Granted },
        }))
    }

    fn input(&mut self) -> Input {
        let peer = Self::pick(&mut self.rng, &self.peers);
        let grant = Self::pick(&mut self.rng, &self.grants);
        let piece = self.rng.below(70) as u32;
        let number = PiecePlan::with_piece_len(70, 1).unwrap().number(piece).unwrap();
        match self.rng.below(24) {
            0 | 1 => {
                let number = self.rng.below(14);
                let info = HostInfo {
                    id: HostId::from_bytes([number as u8; 16]),
                    incarnation: self.rng.below(2),
                    kind: if number < 3 { HostKind::Seed } else { HostKind::Normal },
                    zone: Zone(number as u32 % 2),
                    upload_limit: 2,
                    download_limit: 2,
                };
                Input::HostAnnounced { request: RequestId(self.rng.next_u64()), info }
            }
            2 if self.rng.chance(1, 4) => Input::HostLeft { host: Self::pick(&mut self.rng, &self.hosts) },
            3..=5 => self.registration(),
            6 => Input::PlanLearned { peer, plan: self.plan(), is_ranged: self.rng.chance(9, 10), version: 1 },
            7 => Input::SourceStarted { peer, piece },
            8 if self.rng.chance(1, 3) => Input::SourceProgressed { peer },
            8 => Input::SourceStarted { peer, piece },
            9..=11 => Input::SourceStored { peer, piece, digest: true_digest(number) },
            12 if self.rng.chance(1, 4) => {
                let failure = SourceFailure { is_final: false, is_changed: self.rng.chance(1, 20) };
                Input::SourceFailed { peer, failure }
            }
            13 => Input::NearlyFinished { grant },
            14 => Input::Progressed { grant },
            15..=18 => Input::PieceFinished { grant },
            19 => {
                use PieceFailure::{Aborted, Corrupt, Disconnected, Local, NotFound, Refused, Stalled};
                let all = [Corrupt, NotFound, Refused, Aborted, Stalled, Disconnected, Local];
                Input::PieceFailed { grant, failure: Self::pick(&mut self.rng, &all) }
            }
            20 if self.rng.chance(1, 6) => Input::PeerDone { peer },
            20 => Input::PieceHeld { peer, piece },
            21 if self.rng.chance(1, 2) => {
                let parent = Self::pick(&mut self.rng, &self.peers);
                Input::ParentFailed { peer, parent, failure: PieceFailure::NotFound }
            }
            21 => Input::PieceLost { peer, piece },
            22 if self.rng.chance(1, 4) => Input::PeerLeft { peer },
            23 if self.rng.chance(1, 4) => Input::PeerStopped { peer },
            22 if self.rng.chance(1, 8) => {
                Input::TaskDeleted { request: RequestId(0), task: TaskId::from_bytes([1; 32]), stamp: 1 }
            }
            _ => Input::SourceEnded { peer },
        }
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(self.rng.below(200));
        if self.rng.chance(1, 10) {
            self.scheduler.handle_timeout(self.now);
        } else {
            let input = self.input();
            println!("{:?} {input:?}", self.now);
            self.scheduler.handle_input(self.now, input);
        }
        self.scheduler.check_invariants();
        while let Some(output) = self.scheduler.poll_output() {
            println!("    {output:?}");
            match output {
                Output::HostAccepted { host, .. } => self.hosts.push(host),
                Output::Registered { peer, .. } => self.peers.push(peer),
                Output::Grant { grant, .. } => self.grants.push(grant),
                _ => {}
            }
        }
    }
}

#[test]
fn nothing_a_driver_says_breaks_an_invariant() {
    let grants = (0..100_u64).map(|seed| {
        let mut babbler = Babbler::new(seed);
        (0..600).for_each(|_| babbler.step());
        babbler.grants.len()
    });
    assert!(grants.sum::<usize>() > 1000, "the babble hardly ever makes sense");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_fails_everybody_who_is_up_comes_to_an_end(seed in any::<u64>()) {
        let mut rng = Rng::new(seed);
        let (seeds, peers, pieces) = (rng.index(3), 2 + rng.index(8), rng.below(40) as u32);
        let mut town = Town::new(seeds, peers, pieces);
        let mut is_led = true;
        for who in town.ordinary() {
            town.run_for(Duration::from_millis(rng.below(400)));
            town.open(who);
        }
        for _ in 0..rng.below(6) {
            town.run_for(Duration::from_millis(rng.below(1500)));
            let who = rng.index(town.citizens.len());
            match rng.below(5) {
                0 => town.kill(who),
                1 => town.citizens[who].manner = Manner::Corrupt,
                2 => town.citizens[who].manner = Manner::Hung,
                3 if is_led => {
                    town.kill_scheduler();
                    is_led = false;
                }
                _ if !is_led => {
                    town.start_scheduler();
                    is_led = true;
                }
                _ => {}
            }
        }
        town.finish(Duration::from_secs(900));
        for who in town.ordinary().filter(|who| town.citizens[*who].is_up) {
            prop_assert!(town.succeeded(who), "{who}: {:?} {}", town.citizens[who].outcome, town.progress());
        }
    }
}
