//! What a host has of each task: content files, their journals, and an index of them.
//!
//! ```text
//! DATA_DIR/lock                     held while a daemon runs
//! DATA_DIR/host                     this host's id
//! DATA_DIR/index/                   sled: one small record a task, only an index
//! DATA_DIR/deletions                deletions of cached contents this host has heard of
//! DATA_DIR/import/                   contents on their way in, that nobody sees
//! DATA_DIR/content/ab/ab….data      the content, sparse, pieces at their offsets
//! DATA_DIR/content/ab/ab….journal   what is known of it, appended: plan, pieces with digests
//! ```
//!
//! A piece is stored, then promised: its bytes are in the content file and its record in the journal
//! before anybody is told. The journal is the truth; the index can be rebuilt from the journals, and
//! is when it does not open. Paths are made of task ids alone, never of what a caller named.

mod deletions;
mod draft;
pub mod index;
mod journal;
mod label;
mod piece;
mod room;
mod task;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use df_api::failure::{Code, Failure};
use df_core::id::{HostId, TaskId};
use df_core::piece::PiecePlan;

use crate::env::Env;
use crate::env::disk::{DiskFile, OpenMode};
use crate::sync::lock;
pub use deletions::Deletion;
use deletions::Deletions;
pub use draft::{Draft, Finished};
use index::{IndexRecord, MetaStore};
pub use label::{Keeping, Label};
pub use piece::{Incoming, PieceWriter, Progress};
pub use room::{Room, Settling};
pub use task::{PieceState, StoredTask};
use tokio::sync::Notify;

/// Folder of the contents in a data directory.
const CONTENT: &str = "content";

/// Tasks nobody uses whose files are kept open.
const IDLE_OPEN_LIMIT: usize = 128;

/// All contents of one data directory. Cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    env: Env,
    root: PathBuf,
    room: Room,
    index: Box<dyn MetaStore>,
    deletions: Deletions,
    /// The index does not work any more and is gone from the disk: the next start rebuilds it.
    is_index_lost: AtomicBool,
    host: HostId,
    boot: [u8; 16],
    books: Mutex<Books>,
    /// Held while a task's files come or go.
    files: Mutex<()>,
    evictions: Notify,
    /// Holds the lock on the directory.
    _lock: Option<Arc<dyn DiskFile>>,
}

#[derive(Default)]
struct Books {
    records: BTreeMap<TaskId, IndexRecord>,
    /// Tasks with open files, with the turn at which each was last asked for.
    open: BTreeMap<TaskId, (Arc<StoredTask>, u64)>,
    turn: u64,
    /// Bytes promised to tasks that have no files under their name yet.
    reserved: BTreeMap<TaskId, u64>,
    /// Tasks used since that was last written down.
    used: BTreeSet<TaskId>,
    /// Folders of contents whose own names are durable. They are never removed, and as many as two
    /// hexadecimal digits tell apart.
    durable_folders: BTreeSet<PathBuf>,
    /// Tasks dropped by themselves since somebody asked.
    evicted: Vec<TaskId>,
}

/// A failure of the disk, as users are told of it.
pub(super) fn disk_failure(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    let code = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Code::NoSpace,
        _ => Code::LocalIo,
    };
    Failure::new(code, format!("cannot {what} {}", path.display())).because(error)
}

impl Store {
    /// Opens a data directory, creating it if it is not there, and its index, rebuilding it from the
    /// journals if it does not open. Blocks.
    ///
    /// # Errors
    /// [`Code::Exists`] if another daemon runs on it; [`Code::LocalIo`] otherwise.
    pub fn open(env: Env, root: &Path, room: Room, open_index: index::Opener) -> Result<Self, Failure> {
        let content = root.join(CONTENT);
        let disk = &env.disk;
        disk.create_dir_all(&content).map_err(|e| disk_failure("create", &content, &e))?;
        disk.check_private(root).map_err(|e| {
            disk_failure("use", root, &e).hint("the data directory must belong to this user and be closed to others")
        })?;
        let lock_path = root.join("lock");
        let lock = disk.open(&lock_path, OpenMode::Any).map_err(|e| disk_failure("open", &lock_path, &e))?;
        if !lock.try_lock().map_err(|e| disk_failure("lock", &lock_path, &e))? {
            return Err(Failure::new(Code::Exists, format!("another daemon uses {}", root.display()))
                .hint("stop it, or give this one another --data-dir"));
        }
        let host = host_id(&env, root)?;
        let deletions = Deletions::open(env.clone(), root.join("deletions"))?;
        let (index, is_fresh) = open_index(&root.join("index"))?;
        let boot = env.disk.boot_id();
        let books = Mutex::new(Books::default());
        let store = Self(Arc::new(Inner {
            env,
            root: root.to_owned(),
            room,
            index,
            deletions,
            is_index_lost: AtomicBool::new(false),
            host,
            boot,
            books,
            files: Mutex::default(),
            evictions: Notify::new(),
            _lock: Some(lock),
        }));
        let import = store.import_dir();
        store.0.env.disk.remove_dir_all(&import).map_err(|e| disk_failure("empty", &import, &e))?;
        store.load_index(is_fresh)?;
        Ok(store)
    }

