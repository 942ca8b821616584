//! Contents without a source: what deleting, contradicting and wanting copies lead to.

use df_core::id::{HostId, PeerId, PieceDigest, TaskId};
use df_core::machine::Machine;
use df_core::piece::{Order, PiecePlan, PieceSet};
use df_core::scheduler::{
    Cached, HostInfo, HostKey, HostKind, Input, Mode, Output, Refusal, Registration, RequestId, Scheduler,
    SchedulerConfig, TaskFailure, TaskView, Zone,
};
use df_core::time::{Duration, Instant};

const TASK: TaskId = TaskId::from_bytes([7; 32]);

/// A scheduler with hosts, and a clock.
struct Square {
    scheduler: Scheduler,
    now: Instant,
    hosts: Vec<HostKey>,
}

fn digests(plan: &PiecePlan, byte: u8) -> Vec<(u32, PieceDigest)> {
    plan.pieces().map(|piece| (piece.get(), PieceDigest::from_bytes([byte; 32]))).collect()
}

impl Square {
    fn new(hosts: u8) -> Self {
        let scheduler = Scheduler::new(SchedulerConfig::default(), 1);
        let mut square = Self { scheduler, now: Instant::from_micros(1), hosts: Vec::new() };
        (0..hosts).for_each(|number| square.arrive(number));
        square
    }

    fn arrive(&mut self, number: u8) {
        let info = HostInfo {
            id: HostId::from_bytes([number; 16]),
            incarnation: 1,
            kind: HostKind::Normal,
            zone: Zone(0),
            upload_limit: 1,
            download_limit: 1,
        };
        for output in self.tell(Input::HostAnnounced { request: RequestId(0), info }) {
            if let Output::HostAccepted { host, .. } = output {
                self.hosts.push(host);
            }
        }
    }

    fn tell(&mut self, input: Input) -> Vec<Output> {
        self.scheduler.handle_input(self.now, input);
        self.outputs()
    }

    fn wait(&mut self, time: Duration) -> Vec<Output> {
        self.now += time;
        self.scheduler.handle_timeout(self.now);
        self.outputs()
    }

    fn outputs(&mut self) -> Vec<Output> {
        self.scheduler.check_invariants();
        std::iter::from_fn(|| self.scheduler.poll_output()).collect()
    }

    /// A host has imported the content whose bytes have this digest.
    fn import(&mut self, who: usize, byte: u8) -> Vec<Output> {
        let stamp = self.wall();
        self.register(who, byte, Cached { is_imported: true, replicas: 2, stamp })
    }

    /// A host says that it has all of such a content, of which it was told this stamp.
    fn hold(&mut self, who: usize, byte: u8, stamp: u64) -> Vec<Output> {
        self.register(who, byte, Cached { is_imported: false, replicas: 2, stamp })
    }

    /// The stamp a host is told of what it has.
    fn stamp(&self) -> u64 {
        let peer = self.scheduler.peers_of(&TASK).next().expect("somebody is in the task");
        self.scheduler.peer(peer).unwrap().stamp
    }

    /// Wall time in milliseconds.
    fn wall(&self) -> u64 {
        1_000_000 + (self.now - Instant::ZERO).as_millis() as u64
    }

    fn delete(&mut self) -> Vec<Output> {
        let stamp = self.wall();
        self.tell(Input::TaskDeleted { request: RequestId(9), task: TASK, stamp })
    }

    fn register(&mut self, who: usize, byte: u8, cached: Cached) -> Vec<Output> {
        let registration = self.holding(who, byte);
        self.tell(Input::PeerRegistered(Box::new(Registration { cached: Some(cached), ..registration })))
    }

