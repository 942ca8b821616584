//! Contents without a source: what deleting, contradicting and wanting copies lead to.

use df_core::id::{HostId, PeerId, PieceDigest, TaskId};
use df_core::machine::Machine;
use df_core::piece::{Order, PiecePlan, PieceSet};
use df_core::scheduler::{
    Cached, HostInfo, HostKey, HostKind, Input, Mode, Output, Refusal, Registration, RequestId, Scheduler,
    SchedulerConfig, TaskView, Zone,
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

    /// A host says that it has all of the content whose bytes have this digest.
    fn hold(&mut self, who: usize, byte: u8, is_imported: bool) -> Vec<Output> {
        let plan = PiecePlan::with_piece_len(3, 1).unwrap();
        self.tell(Input::PeerRegistered(Box::new(Registration {
            request: RequestId(1),
            host: self.hosts[who],
            peer: PeerId::from_bytes([who as u8; 16]),
            task: TASK,
            plan: Some(plan),
            held: PieceSet::all(&plan),
            digests: digests(&plan, byte),
            is_wanting: false,
            has_source: false,
            cached: Some(Cached { is_imported, replicas: 2 }),
            can_fetch_source: false,
            order: Order::RarestFirst,
            mode: Mode::Granted,
        })))
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

#[test]
fn a_holder_that_was_away_drops_what_was_deleted_meanwhile() {
    let mut square = Square::new(2);
    square.hold(0, 1, true);
    assert_eq!(square.holders(), Some(1));
    let told = square.tell(Input::TaskDeleted { task: TASK });
    assert!(told.iter().any(|output| matches!(output, Output::Forget { .. })), "{told:?}");
    assert_eq!(square.holders(), None);
    assert_eq!(refusal(&square.hold(1, 1, false)), Some(Refusal::Deleted));
    // A new import is newer than the deletion; what is of the old content still goes.
    assert_eq!(refusal(&square.hold(0, 2, true)), None);
    assert_eq!(refusal(&square.hold(1, 1, false)), Some(Refusal::Deleted));
    assert_eq!(refusal(&square.hold(1, 2, false)), None);
    assert_eq!(square.holders(), Some(2));
}

#[test]
fn a_deletion_is_not_remembered_for_ever() {
    let mut square = Square::new(1);
    square.tell(Input::TaskDeleted { task: TASK });
    square.now += Duration::from_secs(8 * 24 * 3600);
    assert_eq!(refusal(&square.hold(0, 1, false)), None);
}

#[test]
fn a_name_stands_for_one_content_as_long_as_somebody_has_it() {
    let mut square = Square::new(2);
    square.hold(0, 1, true);
    assert_eq!(refusal(&square.hold(1, 2, true)), Some(Refusal::ContentMismatch));
    assert_eq!(refusal(&square.hold(1, 1, true)), None);
    // Who has it alone may have another one.
    let mut square = Square::new(2);
    square.hold(0, 1, true);
    square.tell(Input::HostLeft { host: square.hosts[0] });
    assert_eq!(refusal(&square.hold(1, 2, true)), None);
    assert_eq!(square.holders(), Some(1));
}

#[test]
fn copies_that_lack_are_asked_for_and_no_more() {
    let mut square = Square::new(4);
    square.hold(0, 1, true);
    assert_eq!(woken(&square.wait(Duration::from_millis(300))), 1);
    // It does not come: another one is asked.
    assert_eq!(woken(&square.wait(Duration::from_secs(1))), 0);
    assert_eq!(woken(&square.wait(Duration::from_secs(3))), 1);
    square.hold(2, 1, false);
    assert_eq!(woken(&square.wait(Duration::from_secs(4))), 0);
    // A copy is lost.
    square.tell(Input::HostLeft { host: square.hosts[2] });
    assert_eq!(woken(&square.wait(Duration::from_secs(4))), 1);
}