    /// This host's id: drawn once, kept in the data directory.
    pub fn host_id(&self) -> HostId {
        self.0.host
    }

    /// Reads the index; where it is fresh or misses tasks that are on the disk, their journals.
    fn load_index(&self, is_fresh: bool) -> Result<(), Failure> {
        let records = if is_fresh { BTreeMap::new() } else { self.0.index.all()? };
        let mut found = BTreeMap::new();
        for task in self.tasks_on_disk()? {
            match records.get(&task) {
                Some(record) => drop(found.insert(task, record.clone())),
                None => {
                    let Ok(stored) = StoredTask::load(&self.0.env, &self.paths(&task), self.0.boot) else {
                        tracing::warn!(%task, "unreadable journal: the task is dropped");
                        self.remove_files(&task);
                        continue;
                    };
                    let record = stored.index_record(self.0.env.clock.wall());
                    self.0.index.put(&task, &record)?;
                    found.insert(task, record);
                }
            }
        }
        for gone in records.keys().filter(|task| !found.contains_key(*task)) {
            self.0.index.remove(gone)?;
        }
        if is_fresh && !found.is_empty() {
            tracing::warn!(tasks = found.len(), "index rebuilt from the journals");
        }
        lock(&self.0.books).records = found;
        Ok(())
    }

    /// Tasks whose journal is there. A content without one is a leftover and goes.
    fn tasks_on_disk(&self) -> Result<Vec<TaskId>, Failure> {
        let content = self.content_dir();
        let failure = |path: &Path, e: &std::io::Error| disk_failure("read", path, e);
        let mut tasks = Vec::new();
        for group in self.0.env.disk.list(&content).map_err(|e| failure(&content, &e))? {
            let dir = content.join(&group);
            let names = self.0.env.disk.list(&dir).map_err(|e| failure(&dir, &e))?;
            for name in &names {
                let stem = name.split('.').next().unwrap_or_default();
                let journal = format!("{stem}.journal");
                match stem.parse::<TaskId>() {
                    Ok(task) if *name == journal => tasks.push(task),
                    Ok(_) if names.contains(&journal) => {}
                    _ => drop(self.0.env.disk.remove_file(&dir.join(name))),
                }
            }
        }
        Ok(tasks)
    }

    fn content_dir(&self) -> PathBuf {
        self.0.root.join(CONTENT)
    }

    fn paths(&self, task: &TaskId) -> task::Paths {
        let name = task.to_string();
        let dir = self.content_dir().join(&name[..2]);
        task::Paths { data: dir.join(format!("{name}.data")), journal: dir.join(format!("{name}.journal")), dir }
    }

    fn remove_files(&self, task: &TaskId) {
        let paths = self.paths(task);
        // The journal last: as long as it is there the task can be found and removed again.
        let _ = self.0.env.disk.remove_file(&paths.data);
        let _ = self.0.env.disk.remove_file(&paths.journal);
    }

    /// A task that is there, with its files open, for somebody who uses it. Blocks for as long as its
    /// journal takes to read.
    pub fn task(&self, task: &TaskId) -> Option<Arc<StoredTask>> {
        let now = self.0.env.clock.wall().as_secs();
        {
            let mut books = lock(&self.0.books);
            let Books { records, used, .. } = &mut *books;
            if let Some(record) = records.get_mut(task).filter(|record| record.used_secs != now) {
                record.used_secs = now;
                used.insert(*task);
            }
        }
        self.look(task)
    }

