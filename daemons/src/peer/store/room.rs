//! Room: reserved before anything is written, made by dropping what was used least recently, and
//! never at the cost of what is pinned, being written or being read.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use df_api::failure::{Code, Failure};
use df_core::id::TaskId;
use df_core::piece::PiecePlan;

use super::index::IndexRecord;
use super::{Books, Store, StoredTask, disk_failure};
use crate::env::Env;
use crate::sync::lock;

/// How long a content whose last user may be about to go is waited for, to give its room.
const ROOM_TERM: Duration = Duration::from_millis(500);

/// Time between two looks for room.
const ROOM_LOOK: Duration = Duration::from_millis(20);

/// Room a store may use, and how long it keeps what nobody asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// Most bytes of content; `None` for what the disk has.
    pub quota: Option<u64>,
    /// Bytes left free on the disk.
    pub free_floor: u64,
    /// Percent of the quota beyond which contents are dropped until...
    pub high_percent: u64,
    /// ...so many percent are taken.
    pub low_percent: u64,
    /// Seconds after which a content that nobody asks for is dropped.
    pub task_ttl_secs: Option<u64>,
}

impl Room {
    /// A room with nothing but a quota and a floor.
    pub const fn new(quota: Option<u64>, free_floor: u64) -> Self {
        Self { quota, free_floor, high_percent: 100, low_percent: 100, task_ttl_secs: None }
    }
}

/// Bytes a task takes: those it is going to have, once that is known.
fn taken(record: &IndexRecord) -> u64 {
    record.content_len.unwrap_or(0).max(record.stored_bytes)
}

impl Books {
    /// Bytes taken or promised, without one task's.
    fn used_beside(&self, task: Option<&TaskId>) -> u64 {
        let records = self.records.iter().filter(|(known, _)| !self.reserved.contains_key(known));
        let taken = records.filter(|(known, _)| Some(*known) != task).map(|(_, record)| taken(record));
        let reserved = self.reserved.iter().filter(|(known, _)| Some(*known) != task).map(|(_, bytes)| *bytes);
        taken.chain(reserved).sum()
    }

    /// Whether nobody here writes or reads it.
    fn is_idle(&self, task: &TaskId) -> bool {
        !self.reserved.contains_key(task) && !self.is_open(task)
    }

    /// Whether somebody has its files open, but for the store itself.
    pub(super) fn is_open(&self, task: &TaskId) -> bool {
        let is_used =
            |stored: &Arc<StoredTask>| Arc::strong_count(stored) > 1 + stored.settling.load(Ordering::Relaxed);
        self.open.get(task).is_some_and(|(stored, _)| is_used(stored))
    }

    /// What may be dropped for others, now or when nobody uses it any more.
    fn droppable(&self, spared: Option<&TaskId>) -> impl Iterator<Item = (&TaskId, &IndexRecord)> {
        let may = move |(task, record): &(&TaskId, &IndexRecord)| {
            !record.is_pinned && taken(record) > 0 && Some(*task) != spared
        };
        self.records.iter().filter(may)
    }

    /// Whether there was room for `len` bytes of a task if those went who use what is complete here.
    fn may_come(&self, task: &TaskId, len: u64, quota: Option<u64>) -> bool {
        let complete = self.droppable(Some(task)).filter(|(_, record)| record.is_complete);
        let used: u64 = complete.map(|(_, record)| taken(record)).sum();
        let others = self.used_beside(Some(task)).saturating_sub(used);
        used > 0 && quota.is_none_or(|quota| others.saturating_add(len) <= quota)
    }

    /// What is dropped first: idle, least recently used.
    fn victim(&self, spared: Option<&TaskId>) -> Option<TaskId> {
        let idle = self.droppable(spared).filter(|(task, _)| self.is_idle(task));
        idle.min_by_key(|(task, record)| (record.used_secs, **task)).map(|(task, _)| *task)
    }
}

/// Work of the store's own with a complete task, which is no use of it: such a task may be dropped for its
/// room, and the work ends early.
pub struct Settling {
    store: Store,
    stored: Option<Arc<StoredTask>>,
}

