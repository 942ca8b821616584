//! Peers that pull beside peers that are granted: who is offered whom, who asks the source, and whose
//! word counts for what.

use df_core::id::{HostId, PeerId, PieceDigest, TaskId};
use df_core::machine::Machine;
use df_core::piece::{Order, PiecePlan, PieceSet};
use df_core::scheduler::{
    HostInfo, HostKey, HostKind, Input, Mode, Output, PeerKey, PieceFailure, Refusal, Registration, RequestId,
    Scheduler, SchedulerConfig, SourceFailure, TaskFailure, Zone,
};
use df_core::time::{Duration, Instant};

/// A scheduler, and what it wanted so far.
struct Bench {
    scheduler: Scheduler,
    now: Instant,
    outputs: Vec<Output>,
    hosts: u8,
}

impl Bench {
    fn new() -> Self {
        let scheduler = Scheduler::new(SchedulerConfig::default(), 7);
        Self { scheduler, now: Instant::from_micros(1), outputs: Vec::new(), hosts: 0 }
    }

    fn tell(&mut self, input: Input) {
        self.scheduler.handle_input(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.scheduler.poll_output() {
            self.outputs.push(output);
        }
        self.scheduler.check_invariants();
    }

    /// Lets time pass, sweep by sweep.
    fn wait(&mut self, term: Duration) {
        let end = self.now + term;
        while self.now < end {
            self.now += Duration::from_millis(250);
            self.scheduler.handle_timeout(self.now);
            self.drain();
        }
    }

    fn host(&mut self, kind: HostKind) -> HostKey {
        self.hosts += 1;
        let info = HostInfo {
            id: HostId::from_bytes([self.hosts; 16]),
            incarnation: 1,
            kind,
            zone: Zone(0),
            upload_limit: 4,
            download_limit: 4,
        };
        self.tell(Input::HostAnnounced { request: RequestId(0), info });
        let accepted = |output: &Output| match output {
            Output::HostAccepted { host, .. } => Some(*host),
            _ => None,
        };
        self.outputs.iter().rev().find_map(accepted).unwrap()
    }

    fn join(&mut self, host: HostKey, mode: Mode, change: impl FnOnce(&mut Registration)) -> PeerKey {
        let mut registration = Registration {
            request: RequestId(0),
            host,
            peer: PeerId::from_bytes([self.hosts; 16]),
            task: TaskId::from_bytes([9; 32]),
            plan: None,
            held: PieceSet::new(),
            digests: Vec::new(),
            version: 0,
            is_wanting: true,
            has_source: true,
            cached: None,
            can_fetch_source: true,
            wakes_seeds: true,
            order: Order::RarestFirst,
            mode,
        };
        change(&mut registration);
        self.tell(Input::PeerRegistered(Box::new(registration)));
        let registered = |output: &Output| match output {
            Output::Registered { peer, .. } => Some(*peer),
            _ => None,
        };
        self.outputs.iter().rev().find_map(registered).unwrap()
    }

    /// A peer that pulls, on a host of its own.
    fn puller(&mut self) -> PeerKey {
        let host = self.host(HostKind::Normal);
        self.join(host, Mode::Candidates, |_| {})
    }

    fn is_sent_to_source(&self, who: PeerKey) -> bool {
        self.outputs.iter().any(|output| matches!(output, Output::FetchSource { peer, .. } if *peer == who))
    }

    fn offers(&self, who: PeerKey) -> usize {
        self.outputs.iter().filter(|output| **output == Output::OfferParents { peer: who }).count()
    }

    fn failure(&self, who: PeerKey) -> Option<TaskFailure> {
        self.outputs.iter().find_map(|output| match output {
            Output::FailTask { peer, why } if *peer == who => Some(*why),
            _ => None,
        })
    }

    /// A native peer that has been to the source and has all of `count` pieces of 10 bytes.
    fn native_holder(&mut self, kind: HostKind, count: u32) -> PeerKey {
        let host = self.host(kind);
        let peer = self.join(host, Mode::Granted, |_| {});
        self.wait(Duration::from_secs(2));
        assert!(self.is_sent_to_source(peer), "it is the one that may say what the content is");
        let plan = PiecePlan::with_piece_len(u64::from(count) * 10, 10).unwrap();
        self.tell(Input::PlanLearned { peer, plan, is_ranged: true, version: 1 });
        (0..count).for_each(|piece| self.tell(Input::SourceStored { peer, piece, digest: digest(piece) }));
        self.tell(Input::PeerDone { peer });
        peer
    }
}

fn digest(piece: u32) -> PieceDigest {
    PieceDigest::from_bytes([piece as u8; 32])
}

#[test]
fn one_of_those_who_pull_goes_to_the_source_and_the_others_are_offered_it() {
    let mut bench = Bench::new();
    let pullers: Vec<PeerKey> = (0..3).map(|_| bench.puller()).collect();
    bench.wait(Duration::from_secs(2));
    let sent: Vec<PeerKey> = pullers.iter().copied().filter(|peer| bench.is_sent_to_source(*peer)).collect();
    let [first] = sent[..] else { panic!("{sent:?}") };
    bench.tell(Input::PieceHeld { peer: first, piece: 0 });
    bench.wait(Duration::from_secs(1));
    for peer in pullers.into_iter().filter(|peer| *peer != first) {
        assert_eq!(bench.scheduler.offered(peer).collect::<Vec<_>>(), [first]);
        assert_eq!(bench.offers(peer), 1, "told once, not at every sweep");
    }
}

#[test]
fn who_pulls_is_offered_as_many_parents_as_an_operator_says() {
    let mut bench = Bench::new();
    bench.native_holder(HostKind::Normal, 3);
    let ahead: Vec<PeerKey> = (0..7).map(|_| bench.puller()).collect();
    ahead.into_iter().for_each(|peer| bench.tell(Input::PieceHeld { peer, piece: 0 }));
    let child = bench.puller();
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.scheduler.offered(child).count(), 4);
    for (parents, looked_at, offered) in [(1, 256, 1), (6, 256, 6), (6, 2, 2), (20, 256, 8)] {
        bench.tell(Input::CandidatesLimited { parents, looked_at });
        bench.wait(Duration::from_secs(1));
        assert_eq!(bench.scheduler.offered(child).count(), offered);
    }
}

