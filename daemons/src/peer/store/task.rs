//! One task in the store.

mod arriving;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use df_api::failure::{Code, Failure};
use df_core::id::{PieceDigest, TaskId};
use df_core::piece::{PieceNumber, PiecePlan, PieceSet};
use df_core::planted::{Bug, is_planted};
use tokio::sync::watch;

use super::disk_failure;
use super::index::IndexRecord;
use super::journal::{ConfirmedFact, Fact, Journal, KeepingFact, PieceFact, PlanFact, VersionFact};
use super::label::{Keeping, Label, head};
use super::piece::Incoming;
use crate::env::Env;
use crate::env::disk::{DiskFile, OpenMode};
use crate::peer::source::Version;
use crate::sync::lock;

/// Where a task's files are.
pub(super) struct Paths {
    pub(super) dir: PathBuf,
    pub(super) data: PathBuf,
    pub(super) journal: PathBuf,
}

/// A piece as a reader finds it.
pub enum PieceState {
    /// Verified and in the content file.
    Held,
    /// Arriving.
    Incoming(Arc<Incoming>),
    /// Neither.
    Missing,
}

/// One task: its content file, what is known of it, what is arriving.
pub struct StoredTask {
    id: TaskId,
    file: Arc<dyn DiskFile>,
    journal_path: PathBuf,
    data_path: PathBuf,
    created_secs: u64,
    label: Label,
    books: Mutex<Books>,
    /// How many of those who hold it are at work of the store's own; changed with the store's books held.
    pub(super) settling: AtomicUsize,
    /// Counts changes of the books, for those who wait for a piece or for progress.
    changes: watch::Sender<u64>,
}

struct Books {
    journal: Journal,
    plan: Option<PiecePlan>,
    version: Option<Version>,
    /// What the scheduler said of it; 0 if nothing.
    version_hash: u64,
    held: PieceSet,
    held_bytes: u64,
    digests: BTreeMap<u32, PieceDigest>,
    incoming: BTreeMap<PieceNumber, Arc<Incoming>>,
    /// Counts the downloads of this task.
    download: u64,
    /// When the content file was last written to, once it is complete: whoever writes to it after
    /// that (by a hard link, say) is not us.
    sealed_ns: Option<u64>,
    keeping: Keeping,
    /// The digest the whole was last compared with.
    verified: Option<String>,
    is_confirmed: bool,
    /// The content file and the journal are on the disk as they are now.
    is_durable: bool,
    /// Version of a cached content's name, as it was last told.
    stamp: u64,
    is_gone: bool,
}

impl Books {
    fn new(journal: Journal) -> Self {
        Self {
            journal,
            plan: None,
            version: None,
            version_hash: 0,
            held: PieceSet::new(),
            held_bytes: 0,
            digests: BTreeMap::new(),
            incoming: BTreeMap::new(),
            download: 0,
            sealed_ns: None,
            keeping: Keeping::default(),
            verified: None,
            is_confirmed: false,
            is_durable: false,
            stamp: 0,
            is_gone: false,
        }
    }

    fn apply(&mut self, fact: Fact) {
        match fact {
            Fact::Plan(PlanFact { piece_len, content_len }) => {
                let plan = match content_len {
                    Some(len) => PiecePlan::with_piece_len(len, piece_len),
                    None => PiecePlan::open(piece_len),
                };
                self.plan = plan.ok();
            }
            Fact::Piece(PieceFact { number, digest }) => {
                let piece = self.plan.and_then(|plan| plan.number(number));
                if let (Some(piece), Ok(digest)) = (piece, PieceDigest::try_from(&digest[..])) {
                    self.held.insert(piece);
                    self.digests.insert(number, digest);
                }
            }
            Fact::Lost(number) => {
                self.verified = None;
                if let Some(piece) = self.plan.and_then(|plan| plan.number(number)) {
                    self.held.remove(piece);
                    self.digests.remove(&number);
                }
            }
            Fact::Version(VersionFact { content_len, etag, last_modified }) => {
                self.version = Some(Version { content_len, etag, last_modified });
            }
            Fact::Keeping(KeepingFact { is_pinned, expires_secs, replicas }) => {
                self.keeping = Keeping { is_pinned, expires_secs, replicas };
                // It was imported (again): newer than all that was known of it.
                self.is_confirmed = false;
            }
            Fact::VersionHash(hash) => self.version_hash = hash,
            Fact::Verified(digest) => self.verified = Some(digest),
            Fact::Confirmed(ConfirmedFact { stamp }) => (self.is_confirmed, self.stamp) = (true, stamp),
            Fact::Deleted(_) | Fact::Task(_) | Fact::Boot(_) | Fact::Durable(_) => {}
        }
    }

