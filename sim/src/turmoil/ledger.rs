//! What a run leaves behind: its trace, what broke, and what has been seen to happen at least once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use df_core::id::HostId;
use df_daemons::sync::lock;
use serde::{Deserialize, Serialize};

use crate::trace::Trace;

/// Lines kept of each host.
const LINE_LIMIT: usize = 200;

/// Something that must not be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Violation {
    /// When, in microseconds of the run.
    pub at_us: u64,
    /// Which checker found it.
    pub check: String,
    /// What it found.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {} (at {:.3} s)", self.check, self.what, self.at_us as f64 / 1e6)
    }
}

/// Something that a simulator worth its name makes happen now and then.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "each name says what it is")]
pub enum Mark {
    SeedWoken,
    PeerSentToSource,
    RunTrimmed,
    GrantRevoked,
    Relayed,
    CorruptPiece,
    ListedByChild,
    ListedByAll,
    Isolated,
    ChosenAlone,
    SchedulerLostInMidPiece,
    ResumedAfterPowerLoss,
    ResumedAfterKill,
    ChangeSeen,
    OldIncarnationGone,
    Evicted,
    DiskFull,
    DigestRefused,
    ImportRefused,
    DeletedNameRefused,
    CopyOrdered,
    Cancelled,
    UploadRefused,
    UploadCut,
    SourceRefused,
    Reconfigured,
    MemberLost,
    Preheated,
    TakenOver,
    EscapedToSource,
    EscapedZone,
    Paroled,
}

impl Mark {
    /// Every mark.
    pub const ALL: [Self; 32] = [
        Self::SeedWoken,
        Self::PeerSentToSource,
        Self::RunTrimmed,
        Self::GrantRevoked,
        Self::Relayed,
        Self::CorruptPiece,
        Self::ListedByChild,
        Self::ListedByAll,
        Self::Isolated,
        Self::ChosenAlone,
        Self::SchedulerLostInMidPiece,
        Self::ResumedAfterPowerLoss,
        Self::ResumedAfterKill,
        Self::ChangeSeen,
        Self::OldIncarnationGone,
        Self::Evicted,
        Self::DiskFull,
        Self::DigestRefused,
        Self::ImportRefused,
        Self::DeletedNameRefused,
        Self::CopyOrdered,
        Self::Cancelled,
        Self::UploadRefused,
        Self::UploadCut,
        Self::SourceRefused,
        Self::Reconfigured,
        Self::MemberLost,
        Self::Preheated,
        Self::TakenOver,
        Self::EscapedToSource,
        Self::EscapedZone,
        Self::Paroled,
    ];
}

/// What is written down. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    now_us: Arc<AtomicU64>,
    /// Whether every event is written out, to be read or compared.
    is_verbose: bool,
    books: Arc<Mutex<Books>>,
}

#[derive(Default)]
struct Books {
    trace: Trace,
    events: u64,
    lines: BTreeMap<String, VecDeque<String>>,
    violations: Vec<Violation>,
    marks: BTreeMap<Mark, u64>,
    listed: BTreeSet<HostId>,
}

impl Ledger {
    /// An empty one. If it is verbose, every event goes to the standard error as a line.
    pub fn new(is_verbose: bool) -> Self {
        Self { now_us: Arc::default(), is_verbose, books: Arc::default() }
    }

    /// The time of the run, in microseconds.
    pub fn now_us(&self) -> u64 {
        self.now_us.load(Ordering::Relaxed)
    }

    /// The clock that everybody reads.
    pub fn clock(&self) -> Arc<AtomicU64> {
        self.now_us.clone()
    }

    /// Sets the time.
    pub fn set_now(&self, now_us: u64) {
        self.now_us.store(now_us, Ordering::Relaxed);
    }

    /// Something happened to somebody.
    pub fn note(&self, host: &str, kind: u32, number: u32, what: &dyn fmt::Debug) {
        let now_us = self.now_us();
        let mut books = lock(&self.books);
        books.events += 1;
        books.trace.note(now_us, kind, number, 0);
        if self.is_verbose {
            let line = format!("{:>10.3} {host} {what:?}", now_us as f64 / 1e3);
            eprintln!("{line}");
            let lines = books.lines.entry(host.to_owned()).or_default();
            if lines.len() >= LINE_LIMIT {
                lines.pop_front();
            }
            lines.push_back(line);
        }
    }

    /// Something was seen.
    pub fn mark(&self, mark: Mark) {
        *lock(&self.books).marks.entry(mark).or_default() += 1;
    }

    /// A host was put on the list that all schedulers' peers respect.
    pub fn list(&self, host: Option<HostId>) {
        lock(&self.books).listed.extend(host);
    }

    /// Hosts that ever were.
    pub fn listed(&self) -> BTreeSet<HostId> {
        lock(&self.books).listed.clone()
    }

    /// Something is wrong. Only the first violations are kept.
    pub fn violate(&self, check: &str, what: String) {
        let at_us = self.now_us();
        let mut books = lock(&self.books);
        if books.violations.len() < 16 {
            books.violations.push(Violation { at_us, check: check.to_owned(), what });
        }
    }

    /// Whether something is wrong.
    pub fn is_broken(&self) -> bool {
        !lock(&self.books).violations.is_empty()
    }

    /// What is wrong.
    pub fn violations(&self) -> Vec<Violation> {
        lock(&self.books).violations.clone()
    }

    /// What was seen, and how often.
    pub fn marks(&self) -> BTreeMap<Mark, u64> {
        lock(&self.books).marks.clone()
    }

    /// The trace's hash, and how many events it has.
    pub fn trace(&self) -> (u64, u64) {
        let books = lock(&self.books);
        (books.trace.hash(), books.events)
    }

    /// The last lines of each host, if they are written down.
    pub fn last_lines(&self, count: usize) -> BTreeMap<String, Vec<String>> {
        let books = lock(&self.books);
        let last = |lines: &VecDeque<String>| lines.iter().skip(lines.len().saturating_sub(count)).cloned().collect();
        books.lines.iter().map(|(host, lines)| (host.clone(), last(lines))).collect()
    }
}