/// A seed that has everything registers anew, as it does when it is woken, while somebody fetches from it.
#[test]
fn a_holder_that_registers_anew_is_not_missed_in_between() {
    let mut bench = Bench::new();
    let has_all = |registration: &mut Registration| {
        registration.plan = PiecePlan::with_piece_len(30, 10).ok();
        registration.digests = (0..3).map(|piece| (piece, digest(piece))).collect();
        registration.held = PiecePlan::with_piece_len(30, 10).unwrap().pieces().collect();
        registration.is_wanting = false;
    };
    let seed = bench.host(HostKind::Seed);
    bench.join(seed, Mode::Granted, has_all);
    let host = bench.host(HostKind::Normal);
    let child = bench.join(host, Mode::Granted, |_| {});
    bench.outputs.clear();
    bench.join(seed, Mode::Granted, has_all);
    let is_woken = |output: &Output| matches!(output, Output::WakeSeed { .. });
    assert!(!bench.outputs.iter().any(is_woken), "{:?}", bench.outputs);
    assert!(!bench.is_sent_to_source(child));
    let is_granted = |output: &Output| matches!(output, Output::Grant { peer, .. } if *peer == child);
    assert!(bench.outputs.iter().any(is_granted), "{:?}", bench.outputs);
}

/// Seed 1003677 of the fault simulation: members that had been told only how the content is cut did not hear of
/// which version it is. One of them lost its schedulers, and went on with another.
#[test]
fn members_hear_of_which_version_their_pieces_are() {
    let mut bench = Bench::new();
    let seed = bench.host(HostKind::Seed);
    let plan = PiecePlan::with_piece_len(4, 1).unwrap();
    let seed = bench.join(seed, Mode::Granted, |registration| registration.plan = Some(plan));
    let other = bench.host(HostKind::Normal);
    let other = bench.join(other, Mode::Granted, |_| {});
    assert!(bench.is_sent_to_source(seed));
    bench.outputs.clear();
    bench.tell(Input::PlanLearned { peer: seed, plan, is_ranged: true, version: 7 });
    assert!(bench.outputs.contains(&Output::TellPlan { peer: other, plan }), "{:?}", bench.outputs);
    assert_eq!(bench.scheduler.source_version(other), 7);
}

