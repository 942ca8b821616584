//! A town of peers around one scheduler on a virtual clock: the real machines, without bytes.
//!
//! Control messages take [`Town::latency`], a piece takes [`Town::piece_time`] on each hop, the
//! store is instant. The invariants of every machine are checked after each of its steps.

mod control;
mod peers;

use std::collections::{BTreeMap, BinaryHeap};

use df_core::downloader::{self, Downloader, FetchId, LinkState, Opening, Report};
use df_core::id::{HostId, PieceDigest, TaskId};
use df_core::machine::Machine;
use df_core::piece::{Order, PieceNumber, PiecePlan, PieceSet};
use df_core::scheduler::{
    self, HostInfo, HostKey, HostKind, PeerKey, PieceFailure, RequestId, Scheduler, SchedulerConfig, SourceFailure,
    Zone,
};
use df_core::time::{Duration, Instant};

/// What a driver waits for the next byte.
const STALL_LIMIT: Duration = Duration::from_secs(5);

/// How often a driver tells that a slow transfer moves, and that the source does.
const NEWS_INTERVAL: Duration = Duration::from_secs(2);
const SOURCE_NEWS_INTERVAL: Duration = Duration::from_secs(10);

/// What a peer does with the pieces it is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Manner {
    /// Sends what it has.
    #[default]
    Honest,
    /// Sends other bytes.
    Corrupt,
    /// Sends nothing.
    Hung,
    /// Tells its scheduler that every transfer failed, whatever it got.
    Slanderer,
}

/// How the source answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SourceManner {
    Serves,
    /// Answers this way from now on.
    Fails(SourceFailure),
    /// Never says how long the content is before its end.
    Streams,
    /// Sends nothing any more.
    Hangs,
}

/// One host with its daemon.
pub(crate) struct Citizen {
    pub(crate) id: HostId,
    pub(crate) kind: HostKind,
    pub(crate) zone: Zone,
    pub(crate) is_up: bool,
    pub(crate) manner: Manner,
    pub(crate) downloader: Downloader,
    pub(crate) held: PieceSet,
    pub(crate) digests: BTreeMap<u32, PieceDigest>,
    pub(crate) plan: Option<PiecePlan>,
    pub(crate) outcome: Option<Result<(), downloader::DownloadFailure>>,
    pub(crate) finished_at: Option<Instant>,
    pub(crate) may_fetch_source: bool,
    pub(crate) wakes_seeds: bool,
    host_key: Option<HostKey>,
    peer_key: Option<PeerKey>,
    fetches: BTreeMap<FetchId, (PieceNumber, usize)>,
    source: Option<SourceRun>,
}

struct SourceRun {
    fetch: FetchId,
    next: u32,
    to: Option<u32>,
}

enum Event {
    Up(usize, ToScheduler),
    Down(usize, downloader::Input),
    /// A grant arrives: translated on the way.
    Local(usize, downloader::Input),
    Arrival(usize, FetchId),
    Nearly(usize, FetchId),
    Stall(usize, FetchId),
    SourceAnswer(usize, FetchId),
    SourceStep(usize, FetchId),
}

enum ToScheduler {
    Register,
    Report(Report),
    Input(scheduler::Input),
}

pub(crate) struct Town {
    pub(crate) now: Instant,
    pub(crate) scheduler: Option<Scheduler>,
    pub(crate) citizens: Vec<Citizen>,
    pub(crate) task: TaskId,
    pub(crate) plan: PiecePlan,
    pub(crate) latency: Duration,
    pub(crate) piece_time: Duration,
    pub(crate) source: SourceManner,
    /// How often each piece left the source.
    pub(crate) source_sent: BTreeMap<u32, u32>,
    /// How often somebody was sent to the source.
    pub(crate) source_runs: u32,
    /// Every piece that was begun: who, from whom.
    pub(crate) transfers: Vec<(usize, usize, u32)>,
    pub(crate) listed: Vec<HostId>,
    /// The last things that happened, for when a scenario fails.
    story: std::collections::VecDeque<String>,
    config: SchedulerConfig,
    events: BinaryHeap<Timed>,
    sequence: u64,
    requests: BTreeMap<RequestId, usize>,
    generation: u64,
}

struct Timed(Instant, u64, u64, Event);

impl PartialEq for Timed {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Timed {}
impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Timed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.0, other.1).cmp(&(self.0, self.1))
    }
}

impl Town {
    /// A town with this many seeds and ordinary peers and a content of `pieces` pieces.
    pub(crate) fn new(seeds: usize, peers: usize, pieces: u32) -> Self {
        Self::with(SchedulerConfig { fills_slots: true, ..SchedulerConfig::default() }, seeds, peers, pieces)
    }

