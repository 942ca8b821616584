//! What is seen of the machines of one daemon, and the checks that hold at every event.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use df_core::downloader::{self, Downloader, FetchId, GrantId, Report};
use df_core::id::{HostId, TaskId};
use df_core::registry::{self, JobState, Registry};
use df_core::scheduler::{self, GrantKey, HostKey, HostKind, PieceFailure, Refusal, Rescues, Scheduler, TaskFailure};
use df_core::time::{Duration, Instant};
use df_core::uploader::{self, Uploader};
use df_daemons::env::Clock;
use df_daemons::env::watch::{Seen, Watch};
use df_daemons::sync::lock;

use super::book::{Book, Origin};
use super::disk::SimDisk;
use super::ledger::{Ledger, Mark};

/// What the machines of a daemon were last seen to hold on to.
#[derive(Clone, Default, Debug)]
pub struct Gauges {
    /// Uploads under way.
    pub uploads: u32,
    /// Downloads open.
    pub downloads: usize,
    /// Transfers begun and not ended.
    pub fetches: usize,
    /// A scheduler's hosts, tasks, peers and grants.
    pub sizes: [usize; 4],
    /// A manager's jobs that go on, and those that brought something.
    pub jobs: [usize; 2],
    /// Who is there as a manager knows, by name, and whether what it told last is in force with them.
    pub members: BTreeMap<String, bool>,
    /// The version of what a manager told last.
    pub version: u64,
    /// What a scheduler believes its hosts have, if somebody wants to know.
    pub held: Vec<(HostId, TaskId, Vec<u32>)>,
    /// Whether somebody does.
    pub wants_held: bool,
}

/// The eyes on one life of a daemon.
pub struct Eyes {
    name: Arc<str>,
    number: u32,
    clock: Clock,
    disk: Option<SimDisk>,
    book: Arc<Book>,
    ledger: Ledger,
    request_limit: u32,
    gauges: Arc<Mutex<Gauges>>,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    granted: BTreeMap<(TaskId, GrantId), u32>,
    fetching: BTreeMap<FetchId, TaskId>,
    /// From whom each piece was last asked, and who last sent a bad one, and when.
    asked: BTreeMap<(TaskId, u32), HostId>,
    corrupt: BTreeMap<HostId, Instant>,
    incarnations: BTreeMap<HostId, u64>,
    listed: BTreeMap<HostKey, Instant>,
    /// Versions of configurations in force in each life of each member.
    versions: BTreeMap<(String, u64), u64>,
    grants: BTreeSet<GrantKey>,
    rescues: Rescues,
}

/// How long a child leaves a parent alone that sent it a bad piece: the shortest listing there is.
const CORRUPT_TERM: Duration = Duration::from_secs(30);

/// Kinds of events, in the trace.
const TOLD: u32 = 1;
const WANTS: u32 = 2;

impl Eyes {
    /// Eyes on the host of this name and number, with its disk if it has one.
    pub fn new(
        (name, number): (Arc<str>, u32),
        clock: Clock,
        disk: Option<SimDisk>,
        book: Arc<Book>,
        ledger: Ledger,
        request_limit: u32,
        gauges: Arc<Mutex<Gauges>>,
    ) -> Self {
        *lock(&gauges) = Gauges::default();
        Self { name, number, clock, disk, book, ledger, request_limit, gauges, memory: Mutex::default() }
    }

    fn violate(&self, check: &str, what: String) {
        self.ledger.violate(check, format!("{}: {what}", self.name));
    }

    /// What is offered is on the disk, and is what it should be.
    fn check_piece(&self, task: &TaskId, piece: u32) {
        let Some(disk) = &self.disk else { return };
        if !disk.is_tainted() && !self.book.is_true(disk, task, piece) {
            self.violate("verified-before-offered", format!("piece {piece} of {task} is kept with other bytes"));
        }
    }

