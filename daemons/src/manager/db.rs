//! Where the manager keeps what must outlive it: sled, or a twin in memory.
//!
//! Unlike a daemon's index this cannot be made anew: a store that does not open is told, never set
//! aside. Values are cut into chunks, for sled 0.34.7 is kept within the bounds in which it has been
//! seen to work.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use df_api::failure::{Code, Failure};

use crate::peer::store::index;
use crate::sync::lock;

/// Longest piece of a value in one row.
const CHUNK_LIMIT: usize = 8 * 1024;

/// Longest value.
const VALUE_LIMIT: usize = 4 << 20;

/// What kind of thing is stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Numbers of the store itself, under 0.
    Store = 1,
    /// Clusters with their configuration.
    Cluster = 2,
    /// Schedulers and seed peers.
    Member = 3,
    /// Preheat jobs.
    Job = 4,
    /// Users.
    User = 5,
    /// Tokens.
    Token = 6,
    /// Who did what.
    Audit = 7,
}

/// One change of the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// There is this value now.
    Put(Kind, u64, Vec<u8>),
    /// There is none any more.
    Remove(Kind, u64),
}

impl Change {
    /// What it changes.
    pub const fn key(&self) -> (Kind, u64) {
        match self {
            Self::Put(kind, number, _) | Self::Remove(kind, number) => (*kind, *number),
        }
    }
}

/// Values by kind and number.
pub trait Db: Send + Sync + 'static {
    /// All values of a kind, by number. Blocks.
    ///
    /// # Errors
    /// When the store fails.
    fn all(&self, kind: Kind) -> Result<BTreeMap<u64, Vec<u8>>, Failure>;

    /// The latest values of a kind with numbers below `before`, at most `limit`, the highest first.
    /// Blocks.
    ///
    /// # Errors
    /// When the store fails.
    fn latest(&self, kind: Kind, before: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, Failure>;

    /// Makes changes, all or none, and makes them durable. Blocks.
    ///
    /// # Errors
    /// When the store fails, or for a value that is too long.
    fn apply(&self, changes: &[Change]) -> Result<(), Failure>;
}

fn failure(error: impl std::fmt::Display) -> Failure {
    Failure::new(Code::LocalIo, "the manager's store failed").because(error)
}

fn key(kind: Kind, number: u64, chunk: u32) -> [u8; 13] {
    let mut key = [0; 13];
    key[0] = kind as u8;
    key[1..9].copy_from_slice(&number.to_be_bytes());
    key[9..].copy_from_slice(&chunk.to_be_bytes());
    key
}

fn number(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(1..9)?.try_into().ok()?))
}

/// The store in sled.
pub struct SledDb(sled::Db);

impl SledDb {
    /// Opens or makes it.
    ///
    /// # Errors
    /// [`Code::LocalIo`] when it does not open.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        index::open_mended(path).map(Self).map_err(|error| {
            let hint = match error {
                index::Unopened::InUse => "stop the other manager, or give this one another --data-dir",
                index::Unopened::Broken(_) => "put a copy of the folder back, or begin with an empty one",
            };
            Failure::new(Code::LocalIo, format!("the manager's store {} does not open", path.display()))
                .because(error)
                .hint(hint)
        })
    }
}

impl Db for SledDb {
    fn all(&self, kind: Kind) -> Result<BTreeMap<u64, Vec<u8>>, Failure> {
        let mut all: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for row in self.0.scan_prefix([kind as u8]) {
            // sled's iterator repeats an error for ever: the first one ends it.
            let (key, chunk) = row.map_err(failure)?;
            let number = number(&key).ok_or_else(|| failure("a key of another length"))?;
            all.entry(number).or_default().extend_from_slice(&chunk);
        }
        Ok(all)
    }

