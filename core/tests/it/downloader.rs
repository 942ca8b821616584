//! The downloader by itself: answers to what reaches it late, twice or not at all.

use df_core::downloader::{
    DownloadFailure, Downloader, FetchId, GrantId, Input, LinkState, Opening, Output, Report, StoreFailed,
};
use df_core::id::{HostId, TaskId};
use df_core::machine::Machine;
use df_core::piece::{Order, PiecePlan, PieceSet};
use df_core::scheduler::PieceFailure;
use df_core::time::{Duration, Instant};

use crate::town::true_digest;

const TASK: TaskId = TaskId::from_bytes([1; 32]);
const PARENT: HostId = HostId::from_bytes([2; 16]);
const NOW: Instant = Instant::from_micros(1);
const SHORT: Duration = Duration::from_millis(10);

struct Bench {
    downloader: Downloader,
    now: Instant,
    plan: PiecePlan,
}

impl Bench {
    /// An open task of three pieces whose digests are known if `knows_digests`.
    fn new(knows_digests: bool) -> Self {
        let plan = PiecePlan::with_piece_len(3, 1).unwrap();
        let mut bench = Self { downloader: Downloader::new(1), now: NOW, plan };
        let digests = plan.pieces().map(|piece| (piece.get(), true_digest(piece))).collect();
        let opening = Opening {
            task: TASK,
            plan: Some(plan),
            held: PieceSet::new(),
            digests: if knows_digests { digests } else { Vec::new() },
            order: Order::RarestFirst,
            may_fetch_source: true,
            link: LinkState::Linked,
        };
        assert_eq!(bench.tell(Input::TaskOpened(Box::new(opening))), [Output::Register { task: TASK }]);
        bench
    }

    fn tell(&mut self, input: Input) -> Vec<Output> {
        self.downloader.handle_input(self.now, input);
        self.outputs()
    }

    /// Lets the time pass until the downloader wants to act.
    fn wait(&mut self) -> Vec<Output> {
        self.now = self.now.max(self.downloader.poll_timeout().expect("an open task waits for something").at);
        self.downloader.handle_timeout(self.now);
        self.outputs()
    }

    fn outputs(&mut self) -> Vec<Output> {
        self.downloader.check_invariants();
        std::iter::from_fn(|| self.downloader.poll_output()).collect()
    }

    fn grant(&mut self, grant: u64, piece: u32) -> Vec<Output> {
        self.grant_from(PARENT, grant, piece)
    }

    fn grant_from(&mut self, parent: HostId, grant: u64, piece: u32) -> Vec<Output> {
        self.tell(Input::Granted { task: TASK, grant: GrantId(grant), piece, parent })
    }

    /// Grants a piece and answers the transfer that begins.
    fn begin(&mut self, grant: u64, piece: u32) -> FetchId {
        self.begin_from(PARENT, grant, piece)
    }

    fn begin_from(&mut self, parent: HostId, grant: u64, piece: u32) -> FetchId {
        match self.grant_from(parent, grant, piece)[..] {
            [Output::FetchPiece { fetch, .. }] => fetch,
            ref other => panic!("{other:?}"),
        }
    }

    fn end(&mut self, fetch: FetchId, piece: u32) -> Vec<Output> {
        let digest = true_digest(self.plan.number(piece).unwrap());
        self.tell(Input::FetchEnded { fetch, result: Ok(digest), elapsed: SHORT })
    }
}

fn failed(grant: u64, failure: PieceFailure) -> Output {
    Output::Report { task: TASK, report: Report::Failed { grant: GrantId(grant), failure } }
}

#[test]
fn a_piece_counts_only_after_the_store_has_it() {
    let mut bench = Bench::new(true);
    let fetch = bench.begin(1, 0);
    let piece = bench.plan.number(0).unwrap();
    let kept = bench.end(fetch, 0);
    assert_eq!(kept, [Output::KeepPiece { task: TASK, piece, digest: true_digest(piece) }]);
    let report = Report::Finished { grant: GrantId(1) };
    let told = bench.tell(Input::PieceKept { task: TASK, piece, result: Ok(()) });
    assert_eq!(told, [Output::Report { task: TASK, report }]);
}

#[test]
fn a_piece_whose_digest_is_unknown_waits_for_it() {
    let mut bench = Bench::new(false);
    let fetch = bench.begin(1, 0);
    assert_eq!(bench.end(fetch, 0), []);
    let piece = bench.plan.number(0).unwrap();
    let told = bench.tell(Input::DigestsTold { task: TASK, digests: vec![(0, true_digest(piece))] });
    assert_eq!(told, [Output::KeepPiece { task: TASK, piece, digest: true_digest(piece) }]);
}

