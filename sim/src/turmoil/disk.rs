//! A disk in memory that knows what is synced and what is not, and fails when it is told to.
//!
//! What a killed process wrote stays; what was not synced when the power went may be there, or not, or
//! in part. Sizes of sectors and files are small, so that small contents meet every case.

mod file;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use df_core::rng::Rng;
use df_daemons::env::disk::{Disk, DiskFile, OpenMode, Space};
use df_daemons::sync::lock;

pub use file::Inode;
use file::SimFile;

/// What goes wrong on a disk.
#[derive(Clone, Copy, Default, Debug)]
pub struct DiskFaults {
    /// No more bytes fit.
    pub is_full: bool,
    /// So many per cent of calls fail.
    pub error_percent: u64,
    /// Blocking calls take so long, at most.
    pub delay_ms: u64,
    /// What is read of contents is not what is there.
    pub lies: bool,
}

/// One host's disk. Cheap to clone.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    now_us: Arc<AtomicU64>,
}

pub(super) struct State {
    root: PathBuf,
    files: BTreeMap<PathBuf, Arc<Mutex<Inode>>>,
    /// Names as they are found after a power loss.
    durable: BTreeMap<PathBuf, Arc<Mutex<Inode>>>,
    folders: BTreeSet<PathBuf>,
    foreign: BTreeMap<PathBuf, Arc<Vec<u8>>>,
    pub(super) faults: DiskFaults,
    pub(super) can_reserve: bool,
    pub(super) rng: Rng,
    boot: u64,
    /// Whether bits have flipped on it.
    is_tainted: bool,
    /// Contents removed.
    removed: u64,
    /// Paths that were touched and are none of the daemon's.
    trespasses: Vec<PathBuf>,
    /// Files that were to be removed and could not be.
    stuck: BTreeSet<PathBuf>,
}

impl State {
    /// Fails now and then, if it is to.
    pub(super) fn may_fail(&mut self) -> io::Result<()> {
        if self.faults.error_percent > 0 && self.rng.chance(self.faults.error_percent, 100) {
            return Err(io::Error::from_raw_os_error(5));
        }
        Ok(())
    }

    fn enter(&mut self, path: &Path) -> io::Result<()> {
        if !path.starts_with(&self.root) || path.components().any(|part| part.as_os_str() == "..") {
            self.trespasses.push(path.to_owned());
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.may_fail()
    }
}

impl SimDisk {
    /// An empty disk on which a daemon may use the folder `root`.
    pub fn new(root: &Path, rng: Rng, now_us: Arc<AtomicU64>, can_reserve: bool) -> Self {
        let state = State {
            root: root.to_owned(),
            files: BTreeMap::new(),
            durable: BTreeMap::new(),
            folders: BTreeSet::new(),
            foreign: BTreeMap::new(),
            faults: DiskFaults::default(),
            can_reserve,
            rng,
            boot: 0,
            is_tainted: false,
            removed: 0,
            trespasses: Vec::new(),
            stuck: BTreeSet::new(),
        };
        Self { state: Arc::new(Mutex::new(state)), now_us }
    }

    /// From now on it fails like this.
    pub fn set_faults(&self, change: impl FnOnce(&mut DiskFaults)) {
        change(&mut lock(&self.state).faults);
    }

    /// What goes wrong now.
    pub fn faults(&self) -> DiskFaults {
        lock(&self.state).faults
    }

    /// Puts a file there that belongs to a user.
    pub fn put_foreign(&self, path: &Path, bytes: Arc<Vec<u8>>) {
        lock(&self.state).foreign.insert(path.to_owned(), bytes);
    }

    /// The process is gone with all its locks.
    pub fn process_died(&self) {
        let state = lock(&self.state);
        state.files.values().for_each(|inode| lock(inode).is_locked = false);
    }

    /// The power is gone: of what was not synced, anything may be left.
    pub fn power_lost(&self) {
        let mut state = lock(&self.state);
        state.boot += 1;
        let State { files, durable, rng, .. } = &mut *state;
        // A name that was made, changed or removed and not synced: either of the two.
        let names: BTreeSet<PathBuf> = files.keys().chain(durable.keys()).cloned().collect();
        for name in names {
            let (now, then) = (files.get(&name).cloned(), durable.get(&name).cloned());
            let is_same = match (&now, &then) {
                (Some(now), Some(then)) => Arc::ptr_eq(now, then),
                (None, None) => true,
                _ => false,
            };
            if !is_same && rng.chance(1, 8) {
                match then {
                    Some(then) => drop(files.insert(name, then)),
                    None => drop(files.remove(&name)),
                }
            }
        }
        for inode in files.values() {
            lock(inode).power_lost(rng);
        }
        state.durable = state.files.clone();
    }

    /// Another disk, with nothing on it.
    pub fn wipe(&self) {
        let mut state = lock(&self.state);
        (state.files, state.durable, state.folders) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        state.boot += 1;
        state.is_tainted = false;
    }