    /// The same for somebody who only looks: it does not count as a use.
    pub fn look(&self, task: &TaskId) -> Option<Arc<StoredTask>> {
        if let Some(open) = self.touch(task) {
            return Some(open);
        }
        if !lock(&self.0.books).records.contains_key(task) {
            return None;
        }
        match StoredTask::load(&self.0.env, &self.paths(task), self.0.boot) {
            Ok(stored) => Some(self.adopt(Arc::new(stored))),
            Err(failure) => {
                tracing::warn!(%task, %failure, "a stored task cannot be read and is dropped");
                self.remove(task);
                None
            }
        }
    }

    /// A task that is there, or a new one.
    ///
    /// # Errors
    /// When its files cannot be created.
    pub fn task_or_new(&self, task: &TaskId, label: &Label) -> Result<Arc<StoredTask>, Failure> {
        if let Some(known) = self.task(task) {
            return Ok(known);
        }
        let _turn = lock(&self.0.files);
        if let Some(known) = self.touch(task) {
            return Ok(known);
        }
        let stored = StoredTask::create(&self.0.env, *task, &self.paths(task), self.0.boot, label)?;
        let stored = self.adopt(Arc::new(stored));
        self.note(&stored)?;
        Ok(stored)
    }

    fn touch(&self, task: &TaskId) -> Option<Arc<StoredTask>> {
        let mut books = lock(&self.0.books);
        books.turn += 1;
        let turn = books.turn;
        let (stored, used) = books.open.get_mut(task)?;
        *used = turn;
        Some(stored.clone())
    }

    /// Remembers open files; the first to open a task wins. Forgets the longest unused.
    fn adopt(&self, stored: Arc<StoredTask>) -> Arc<StoredTask> {
        let mut books = lock(&self.0.books);
        books.turn += 1;
        let turn = books.turn;
        let adopted = books.open.entry(stored.id()).or_insert((stored, turn)).0.clone();
        let idle = |entry: &(Arc<StoredTask>, u64)| Arc::strong_count(&entry.0) == 1;
        if books.open.values().filter(|entry| idle(entry)).count() > IDLE_OPEN_LIMIT {
            let oldest = books.open.iter().filter(|(_, e)| idle(e)).min_by_key(|(_, e)| e.1).map(|(task, _)| *task);
            oldest.map(|task| books.open.remove(&task));
        }
        adopted
    }

    /// Writes a task's record to the index.
    ///
    /// # Errors
    /// When the index fails.
    pub fn note(&self, stored: &StoredTask) -> Result<(), Failure> {
        let record = stored.index_record(self.0.env.clock.wall());
        self.on_index(|index| index.put(&stored.id(), &record))?;
        lock(&self.0.books).records.insert(stored.id(), record);
        Ok(())
    }

    /// The same for a task that may have been removed meanwhile, and is not to come back.
    fn note_again(&self, stored: &StoredTask) -> Result<(), Failure> {
        let _turn = lock(&self.0.files);
        if stored.is_gone() { Ok(()) } else { self.note(stored) }
    }

    fn make_durable(&self, stored: &StoredTask) -> Result<(), Failure> {
        stored.sync()?;
        self.sync_names(&stored.id())?;
        self.note_again(stored)?;
        self.on_index(|index| index.flush())
    }

    /// Makes the names of a task's files durable, and that of their folder, once. Blocks for long.
    fn sync_names(&self, task: &TaskId) -> Result<(), Failure> {
        let (folder, content) = (self.paths(task).dir, self.content_dir());
        let sync = |folder: &Path| self.0.env.disk.sync_dir(folder).map_err(|e| disk_failure("sync", folder, &e));
        if lock(&self.0.books).durable_folders.contains(&folder) {
            return sync(&folder);
        }
        let (names, own) = self.0.env.both(|| sync(&folder), || sync(&content));
        names.and(own)?;
        lock(&self.0.books).durable_folders.insert(folder);
        Ok(())
    }