impl Settling {
    /// Makes the task durable: content, journal, their names, index, in this order. Blocks for long.
    ///
    /// # Errors
    /// When the disk fails; the task stays usable but is verified again after a power loss.
    pub fn settle(self) -> Result<(), Failure> {
        let Some(stored) = &self.stored else { return Ok(()) };
        let settled = self.store.make_durable(stored);
        if stored.is_gone() { Ok(()) } else { settled }
    }

    /// Writes down that a scheduler knows of the task, by this version of its name. Blocks.
    fn confirm(&self, stamp: u64) -> Result<(), Failure> {
        let is_news = |stored: &&Arc<StoredTask>| stored.is_unconfirmed() || stored.stamp() != stamp;
        let Some(stored) = self.stored.as_ref().filter(is_news) else { return Ok(()) };
        stored.confirm(stamp)?;
        self.store.note_again(stored)
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        let Some(stored) = self.stored.take() else { return };
        // Both at once: in between, the task would seem to be used by one more or one less than it is.
        let _books = lock(&self.store.0.books);
        stored.settling.fetch_sub(1, Ordering::Relaxed);
        drop(stored);
    }
}

/// Room promised to a task that has no files under its name yet; given back when dropped.
pub(super) struct Reservation {
    pub(super) store: Store,
    pub(super) task: TaskId,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        lock(&self.store.0.books).reserved.remove(&self.task);
    }
}

impl Store {
    /// Bytes of contents, those promised included.
    pub fn used_bytes(&self) -> u64 {
        lock(&self.0.books).used_beside(None)
    }

    /// Begins work of the store's own with a complete task.
    pub fn settling(&self, stored: Arc<StoredTask>) -> Settling {
        let _books = lock(&self.0.books);
        stored.settling.fetch_add(1, Ordering::Relaxed);
        Settling { store: self.clone(), stored: Some(stored) }
    }

    /// A scheduler knows of what is here, by this version of its name. Blocks.
    ///
    /// # Errors
    /// When the disk fails; an import is announced as new once more then.
    pub fn confirm(&self, task: &TaskId, stamp: u64) -> Result<(), Failure> {
        self.look(task).map_or(Ok(()), |stored| self.settling(stored).confirm(stamp))
    }

    /// Makes sure of room for `len` bytes of a task that has `have` of them on the disk already,
    /// dropping other contents if that helps. Blocks.
    ///
    /// # Errors
    /// [`Code::NoSpace`].
    pub(super) fn make_room(&self, task: &TaskId, len: u64, have: u64) -> Result<(), Failure> {
        let Room { quota, free_floor, .. } = self.0.room;
        let full = |what: String| {
            Failure::new(Code::NoSpace, format!("no room for a content of {len} bytes"))
                .because(what)
                .hint("free some space, or raise the quota")
        };
        if quota.is_some_and(|quota| len > quota) {
            return Err(full(format!("the quota is {} bytes", quota.unwrap_or(0))));
        }
        loop {
            let used = lock(&self.0.books).used_beside(Some(task));
            let is_beyond_quota = quota.is_some_and(|quota| used.saturating_add(len) > quota);
            let free = free_bytes(&self.0.env, &self.0.root)?;
            if !is_beyond_quota && free.saturating_sub(free_floor) >= len.saturating_sub(have) {
                return Ok(());
            }
            if self.evict(Some(task)) {
                continue;
            }
            return Err(match quota.filter(|_| is_beyond_quota) {
                Some(quota) => full(format!("{used} bytes of a quota of {quota} are taken")),
                None => full(format!("{free} bytes are free on the disk, {free_floor} of them kept free")),
            });
        }
    }

    /// [`Store::set_plan`], waiting a moment for room: who has used a content may be about to go, so that it can
    /// be dropped.
    ///
    /// # Errors
    /// Those of [`Store::set_plan`].
    pub async fn set_plan_soon(&self, stored: &Arc<StoredTask>, plan: PiecePlan) -> Result<(), Failure> {
        let clock = &self.0.env.clock;
        let until = clock.now() + ROOM_TERM;
        loop {
            let (store, of) = (self.clone(), stored.clone());
            let result = self.0.env.blocking(move || store.set_plan(&of, plan)).await;
            let is_full = result.as_ref().is_err_and(|failure| failure.code == Code::NoSpace);
            let len = plan.content_len().unwrap_or(plan.piece_len());
            let may_come = || lock(&self.0.books).may_come(&stored.id(), len, self.0.room.quota);
            if !is_full || clock.now() >= until || !may_come() {
                return result;
            }
            tokio::time::sleep(ROOM_LOOK).await;
        }
    }

