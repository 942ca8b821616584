//! An import that ends at any step, by the daemon's end or by a power loss: there is all of it or
//! nothing, and what was promised is there.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use df_api::failure::{Code, Failure};
use df_api::task::TaskRequest;
use df_core::id::PieceDigest;
use df_core::piece::PiecePlan;
use df_daemons::env::disk::{Disk, DiskFile, OpenMode, RealDisk, Space};
use df_daemons::env::net::RealNet;
use df_daemons::env::{Clock, Env};
use df_daemons::peer::store::index::MemoryIndex;
use df_daemons::peer::store::{Finished, Keeping, Label, Room, Store, StoredTask};

const BYTES: &[u8] = b"0123456789";

/// What was done to the disk.
#[derive(Clone, PartialEq, Debug)]
enum Step {
    Created(PathBuf),
    Changed(PathBuf),
    Synced(PathBuf),
    Renamed(PathBuf, PathBuf),
    SyncedFolder(PathBuf),
}

/// The kernel's disk, of which each step is written down, until it is cut off.
#[derive(Clone)]
struct StepDisk(Arc<Mutex<(Vec<Step>, usize)>>);

impl StepDisk {
    fn new(limit: usize) -> Self {
        Self(Arc::new(Mutex::new((Vec::new(), limit))))
    }

    fn note(&self, step: Step) -> io::Result<()> {
        let mut steps = self.0.lock().unwrap();
        if steps.0.len() >= steps.1 {
            return Err(io::Error::other("cut off"));
        }
        steps.0.push(step);
        Ok(())
    }

    fn steps(&self) -> Vec<Step> {
        self.0.lock().unwrap().0.clone()
    }

    fn is_cut(&self) -> bool {
        let steps = self.0.lock().unwrap();
        steps.0.len() >= steps.1
    }
}

impl Disk for StepDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        if !path.exists() {
            self.note(Step::Created(path.to_owned()))?;
        }
        let file = RealDisk.open(path, mode)?;
        Ok(Arc::new(StepFile { file, path: path.to_owned(), disk: self.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note(Step::Renamed(from.to_owned(), to.to_owned()))?;
        RealDisk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        if self.is_cut() { Err(io::Error::other("cut off")) } else { RealDisk.remove_file(path) }
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.note(Step::SyncedFolder(path.to_owned()))?;
        RealDisk.sync_dir(path)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        RealDisk.space(path)
    }

    fn check_private(&self, path: &Path) -> io::Result<()> {
        RealDisk.check_private(path)
    }

    fn boot_id(&self) -> [u8; 16] {
        RealDisk.boot_id()
    }
}

struct StepFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    disk: StepDisk,
}

impl DiskFile for StepFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.disk.note(Step::Changed(self.path.clone()))?;
        self.file.write_all_at(buf, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.note(Step::Changed(self.path.clone()))?;
        self.file.set_len(len)
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.reserve(offset, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.note(Step::Synced(self.path.clone()))?;
        self.file.sync()
    }

    fn modified_ns(&self) -> io::Result<u64> {
        self.file.modified_ns()
    }

    fn try_lock(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_fd()
    }
}

fn open(root: &Path, disk: Arc<dyn Disk>) -> Result<Store, Failure> {
    let env = Env::simulated(Arc::new(RealNet), disk, Clock::start(), 1);
    Store::open(env, root, Room::new(None, 0), MemoryIndex::open)
}

fn request() -> TaskRequest {
    TaskRequest::cached("c", "t").unwrap()
}

fn import(store: &Store) -> Result<(), Failure> {
    let plan = PiecePlan::with_piece_len(10, 4).unwrap();
    let draft = store.draft(&request().id(), Some(10), None)?;
    for (at, bytes) in (0..).step_by(4).zip(BYTES.chunks(4)) {
        draft
            .file()
            .write_all_at(bytes, at)
            .map_err(|e| Failure::new(df_api::failure::Code::LocalIo, e.to_string()))?;
    }
    let digest = |bytes: &[u8]| PieceDigest::from_bytes(*blake3::hash(bytes).as_bytes());
    let finished = Finished {
        label: Label::from(&request()),
        plan,
        digests: BYTES.chunks(4).map(digest).collect(),
        keeping: Keeping { is_pinned: true, ..Keeping::default() },
        verified: None,
    };
    draft.publish(finished).map(drop)
}