/// After a scheduler came back the first holders say which version of the source they have. Whoever has pieces
/// of another, of the same length, would spoil what he completes.
#[test]
fn pieces_of_another_version_are_not_let_in() {
    let mut bench = Bench::new();
    let mut register = |version| {
        let host = bench.host(HostKind::Normal);
        bench.outputs.retain(|output| !matches!(output, Output::Refuse { .. }));
        bench.join(host, Mode::Granted, |registration| {
            registration.plan = PiecePlan::with_piece_len(30, 10).ok();
            registration.held = PiecePlan::with_piece_len(30, 10).unwrap().pieces().take(1).collect();
            registration.digests = vec![(0, digest(0))];
            registration.version = version;
        });
        let is_refused = |output: &Output| matches!(output, Output::Refuse { why: Refusal::PlanMismatch, .. });
        bench.outputs.iter().any(is_refused)
    };
    let refused = [0, 5, 0, 5, 6].map(&mut register);
    assert_eq!(refused, [false, false, false, false, true]);
}

/// Each time it is sent to the source a peer tells of the pieces it has: that is no sign of life of the source.
#[test]
fn a_source_that_never_answers_is_given_up_by_those_who_have_a_part() {
    let mut bench = Bench::new();
    let host = bench.host(HostKind::Normal);
    let peer = bench.join(host, Mode::Granted, |registration| {
        registration.plan = PiecePlan::open(10).ok();
        registration.held = PiecePlan::with_piece_len(30, 10).unwrap().pieces().take(1).collect();
        registration.digests = vec![(0, digest(0))];
    });
    for _ in 0..30 {
        bench.wait(Duration::from_secs(2));
        bench.tell(Input::SourceStored { peer, piece: 0, digest: digest(0) });
        let failure = SourceFailure { is_final: false, is_changed: false };
        bench.tell(Input::SourceFailed { peer, failure });
    }
    assert!(bench.failure(peer).is_some());
}

#[test]
fn a_seed_is_woken_before_anybody_who_pulls_is_sent() {
    let mut bench = Bench::new();
    let seed = bench.host(HostKind::Seed);
    let puller = bench.puller();
    assert!(bench.outputs.iter().any(|output| matches!(output, Output::WakeSeed { host, .. } if *host == seed)));
    let peer = bench.join(seed, Mode::Granted, |_| {});
    let plan = PiecePlan::with_piece_len(30, 10).unwrap();
    bench.tell(Input::PlanLearned { peer, plan, is_ranged: true, version: 1 });
    bench.tell(Input::SourceStored { peer, piece: 0, digest: digest(0) });
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.scheduler.offered(puller).collect::<Vec<_>>(), [peer]);
    assert!(!bench.is_sent_to_source(puller));
}