    fn latest(&self, kind: Kind, before: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, Failure> {
        let mut found: Vec<(u64, Vec<u8>)> = Vec::new();
        for row in self.0.range(key(kind, 0, 0)..key(kind, before, 0)).rev() {
            let (key, chunk) = row.map_err(failure)?;
            let number = number(&key).ok_or_else(|| failure("a key of another length"))?;
            let is_full = found.len() == limit;
            match found.last_mut() {
                // Chunks come last first.
                Some((last, value)) if *last == number => drop(value.splice(0..0, chunk.iter().copied())),
                _ if is_full => break,
                _ => found.push((number, chunk.to_vec())),
            }
        }
        Ok(found)
    }

    fn apply(&self, changes: &[Change]) -> Result<(), Failure> {
        let mut batch = sled::Batch::default();
        for change in changes {
            let (kind, number, value) = match change {
                Change::Put(kind, number, value) => (*kind, *number, Some(value)),
                Change::Remove(kind, number) => (*kind, *number, None),
            };
            let chunks: Vec<&[u8]> = match value {
                Some(value) if value.len() > VALUE_LIMIT => return Err(failure("a value is too long")),
                Some(value) if value.is_empty() => vec![&[]],
                Some(value) => value.chunks(CHUNK_LIMIT).collect(),
                None => Vec::new(),
            };
            for (at, chunk) in (0..).zip(&chunks) {
                batch.insert(&key(kind, number, at), *chunk);
            }
            let rest = key(kind, number, chunks.len() as u32)..=key(kind, number, u32::MAX);
            for row in self.0.range(rest) {
                batch.remove(row.map_err(failure)?.0);
            }
        }
        self.0.apply_batch(batch).map_err(failure)?;
        self.0.flush().map(drop).map_err(failure)
    }
}

/// The store in memory: for simulations and tests. Clones of what it holds survive it.
#[derive(Default)]
pub struct MemoryDb(Mutex<BTreeMap<(Kind, u64), Vec<u8>>>);

impl Db for MemoryDb {
    fn all(&self, kind: Kind) -> Result<BTreeMap<u64, Vec<u8>>, Failure> {
        let rows = lock(&self.0);
        let of_kind = rows.range((kind, 0)..=(kind, u64::MAX));
        Ok(of_kind.map(|((_, number), value)| (*number, value.clone())).collect())
    }

    fn latest(&self, kind: Kind, before: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, Failure> {
        let rows = lock(&self.0);
        let of_kind = rows.range((kind, 0)..(kind, before)).rev().take(limit);
        Ok(of_kind.map(|((_, number), value)| (*number, value.clone())).collect())
    }

    fn apply(&self, changes: &[Change]) -> Result<(), Failure> {
        let mut rows = lock(&self.0);
        for change in changes {
            match change {
                Change::Put(kind, number, value) => drop(rows.insert((*kind, *number), value.clone())),
                Change::Remove(kind, number) => drop(rows.remove(&(*kind, *number))),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contract(db: &dyn Db) {
        let long: Vec<u8> = (0..3 * CHUNK_LIMIT + 1).map(|at| at as u8).collect();
        let put = |number, value: &[u8]| Change::Put(Kind::Job, number, value.to_vec());
        db.apply(&[put(1, b"one"), put(2, &long), put(3, b""), Change::Put(Kind::User, 1, b"root".to_vec())]).unwrap();
        let all = db.all(Kind::Job).unwrap();
        assert_eq!(all.keys().copied().collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!((all[&1].as_slice(), &all[&2], all[&3].as_slice()), (&b"one"[..], &long, &b""[..]));
        assert_eq!(db.latest(Kind::Job, u64::MAX, 2).unwrap(), [(3, Vec::new()), (2, long)]);
        assert_eq!(db.latest(Kind::Job, 2, 9).unwrap(), [(1, b"one".to_vec())]);

        db.apply(&[put(2, b"short"), Change::Remove(Kind::Job, 1)]).unwrap();
        let all = db.all(Kind::Job).unwrap();
        assert_eq!(all.get(&2).map(Vec::as_slice), Some(&b"short"[..]), "no chunk of the old value is left");
        assert!(!all.contains_key(&1));
        assert_eq!(db.all(Kind::User).unwrap().len(), 1);
    }

    #[test]
    fn both_stores_keep_the_same_contract() {
        contract(&MemoryDb::default());
        let dir = tempfile::tempdir().unwrap();
        contract(&SledDb::open(&dir.path().join("db")).unwrap());
        let again = SledDb::open(&dir.path().join("db")).unwrap();
        assert_eq!(again.all(Kind::User).unwrap().len(), 1);
    }

    #[test]
    fn a_store_that_another_has_open_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let first = SledDb::open(&path).unwrap();
        std::fs::write(path.join("snap.0000000000009999"), "whatever").unwrap();
        let second = SledDb::open(&path).map(drop).unwrap_err();
        assert!(second.to_string().contains("does not open"), "{second}");
        assert!(path.join("snap.0000000000009999").exists());
        drop(first);
    }
}