#[test]
fn wrong_bytes_are_dropped_and_the_liar_is_not_used_again() {
    let mut bench = Bench::new(true);
    let fetch = bench.begin(1, 0);
    let wrong = true_digest(bench.plan.number(2).unwrap());
    let told = bench.tell(Input::FetchEnded { fetch, result: Ok(wrong), elapsed: SHORT });
    let piece = bench.plan.number(0).unwrap();
    assert_eq!(told, [Output::DropPiece { task: TASK, piece }, failed(1, PieceFailure::Corrupt)]);
    assert_eq!(bench.grant(2, 1), [failed(2, PieceFailure::Refused)]);
}

#[test]
fn grants_for_pieces_that_are_here_or_coming_or_not_there_are_answered() {
    let mut bench = Bench::new(true);
    let fetch = bench.begin(1, 0);
    assert_eq!(bench.grant(2, 0), [failed(2, PieceFailure::Local)]);
    assert_eq!(bench.grant(3, 3), [failed(3, PieceFailure::Local)]);
    bench.end(fetch, 0);
    let piece = bench.plan.number(0).unwrap();
    bench.tell(Input::PieceKept { task: TASK, piece, result: Ok(()) });
    assert_eq!(bench.grant(4, 0), [Output::Report { task: TASK, report: Report::Held { piece } }]);
}

/// Seed 602002 of the fault simulation: the store let the source write the piece, the transfer from the
/// parent failed for that, and was begun anew and failed again within one instant, for ever.
#[test]
fn a_piece_the_source_brings_is_not_fetched_from_a_parent_again_and_again() {
    let mut bench = Bench::new(true);
    let fetch = bench.begin(1, 0);
    bench.tell(Input::SchedulerLost { task: TASK });
    bench.end(fetch, 0);
    bench.tell(Input::PieceKept { task: TASK, piece: bench.plan.number(0).unwrap(), result: Ok(()) });
    let source = (0..4).flat_map(|_| bench.wait()).find_map(|output| match output {
        Output::FetchSource { fetch, from: 1, .. } => Some(fetch),
        _ => None,
    });
    let source = source.expect("with nobody to ask it goes to the source");
    let held = bench.plan.pieces().collect();
    let begun = bench.tell(Input::ParentTold { task: TASK, parent: PARENT, held });
    let [Output::FetchPiece { fetch, piece, .. }] = begun[..] else { panic!("{begun:?}") };
    let told = bench.tell(Input::SourceStarted { fetch: source, piece });
    assert_eq!(told, [Output::Report { task: TASK, report: Report::SourceStarted { piece } }]);
    let result = Err(PieceFailure::Local);
    assert_eq!(bench.tell(Input::FetchEnded { fetch, result, elapsed: Duration::ZERO }), []);
    let next = bench.wait().into_iter().find_map(|output| match output {
        Output::FetchPiece { piece, .. } => Some(piece),
        _ => None,
    });
    assert!(next.is_some_and(|next| next != piece), "{next:?} is what the source does not bring yet");
    let digest = true_digest(piece);
    let told = bench.tell(Input::SourceArrived { fetch: source, piece, digest });
    assert_eq!(told, [Output::KeepPiece { task: TASK, piece, digest }]);
}

/// Seed 761632 of the fault simulation: the source hung, the run was given up and granted anew, and the
/// request that hung stood in the way.
#[test]
fn a_run_of_which_nothing_is_left_makes_way_for_the_next() {
    let mut bench = Bench::new(true);
    let run = |from, to| Input::SourceGranted { task: TASK, from, to: Some(to) };
    let begun = bench.tell(run(1, 3));
    let [Output::FetchSource { fetch, from: 1, .. }] = begun[..] else { panic!("{begun:?}") };
    assert_eq!(bench.tell(run(1, 3)), [], "it is at it");
    let trim = |to| Input::SourceTrimmed { task: TASK, to };
    assert_eq!(bench.tell(trim(2)), [Output::TrimSource { fetch, to: 2 }]);
    assert_eq!(bench.tell(trim(1)), [Output::AbortSource { fetch }]);
    let again = bench.tell(run(1, 3));
    assert!(matches!(again[..], [Output::FetchSource { fetch: next, from: 1, .. }] if next != fetch), "{again:?}");
    assert_eq!(bench.tell(Input::SourceEnded { fetch, result: Ok(()) }), [], "the first is over");
}

#[test]
fn a_revoked_transfer_is_given_up_and_its_late_end_ignored() {
    let mut bench = Bench::new(true);
    let fetch = bench.begin(1, 0);
    let other = TaskId::from_bytes([9; 32]);
    assert_eq!(bench.tell(Input::Revoked { task: other, grant: GrantId(1) }), [], "another scheduler's grant");
    assert_eq!(bench.tell(Input::Revoked { task: TASK, grant: GrantId(1) }), [Output::AbortFetch { fetch }]);
    assert_eq!(bench.end(fetch, 0), []);
    assert_eq!(bench.tell(Input::FetchNearlyFinished { fetch }), []);
}

