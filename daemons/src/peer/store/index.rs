//! The index of stored tasks: sled, or a twin in memory.
//!
//! Nothing depends on it that the journals do not know: when it does not open it is set aside and
//! rebuilt. sled 0.34.7 is kept within the bounds in which it has been seen to work: small values,
//! one tree, its damaged snapshots moved out of the way, its panics caught.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use df_api::failure::{Code, Failure};
use df_core::id::TaskId;
use prost::Message;

use crate::sync::{await_file, lock};

/// Memory for sled's pages. Its own default is 1 GiB.
const CACHE_BYTES: u64 = 16 << 20;

/// How often sled writes to the disk by itself; a crash loses at most this, and the journals have it.
const FLUSH_EVERY_MS: u64 = 500;

/// Longest value: beyond 128 KiB sled leaks blobs, so stay far below.
const VALUE_LIMIT: usize = 16 * 1024;

/// What the index knows of a task.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct IndexRecord {
    /// The URL without secrets.
    #[prost(string, tag = "1")]
    pub shown_url: String,
    /// Length of the content in bytes, once known.
    #[prost(uint64, optional, tag = "2")]
    pub content_len: Option<u64>,
    /// Length of every piece but the last, in bytes.
    #[prost(uint64, tag = "3")]
    pub piece_len: u64,
    /// Verified bytes when the record was written.
    #[prost(uint64, tag = "4")]
    pub stored_bytes: u64,
    /// Whether every piece was there.
    #[prost(bool, tag = "5")]
    pub is_complete: bool,
    /// When the task was created, in seconds of wall time.
    #[prost(uint64, tag = "6")]
    pub created_secs: u64,
    /// When it was last used, in seconds of wall time.
    #[prost(uint64, tag = "7")]
    pub used_secs: u64,
    /// The name of a cached content; empty for any other.
    #[prost(string, tag = "8")]
    pub cid: String,
    /// The tag that goes with it.
    #[prost(string, tag = "9")]
    pub tag: String,
    /// Whether it was imported here: not evicted.
    #[prost(bool, tag = "10")]
    pub is_pinned: bool,
    /// When it goes, in seconds of wall time; 0 for never.
    #[prost(uint64, tag = "11")]
    pub expires_secs: u64,
    /// Hosts that are to have it.
    #[prost(uint32, tag = "12")]
    pub replicas: u32,
    /// Whether it was imported here and no scheduler has confirmed that yet.
    #[prost(bool, tag = "13")]
    pub is_unconfirmed: bool,
    /// Version of a cached content's name, as it was last told; 0 if never.
    #[prost(uint64, tag = "14")]
    pub stamp: u64,
    /// The application it was imported for.
    #[prost(string, tag = "15")]
    pub application: String,
}

/// A place for index records.
pub trait MetaStore: Send + Sync {
    /// All records. Records that cannot be read are left out.
    ///
    /// # Errors
    /// When the index itself fails.
    fn all(&self) -> Result<BTreeMap<TaskId, IndexRecord>, Failure>;

    /// Writes a record; durable after [`MetaStore::flush`].
    ///
    /// # Errors
    /// When the index fails, or for a record that is too long.
    fn put(&self, task: &TaskId, record: &IndexRecord) -> Result<(), Failure>;

    /// Removes a record.
    ///
    /// # Errors
    /// When the index fails.
    fn remove(&self, task: &TaskId) -> Result<(), Failure>;

    /// Makes everything so far durable. Blocks.
    ///
    /// # Errors
    /// When the index fails.
    fn flush(&self) -> Result<(), Failure>;
}

/// Opens an index in a directory; tells whether it is empty because it is new or was set aside.
pub type Opener = fn(&Path) -> Result<(Box<dyn MetaStore>, bool), Failure>;

fn failure(error: impl std::fmt::Display) -> Failure {
    Failure::new(Code::LocalIo, "the index of the data directory failed").because(error)
}

/// The index in sled.
pub struct SledIndex(sled::Db);

