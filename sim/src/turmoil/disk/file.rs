//! A file of the disk in memory.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};

use df_core::rng::Rng;
use df_daemons::env::disk::DiskFile;
use df_daemons::sync::lock;

use super::SimDisk;

/// Bytes that are written as one.
const SECTOR: usize = 256;

/// What a file is.
pub struct Inode {
    bytes: Vec<u8>,
    /// As it was when it was last synced.
    synced: Vec<u8>,
    modified_ns: u64,
    synced_modified_ns: u64,
    /// Sectors written since.
    dirty: BTreeSet<usize>,
    reserved: u64,
    pub(super) is_locked: bool,
}

impl Inode {
    pub(super) const fn new(now_ns: u64) -> Self {
        Self {
            bytes: Vec::new(),
            synced: Vec::new(),
            modified_ns: now_ns,
            synced_modified_ns: now_ns,
            dirty: BTreeSet::new(),
            reserved: 0,
            is_locked: false,
        }
    }

    /// What is in it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn touch(&mut self, from: usize, to: usize, now_ns: u64) {
        self.dirty.extend(from / SECTOR..to.div_ceil(SECTOR));
        self.modified_ns = now_ns;
    }

    /// What was written since the last sync is there, or it is not, or each sector for itself; so is the new
    /// length.
    pub(super) fn power_lost(&mut self, rng: &mut Rng) {
        self.is_locked = false;
        if self.dirty.is_empty() && self.bytes.len() == self.synced.len() {
            return;
        }
        match rng.below(4) {
            0 | 1 => return self.sync(),
            2 => (self.bytes, self.modified_ns) = (self.synced.clone(), self.synced_modified_ns),
            _ => self.tear(rng),
        }
        self.sync();
    }

    fn tear(&mut self, rng: &mut Rng) {
        let len = if rng.chance(1, 2) { self.bytes.len() } else { self.synced.len() };
        let mut left = self.synced.clone();
        left.resize(len, 0);
        for sector in std::mem::take(&mut self.dirty) {
            let (from, to) = (sector * SECTOR, ((sector + 1) * SECTOR).min(len).min(self.bytes.len()));
            if from < to && rng.chance(1, 2) {
                left[from..to].copy_from_slice(&self.bytes[from..to]);
            }
        }
        if rng.chance(1, 2) {
            self.modified_ns = self.synced_modified_ns;
        }
        self.bytes = left;
    }

    fn sync(&mut self) {
        self.synced.clone_from(&self.bytes);
        self.synced_modified_ns = self.modified_ns;
        self.dirty.clear();
    }

    /// Flips a bit; nobody is told.
    pub(super) fn flip(&mut self, rng: &mut Rng) -> bool {
        let at = rng.index(self.bytes.len());
        let Some(byte) = self.bytes.get_mut(at) else { return false };
        *byte ^= 1 << rng.below(8);
        true
    }
}

/// An open file.
pub(super) struct SimFile {
    inode: Arc<Mutex<Inode>>,
    disk: SimDisk,
    is_content: bool,
    holds_lock: Mutex<bool>,
}

impl SimFile {
    pub(super) const fn new(inode: Arc<Mutex<Inode>>, disk: SimDisk, is_content: bool) -> Self {
        Self { inode, disk, is_content, holds_lock: Mutex::new(false) }
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if *lock(&self.holds_lock) {
            lock(&self.inode).is_locked = false;
        }
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.inode).bytes.len() as u64)
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.may_fail()?;
        let lies = state.faults.lies && self.is_content && !buf.is_empty() && state.rng.chance(1, 2);
        let inode = lock(&self.inode);
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let found = inode.bytes.get(from..from + buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(found);
        if lies {
            let at = state.rng.index(buf.len());
            buf[at] ^= 0x55;
        }
        Ok(())
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.may_fail()?;
        let mut inode = lock(&self.inode);
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let to = from + buf.len();
        if state.faults.is_full && to as u64 > inode.reserved {
            // As far as it goes: what was begun is there.
            let half = from + buf.len() / 2;
            if half <= inode.bytes.len() {
                inode.bytes[from..half].copy_from_slice(&buf[..half - from]);
                inode.touch(from, half, self.disk.now_ns());
            }
            return Err(io::ErrorKind::StorageFull.into());
        }
        if inode.bytes.len() < to {
            inode.bytes.resize(to, 0);
        }
        inode.bytes[from..to].copy_from_slice(buf);
        inode.touch(from, to, self.disk.now_ns());
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.state().may_fail()?;
        let mut inode = lock(&self.inode);
        let len = usize::try_from(len).map_err(io::Error::other)?;
        if len != inode.bytes.len() {
            let from = len.min(inode.bytes.len());
            inode.bytes.resize(len, 0);
            inode.touch(from, len.max(from), self.disk.now_ns());
        }
        Ok(())
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.may_fail()?;
        if !state.can_reserve {
            return Ok(());
        }
        let mut inode = lock(&self.inode);
        if state.faults.is_full && offset + len > inode.reserved {
            return Err(io::ErrorKind::StorageFull.into());
        }
        inode.reserved = inode.reserved.max(offset + len);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.state().may_fail()?;
        lock(&self.inode).sync();
        Ok(())
    }

    fn modified_ns(&self) -> io::Result<u64> {
        Ok(lock(&self.inode).modified_ns)
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut inode = lock(&self.inode);
        let is_free = !inode.is_locked;
        if is_free {
            inode.is_locked = true;
            *lock(&self.holds_lock) = true;
        }
        Ok(is_free)
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