#[test]
fn a_full_disk_fails_the_task_and_nothing_else() {
    let mut bench = Bench::new(true);
    let (first, second) = (bench.begin(1, 0), bench.begin(2, 1));
    bench.end(first, 0);
    let piece = bench.plan.number(0).unwrap();
    let told = bench.tell(Input::PieceKept { task: TASK, piece, result: Err(StoreFailed) });
    assert_eq!(
        told,
        [
            Output::AbortFetch { fetch: second },
            Output::Report { task: TASK, report: Report::Stopped },
            Output::Fail { task: TASK, why: DownloadFailure::Store },
        ]
    );
    assert_eq!(bench.downloader.open_tasks().count(), 0);
}

/// What begins from a parent that has everything, once the scheduler is away.
fn begun_alone(bench: &mut Bench, parent: HostId) -> Vec<u32> {
    bench.tell(Input::SchedulerLost { task: TASK });
    let mut outputs = bench.wait();
    let held = bench.plan.pieces().collect();
    outputs.extend(bench.tell(Input::ParentTold { task: TASK, parent, held }));
    outputs.extend(bench.tell(Input::SchedulerLinked { task: TASK }));
    let begun = |output: Output| match output {
        Output::FetchPiece { piece, .. } => Some(piece.get()),
        _ => None,
    };
    outputs.into_iter().filter_map(begun).collect()
}

#[test]
fn who_fails_with_everybody_serves_nobody_and_asks_nobody_until_a_probe_succeeds() {
    let mut bench = Bench::new(true);
    let wrong = true_digest(bench.plan.number(2).unwrap());
    for parent in 10..14 {
        assert!(bench.downloader.is_sound(bench.now), "{parent}");
        let fetch = bench.begin_from(HostId::from_bytes([parent; 16]), parent.into(), 0);
        bench.tell(Input::FetchEnded { fetch, result: Ok(wrong), elapsed: SHORT });
    }
    assert!(!bench.downloader.is_sound(bench.now));
    let fetch = bench.begin(20, 1);
    bench.tell(Input::FetchEnded { fetch, result: Err(PieceFailure::Refused), elapsed: SHORT });
    assert_eq!(begun_alone(&mut bench, PARENT), []);
    assert!(!bench.downloader.is_sound(bench.now), "the term is not over");
    bench.now += Duration::from_secs(10);
    assert!(bench.downloader.is_sound(bench.now));
    let probe = bench.begin(21, 0);
    bench.end(probe, 0);
    bench.tell(Input::PieceKept { task: TASK, piece: bench.plan.number(0).unwrap(), result: Ok(()) });
    assert_eq!(begun_alone(&mut bench, PARENT).len(), 1);
}

#[test]
fn the_last_piece_completes_the_task() {
    let mut bench = Bench::new(true);
    for number in 0..3 {
        let fetch = bench.begin(number.into(), number);
        bench.end(fetch, number);
        let piece = bench.plan.number(number).unwrap();
        let told = bench.tell(Input::PieceKept { task: TASK, piece, result: Ok(()) });
        assert_eq!(told.contains(&Output::Complete { task: TASK }), number == 2);
    }
}

#[test]
fn opening_twice_is_opening_once_and_closing_gives_everything_up() {
    let mut bench = Bench::new(true);
    let fetch = bench.begin(1, 0);
    let told = bench.tell(Input::TaskClosed { task: TASK });
    let stopped = || Output::Report { task: TASK, report: Report::Stopped };
    assert_eq!(told, [Output::AbortFetch { fetch }, stopped()]);
    assert_eq!(bench.tell(Input::TaskClosed { task: TASK }), []);
    assert_eq!(bench.grant(2, 0), [stopped()], "the scheduler is told again");
}

#[test]
fn who_may_ask_the_source_since_somebody_else_came_says_so_or_does_it() {
    let open = |downloader: &mut Downloader, may_fetch_source, link| {
        let opening = Opening {
            task: TASK,
            plan: Some(PiecePlan::with_piece_len(3, 1).unwrap()),
            held: PieceSet::new(),
            digests: Vec::new(),
            order: Order::RarestFirst,
            may_fetch_source,
            link,
        };
        downloader.handle_input(NOW, Input::TaskOpened(Box::new(opening)));
        std::iter::from_fn(|| downloader.poll_output()).collect::<Vec<_>>()
    };
    let mut linked = Downloader::new(1);
    (0..2).for_each(|turn| {
        let told = open(&mut linked, turn == 1, LinkState::Linked);
        assert_eq!(told, [Output::Register { task: TASK }], "the scheduler hears of it");
    });
    // No scheduler comes: without the second caller this fails, for the first lets nobody ask the source.
    let mut waiting = Downloader::new(1);
    (0..2).for_each(|turn| assert_eq!(open(&mut waiting, turn == 1, LinkState::Expected), []));
    let deadline = waiting.poll_timeout().unwrap().at;
    waiting.handle_timeout(deadline);
    let told: Vec<Output> = std::iter::from_fn(|| waiting.poll_output()).collect();
    assert!(told.iter().any(|output| matches!(output, Output::FetchSource { .. })), "{told:?}");
}