#[test]
fn an_import_that_is_cut_off_at_any_step_is_there_whole_or_not_at_all() {
    let (mut whole, mut nothing) = (0, 0);
    for limit in 0.. {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("data");
        drop(open(&root, Arc::new(RealDisk)).unwrap());
        let disk = StepDisk::new(limit);
        let done = open(&root, Arc::new(disk.clone())).and_then(|store| import(&store));
        // The next daemon.
        let store = open(&root, Arc::new(RealDisk)).unwrap();
        let (stored, files) = (store.task(&request().id()), folder.path().join("data/content"));
        match &stored {
            Some(stored) => {
                assert!(stored.is_complete() && stored.is_intact() && stored.is_unconfirmed(), "after {limit} steps");
                whole += 1;
            }
            None => {
                let left = RealDisk.list(&files).unwrap();
                let left = left.iter().flat_map(|group| RealDisk.list(&files.join(group)).unwrap());
                assert_eq!(left.collect::<Vec<_>>(), Vec::<String>::new(), "after {limit} steps");
                assert!(done.is_err(), "promised, and not there after {limit} steps");
                nothing += 1;
            }
        }
        if done.is_ok() {
            break;
        }
    }
    assert!(nothing > 8 && whole > 1, "{nothing} and {whole}");
}

/// What a power loss takes is what was not synced: a file's bytes, and the names in a folder.
#[test]
fn an_import_is_durable_before_it_is_promised() {
    let folder = tempfile::tempdir().unwrap();
    let disk = StepDisk::new(usize::MAX);
    let store = open(&folder.path().join("data"), Arc::new(disk.clone())).unwrap();
    let before = disk.steps().len();
    import(&store).unwrap();
    let steps = disk.steps().split_off(before);
    let at = |step: &dyn Fn(&Step) -> bool| steps.iter().rposition(step).unwrap_or_else(|| panic!("{steps:?}"));
    let renames: Vec<(usize, &PathBuf, &PathBuf)> = (0..)
        .zip(&steps)
        .filter_map(|(at, step)| match step {
            Step::Renamed(from, to) => Some((at, from, to)),
            _ => None,
        })
        .collect();
    let [(data_at, ..), (journal_at, _, to)] = renames[..] else { panic!("{steps:?}") };
    assert!(data_at < journal_at && to.extension().is_some_and(|kind| kind == "journal"), "the journal comes last");
    for (renamed, from, to) in &renames {
        let changed = at(&|step| matches!(step, Step::Changed(path) | Step::Created(path) if path == *from));
        let synced = at(&|step| *step == Step::Synced((*from).clone()));
        assert!(changed < synced && synced < *renamed, "{from:?} in {steps:?}");
        assert!(at(&|step| *step == Step::SyncedFolder(to.parent().unwrap().to_owned())) > *renamed, "{steps:?}");
    }
    let content = folder.path().join("data/content");
    assert!(at(&|step| *step == Step::SyncedFolder(content.clone())) > 0, "the folder's own name");
}

/// A download of [`BYTES`] that is whole, and not yet durable.
fn downloaded(store: &Store, cid: &str) -> Arc<StoredTask> {
    let request = TaskRequest::cached(cid, "").unwrap();
    let stored = store.task_or_new(&request.id(), &Label::from(&request)).unwrap();
    let plan = PiecePlan::with_piece_len(10, 10).unwrap();
    store.set_plan(&stored, plan).unwrap();
    let piece = plan.number(0).unwrap();
    let mut writer = stored.begin(piece).unwrap();
    writer.write(BYTES).unwrap();
    let digest = writer.finish().unwrap();
    stored.keep(piece, digest).unwrap();
    assert!(stored.is_complete() && !stored.is_durable());
    store.note(&stored).unwrap();
    stored
}

