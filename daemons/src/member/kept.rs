//! The configuration last told, in a file: for a start without a manager.

use std::path::{Path, PathBuf};

use df_api::manager::Configuration;
use prost::Message;

use crate::env::Env;
use crate::env::disk::{Disk, OpenMode};

/// The longest file that is read.
const FILE_LIMIT: u64 = 16 << 20;

/// Extension of a file that is to take the place of another.
const NEW: &str = "new";

/// Bytes of the hash before the message.
const HASH_LEN: usize = 32;

/// What was told last, if anything was.
pub struct Kept {
    path: PathBuf,
    told: Option<Configuration>,
    /// The file says something older, for the disk failed.
    is_behind: bool,
}

impl Kept {
    /// Reads the file. One that is not there or not whole says nothing. What was to replace it and did not
    /// goes.
    pub fn open(env: &Env, path: PathBuf) -> Self {
        let told = read(&*env.disk, &path);
        let _ = env.disk.remove_file(&path.with_extension(NEW));
        Self { path, told, is_behind: false }
    }

    /// What was told last.
    pub const fn told(&self) -> Option<&Configuration> {
        self.told.as_ref()
    }

    /// Its version; 0 for none.
    pub fn version(&self) -> u64 {
        self.told.as_ref().map_or(0, |told| told.version)
    }

    /// Whether something else is to be put in force: an older one never is, unless it comes from
    /// another store of the manager.
    pub fn is_newer(&self, told: &Configuration) -> bool {
        self.told.as_ref().is_none_or(|known| known.epoch != told.epoch || told.version > known.version)
    }

    /// Says nothing any more.
    pub fn forget(&mut self) {
        self.told = None;
    }

    /// Takes over what was told, and writes it down.
    pub async fn keep(&mut self, env: &Env, told: Configuration) {
        (self.told, self.is_behind) = (Some(told), true);
        self.catch_up(env).await;
    }

    /// Writes down what the disk did not take before.
    pub async fn catch_up(&mut self, env: &Env) {
        let Some(told) = self.told.as_ref().filter(|_| self.is_behind) else { return };
        let (disk, path, bytes) = (env.disk.clone(), self.path.clone(), told.encode_to_vec());
        match env.blocking(move || write(&*disk, &path, &bytes)).await {
            Ok(()) => self.is_behind = false,
            Err(error) => tracing::warn!(%error, "the configuration is not kept for the next start"),
        }
    }
}

fn read(disk: &dyn Disk, path: &Path) -> Option<Configuration> {
    let file = disk.open(path, OpenMode::Existing).ok()?;
    let len = file.len().ok().filter(|len| *len <= FILE_LIMIT)?;
    let mut bytes = vec![0; usize::try_from(len).ok()?];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let (hash, message) = bytes.split_at_checked(HASH_LEN)?;
    if blake3::hash(message).as_bytes() != hash {
        return None;
    }
    Configuration::decode(message).ok()
}

/// A new file in the place of the old one: there is always a whole one.
fn write(disk: &dyn Disk, path: &Path, message: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        disk.create_dir_all(folder)?;
    }
    let new = path.with_extension(NEW);
    let _ = disk.remove_file(&new);
    fill(disk, &new, message).and_then(|()| disk.rename(&new, path)).inspect_err(|_| _ = disk.remove_file(&new))?;
    path.parent().map_or(Ok(()), |folder| disk.sync_dir(folder))
}

fn fill(disk: &dyn Disk, path: &Path, message: &[u8]) -> std::io::Result<()> {
    let file = disk.open(path, OpenMode::New)?;
    let mut bytes = blake3::hash(message).as_bytes().to_vec();
    bytes.extend_from_slice(message);
    file.write_all_at(&bytes, 0)?;
    file.sync()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(epoch: u64, version: u64) -> Configuration {
        Configuration { epoch, version, cluster: "c".to_owned(), ..Configuration::default() }
    }

    #[tokio::test]
    async fn what_was_told_survives_and_an_older_version_never_replaces_a_newer() {
        let (dir, env) = (tempfile::tempdir().unwrap(), Env::real(None).unwrap());
        let path = dir.path().join("deep").join("dynconfig");
        let mut kept = Kept::open(&env, path.clone());
        assert!(kept.told().is_none() && kept.is_newer(&told(1, 1)));
        kept.keep(&env, told(1, 7)).await;
        let mut kept = Kept::open(&env, path.clone());
        assert_eq!(kept.told(), Some(&told(1, 7)));
        let newer = [((1, 8), true), ((1, 7), false), ((1, 6), false), ((2, 1), true)];
        for ((epoch, version), expected) in newer {
            assert_eq!(kept.is_newer(&told(epoch, version)), expected, "{epoch} {version}");
        }
        kept.keep(&env, told(1, 8)).await;
        assert_eq!(Kept::open(&env, path).version(), 8);
    }

    #[tokio::test]
    async fn what_the_disk_did_not_take_is_written_when_it_does() {
        let (dir, env) = (tempfile::tempdir().unwrap(), Env::real(None).unwrap());
        let folder = dir.path().join("deep");
        let path = folder.join("dynconfig");
        std::fs::write(&folder, "in the way").unwrap();
        let mut kept = Kept::open(&env, path.clone());
        kept.keep(&env, told(1, 7)).await;
        assert_eq!((kept.version(), Kept::open(&env, path.clone()).version()), (7, 0));
        std::fs::remove_file(&folder).unwrap();
        kept.catch_up(&env).await;
        assert_eq!(Kept::open(&env, path).version(), 7);
    }

    #[tokio::test]
    async fn a_file_that_is_cut_or_garbled_says_nothing() {
        let (dir, env) = (tempfile::tempdir().unwrap(), Env::real(None).unwrap());
        let path = dir.path().join("dynconfig");
        Kept::open(&env, path.clone()).keep(&env, told(1, 7)).await;
        let whole = std::fs::read(&path).unwrap();
        for len in 0..whole.len() {
            std::fs::write(&path, &whole[..len]).unwrap();
            assert!(Kept::open(&env, path.clone()).told().is_none(), "{len} bytes");
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            assert!(Kept::open(&env, path.clone()).told().is_none(), "byte {at}");
        }
    }
}