    fn scheduler_told(&self, input: &scheduler::Input) {
        let mut memory = lock(&self.memory);
        match input {
            scheduler::Input::HostAnnounced { info, .. } => {
                let before = memory.incarnations.insert(info.id, info.incarnation);
                if before.is_some_and(|before| before != info.incarnation) {
                    self.ledger.mark(Mark::OldIncarnationGone);
                }
            }
            scheduler::Input::PieceFinished { grant, .. } | scheduler::Input::PieceFailed { grant, .. } => {
                memory.grants.remove(grant);
            }
            _ => {}
        }
    }

    fn scheduler_wants(&self, machine: &Scheduler, output: &scheduler::Output) {
        use scheduler::Output;
        match *output {
            Output::Grant { peer, grant, piece, parent } => {
                let (Some(child), Some(view)) = (machine.peer(peer), machine.peer(parent)) else { return };
                if !machine.holds(parent, piece) {
                    self.ledger.mark(Mark::Relayed);
                }
                let mut memory = lock(&self.memory);
                if !memory.grants.insert(grant) {
                    self.violate("grants-are-unique", format!("{grant:?} twice"));
                }
                if child.host_id == view.host_id {
                    self.violate("no-own-parent", format!("{} is to fetch {piece:?} from itself", child.host_id));
                }
                let now = self.clock.now();
                if memory.listed.get(&view.host).is_some_and(|until| now < *until) {
                    self.violate("listed-hosts-serve-nobody", format!("{} is offered though listed", view.host_id));
                }
                let newest = memory.incarnations.get(&view.host_id).copied();
                let granted = machine.host(view.host).map(|info| info.incarnation);
                if newest != granted {
                    self.violate("old-incarnations-are-inert", format!("{} serves as {granted:?}", view.host_id));
                }
            }
            Output::ListHost { host, until } => {
                lock(&self.memory).listed.insert(host, until);
                self.ledger.mark(Mark::ListedByAll);
                let id = machine.host(host).map(|info| info.id);
                self.ledger.list(id);
            }
            Output::WakeSeed { task, .. } => {
                let is_cached = matches!(self.book.origin(&task), Some(Origin::Cache(_)));
                self.ledger.mark(if is_cached { Mark::CopyOrdered } else { Mark::SeedWoken });
            }
            Output::FetchSource { peer, .. } => {
                let host = machine.peer(peer).and_then(|view| machine.host(view.host));
                if host.is_some_and(|host| host.kind == HostKind::Normal) {
                    self.ledger.mark(Mark::PeerSentToSource);
                }
            }
            Output::TrimSource { .. } => self.ledger.mark(Mark::RunTrimmed),
            Output::Revoke { grant, .. } => {
                lock(&self.memory).grants.remove(&grant);
                self.ledger.mark(Mark::GrantRevoked);
            }
            Output::Refuse { why: Refusal::Deleted, .. } => self.ledger.mark(Mark::DeletedNameRefused),
            Output::Refuse { why: Refusal::ContentMismatch, .. } => self.ledger.mark(Mark::ImportRefused),
            Output::FailTask { why: TaskFailure::SourceChanged, .. } => self.ledger.mark(Mark::ChangeSeen),
            _ => {}
        }
    }

    fn downloader_told(&self, input: &downloader::Input) {
        use downloader::Input;
        let mut memory = lock(&self.memory);
        match input {
            Input::Granted { task, grant, piece, .. } => drop(memory.granted.insert((*task, *grant), *piece)),
            Input::TaskOpened(opening) => {
                drop(memory);
                opening.held.iter().for_each(|piece| self.check_piece(&opening.task, piece.get()));
            }
            Input::FetchEnded { fetch, .. } => drop(memory.fetching.remove(fetch)),
            Input::SchedulerLost { task } if memory.fetching.values().any(|known| known == task) => {
                self.ledger.mark(Mark::SchedulerLostInMidPiece);
            }
            Input::PieceKept { task, piece, result: Ok(()) } => {
                drop(memory);
                self.check_piece(task, piece.get());
            }
            _ => {}
        }
    }

