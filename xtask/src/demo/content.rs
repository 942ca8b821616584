//! The file that is distributed: somebody's, or one made up; and whether a copy is equal to it.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// Bytes compared at once.
const CHUNK_LEN: usize = 1 << 20;

/// The file that is distributed.
pub(super) struct Content {
    pub(super) path: PathBuf,
    /// Its length in bytes.
    pub(super) len: u64,
}

impl Content {
    /// A file that is there.
    ///
    /// # Errors
    /// When it cannot be read or is no file.
    pub(super) fn given(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let meta = file.metadata()?;
        ensure!(meta.is_file(), "{} is not a file", path.display());
        Ok(Self { path: std::path::absolute(path)?, len: meta.len() })
    }

    /// A new file of `len` bytes that no compression and no accident makes equal to others; the same
    /// each time.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn made_up(path: PathBuf, len: u64) -> Result<Self> {
        let cannot = || format!("cannot write {}", path.display());
        let mut file = BufWriter::with_capacity(CHUNK_LEN, File::create(&path).with_context(cannot)?);
        let (mut state, mut left) = (0_u64, len);
        while left > 0 {
            let word = splitmix(&mut state).to_le_bytes();
            let part = &word[..left.min(8) as usize];
            file.write_all(part).with_context(cannot)?;
            left -= part.len() as u64;
        }
        file.flush().with_context(cannot)?;
        Ok(Self { path, len })
    }

    /// Where a copy first differs from it, in bytes from the start; `None` if it is equal.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub(super) fn first_difference(&self, copy: &Path) -> Result<Option<u64>> {
        let open = |path: &Path| File::open(path).with_context(|| format!("cannot read {}", path.display()));
        let (original, copy) = (open(&self.path)?, open(copy)?);
        let (mut one, mut other, mut at) = (Vec::new(), Vec::new(), 0);
        loop {
            one.clear();
            other.clear();
            (&original).take(CHUNK_LEN as u64).read_to_end(&mut one)?;
            (&copy).take(CHUNK_LEN as u64).read_to_end(&mut other)?;
            if one != other {
                let same = one.iter().zip(&other).take_while(|(one, other)| one == other).count();
                return Ok(Some(at + same as u64));
            }
            if one.is_empty() {
                return Ok(None);
            }
            at += one.len() as u64;
        }
    }
}

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{CHUNK_LEN, Content};

    #[test]
    fn a_copy_is_equal_or_differs_somewhere() {
        let folder = tempfile::tempdir().unwrap();
        let (len, copy) = (CHUNK_LEN as u64 + 13, folder.path().join("copy"));
        let content = Content::made_up(folder.path().join("file"), len).unwrap();
        let bytes = fs::read(&content.path).unwrap();
        assert_eq!(bytes.len() as u64, len);
        let changed = |at: usize| {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            bytes
        };
        let table = [
            (bytes.clone(), None),
            (changed(0), Some(0)),
            (changed(CHUNK_LEN + 5), Some(CHUNK_LEN as u64 + 5)),
            (bytes[..CHUNK_LEN].to_vec(), Some(CHUNK_LEN as u64)),
            ([&bytes[..], b"x"].concat(), Some(len)),
            (Vec::new(), Some(0)),
        ];
        for (bytes, difference) in table {
            fs::write(&copy, bytes).unwrap();
            assert_eq!(content.first_difference(&copy).unwrap(), difference);
        }
        assert!(Content::given(folder.path()).is_err());
        assert_eq!(Content::given(&copy).unwrap().len, 0);
    }
}