impl SledIndex {
    /// Opens it, as [`Opener`] says. A damaged snapshot is moved aside (the log alone suffices);
    /// anything else that does not open is set aside whole.
    ///
    /// # Errors
    /// When not even a new one can be opened.
    pub fn open(path: &Path) -> Result<(Box<dyn MetaStore>, bool), Failure> {
        let is_new = !path.exists();
        match open_mended(path) {
            Ok(db) => Ok((Box::new(Self(db)), is_new)),
            Err(error) => {
                let aside = free_name(path);
                tracing::warn!(%error, aside = %aside.display(), "the index does not open and is set aside");
                std::fs::rename(path, &aside).map_err(failure)?;
                try_open(path).map(|db| (Box::new(Self(db)) as Box<dyn MetaStore>, true)).map_err(failure)
            }
        }
    }
}

/// Why a database does not open.
#[derive(Debug)]
pub(crate) enum Unopened {
    /// Another process has it open, and goes on to.
    InUse,
    /// It is damaged, or the disk fails.
    Broken(String),
}

impl std::fmt::Display for Unopened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::InUse => f.write_str("another process has it open"),
            Self::Broken(why) => f.write_str(why),
        }
    }
}

/// Opens a database, without its snapshots if it is damaged: the log alone suffices. One that another
/// process has open is left alone. Blocks.
pub(crate) fn open_mended(path: &Path) -> Result<sled::Db, Unopened> {
    try_open(path).or_else(|error| match error {
        Unopened::InUse => Err(error),
        Unopened::Broken(_) => {
            remove_snapshots(path);
            try_open(path)
        }
    })
}

/// Opens a database within the bounds that this project keeps sled in; panics are caught. Blocks,
/// for a while if another process has it open.
fn try_open(path: &Path) -> Result<sled::Db, Unopened> {
    await_file(|| match open_once(path) {
        Err(Unopened::InUse) => None,
        opened => Some(opened),
    })
    .unwrap_or(Err(Unopened::InUse))
}

fn open_once(path: &Path) -> Result<sled::Db, Unopened> {
    let config = sled::Config::new()
        .path(path)
        .cache_capacity(CACHE_BYTES)
        .flush_every_ms(Some(FLUSH_EVERY_MS))
        .mode(sled::Mode::LowSpace);
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let db = config.open()?;
        // Damage beyond the snapshot shows only when everything is read.
        db.iter().try_for_each(|entry| entry.map(drop))?;
        Ok::<_, sled::Error>(db)
    }));
    match opened {
        Ok(Ok(db)) => Ok(db),
        // sled has no kind of error for it.
        Ok(Err(error)) if error.to_string().contains("could not acquire lock") => Err(Unopened::InUse),
        Ok(Err(error)) => Err(Unopened::Broken(error.to_string())),
        Err(_) => Err(Unopened::Broken("it panicked".to_owned())),
    }
}