    fn downloader_wants(&self, machine: &Downloader, output: &downloader::Output) {
        use downloader::Output;
        match output {
            Output::FetchPiece { fetch, task, parent, piece, .. } => {
                let mut memory = lock(&self.memory);
                memory.fetching.insert(*fetch, *task);
                memory.asked.insert((*task, piece.get()), *parent);
                let now = self.clock.now();
                match memory.corrupt.get(parent) {
                    Some(at) if now - *at < CORRUPT_TERM => {
                        self.violate("liars-are-left", format!("{parent} is asked again though it sent a bad piece"));
                    }
                    Some(_) => self.ledger.mark(Mark::Paroled),
                    None => {}
                }
                if machine.blacklisted(self.clock.now()).any(|(listed, _)| listed == *parent) {
                    self.violate("listed-parents-are-not-used", format!("{parent} is asked though listed"));
                }
            }
            Output::AbortFetch { fetch } => drop(lock(&self.memory).fetching.remove(fetch)),
            Output::AskParent { .. } => self.ledger.mark(Mark::ChosenAlone),
            Output::Report { task, report } => self.reported(machine, task, report),
            _ => {}
        }
    }

    fn reported(&self, machine: &Downloader, task: &TaskId, report: &Report) {
        match report {
            Report::Finished { grant } => {
                let granted = lock(&self.memory).granted.remove(&(*task, *grant));
                match granted {
                    Some(piece) => self.check_piece(task, piece),
                    None => self.violate("reports-answer-grants", format!("{grant:?} finished, and was never granted")),
                }
            }
            Report::Held { piece } => self.check_piece(task, piece.get()),
            Report::SourceStored { piece, .. } => self.check_piece(task, piece.get()),
            Report::Failed { failure, grant } => {
                let mut memory = lock(&self.memory);
                let piece = memory.granted.remove(&(*task, *grant));
                if *failure == PieceFailure::Corrupt {
                    let parent = piece.and_then(|piece| memory.asked.get(&(*task, piece)).copied());
                    if let Some(parent) = parent {
                        // What was on its way meanwhile makes the term no longer.
                        let now = self.clock.now();
                        let since = memory.corrupt.entry(parent).or_insert(now);
                        *since = if now - *since < CORRUPT_TERM { *since } else { now };
                    }
                    self.ledger.mark(Mark::CorruptPiece);
                }
                if machine.blacklisted(self.clock.now()).next().is_some() {
                    self.ledger.mark(Mark::ListedByChild);
                }
            }
            _ => {}
        }
    }

    fn uploader_wants(&self, output: &uploader::Output) {
        match output {
            uploader::Output::Refuse { .. } => self.ledger.mark(Mark::UploadRefused),
            uploader::Output::Abort { .. } => self.ledger.mark(Mark::UploadCut),
            uploader::Output::Admit { .. } => {}
        }
    }

    fn scheduler_settled(&self, machine: &Scheduler) {
        let mut gauges = lock(&self.gauges);
        gauges.sizes = machine.sizes();
        let rescues = machine.rescues();
        let before = std::mem::replace(&mut lock(&self.memory).rescues, rescues);
        let seen = [
            (rescues.taken_over > before.taken_over, Mark::TakenOver),
            (rescues.sent_to_source > before.sent_to_source, Mark::EscapedToSource),
            (rescues.let_across > before.let_across, Mark::EscapedZone),
        ];
        seen.into_iter().filter(|(is_new, _)| *is_new).for_each(|(_, mark)| self.ledger.mark(mark));
        if !gauges.wants_held {
            return;
        }
        gauges.held.clear();
        for (task, _) in self.book.tasks() {
            for key in machine.peers_of(&task) {
                let Some(view) = machine.peer(key) else { continue };
                let pieces = view.plan.into_iter().flat_map(|plan| plan.pieces());
                let held = pieces.filter(|piece| machine.holds(key, *piece)).map(|piece| piece.get());
                let held: Vec<u32> = held.collect();
                gauges.held.push((view.host_id, task, held));
            }
        }
        gauges.wants_held = false;
    }

