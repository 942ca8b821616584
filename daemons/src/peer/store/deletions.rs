//! Deletions of cached contents this host has heard of: told again to schedulers, which forget
//! everything when they end, so that a holder that was away does not bring back what was deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use df_api::failure::Failure;
use df_core::id::TaskId;

use super::disk_failure;
use super::journal::{DeletedFact, Fact, Journal};
use crate::env::Env;
use crate::env::disk::OpenMode;
use crate::sync::lock;

/// Deletions remembered; with more the oldest are forgotten.
const DELETION_LIMIT: usize = 10_000;

/// How long they are, as schedulers remember them.
const DELETION_TTL: Duration = Duration::from_secs(7 * 24 * 3600);

/// The journal is written anew when it has this many times the records it needs.
const SLACK: usize = 2;

/// A deletion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Deletion {
    /// The content.
    pub task: TaskId,
    /// Version of its name up to which everything was deleted.
    pub stamp: u64,
    /// How long ago this host heard of it.
    pub age: Duration,
}

/// All of them, in memory and in a journal.
pub(super) struct Deletions {
    env: Env,
    path: PathBuf,
    books: Mutex<Books>,
}

struct Books {
    journal: Journal,
    records: usize,
    known: BTreeMap<TaskId, (u64, Duration)>,
    /// The same by the wall time at which they were heard of.
    heard: BTreeSet<(Duration, TaskId)>,
}

impl Books {
    fn note(&mut self, task: TaskId, stamp: u64, at: Duration) {
        if let Some((_, before)) = self.known.insert(task, (stamp, at)) {
            self.heard.remove(&(before, task));
        }
        self.heard.insert((at, task));
        if self.heard.len() > DELETION_LIMIT {
            let oldest = self.heard.pop_first();
            oldest.map(|(_, task)| self.known.remove(&task));
        }
    }
}

impl Deletions {
    /// Reads the journal at a path; one that is not there, or is not one, has nothing in it. Blocks.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub(super) fn open(env: Env, path: PathBuf) -> Result<Self, Failure> {
        let file = env.disk.open(&path, OpenMode::Any).map_err(|e| disk_failure("open", &path, &e))?;
        let (journal, facts) = Journal::read(file).map_err(|e| disk_failure("read", &path, &e))?;
        let mut books = Books { journal, records: facts.len(), known: BTreeMap::new(), heard: BTreeSet::new() };
        for fact in facts {
            if let Fact::Deleted(DeletedFact { id, stamp, at_secs }) = fact
                && let Ok(task) = TaskId::try_from(&id[..])
            {
                books.note(task, stamp, Duration::from_secs(at_secs));
            }
        }
        Ok(Self { env, path, books: Mutex::new(books) })
    }

    /// Remembers a deletion, durably. Blocks.
    ///
    /// # Errors
    /// When the disk fails; it is remembered until the daemon ends then.
    pub(super) fn note(&self, task: TaskId, stamp: u64) -> Result<(), Failure> {
        let at = Duration::from_secs(self.env.clock.wall().as_secs());
        let mut books = lock(&self.books);
        if books.known.get(&task).is_some_and(|(known, _)| *known >= stamp) {
            return Ok(());
        }
        books.note(task, stamp, at);
        let written = if books.records >= SLACK * books.known.len().max(DELETION_LIMIT / SLACK) {
            self.rewrite(&mut books)
        } else {
            books.records += 1;
            books.journal.append(fact(task, stamp, at)).and_then(|()| books.journal.sync())
        };
        written.map_err(|e| disk_failure("write", &self.path, &e))
    }

    /// Writes a journal of what is known now in the place of the old one.
    fn rewrite(&self, books: &mut Books) -> std::io::Result<()> {
        let fresh = self.path.with_extension("new");
        let file = self.env.disk.open(&fresh, OpenMode::Any)?;
        file.set_len(0)?;
        let mut journal = Journal::new(file);
        books.known.iter().try_for_each(|(task, (stamp, at))| journal.append(fact(*task, *stamp, *at)))?;
        journal.sync()?;
        self.env.disk.rename(&fresh, &self.path)?;
        (books.records, books.journal) = (books.known.len(), journal);
        Ok(())
    }

    /// Those that are not too long ago.
    pub(super) fn all(&self) -> Vec<Deletion> {
        let now = self.env.clock.wall();
        let books = lock(&self.books);
        let aged = books.known.iter().map(|(task, (stamp, at))| (*task, *stamp, now.saturating_sub(*at)));
        let young = aged.filter(|(_, _, age)| *age < DELETION_TTL);
        young.map(|(task, stamp, age)| Deletion { task, stamp, age }).collect()
    }
}

fn fact(task: TaskId, stamp: u64, at: Duration) -> Fact {
    Fact::Deleted(DeletedFact { id: task.as_bytes().to_vec(), stamp, at_secs: at.as_secs() })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::env::Clock;
    use crate::env::disk::RealDisk;
    use crate::env::net::RealNet;

    fn task(number: usize) -> TaskId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&(number as u64).to_be_bytes());
        TaskId::from_bytes(id)
    }

    fn at(wall_secs: u64, path: &std::path::Path) -> Deletions {
        let clock = Clock::with_wall(Duration::from_secs(wall_secs));
        let env = Env::simulated(Arc::new(RealNet), Arc::new(RealDisk), clock, 1);
        Deletions::open(env, path.to_owned()).unwrap()
    }

    #[tokio::test]
    async fn they_outlive_the_daemon_and_not_their_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deletions");
        let (week, now) = (DELETION_TTL.as_secs(), 10_000_000);
        at(now, &path).note(task(1), 5).unwrap();
        let later = at(now + week - 100, &path);
        later.note(task(2), 7).unwrap();
        later.note(task(2), 6).unwrap();
        let known = |wall| at(wall, &path).all().iter().map(|d| (d.task, d.stamp)).collect::<Vec<_>>();
        assert_eq!(known(now + week - 50), [(task(1), 5), (task(2), 7)]);
        assert_eq!(known(now + week + 1), [(task(2), 7)]);
        // A torn end costs what was being written.
        let len = std::fs::metadata(&path).unwrap().len();
        std::fs::File::options().write(true).open(&path).unwrap().set_len(len - 1).unwrap();
        assert_eq!(known(now + week - 50), [(task(1), 5)]);
    }

    #[tokio::test]
    async fn neither_they_nor_their_journal_grow_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deletions");
        let deletions = at(1, &path);
        let mut longest = 0;
        for number in 0..3 * DELETION_LIMIT {
            deletions.note(task(number % (DELETION_LIMIT + 10)), number as u64 + 1).unwrap();
            longest = longest.max(lock(&deletions.books).records);
        }
        assert_eq!(deletions.all().len(), DELETION_LIMIT);
        assert!(longest <= SLACK * DELETION_LIMIT, "{longest} records");
        assert_eq!(at(1, &path).all().len(), DELETION_LIMIT);
    }
}