    fn seal(&mut self, data: &dyn DiskFile) {
        if self.plan.is_some_and(|plan| self.held.is_complete(&plan)) {
            self.sealed_ns = data.modified_ns().ok();
        }
    }

    fn count_bytes(&mut self) {
        self.held_bytes = self.plan.map_or(0, |plan| self.held.iter().map(|piece| plan.range(piece).len).sum());
    }
}

impl StoredTask {
    pub(super) fn create(env: &Env, id: TaskId, paths: &Paths, boot: [u8; 16], label: &Label) -> Result<Self, Failure> {
        let failure = |path: &PathBuf, e: &io::Error| disk_failure("create", path, e);
        env.disk.create_dir_all(&paths.dir).map_err(|e| failure(&paths.dir, &e))?;
        let data = env.disk.open(&paths.data, OpenMode::Any).map_err(|e| failure(&paths.data, &e))?;
        let file = env.disk.open(&paths.journal, OpenMode::Any).map_err(|e| failure(&paths.journal, &e))?;
        let created_secs = env.clock.wall().as_secs();
        let mut journal = Journal::new(file.clone());
        let head = head(id, label, created_secs);
        file.set_len(0)
            .and_then(|()| data.set_len(0))
            .and_then(|()| journal.append(Fact::Task(head)))
            .and_then(|()| journal.append(Fact::Boot(boot.to_vec())))
            .map_err(|e| failure(&paths.journal, &e))?;
        Ok(Self::new(id, data, paths, created_secs, label.clone(), Books::new(journal)))
    }

    fn new(id: TaskId, file: Arc<dyn DiskFile>, paths: &Paths, created_secs: u64, label: Label, books: Books) -> Self {
        Self {
            id,
            file,
            journal_path: paths.journal.clone(),
            data_path: paths.data.clone(),
            created_secs,
            label,
            books: Mutex::new(books),
            settling: AtomicUsize::new(0),
            changes: watch::Sender::new(0),
        }
    }

    /// Reads a task back from its journal. Pieces that were not made durable before the machine last
    /// booted may have been lost with its memory: they are verified.
    pub(super) fn load(env: &Env, paths: &Paths, boot: [u8; 16]) -> Result<Self, Failure> {
        let failure = |path: &PathBuf, e: &io::Error| disk_failure("read", path, e);
        let data = env.disk.open(&paths.data, OpenMode::Existing).map_err(|e| failure(&paths.data, &e))?;
        let file = env.disk.open(&paths.journal, OpenMode::Existing).map_err(|e| failure(&paths.journal, &e))?;
        let (journal, facts) = Journal::read(file).map_err(|e| failure(&paths.journal, &e))?;
        let mut facts = facts.into_iter();
        let Some(Fact::Task(head)) = facts.next() else {
            return Err(Failure::new(Code::LocalIo, format!("{} does not begin with a task", paths.journal.display())));
        };
        let id = TaskId::try_from(&head.id[..]).map_err(|e| Failure::new(Code::LocalIo, e.to_string()))?;
        let mut books = Books::new(journal);
        let (mut is_this_boot, mut doubtful) = (false, BTreeSet::new());
        let (modified_ns, mut durable_ns) = (data.modified_ns().ok(), None);
        for fact in facts {
            match &fact {
                Fact::Durable(ns) => durable_ns = Some(*ns),
                Fact::Piece(_) => durable_ns = None,
                _ => {}
            }
            match &fact {
                Fact::Boot(written_during) => is_this_boot = written_during[..] == boot,
                Fact::Durable(ns) if modified_ns == Some(*ns) => doubtful.clear(),
                // Written to since, by somebody else or by a download that went on.
                Fact::Durable(_) => {}
                Fact::Piece(piece) if !is_this_boot && !is_planted(Bug::JournalBelieved) => {
                    doubtful.insert(piece.number);
                }
                _ => {}
            }
            books.apply(fact);
        }
        // Complete, and written to since by somebody else: nothing is certain.
        if durable_ns.is_some() && durable_ns != modified_ns {
            doubtful.extend(books.held.iter().map(PieceNumber::get));
        }
        verify(&mut books, &*data, &doubtful);
        if !is_this_boot {
            let _ = books.journal.append(Fact::Boot(boot.to_vec()));
        }
        books.count_bytes();
        books.seal(&*data);
        books.is_durable = durable_ns.is_some() && durable_ns == modified_ns;
        let label = Label { shown: head.shown_url, cid: head.cid, tag: head.tag, application: head.application };
        Ok(Self::new(id, data, paths, head.created_secs, label, books))
    }

    /// The task's id.
    pub const fn id(&self) -> TaskId {
        self.id
    }