    /// Promises room to a task before its files are there. One promise at a time.
    ///
    /// # Errors
    /// [`Code::NoSpace`]; [`Code::Busy`] if the task has been promised room.
    pub(super) fn reserve(&self, task: &TaskId, len: u64) -> Result<Reservation, Failure> {
        {
            let mut books = lock(&self.0.books);
            if books.reserved.contains_key(task) {
                return Err(Failure::new(Code::Busy, "the same content is being imported right now"));
            }
            books.reserved.insert(*task, len);
        }
        let reservation = Reservation { store: self.clone(), task: *task };
        self.make_room(task, len, 0)?;
        Ok(reservation)
    }

    /// Drops one content that may be dropped. False if there is none.
    fn evict(&self, spared: Option<&TaskId>) -> bool {
        let victim = lock(&self.0.books).victim(spared);
        // One that is used just now stays: something else is the least recently used then.
        victim.inspect(|task| self.drop_idle(task)).is_some()
    }

    /// Drops a content, unless somebody has begun to use it.
    fn drop_idle(&self, task: &TaskId) {
        let _turn = lock(&self.0.files);
        if !self.remove_if(task, false, |books| books.is_idle(task)) {
            return;
        }
        lock(&self.0.books).evicted.push(*task);
        self.0.evictions.notify_one();
        tracing::info!(%task, "dropped to make room, or because its time was up");
    }

    /// Drops what has expired, then the least recently used while more than the high watermark is
    /// taken, down to the low one; and keeps the free floor. Writes down what was used. Blocks.
    pub fn sweep(&self) {
        let Room { quota, free_floor, high_percent, low_percent, task_ttl_secs } = self.0.room;
        let now = self.0.env.clock.wall().as_secs();
        let is_expired = |record: &IndexRecord| {
            let is_forgotten =
                !record.is_pinned && task_ttl_secs.is_some_and(|ttl| record.used_secs.saturating_add(ttl) <= now);
            is_forgotten || (record.expires_secs > 0 && record.expires_secs <= now)
        };
        let expired: Vec<TaskId> = {
            let books = lock(&self.0.books);
            books.records.iter().filter(|(_, record)| is_expired(record)).map(|(task, _)| *task).collect()
        };
        for task in expired {
            self.drop_idle(&task);
        }
        let percent = |part: u64| quota.map(|quota| u64::try_from(u128::from(quota) * u128::from(part) / 100));
        let level = |part: u64| percent(part).map(|bytes| bytes.unwrap_or(u64::MAX));
        let used = || lock(&self.0.books).used_beside(None);
        if level(high_percent).is_some_and(|high| used() > high) {
            while level(low_percent).is_some_and(|low| used() > low) && self.evict(None) {}
        }
        while free_bytes(&self.0.env, &self.0.root).is_ok_and(|free| free < free_floor) && self.evict(None) {}
        self.write_uses();
    }

    /// Writes down when tasks were last used.
    pub(super) fn write_uses(&self) {
        let used: BTreeSet<TaskId> = std::mem::take(&mut lock(&self.0.books).used);
        for task in used {
            let record = lock(&self.0.books).records.get(&task).cloned();
            if let Some(record) = record
                && let Err(failure) = self.0.index.put(&task, &record)
            {
                tracing::warn!(%task, %failure, "index");
            }
        }
    }

    /// Tasks that were dropped here since this was last asked: their schedulers are to be told.
    pub fn take_evicted(&self) -> Vec<TaskId> {
        std::mem::take(&mut lock(&self.0.books).evicted)
    }

    /// Waits until something has been dropped.
    pub async fn evicted(&self) {
        self.0.evictions.notified().await;
    }
}

fn free_bytes(env: &Env, root: &Path) -> Result<u64, Failure> {
    env.disk.space(root).map(|space| space.free).map_err(|e| disk_failure("measure", root, &e))
}