    /// The registration of a host that has all of a content.
    fn holding(&self, who: usize, byte: u8) -> Registration {
        let plan = PiecePlan::with_piece_len(3, 1).unwrap();
        Registration {
            request: RequestId(1),
            host: self.hosts[who],
            peer: PeerId::from_bytes([who as u8; 16]),
            task: TASK,
            plan: Some(plan),
            held: PieceSet::all(&plan),
            digests: digests(&plan, byte),
            version: 0,
            is_wanting: false,
            has_source: false,
            cached: None,
            can_fetch_source: false,
            wakes_seeds: true,
            order: Order::RarestFirst,
            mode: Mode::Granted,
        }
    }

    fn holders(&mut self) -> Option<u32> {
        let told = self.tell(Input::TaskAsked { request: RequestId(9), task: TASK });
        match told[..] {
            [Output::TaskTold { view, .. }] => view.map(|TaskView { holders, .. }| holders),
            _ => panic!("{told:?}"),
        }
    }
}

fn refusal(outputs: &[Output]) -> Option<Refusal> {
    outputs.iter().find_map(|output| match output {
        Output::Refuse { why, .. } => Some(*why),
        _ => None,
    })
}

fn woken(outputs: &[Output]) -> usize {
    outputs.iter().filter(|output| matches!(output, Output::WakeSeed { .. })).count()
}

fn forgets(outputs: &[Output]) -> bool {
    outputs.iter().any(|output| matches!(output, Output::Forget { .. }))
}

#[test]
fn a_holder_that_was_away_drops_what_was_deleted_meanwhile() {
    let mut square = Square::new(2);
    square.import(0, 1);
    let old = square.stamp();
    assert_eq!(square.holders(), Some(1));
    let told = square.delete();
    assert!(forgets(&told), "{told:?}");
    assert_eq!(square.holders(), None);
    assert_eq!(refusal(&square.hold(1, 1, old)), Some(Refusal::Deleted));
    // A new import is newer than the deletion; what is of the old content still goes.
    assert_eq!(refusal(&square.import(0, 2)), None);
    assert!(square.stamp() > old);
    assert_eq!(refusal(&square.hold(1, 1, old)), Some(Refusal::Deleted));
    assert_eq!(refusal(&square.hold(1, 2, 0)), None);
    assert_eq!(square.holders(), Some(2));
}

/// All schedulers have forgotten everything, and a host that heard of the deletion comes before or after
/// the one that was away.
#[test]
fn a_deletion_that_is_told_again_is_as_good_as_new() {
    let mut square = Square::new(2);
    square.import(0, 1);
    let old = square.stamp();
    square.delete();
    let deleted = square.scheduler.tombstone(&TASK).unwrap();
    let told = |age| Input::DeletionTold { task: TASK, stamp: deleted, age };
    for is_first in [true, false] {
        let mut fresh = Square::new(2);
        if is_first {
            fresh.tell(told(Duration::from_secs(60)));
            assert_eq!(refusal(&fresh.hold(1, 1, old)), Some(Refusal::Deleted));
        } else {
            assert_eq!(refusal(&fresh.hold(1, 1, old)), None);
            assert!(forgets(&fresh.tell(told(Duration::from_secs(60)))));
        }
        assert_eq!(fresh.holders(), None);
    }
    // What was imported since stays, whichever comes first.
    square.now += Duration::from_secs(1);
    square.import(0, 2);
    let new = square.stamp();
    assert!(new > deleted);
    for is_first in [true, false] {
        let mut fresh = Square::new(2);
        if is_first {
            fresh.tell(told(Duration::ZERO));
        }
        assert_eq!(refusal(&fresh.hold(1, 2, new)), None);
        if !is_first {
            assert!(!forgets(&fresh.tell(told(Duration::ZERO))));
        }
        assert_eq!(fresh.holders(), Some(1));
    }
    // Too long ago to matter.
    let mut fresh = Square::new(2);
    fresh.tell(told(Duration::from_secs(8 * 24 * 3600)));
    assert_eq!(refusal(&fresh.hold(1, 1, old)), None);
}