    /// The content file.
    pub fn file(&self) -> &Arc<dyn DiskFile> {
        &self.file
    }

    /// Where the content file is.
    pub fn data_path(&self) -> &Path {
        &self.data_path
    }

    /// How the content is cut, once known.
    pub fn plan(&self) -> Option<PiecePlan> {
        lock(&self.books).plan
    }

    /// The version of the source the pieces are of, once known.
    pub fn version(&self) -> Option<Version> {
        lock(&self.books).version.clone()
    }

    /// Verified pieces.
    pub fn held(&self) -> PieceSet {
        lock(&self.books).held.clone()
    }

    /// Verified bytes: all of them, and those from the start without a hole.
    pub fn held_bytes(&self) -> (u64, u64) {
        let books = lock(&self.books);
        let contiguous = books.plan.map_or(0, |plan| {
            let first_hole = u64::from(books.held.contiguous()) * plan.piece_len();
            plan.content_len().map_or(first_hole, |len| first_hole.min(len))
        });
        (books.held_bytes, contiguous)
    }

    /// Digests of the verified pieces.
    pub fn digests(&self) -> Vec<(u32, PieceDigest)> {
        lock(&self.books).digests.iter().map(|(number, digest)| (*number, *digest)).collect()
    }

    /// Whether every piece is there.
    pub fn is_complete(&self) -> bool {
        let books = lock(&self.books);
        books.plan.is_some_and(|plan| books.held.is_complete(&plan))
    }

    /// What it is called.
    pub const fn label(&self) -> &Label {
        &self.label
    }

    /// How long it is kept, and where else.
    pub fn keeping(&self) -> Keeping {
        lock(&self.books).keeping
    }

    /// Decides how long it is kept.
    ///
    /// # Errors
    /// When the journal cannot be written; the same for the two below.
    pub fn set_keeping(&self, keeping: Keeping) -> Result<(), Failure> {
        self.append(Fact::Keeping(keeping.fact()))
    }

    /// Whether it was imported here and no scheduler has confirmed that yet.
    pub fn is_unconfirmed(&self) -> bool {
        let books = lock(&self.books);
        books.keeping.is_pinned && !books.is_confirmed
    }

    /// Version of a cached content's name, as it was last told; 0 if never.
    pub fn stamp(&self) -> u64 {
        lock(&self.books).stamp
    }

    /// A scheduler knows of what is here, by this version of its name.
    pub(super) fn confirm(&self, stamp: u64) -> Result<(), Failure> {
        self.append(Fact::Confirmed(ConfirmedFact { stamp }))
    }

    /// Whether the whole was compared with this digest.
    pub fn is_verified(&self, digest: &str) -> bool {
        lock(&self.books).verified.as_deref() == Some(digest)
    }

    /// The whole was compared with this digest, and is what it should be.
    pub fn note_verified(&self, digest: &str) -> Result<(), Failure> {
        self.append(Fact::Verified(digest.to_owned()))
    }

    fn append(&self, fact: Fact) -> Result<(), Failure> {
        let mut books = lock(&self.books);
        let written = books.journal.append(fact.clone());
        written.map_err(|e| disk_failure("write", &self.journal_path, &e))?;
        books.apply(fact);
        Ok(())
    }

    /// False if somebody wrote to the complete content file: it is not what it was.
    pub fn is_intact(&self) -> bool {
        let sealed = lock(&self.books).sealed_ns;
        sealed.is_none_or(|sealed| self.file.modified_ns().is_ok_and(|now| now == sealed))
    }

    /// Follows the changes of this task.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Fixes how the content is cut (again, when an open plan has closed) and takes its room on the
    /// disk. Blocks.
    ///
    /// # Errors
    /// [`Code::NoSpace`]; [`Code::Protocol`] if it contradicts what is stored.
    pub fn set_plan(&self, plan: PiecePlan) -> Result<(), Failure> {
        let known = self.plan();
        if known == Some(plan) {
            return Ok(());
        }
        if known.is_some_and(|known| known.content_len().is_some() || known.piece_len() != plan.piece_len()) {
            return Err(Failure::new(Code::Protocol, "the content changed under the download"));
        }
        if let Some(len) = plan.content_len() {
            self.file.set_len(len).and_then(|()| self.file.reserve(0, len)).map_err(|e| self.data_failure(&e))?;
        }
        let fact = PlanFact { piece_len: plan.piece_len(), content_len: plan.content_len() };
        {
            let mut books = lock(&self.books);
            books.journal.append(Fact::Plan(fact)).map_err(|e| disk_failure("write", &self.journal_path, &e))?;
            books.plan = Some(plan);
            books.count_bytes();
        }
        self.changed();
        Ok(())
    }