#[test]
fn what_a_peer_that_pulls_claims_is_granted_to_nobody_until_the_digest_is_known() {
    let mut bench = Bench::new();
    let puller = bench.puller();
    bench.wait(Duration::from_secs(2));
    (0..3).for_each(|piece| bench.tell(Input::PieceHeld { peer: puller, piece }));
    bench.tell(Input::PeerDone { peer: puller });
    let host = bench.host(HostKind::Normal);
    let native = bench.join(host, Mode::Granted, |_| {});
    bench.wait(Duration::from_secs(1));
    let grants = |bench: &Bench| bench.outputs.iter().filter(|o| matches!(o, Output::Grant { .. })).count();
    assert_eq!(grants(&bench), 0, "its word is not enough");
    assert!(bench.is_sent_to_source(native), "the native asks the source itself");
    let plan = PiecePlan::with_piece_len(30, 10).unwrap();
    bench.tell(Input::PlanLearned { peer: native, plan, is_ranged: true, version: 1 });
    bench.tell(Input::SourceStored { peer: native, piece: 1, digest: digest(1) });
    let second = bench.host(HostKind::Normal);
    bench.join(second, Mode::Granted, |_| {});
    bench.wait(Duration::from_secs(1));
    let granted =
        bench.outputs.iter().filter(|output| matches!(output, Output::Grant { piece, .. } if piece.get() == 1));
    assert!(granted.count() > 0);
    assert_eq!(bench.scheduler.peer(puller).map(|view| view.held), Some(1), "only the piece that is vouched for");
    let others = |output: &Output| matches!(output, Output::Grant { parent, piece, .. } if *parent == puller && piece.get() != 1);
    assert!(!bench.outputs.iter().any(others));
}

/// A piece that a peer has said to have is on its way to it, and then the word turns out to be true.
#[test]
fn what_comes_of_a_piece_that_a_peer_has_already_is_taken_back() {
    let mut bench = Bench::new();
    let [first, second] = [(); 2].map(|()| bench.host(HostKind::Normal));
    let fetcher = bench.join(first, Mode::Granted, |_| {});
    bench.wait(Duration::from_secs(2));
    assert!(bench.is_sent_to_source(fetcher));
    let plan = PiecePlan::with_piece_len(30, 10).unwrap();
    bench.tell(Input::PlanLearned { peer: fetcher, plan, is_ranged: true, version: 1 });
    let holder = bench.join(second, Mode::Granted, |_| {});
    bench.tell(Input::SourceStored { peer: holder, piece: 1, digest: digest(1) });
    bench.tell(Input::SourceStarted { peer: fetcher, piece: 1 });
    let passed_on = |output: &Output| match output {
        Output::Grant { peer, grant, piece, .. } if *peer == holder && piece.get() == 1 => Some(*grant),
        _ => None,
    };
    let grant = bench.outputs.iter().find_map(passed_on).expect("passed on as it arrives");
    bench.tell(Input::SourceStored { peer: fetcher, piece: 1, digest: digest(1) });
    assert_eq!(bench.scheduler.peer(holder).map(|view| view.held), Some(1));
    assert!(bench.outputs.contains(&Output::Revoke { peer: holder, grant }));
}

/// A piece was granted to a peer that the source had just begun to send it to: the store has room for one
/// who writes it, so that the grant fails, and would for as long as the source takes.
#[test]
fn what_the_source_brings_already_is_not_granted_again() {
    let mut bench = Bench::new();
    bench.native_holder(HostKind::Normal, 1);
    let [child, late] = [(); 2].map(|()| bench.host(HostKind::Normal));
    let child = bench.join(child, Mode::Granted, |_| {});
    let granted = |output: &Output| match output {
        Output::Grant { peer, grant, .. } if *peer == child => Some(*grant),
        _ => None,
    };
    let grants = |bench: &Bench| bench.outputs.iter().filter_map(granted).collect::<Vec<_>>();
    bench.tell(Input::PieceFailed { grant: grants(&bench)[0], failure: PieceFailure::Corrupt });
    bench.wait(Duration::from_secs(16));
    assert!(bench.is_sent_to_source(child), "nothing has come for too long");
    let plan = PiecePlan::with_piece_len(10, 10).unwrap();
    bench.join(late, Mode::Granted, |registration| {
        registration.plan = Some(plan);
        registration.held = plan.pieces().collect();
        registration.digests = vec![(0, digest(0))];
    });
    assert_eq!(grants(&bench).len(), 2);
    bench.tell(Input::SourceStarted { peer: child, piece: 0 });
    bench.tell(Input::PieceFailed { grant: grants(&bench)[1], failure: PieceFailure::Local });
    assert_eq!(grants(&bench).len(), 2);
    bench.tell(Input::SourceEnded { peer: child });
    assert_eq!(grants(&bench).len(), 3, "the source did not bring it after all");
}