    fn registry_settled(&self, machine: &Registry) {
        let mut gauges = lock(&self.gauges);
        let over = machine.jobs().filter(|(_, job)| job.state.is_over()).count();
        let is_good = |state: JobState| matches!(state, JobState::Succeeded | JobState::Partly);
        let good = machine.jobs().filter(|(_, job)| is_good(job.state)).count();
        gauges.jobs = [machine.jobs().count() - over, good];
        gauges.version = machine.clusters().map(|(_, cluster)| cluster.version).max().unwrap_or(0);
        gauges.members.clear();
        let mut memory = lock(&self.memory);
        for (_, member) in machine.members().filter(|(_, member)| member.is_active) {
            let (name, in_force) = (&member.introduction.hostname, member.beat.version);
            let known = memory.versions.entry((name.clone(), member.introduction.incarnation)).or_default();
            if in_force < *known {
                self.violate("configurations-never-go-back", format!("{name} went from {known} to {in_force}"));
            }
            *known = in_force;
            let is_latest = in_force == gauges.version;
            gauges.members.insert(name.clone(), is_latest);
        }
    }

    fn registry_wants(&self, machine: &Registry, output: &registry::Output) {
        use registry::{Notice, Output};
        match output {
            Output::Push(cluster) => {
                let told = machine.cluster(*cluster).is_some_and(|cluster| !cluster.limits.peer.is_empty());
                if told {
                    self.ledger.mark(Mark::Reconfigured);
                }
            }
            Output::Note(Notice::MemberLost(_)) => self.ledger.mark(Mark::MemberLost),
            _ => {}
        }
    }
}

impl Watch for Eyes {
    fn told(&self, input: &dyn Seen) {
        self.ledger.note(&self.name, TOLD, self.number, &format_args!("told {input:?}"));
        let input: &dyn Any = input;
        if let Some(input) = input.downcast_ref() {
            self.scheduler_told(input);
        } else if let Some(input) = input.downcast_ref() {
            self.downloader_told(input);
        } else if let Some(uploader::Input::StandingChanged { is_sound: false }) = input.downcast_ref() {
            self.ledger.mark(Mark::Isolated);
        }
    }

    fn wants(&self, machine: &dyn Seen, output: &dyn Seen) {
        self.ledger.note(&self.name, WANTS, self.number, &format_args!("wants {output:?}"));
        let (machine, output): (&dyn Any, &dyn Any) = (machine, output);
        if let (Some(machine), Some(output)) = (machine.downcast_ref(), output.downcast_ref()) {
            self.scheduler_wants(machine, output);
        } else if let (Some(machine), Some(output)) = (machine.downcast_ref(), output.downcast_ref()) {
            self.downloader_wants(machine, output);
        } else if let (Some(machine), Some(output)) = (machine.downcast_ref(), output.downcast_ref()) {
            self.registry_wants(machine, output);
        } else if let Some(output) = output.downcast_ref() {
            self.uploader_wants(output);
        }
    }

    fn settled(&self, machine: &dyn Seen) {
        let machine: &dyn Any = machine;
        if let Some(scheduler) = machine.downcast_ref() {
            self.scheduler_settled(scheduler);
        } else if let Some(registry) = machine.downcast_ref() {
            self.registry_settled(registry);
        } else if let Some(downloader) = machine.downcast_ref::<Downloader>() {
            let mut gauges = lock(&self.gauges);
            gauges.downloads = downloader.open_tasks().count();
            gauges.fetches = lock(&self.memory).fetching.len();
        } else if let Some(uploader) = machine.downcast_ref::<Uploader>() {
            lock(&self.gauges).uploads = uploader.in_use();
            if uploader.in_use() > self.request_limit {
                self.violate("slots", format!("{} uploads, {} allowed", uploader.in_use(), self.request_limit));
            }
        }
    }
}