    pub(crate) fn with(config: SchedulerConfig, seeds: usize, peers: usize, pieces: u32) -> Self {
        let mut town = Self {
            now: Instant::from_micros(1),
            scheduler: None,
            citizens: Vec::new(),
            task: TaskId::from_bytes([7; 32]),
            plan: PiecePlan::with_piece_len(u64::from(pieces) << 20, 1 << 20).unwrap(),
            latency: Duration::from_millis(5),
            piece_time: Duration::from_millis(100),
            source: SourceManner::Serves,
            source_sent: BTreeMap::new(),
            source_runs: 0,
            transfers: Vec::new(),
            listed: Vec::new(),
            story: std::collections::VecDeque::new(),
            config,
            events: BinaryHeap::new(),
            sequence: 0,
            requests: BTreeMap::new(),
            generation: 0,
        };
        for number in 0..seeds + peers {
            let kind = if number < seeds { HostKind::Seed } else { HostKind::Normal };
            town.citizens.push(Citizen::new(number, kind));
        }
        town.start_scheduler();
        town
    }

    /// A scheduler that knows nothing; everybody who is up connects and tells what they have.
    pub(crate) fn start_scheduler(&mut self) {
        self.generation += 1;
        self.scheduler = Some(Scheduler::new(self.config, self.generation));
        (0..self.citizens.len()).for_each(|who| self.connect(who));
        self.drain_scheduler();
    }

    fn connect(&mut self, who: usize) {
        if !self.citizens[who].is_up {
            return;
        }
        self.announce(who);
        let is_open = self.citizens[who].downloader.open_tasks().next().is_some();
        if is_open {
            self.tell(who, downloader::Input::SchedulerLinked { task: self.task });
        } else if !self.citizens[who].held.is_empty() {
            self.register(who, false);
        }
    }

    fn announce(&mut self, who: usize) {
        let citizen = &mut self.citizens[who];
        let (is_seed, id) = (citizen.kind == HostKind::Seed, citizen.id);
        let (upload_limit, download_limit) = if is_seed { (2, 2) } else { (1, 2) };
        let request = RequestId(self.sequence);
        self.sequence += 1;
        let zone = citizen.zone;
        let info = HostInfo { id, incarnation: 1, kind: citizen.kind, zone, upload_limit, download_limit };
        self.requests.insert(request, who);
        self.input(scheduler::Input::HostAnnounced { request, info });
        self.drain_scheduler();
    }

    /// The scheduler is gone with all it knew.
    pub(crate) fn kill_scheduler(&mut self) {
        self.scheduler = None;
        self.requests.clear();
        for who in 0..self.citizens.len() {
            self.citizens[who].host_key = None;
            self.citizens[who].peer_key = None;
            self.tell(who, downloader::Input::SchedulerLost { task: self.task });
        }
    }

    /// A host is gone with its connections; what it stored stays.
    pub(crate) fn kill(&mut self, who: usize) {
        let citizen = &mut self.citizens[who];
        citizen.is_up = false;
        citizen.downloader = Downloader::new(99);
        citizen.fetches.clear();
        citizen.source = None;
        citizen.peer_key = None;
        let host = citizen.host_key.take();
        let broken: Vec<(usize, FetchId)> = (0..self.citizens.len())
            .flat_map(|child| self.citizens[child].fetches.iter().map(move |(fetch, f)| (child, *fetch, f.1)))
            .filter(|(_, _, parent)| *parent == who)
            .map(|(child, fetch, _)| (child, fetch))
            .collect();
        for (child, fetch) in broken {
            self.citizens[child].fetches.remove(&fetch);
            let result = Err(PieceFailure::Disconnected);
            self.tell(child, downloader::Input::FetchEnded { fetch, result, elapsed: self.latency });
        }
        if let Some(host) = host {
            self.after(Duration::ZERO, Event::Up(who, ToScheduler::Input(scheduler::Input::HostLeft { host })));
        }
    }

    /// Somebody on a host wants the content.
    pub(crate) fn open(&mut self, who: usize) {
        let citizen = &self.citizens[who];
        let opening = Opening {
            task: self.task,
            plan: citizen.plan,
            held: citizen.held.clone(),
            digests: citizen.digests.iter().map(|(piece, digest)| (*piece, *digest)).collect(),
            order: Order::RarestFirst,
            may_fetch_source: citizen.may_fetch_source,
            link: if self.scheduler.is_some() { LinkState::Linked } else { LinkState::Absent },
        };
        self.tell(who, downloader::Input::TaskOpened(Box::new(opening)));
    }

    pub(crate) fn open_all(&mut self) {
        let wanting: Vec<usize> = self.ordinary().collect();
        wanting.into_iter().for_each(|who| self.open(who));
    }

    pub(crate) fn ordinary(&self) -> impl Iterator<Item = usize> + use<> {
        let first = self.citizens.iter().filter(|citizen| citizen.kind == HostKind::Seed).count();
        first..self.citizens.len()
    }

    /// Runs until everybody who wanted something knows how it ended. Panics after `limit`.
    pub(crate) fn finish(&mut self, limit: Duration) {
        let end = self.now + limit;
        while self.citizens.iter().any(|citizen| citizen.is_up && citizen.downloader.open_tasks().next().is_some()) {
            assert!(self.now < end, "not finished after {limit:?}: {}", self.progress());
            self.step();
        }
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.next_at().is_some_and(|at| at <= end) {
            self.step();
        }
        self.now = end;
    }