fn remove_snapshots(path: &Path) {
    let Ok(entries) = std::fs::read_dir(path) else { return };
    for entry in entries.filter_map(Result::ok) {
        if entry.file_name().to_string_lossy().starts_with("snap.") {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn free_name(path: &Path) -> PathBuf {
    let named = |n: u32| path.with_extension(format!("set-aside-{n}"));
    (0..).map(named).find(|name| !name.exists()).unwrap_or_else(|| named(u32::MAX))
}

impl MetaStore for SledIndex {
    fn all(&self) -> Result<BTreeMap<TaskId, IndexRecord>, Failure> {
        let mut all = BTreeMap::new();
        for entry in self.0.iter() {
            // sled's iterator repeats an error for ever: the first one ends it.
            let (key, value) = entry.map_err(failure)?;
            if let (Ok(task), Ok(record)) = (TaskId::try_from(&key[..]), IndexRecord::decode(&value[..])) {
                all.insert(task, record);
            }
        }
        Ok(all)
    }

    fn put(&self, task: &TaskId, record: &IndexRecord) -> Result<(), Failure> {
        let value = record.encode_to_vec();
        if value.len() > VALUE_LIMIT {
            return Err(Failure::new(Code::Usage, "the URL is too long to be remembered"));
        }
        self.0.insert(task.as_bytes(), value).map(drop).map_err(failure)
    }

    fn remove(&self, task: &TaskId) -> Result<(), Failure> {
        self.0.remove(task.as_bytes()).map(drop).map_err(failure)
    }

    fn flush(&self) -> Result<(), Failure> {
        self.0.flush().map(drop).map_err(failure)
    }
}

/// The index in memory: for simulations, and for whoever wants none.
#[derive(Default)]
pub struct MemoryIndex(Mutex<BTreeMap<TaskId, IndexRecord>>);

impl MemoryIndex {
    /// An empty one, as [`Opener`] says: everything is found again in the journals.
    ///
    /// # Errors
    /// None.
    pub fn open(_: &Path) -> Result<(Box<dyn MetaStore>, bool), Failure> {
        Ok((Box::new(Self::default()), true))
    }
}

impl MetaStore for MemoryIndex {
    fn all(&self) -> Result<BTreeMap<TaskId, IndexRecord>, Failure> {
        Ok(lock(&self.0).clone())
    }

    fn put(&self, task: &TaskId, record: &IndexRecord) -> Result<(), Failure> {
        lock(&self.0).insert(*task, record.clone());
        Ok(())
    }

    fn remove(&self, task: &TaskId) -> Result<(), Failure> {
        lock(&self.0).remove(task);
        Ok(())
    }

    fn flush(&self) -> Result<(), Failure> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(bytes: u64) -> IndexRecord {
        IndexRecord { shown_url: "http://h/f".to_owned(), stored_bytes: bytes, ..IndexRecord::default() }
    }

    fn id(byte: u8) -> TaskId {
        TaskId::from_bytes([byte; 32])
    }

    /// What both kinds have to do.
    fn keeps_records(index: &dyn MetaStore) {
        index.put(&id(1), &record(1)).unwrap();
        index.put(&id(2), &record(2)).unwrap();
        index.put(&id(1), &record(3)).unwrap();
        index.remove(&id(2)).unwrap();
        index.remove(&id(9)).unwrap();
        index.flush().unwrap();
        assert_eq!(index.all().unwrap(), BTreeMap::from([(id(1), record(3))]));
    }

    #[test]
    fn both_kinds_keep_records() {
        let dir = tempfile::tempdir().unwrap();
        keeps_records(&*SledIndex::open(&dir.path().join("index")).unwrap().0);
        keeps_records(&*MemoryIndex::open(dir.path()).unwrap().0);
    }

    #[test]
    fn sled_keeps_records_over_a_restart_and_refuses_long_ones() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        let (index, is_fresh) = SledIndex::open(&path).unwrap();
        assert!(is_fresh);
        keeps_records(&*index);
        let long = IndexRecord { shown_url: "x".repeat(VALUE_LIMIT), ..record(0) };
        assert!(index.put(&id(3), &long).is_err());
        drop(index);
        let (index, is_fresh) = SledIndex::open(&path).unwrap();
        assert!(!is_fresh && index.all().unwrap().len() == 1);
    }

    #[test]
    fn however_it_is_damaged_it_opens_and_works() {
        type Damage = fn(&Path);
        let garble: Damage = |path| {
            let len = usize::try_from(std::fs::metadata(path.join("db")).unwrap().len()).unwrap();
            std::fs::write(path.join("db"), vec![0x5a; len]).unwrap();
            std::fs::write(path.join("conf"), "garbage").unwrap();
        };
        let cut: Damage = |path| {
            let db = std::fs::File::options().write(true).open(path.join("db")).unwrap();
            db.set_len(db.metadata().unwrap().len() / 3).unwrap();
        };
        let spoil_snapshot: Damage = |path| std::fs::write(path.join("snap.0000000000009999"), "garbage").unwrap();
        let replace_by_file: Damage = |path| {
            std::fs::remove_dir_all(path).unwrap();
            std::fs::write(path, "not a directory").unwrap();
        };
        for damage in [garble, cut, spoil_snapshot, replace_by_file] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("index");
            let (index, _) = SledIndex::open(&path).unwrap();
            (0..=255).for_each(|byte| index.put(&id(byte), &record(1)).unwrap());
            index.flush().unwrap();
            drop(index);
            damage(&path);
            let (index, _) = SledIndex::open(&path).unwrap();
            index.put(&id(7), &record(8)).unwrap();
            index.flush().unwrap();
            assert_eq!(index.all().unwrap().get(&id(7)), Some(&record(8)));
        }
    }
}