#[test]
fn a_peer_that_pulls_says_nothing_about_how_the_content_is_cut() {
    let mut bench = Bench::new();
    let puller = bench.puller();
    bench.wait(Duration::from_secs(2));
    let plan = PiecePlan::with_piece_len(30, 10).unwrap();
    bench.tell(Input::PlanLearned { peer: puller, plan, is_ranged: true, version: 1 });
    assert_eq!(bench.scheduler.peer(puller).and_then(|view| view.plan), None);
}

#[test]
fn a_failed_parent_is_offered_last_and_only_its_accuser_is_told_otherwise() {
    let mut bench = Bench::new();
    let good = bench.native_holder(HostKind::Normal, 3);
    let host = bench.host(HostKind::Normal);
    let held: PieceSet = PiecePlan::with_piece_len(30, 10).unwrap().pieces().collect();
    let bad = bench.join(host, Mode::Granted, |registration| {
        registration.plan = PiecePlan::with_piece_len(30, 10).ok();
        registration.held = held;
        registration.digests = (0..3).map(|piece| (piece, digest(piece))).collect();
    });
    let (accuser, other) = (bench.puller(), bench.puller());
    bench.tell(Input::ParentFailed { peer: accuser, parent: bad, failure: PieceFailure::Disconnected });
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.scheduler.offered(accuser).collect::<Vec<_>>(), [good, bad]);
    assert_eq!(bench.offers(accuser), 2, "it is told anew");
    bench.tell(Input::ParentFailed { peer: accuser, parent: bad, failure: PieceFailure::Corrupt });
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.scheduler.offered(accuser).collect::<Vec<_>>(), [good]);
    assert_eq!(bench.scheduler.offered(other).count(), 2, "nobody else hears of it");
}

/// Native holders of three pieces.
fn native_holders(bench: &mut Bench, count: usize) -> Vec<PeerKey> {
    let mut holders = vec![bench.native_holder(HostKind::Normal, 3)];
    let plan = PiecePlan::with_piece_len(30, 10).unwrap();
    while holders.len() < count {
        let host = bench.host(HostKind::Normal);
        holders.push(bench.join(host, Mode::Granted, |registration| {
            (registration.plan, registration.held) = (Some(plan), plan.pieces().collect());
            registration.digests = (0..3).map(|piece| (piece, digest(piece))).collect();
        }));
    }
    holders
}

#[test]
fn a_parent_that_sends_nothing_is_offered_before_those_that_do() {
    let mut bench = Bench::new();
    let holders = native_holders(&mut bench, 4);
    bench.wait(Duration::from_secs(1));
    for _ in 0..3 {
        let host = bench.host(HostKind::Normal);
        bench.join(host, Mode::Granted, |_| {});
    }
    let sends =
        |holder: &PeerKey| bench.outputs.iter().any(|o| matches!(o, Output::Grant { parent, .. } if parent == holder));
    let free: Vec<PeerKey> = holders.into_iter().filter(|holder| !sends(holder)).collect();
    for _ in 0..6 {
        let child = bench.puller();
        let offered: Vec<PeerKey> = bench.scheduler.offered(child).collect();
        assert_eq!((offered.len(), &offered[..1]), (4, &free[..]));
    }
}