    /// Flips a bit of a stored content, if there is one.
    pub fn flip(&self, draw: u64) -> bool {
        let mut state = lock(&self.state);
        state.is_tainted = true;
        let is_content = |path: &Path| path.extension().is_some_and(|extension| extension == "data");
        let contents: Vec<_> =
            state.files.iter().filter(|(path, _)| is_content(path)).map(|(_, inode)| inode).collect();
        let mut rng = Rng::new(draw);
        let Some(inode) = contents.get(rng.index(contents.len())) else { return false };
        lock(inode).flip(&mut rng)
    }

    /// Fails now and then, if it is to.
    ///
    /// # Errors
    /// A disk's.
    pub fn may_fail(&self) -> io::Result<()> {
        lock(&self.state).may_fail()
    }

    /// Whether bits have flipped on it.
    pub fn is_tainted(&self) -> bool {
        lock(&self.state).is_tainted
    }

    /// How many contents were removed.
    pub fn removed(&self) -> u64 {
        lock(&self.state).removed
    }

    /// A file as it is, for those who check.
    pub fn inode(&self, path: &Path) -> Option<Arc<Mutex<Inode>>> {
        lock(&self.state).files.get(path).cloned()
    }

    /// The names of all files.
    pub fn names(&self) -> Vec<PathBuf> {
        lock(&self.state).files.keys().cloned().collect()
    }

    /// Whether a file is there only because the disk did not let go of it.
    pub fn is_stuck(&self, path: &Path) -> bool {
        lock(&self.state).stuck.contains(path)
    }

    /// Paths touched that are none of the daemon's.
    pub fn trespasses(&self) -> Vec<PathBuf> {
        lock(&self.state).trespasses.clone()
    }
}

impl Disk for SimDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.enter(path)?;
        let root = state.root.clone();
        state.folders.extend(path.ancestors().take_while(|folder| folder.starts_with(&root)).map(Path::to_owned));
        Ok(())
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = lock(&self.state);
        state.enter(path)?;
        if !path.parent().is_some_and(|folder| state.folders.contains(folder)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inode = match (state.files.get(path).cloned(), mode) {
            (Some(_), OpenMode::New) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(inode), _) => inode,
            (None, OpenMode::Existing) => return Err(io::ErrorKind::NotFound.into()),
            (None, _) if state.faults.is_full => return Err(io::ErrorKind::StorageFull.into()),
            (None, _) => {
                let inode = Arc::new(Mutex::new(Inode::new(self.now_ns())));
                state.files.insert(path.to_owned(), inode.clone());
                inode
            }
        };
        let is_content = path.extension().is_some_and(|extension| extension == "data");
        Ok(Arc::new(SimFile::new(inode, self.clone(), is_content)))
    }

    fn open_foreign(&self, path: &Path) -> io::Result<File> {
        let bytes = lock(&self.state).foreign.get(path).cloned().ok_or(io::ErrorKind::NotFound)?;
        let mut file = File::from(rustix::fs::memfd_create("foreign", rustix::fs::MemfdFlags::CLOEXEC)?);
        file.write_all(&bytes)?;
        Ok(file)
    }

    fn read_text(&self, path: &Path) -> io::Result<String> {
        let bytes = lock(&self.state).foreign.get(path).cloned().ok_or(io::ErrorKind::NotFound)?;
        String::from_utf8(bytes.to_vec()).map_err(io::Error::other)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.enter(from)?;
        state.enter(to)?;
        let inode = state.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.files.insert(to.to_owned(), inode);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.enter(path).inspect_err(|_| _ = state.stuck.insert(path.to_owned()))?;
        state.removed += u64::from(path.extension().is_some_and(|extension| extension == "data"));
        state.files.remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.enter(path)?;
        state.files.retain(|name, _| !name.starts_with(path));
        state.folders.retain(|name| !name.starts_with(path));
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut state = lock(&self.state);
        state.enter(path)?;
        if !state.folders.contains(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside =
            |name: &PathBuf| (name.parent() == Some(path)).then(|| name.file_name()?.to_str().map(str::to_owned));
        let names: BTreeSet<String> =
            state.files.keys().chain(state.folders.iter()).filter_map(inside).flatten().collect();
        Ok(names.into_iter().collect())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.enter(path)?;
        let State { files, durable, .. } = &mut *state;
        durable.retain(|name, _| name.parent() != Some(path));
        let here = files.iter().filter(|(name, _)| name.parent() == Some(path));
        durable.extend(here.map(|(name, inode)| (name.clone(), inode.clone())));
        Ok(())
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let mut state = lock(&self.state);
        state.enter(path)?;
        let free = if state.faults.is_full { 0 } else { 1 << 40 };
        Ok(Space { total: 1 << 40, free })
    }

    fn check_private(&self, path: &Path) -> io::Result<()> {
        lock(&self.state).enter(path)
    }

    fn boot_id(&self) -> [u8; 16] {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&lock(&self.state).boot.to_le_bytes());
        id
    }

    fn delay(&self) -> Duration {
        let mut state = lock(&self.state);
        let most = state.faults.delay_ms;
        if most == 0 { Duration::ZERO } else { Duration::from_millis(state.rng.between(0, most)) }
    }
}

impl SimDisk {
    pub(super) fn state(&self) -> std::sync::MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(super) fn now_ns(&self) -> u64 {
        // A kernel's stamps are as coarse as its ticks.
        self.now_us.load(Ordering::Relaxed) / 4000 * 4_000_000
    }
}