#[test]
fn a_content_is_called_durable_when_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let disk = StepDisk::new(usize::MAX);
    let store = open(&folder.path().join("data"), Arc::new(disk.clone())).unwrap();
    import(&store).unwrap();
    assert!(store.task(&request().id()).unwrap().is_durable(), "imported");
    // The same as a download: durable after it has been settled, and not before.
    let stored = downloaded(&store, "downloaded");
    let id = stored.id();
    store.settling(stored.clone()).settle().unwrap();
    assert!(stored.is_durable());
    drop((stored, store));
    let store = open(&folder.path().join("data"), Arc::new(RealDisk)).unwrap();
    assert!(store.task(&id).unwrap().is_durable(), "loaded");
}

/// What the store does with a content after its download keeps nobody from that content's room: it goes
/// at once, and the work that ends later does not bring it back.
#[test]
fn a_content_that_is_being_settled_gives_its_room() {
    let folder = tempfile::tempdir().unwrap();
    let env = Env::simulated(Arc::new(RealNet), Arc::new(RealDisk), Clock::start(), 1);
    let store = Store::open(env, &folder.path().join("data"), Room::new(Some(15), 0), MemoryIndex::open).unwrap();
    let first = downloaded(&store, "first");
    let first_id = first.id();
    let settling = store.settling(first);
    let second = downloaded(&store, "second");
    assert!(store.record(&first_id).is_none(), "dropped for the second");
    settling.settle().unwrap();
    assert_eq!(store.records().into_keys().collect::<Vec<_>>(), [second.id()]);
    // Whoever uses a content keeps it, settling or not.
    let settling = store.settling(second.clone());
    let third = TaskRequest::cached("third", "").unwrap();
    let third = store.task_or_new(&third.id(), &Label::from(&third)).unwrap();
    let plan = PiecePlan::with_piece_len(10, 10).unwrap();
    assert_eq!(store.set_plan(&third, plan).unwrap_err().code, Code::NoSpace);
    drop(settling);
    assert_eq!(store.set_plan(&third, plan).unwrap_err().code, Code::NoSpace);
    drop(second);
    store.set_plan(&third, plan).unwrap();
}

/// Who has used a content may hold it for a moment after its last user was answered.
#[tokio::test(start_paused = true)]
async fn room_that_is_about_to_come_free_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let env = Env::simulated(Arc::new(RealNet), Arc::new(RealDisk), Clock::start(), 1);
    let store = Store::open(env, &folder.path().join("data"), Room::new(Some(15), 0), MemoryIndex::open).unwrap();
    let first = downloaded(&store, "first");
    let second = TaskRequest::cached("second", "").unwrap();
    let second = store.task_or_new(&second.id(), &Label::from(&second)).unwrap();
    let plan = PiecePlan::with_piece_len(10, 10).unwrap();
    let full = store.set_plan_soon(&second, plan).await.unwrap_err();
    assert_eq!(full.code, Code::NoSpace, "its user does not go");
    let goes = async {
        tokio::time::advance(Duration::from_millis(100)).await;
        drop(first);
    };
    tokio::join!(store.set_plan_soon(&second, plan), goes).0.unwrap();
}

/// The name of a folder is made durable with the first content that comes into it; after that the
/// content's own names are enough.
#[test]
fn the_name_of_a_folder_is_synced_once() {
    let folder = tempfile::tempdir().unwrap();
    let disk = StepDisk::new(usize::MAX);
    let store = open(&folder.path().join("data"), Arc::new(disk.clone())).unwrap();
    import(&store).unwrap();
    let first = disk.steps().len();
    store.remove(&request().id());
    import(&store).unwrap();
    let again = disk.steps().split_off(first);
    let folders: Vec<&Step> = again.iter().filter(|step| matches!(step, Step::SyncedFolder(_))).collect();
    let id = request().id().to_string();
    assert_eq!(folders, [&Step::SyncedFolder(folder.path().join("data/content").join(&id[..2]))]);
}