    /// Remembers the version of the source.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub fn set_version(&self, version: &Version) -> Result<(), Failure> {
        let mut books = lock(&self.books);
        if books.version.as_ref() == Some(version) {
            return Ok(());
        }
        let Version { content_len, etag, last_modified } = version.clone();
        let fact = VersionFact { content_len, etag, last_modified };
        books.journal.append(Fact::Version(fact)).map_err(|e| disk_failure("write", &self.journal_path, &e))?;
        books.version = Some(version.clone());
        Ok(())
    }

    /// A hash of the version its pieces are of; 0 for an unknown one.
    pub fn version_hash(&self) -> u64 {
        let books = lock(&self.books);
        let from_source = books.version.as_ref().map_or(0, Version::hash);
        if from_source == 0 { books.version_hash } else { from_source }
    }

    /// The content is of the version with this hash (0 for an unknown one), on somebody's word.
    ///
    /// # Errors
    /// [`Code::Protocol`] if what is stored is of another version; when the journal cannot be written.
    pub fn adopt_version_hash(&self, hash: u64) -> Result<(), Failure> {
        let known = self.version_hash();
        match (known, hash) {
            (_, 0) => Ok(()),
            (0, _) => self.append(Fact::VersionHash(hash)),
            _ if known == hash => Ok(()),
            _ => Err(Failure::new(
                Code::Protocol,
                "the content at the source is not the one that pieces were taken from",
            )),
        }
    }

    /// The task is being removed: nothing of it is written any more, and it is served only to those
    /// who are being served, if at all.
    pub(super) fn abandon(&self, serves_out: bool) {
        let incoming = {
            let mut books = lock(&self.books);
            books.is_gone = true;
            if !serves_out {
                books.held.clear();
            }
            std::mem::take(&mut books.incoming)
        };
        incoming.values().for_each(|incoming| incoming.failed());
        self.changed();
    }

    /// Makes content, then journal durable. Blocks for long.
    pub(super) fn sync(&self) -> Result<(), Failure> {
        self.file.sync().map_err(|e| self.data_failure(&e))?;
        let mut books = lock(&self.books);
        let durable = self.file.modified_ns().and_then(|ns| books.journal.append(Fact::Durable(ns)));
        durable.and_then(|()| books.journal.sync()).map_err(|e| disk_failure("sync", &self.journal_path, &e))?;
        books.is_durable = true;
        Ok(())
    }

    /// Whether the task was removed: what is written of it from now on goes nowhere.
    pub(in crate::peer) fn is_gone(&self) -> bool {
        lock(&self.books).is_gone
    }

    /// Whether the content would outlive a power loss as it is.
    pub fn is_durable(&self) -> bool {
        lock(&self.books).is_durable
    }

    pub(super) fn index_record(&self, now: Duration) -> IndexRecord {
        let books = lock(&self.books);
        IndexRecord {
            shown_url: self.label.shown.clone(),
            content_len: books.plan.and_then(|plan| plan.content_len()),
            piece_len: books.plan.map_or(0, |plan| plan.piece_len()),
            stored_bytes: books.held_bytes,
            is_complete: books.plan.is_some_and(|plan| books.held.is_complete(&plan)),
            created_secs: self.created_secs,
            used_secs: now.as_secs(),
            cid: self.label.cid.clone(),
            tag: self.label.tag.clone(),
            is_pinned: books.keeping.is_pinned,
            expires_secs: books.keeping.expires_secs,
            replicas: books.keeping.replicas,
            is_unconfirmed: books.keeping.is_pinned && !books.is_confirmed,
            stamp: books.stamp,
            application: self.label.application.clone(),
        }
    }

    /// A failure to write the content, as users are told of it.
    pub(in crate::peer) fn data_failure(&self, error: &io::Error) -> Failure {
        disk_failure("write", &self.data_path, error)
    }
}

/// Reads pieces back and forgets those whose bytes are not what they were.
fn verify(books: &mut Books, data: &dyn DiskFile, doubtful: &BTreeSet<u32>) {
    let Some(plan) = books.plan else { return };
    let mut buffer = Vec::new();
    for number in doubtful {
        let (Some(piece), Some(digest)) = (plan.number(*number), books.digests.get(number)) else { continue };
        let range = plan.range(piece);
        buffer.resize(usize::try_from(range.len).unwrap_or(0), 0);
        let is_whole = data.read_exact_at(&mut buffer, range.start).is_ok()
            && blake3::hash(&buffer).as_bytes() == digest.as_bytes();
        if !is_whole {
            let _ = books.journal.append(Fact::Lost(*number));
            books.apply(Fact::Lost(*number));
        }
    }
}
