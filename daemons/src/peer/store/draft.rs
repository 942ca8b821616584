//! A content on its way into the store that nobody sees before it is whole.
//!
//! Its file grows in `DATA_DIR/import`. To publish it, its journal is written beside it, then both get
//! their places: the content first, the journal last, for a task is there when its journal is. Whatever
//! is left in `DATA_DIR/import`, or of a content without a journal, goes at the next start. Both
//! files are durable before they get their places, and the places before the answer: whoever imported
//! has been promised that the content is here, and may have deleted the original. What does not depend
//! on each other is waited for at the same time: most of a small import is waiting for the disk.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;

use df_api::failure::{Code, Failure};
use df_core::id::{PieceDigest, TaskId};
use df_core::piece::PiecePlan;
use df_core::planted::{Bug, is_planted};

use super::journal::{Fact, Journal, PieceFact, PlanFact};
use super::label::{self, Keeping, Label};
use super::room::Reservation;
use super::task::{Paths, StoredTask};
use super::{Store, disk_failure};
use crate::env::disk::{DiskFile, OpenMode};
use crate::sync::lock;

/// Bytes by which the room of a content of unknown length grows.
const GROWTH_BYTES: u64 = 64 << 20;

/// A content that is being imported. Dropped, it leaves nothing.
pub struct Draft {
    reservation: Reservation,
    data: PathBuf,
    journal: PathBuf,
    file: Arc<dyn DiskFile>,
    room: u64,
}

/// What a draft becomes.
pub struct Finished {
    /// What it is called.
    pub label: Label,
    /// How it is cut.
    pub plan: PiecePlan,
    /// The digest of every piece.
    pub digests: Vec<PieceDigest>,
    /// How long it is kept.
    pub keeping: Keeping,
    /// The digest the whole was compared with.
    pub verified: Option<String>,
}

impl Store {
    /// Begins a content of `len` bytes, or of a length that is not known yet; with `existing`, the
    /// content is that open file, by a second name. Blocks.
    ///
    /// # Errors
    /// [`Code::NoSpace`]; [`Code::Busy`] if the same task is being imported; [`Code::LocalIo`].
    pub fn draft(&self, task: &TaskId, len: Option<u64>, existing: Option<BorrowedFd<'_>>) -> Result<Draft, Failure> {
        let reservation = self.reserve(task, len.unwrap_or(0))?;
        let folder = self.import_dir();
        let disk = &self.0.env.disk;
        disk.create_dir_all(&folder).map_err(|e| disk_failure("create", &folder, &e))?;
        let data = folder.join(format!("{task}.data"));
        let journal = folder.join(format!("{task}.journal"));
        let _ = disk.remove_file(&data);
        let file = match existing {
            Some(existing) => disk.link(existing, &data).and_then(|()| disk.open(&data, OpenMode::Existing)),
            None => disk.open(&data, OpenMode::New),
        };
        let file = file.map_err(|e| disk_failure("create", &data, &e))?;
        Ok(Draft { reservation, data, journal, file, room: len.unwrap_or(0) })
    }

    pub(super) fn import_dir(&self) -> PathBuf {
        self.0.root.join("import")
    }
}

impl Draft {
    /// The file to be filled.
    pub fn file(&self) -> &Arc<dyn DiskFile> {
        &self.file
    }

    /// Takes its room on the disk, all of it now. Not for a file that is there already.
    ///
    /// # Errors
    /// [`Code::NoSpace`].
    pub fn allocate(&self) -> Result<(), Failure> {
        self.file.reserve(0, self.room).map_err(|e| disk_failure("reserve", &self.data, &e))
    }

    /// Makes room up to `end`, for a content of unknown length.
    ///
    /// # Errors
    /// [`Code::NoSpace`].
    pub fn grow(&mut self, end: u64) -> Result<(), Failure> {
        if end <= self.room {
            return Ok(());
        }
        let Reservation { store, task } = &self.reservation;
        let room = end.max(self.room + GROWTH_BYTES);
        let have = self.room;
        store.make_room(task, room, have).or_else(|_| store.make_room(task, end, have))?;
        lock(&store.0.books).reserved.insert(*task, room);
        self.room = room;
        Ok(())
    }

    /// Makes it a task of the store that outlives a power loss. What was there of the task and is not
    /// whole goes. Blocks for long.
    ///
    /// # Errors
    /// [`Code::Busy`] if a part of it is in use, [`Code::Exists`] if the task is whole already;
    /// [`Code::LocalIo`].
    pub fn publish(self, finished: Finished) -> Result<Arc<StoredTask>, Failure> {
        let (store, task) = (self.reservation.store.clone(), self.reservation.task);
        let len = finished.plan.content_len().unwrap_or(0);
        self.file.set_len(len).map_err(|e| disk_failure("write", &self.data, &e))?;
        let (content, journal) = store.0.env.both(|| self.file.sync(), || self.write_journal(&store, task, finished));
        content.map_err(|e| disk_failure("write", &self.data, &e))?;
        journal.map_err(|e| disk_failure("write", &self.journal, &e))?;
        let _turn = lock(&store.0.files);
        let was_known = {
            let books = lock(&store.0.books);
            if books.records.get(&task).is_some_and(|record| record.is_complete) {
                return Err(Failure::new(Code::Exists, "the content has come by another way meanwhile"));
            }
            if books.is_open(&task) {
                return Err(Failure::new(Code::Busy, "the content is being fetched from other hosts right now"));
            }
            books.records.contains_key(&task)
        };
        store.remove_locked(&task, false);
        let paths: Paths = store.paths(&task);
        let disk = &store.0.env.disk;
        let moved = disk
            .create_dir_all(&paths.dir)
            .and_then(|()| disk.rename(&self.data, &paths.data))
            .and_then(|()| disk.rename(&self.journal, &paths.journal));
        moved.map_err(|e| disk_failure("move to", &paths.data, &e))?;
        store.sync_names(&task)?;
        let stored = store.adopt(Arc::new(StoredTask::load(&store.0.env, &paths, store.0.boot)?));
        store.note(&stored)?;
        if was_known {
            // A record of what was there before would be believed, none at all would not.
            store.on_index(|index| index.flush())?;
        }
        Ok(stored)
    }

    fn write_journal(&self, store: &Store, task: TaskId, finished: Finished) -> std::io::Result<()> {
        let Finished { label, plan, digests, keeping, verified } = finished;
        let _ = store.0.env.disk.remove_file(&self.journal);
        let mut journal = Journal::new(store.0.env.disk.open(&self.journal, OpenMode::New)?);
        let created_secs = store.0.env.clock.wall().as_secs();
        let plan_fact = PlanFact { piece_len: plan.piece_len(), content_len: plan.content_len() };
        let head = [
            Fact::Task(label::head(task, &label, created_secs)),
            Fact::Boot(store.0.boot.to_vec()),
            Fact::Plan(plan_fact),
            Fact::Keeping(keeping.fact()),
        ];
        let pieces = (0..).zip(digests).map(|(number, digest)| Fact::Piece(PieceFact::new(number, digest)));
        let tail = verified.map(Fact::Verified).into_iter().chain([Fact::Durable(self.file.modified_ns()?)]);
        head.into_iter().chain(pieces).chain(tail).try_for_each(|fact| journal.append(fact))?;
        journal.sync()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Published, they are not there any more.
        let disk = &self.reservation.store.0.env.disk;
        if is_planted(Bug::DraftNotRemoved) {
            return;
        }
        let _ = disk.remove_file(&self.data);
        let _ = disk.remove_file(&self.journal);
    }
}