    /// Does something with the index. When the disk fails it, a full one say, it is given up for this
    /// daemon's life: sled works no more after that, and the journals have all that is in it.
    fn on_index(&self, work: impl FnOnce(&dyn MetaStore) -> Result<(), Failure>) -> Result<(), Failure> {
        if self.0.is_index_lost.load(Ordering::Acquire) {
            return Ok(());
        }
        match work(&*self.0.index) {
            Err(failure) if failure.code == Code::LocalIo => {
                tracing::warn!(%failure, "going on without an index; the next start rebuilds it");
                self.0.is_index_lost.store(true, Ordering::Release);
                let _ = self.0.env.disk.remove_dir_all(&self.0.root.join("index"));
                Ok(())
            }
            other => other,
        }
    }

    /// Fixes how a task's content is cut and takes its room: all of it now, so that a download that
    /// has begun does not end in a full disk. Blocks.
    ///
    /// # Errors
    /// [`Code::NoSpace`]; what [`StoredTask::set_plan`] fails with.
    pub fn set_plan(&self, stored: &StoredTask, plan: PiecePlan) -> Result<(), Failure> {
        if stored.plan() == Some(plan) {
            return Ok(());
        }
        let (have, _) = stored.held_bytes();
        self.make_room(&stored.id(), plan.content_len().unwrap_or(plan.piece_len()), have)?;
        stored.set_plan(plan)?;
        self.note_again(stored)
    }

    /// Drops a task: first what names it, then its files. Nothing of it is served any more.
    pub fn remove(&self, task: &TaskId) {
        let _turn = lock(&self.0.files);
        self.remove_locked(task, false);
    }

    /// The same, but who is being served gets what is whole.
    pub fn retire(&self, task: &TaskId) {
        let _turn = lock(&self.0.files);
        self.remove_locked(task, true);
    }

    fn remove_locked(&self, task: &TaskId, serves_out: bool) {
        self.remove_if(task, serves_out, |_| true);
    }

    /// Removes a task that may be removed; false if it may not.
    fn remove_if(&self, task: &TaskId, serves_out: bool, may: impl FnOnce(&Books) -> bool) -> bool {
        let open = {
            let mut books = lock(&self.0.books);
            if !may(&books) {
                return false;
            }
            books.records.remove(task);
            books.open.remove(task)
        };
        if let Some((stored, _)) = open {
            stored.abandon(serves_out);
        }
        if let Err(failure) = self.on_index(|index| index.remove(task)) {
            tracing::warn!(%task, %failure, "index");
        }
        self.remove_files(task);
        true
    }

    /// What the index knows of a task.
    pub fn record(&self, task: &TaskId) -> Option<IndexRecord> {
        lock(&self.0.books).records.get(task).cloned()
    }

    /// A cached content was deleted, up to this version of its name. Blocks.
    ///
    /// # Errors
    /// When the disk fails; the deletion is remembered until the daemon ends then.
    pub fn note_deletion(&self, task: TaskId, stamp: u64) -> Result<(), Failure> {
        self.0.deletions.note(task, stamp)
    }

    /// Deletions this host has heard of.
    pub fn deletions(&self) -> Vec<Deletion> {
        self.0.deletions.all()
    }

    /// All tasks with their records.
    pub fn records(&self) -> BTreeMap<TaskId, IndexRecord> {
        lock(&self.0.books).records.clone()
    }

    /// Makes the index durable; at the end of a daemon's life.
    ///
    /// # Errors
    /// When the index fails.
    pub fn flush(&self) -> Result<(), Failure> {
        self.write_uses();
        self.on_index(|index| index.flush())
    }
}

/// The id in `DATA_DIR/host`, drawn at the first start.
fn host_id(env: &Env, root: &Path) -> Result<HostId, Failure> {
    let path = root.join("host");
    let failure = |e: &std::io::Error| disk_failure("read", &path, e);
    let file = env.disk.open(&path, OpenMode::Any).map_err(|e| failure(&e))?;
    let mut text = [0; HostId::LEN * 2];
    if file.read_exact_at(&mut text, 0).is_ok()
        && let Some(id) = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok())
    {
        return Ok(id);
    }
    let mut draw = df_core::rng::Rng::new(env.seed_for("host id"));
    let id = HostId::from_bytes(std::array::from_fn(|_| draw.next_u64() as u8));
    file.write_all_at(id.to_string().as_bytes(), 0).and_then(|()| file.sync()).map_err(|e| failure(&e))?;
    Ok(id)
}