    pub(crate) fn run_until(&mut self, limit: Duration, is_so: impl Fn(&Self) -> bool) {
        let end = self.now + limit;
        while !is_so(self) {
            assert!(self.now < end, "not so after {limit:?}: {}", self.progress());
            self.step();
        }
    }

    pub(crate) fn progress(&self) -> String {
        let held: Vec<String> = self
            .citizens
            .iter()
            .map(|c| format!("{}{}{:?}", c.held.len(), if c.is_up { "" } else { " down" }, c.manner))
            .collect();
        let story: Vec<&str> = self.story.iter().map(String::as_str).collect();
        format!("{held:?} of {:?}\n{}", self.plan.count(), story.join("\n"))
    }

    pub(crate) fn succeeded(&self, who: usize) -> bool {
        self.citizens[who].outcome == Some(Ok(())) && self.citizens[who].held.is_complete(&self.plan)
    }

    /// Pieces that left the source, all together.
    pub(crate) fn source_total(&self) -> u32 {
        self.source_sent.values().sum()
    }

    fn next_at(&self) -> Option<Instant> {
        let timers = self.citizens.iter().filter(|citizen| citizen.is_up).map(|citizen| &citizen.downloader);
        let timers = timers.filter_map(|downloader| downloader.poll_timeout().map(|deadline| deadline.at));
        let scheduler = self.scheduler.as_ref().and_then(|s| s.poll_timeout()).map(|deadline| deadline.at);
        timers.chain(scheduler).chain(self.events.peek().map(|timed| timed.0)).min()
    }

    fn step(&mut self) {
        let at = self.next_at().expect("something has to happen");
        self.now = self.now.max(at);
        if self.events.peek().is_some_and(|timed| timed.0 <= self.now) {
            let Timed(_, _, generation, event) = self.events.pop().unwrap();
            self.happen(generation, event);
        }
        if let Some(scheduler) = &mut self.scheduler
            && scheduler.poll_timeout().is_some_and(|deadline| deadline.at <= self.now)
        {
            scheduler.handle_timeout(self.now);
            self.drain_scheduler();
        }
        for who in 0..self.citizens.len() {
            let citizen = &mut self.citizens[who];
            if citizen.is_up && citizen.downloader.poll_timeout().is_some_and(|deadline| deadline.at <= self.now) {
                citizen.downloader.handle_timeout(self.now);
                self.drain(who);
            }
        }
    }

    fn after(&mut self, delay: Duration, event: Event) {
        self.sequence += 1;
        self.events.push(Timed(self.now + delay, self.sequence, self.generation, event));
    }

    fn happen(&mut self, generation: u64, event: Event) {
        match event {
            Event::Up(who, message) if generation == self.generation => self.hear(who, message),
            Event::Down(who, input) if generation == self.generation => self.tell(who, input),
            Event::Up(..) | Event::Down(..) => {}
            Event::Local(who, input) => self.tell(who, input),
            Event::Nearly(who, fetch) if self.citizens[who].fetches.contains_key(&fetch) => {
                self.tell(who, downloader::Input::FetchNearlyFinished { fetch });
            }
            Event::Nearly(..) => {}
            Event::Stall(who, fetch) => {
                if self.citizens[who].fetches.remove(&fetch).is_some() {
                    let result = Err(PieceFailure::Stalled);
                    self.tell(who, downloader::Input::FetchEnded { fetch, result, elapsed: STALL_LIMIT });
                }
            }
            Event::Arrival(who, fetch) => self.arrive(who, fetch),
            Event::SourceAnswer(who, fetch) => self.source_answer(who, fetch),
            Event::SourceStep(who, fetch) => self.source_step(who, fetch),
        }
    }

    fn note(&mut self, line: String) {
        const STORY_LIMIT: usize = 400;
        if self.story.len() >= STORY_LIMIT {
            self.story.pop_front();
        }
        self.story.push_back(format!("{:?} {line}", self.now));
    }
}

impl Citizen {
    fn new(number: usize, kind: HostKind) -> Self {
        Self {
            id: HostId::from_bytes([number as u8 + 1; 16]),
            kind,
            zone: Zone(0),
            is_up: true,
            manner: Manner::Honest,
            downloader: Downloader::new(number as u64),
            held: PieceSet::new(),
            digests: BTreeMap::new(),
            plan: None,
            outcome: None,
            finished_at: None,
            may_fetch_source: true,
            wakes_seeds: true,
            host_key: None,
            peer_key: None,
            fetches: BTreeMap::new(),
            source: None,
        }
    }
}

/// The digest of the bytes the source has.
pub(crate) fn true_digest(piece: PieceNumber) -> PieceDigest {
    let mut bytes = [0x11; 32];
    bytes[..4].copy_from_slice(&piece.get().to_be_bytes());
    PieceDigest::from_bytes(bytes)
}