#[test]
fn those_who_pull_are_spread_over_the_parents() {
    let mut bench = Bench::new();
    let holders = native_holders(&mut bench, 4);
    bench.tell(Input::CandidatesLimited { parents: 1, looked_at: 256 });
    let children: Vec<PeerKey> = (0..8).map(|_| bench.puller()).collect();
    let of = |holder: PeerKey| children.iter().filter(|child| bench.scheduler.offered(**child).eq([holder])).count();
    assert_eq!(holders.into_iter().map(of).collect::<Vec<_>>(), [2; 4]);
}

#[test]
fn many_accusers_that_pull_list_nobody() {
    let mut bench = Bench::new();
    let holder = bench.native_holder(HostKind::Normal, 3);
    for _ in 0..40 {
        let liar = bench.puller();
        bench.tell(Input::ParentFailed { peer: liar, parent: holder, failure: PieceFailure::Corrupt });
    }
    assert!(!bench.outputs.iter().any(|output| matches!(output, Output::ListHost { .. })));
    let honest = bench.puller();
    assert_eq!(bench.scheduler.offered(honest).collect::<Vec<_>>(), [holder]);
}

#[test]
fn when_a_puller_fails_at_the_source_the_next_tries_and_after_some_all_are_told() {
    let mut bench = Bench::new();
    let pullers: Vec<PeerKey> = (0..5).map(|_| bench.puller()).collect();
    bench.wait(Duration::from_secs(2));
    for _ in 0..3 {
        let sent = |output: &Output| match output {
            Output::FetchSource { peer, .. } => Some(*peer),
            _ => None,
        };
        let at_source = bench.outputs.iter().rev().find_map(sent).unwrap();
        bench.tell(Input::SourceFailed {
            peer: at_source,
            failure: SourceFailure { is_final: true, is_changed: false },
        });
        bench.tell(Input::PeerLeft { peer: at_source });
    }
    bench.wait(Duration::from_secs(5));
    let (sent, left): (Vec<PeerKey>, Vec<PeerKey>) =
        pullers.into_iter().partition(|peer| bench.is_sent_to_source(*peer));
    assert_eq!((sent.len(), left.len()), (3, 2));
    assert!(left.into_iter().all(|peer| bench.failure(peer) == Some(TaskFailure::Source)));
}

#[test]
fn a_puller_that_gets_nothing_is_sent_to_the_source_though_others_have_it() {
    let mut bench = Bench::new();
    let holder = bench.native_holder(HostKind::Normal, 3);
    let puller = bench.puller();
    for _ in 0..20 {
        bench.tell(Input::ParentFailed { peer: puller, parent: holder, failure: PieceFailure::Disconnected });
        bench.wait(Duration::from_secs(1));
    }
    assert!(bench.is_sent_to_source(puller));
}

#[test]
fn a_native_that_may_not_ask_the_source_is_told_though_pullers_have_the_content() {
    let mut bench = Bench::new();
    let puller = bench.puller();
    bench.wait(Duration::from_secs(2));
    bench.tell(Input::PieceHeld { peer: puller, piece: 0 });
    bench.tell(Input::PeerDone { peer: puller });
    let host = bench.host(HostKind::Normal);
    let native = bench.join(host, Mode::Granted, |registration| registration.can_fetch_source = false);
    let child = bench.puller();
    bench.wait(Duration::from_secs(8));
    assert_eq!(bench.failure(native), Some(TaskFailure::NoSource));
    assert_eq!(bench.failure(child), None);
    assert_eq!(bench.scheduler.offered(child).collect::<Vec<_>>(), [puller]);
}

#[test]
fn a_parent_that_leaves_is_replaced() {
    let mut bench = Bench::new();
    let holder = bench.native_holder(HostKind::Normal, 3);
    let puller = bench.puller();
    let spare = bench.puller();
    (0..3).for_each(|piece| bench.tell(Input::PieceHeld { peer: spare, piece }));
    bench.tell(Input::PeerLeft { peer: holder });
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.scheduler.offered(puller).collect::<Vec<_>>(), [spare]);
}