/// Two schedulers' clocks differ: what one of them knew to come after the other stays after it.
#[test]
fn stamps_of_a_name_only_grow() {
    let mut square = Square::new(1);
    square.now += Duration::from_secs(3600);
    square.import(0, 1);
    let ahead = square.stamp();
    square.now += Duration::from_secs(1);
    square.tell(Input::TaskDeleted { request: RequestId(9), task: TASK, stamp: 5 });
    assert_eq!(square.scheduler.tombstone(&TASK), Some(ahead));
    square.register(0, 1, Cached { is_imported: true, replicas: 1, stamp: 6 });
    assert!(square.stamp() > ahead);
}

#[test]
fn a_deletion_is_not_remembered_for_ever() {
    let mut square = Square::new(1);
    square.delete();
    square.now += Duration::from_secs(8 * 24 * 3600);
    assert_eq!(refusal(&square.hold(0, 1, 7)), None);
}

#[test]
fn a_name_stands_for_one_content_as_long_as_somebody_has_it() {
    let mut square = Square::new(2);
    square.import(0, 1);
    assert_eq!(refusal(&square.import(1, 2)), Some(Refusal::ContentMismatch));
    assert_eq!(refusal(&square.import(1, 1)), None);
    // Who has it alone may have another one.
    let mut square = Square::new(2);
    square.import(0, 1);
    square.tell(Input::HostLeft { host: square.hosts[0] });
    assert_eq!(refusal(&square.import(1, 2)), None);
    assert_eq!(square.holders(), Some(1));
}

/// Seed 1205396 of the fault simulation: the import took the place of what the host had from others.
#[test]
fn who_is_refused_has_no_longer_what_it_said_before() {
    let mut square = Square::new(2);
    square.import(0, 1);
    square.hold(1, 1, square.stamp());
    assert_eq!(square.holders(), Some(2));
    assert_eq!(refusal(&square.import(1, 2)), Some(Refusal::ContentMismatch));
    assert_eq!(square.holders(), Some(1));
    // Who is alone with a content may have another one under its name.
    assert_eq!(refusal(&square.import(0, 2)), None);
    assert_eq!(square.holders(), Some(1));
}

#[test]
fn copies_that_lack_are_asked_for_and_no_more() {
    let mut square = Square::new(4);
    square.import(0, 1);
    assert_eq!(woken(&square.wait(Duration::from_millis(300))), 1);
    // It does not come: another one is asked.
    assert_eq!(woken(&square.wait(Duration::from_secs(1))), 0);
    assert_eq!(woken(&square.wait(Duration::from_secs(3))), 1);
    square.hold(2, 1, 7);
    assert_eq!(woken(&square.wait(Duration::from_secs(4))), 0);
    // A copy is lost.
    square.tell(Input::HostLeft { host: square.hosts[2] });
    assert_eq!(woken(&square.wait(Duration::from_secs(4))), 1);
}

/// A scheduler that knows nothing, one host that has a content with a source, and one that wants it and
/// may not ask the source. In whatever order they come: one host's word is not enough, and whoever waits
/// is told soon.
#[test]
fn one_hosts_word_on_a_content_with_a_source_is_not_enough_and_nobody_waits_for_more() {
    for is_holder_first in [true, false] {
        let mut square = Square::new(2);
        let holding = square.holding(0, 1);
        let wanting = Registration {
            plan: None,
            held: PieceSet::new(),
            digests: Vec::new(),
            version: 0,
            is_wanting: true,
            has_source: true,
            ..square.holding(1, 1)
        };
        let both = if is_holder_first { [holding, wanting] } else { [wanting, holding] };
        let mut outputs: Vec<Output> =
            both.into_iter().flat_map(|one| square.tell(Input::PeerRegistered(Box::new(one)))).collect();
        (0..20).for_each(|_| outputs.extend(square.wait(Duration::from_millis(250))));
        let is_failed = |output: &Output| matches!(output, Output::FailTask { why: TaskFailure::NoSource, .. });
        assert!(outputs.iter().any(is_failed), "{is_holder_first} {outputs:?}");
        assert!(!outputs.iter().any(|output| matches!(output, Output::Grant { .. })), "{outputs:?}");
    }
}
