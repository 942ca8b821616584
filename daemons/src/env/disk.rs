//! Files, behind one trait: the kernel's here, a faulty twin in the simulator.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FallocateFlags, fallocate, ioctl_ficlone, linkat, statvfs};

use crate::sync::await_file;

/// A file system as one host sees it. Calls block; those that may block for long say so.
pub trait Disk: Send + Sync + 'static {
    /// Creates a directory and its parents, private to this user (0700).
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Opens a file for reading and writing, private to this user (0600).
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;

    /// Puts a file in the place of another, atomically.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives an open file a second name. Not every file system, nor every user, can.
    fn link(&self, _from: BorrowedFd<'_>, _to: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Opens somebody else's file for reading alone, such as one to be imported. What is no file has
    /// no end, and opening it does not wait for one.
    fn open_foreign(&self, path: &Path) -> io::Result<File> {
        use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
        // Links such as /proc/self/fd/7 would lead to what this process has open, not the caller.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        Ok(openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)?.into())
    }

    /// Reads a short file of whoever set this host up, such as one with a secret.
    fn read_text(&self, path: &Path) -> io::Result<String> {
        fs::read_to_string(path)
    }

    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory and what is in it; nothing there is no error.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Names in a directory, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Makes creations, renames and removals in a directory durable. May block for long.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Room on the file system that holds `path`.
    fn space(&self, path: &Path) -> io::Result<Space>;

    /// Fails unless a directory belongs to this user and nobody else may write to it; closes it to
    /// others if it is open for reading.
    fn check_private(&self, path: &Path) -> io::Result<()>;

    /// Different after every start of the machine: what was written before and not synced may be
    /// lost.
    fn boot_id(&self) -> [u8; 16];

    /// How long the next call that may block for long takes, in a simulation. Where calls take their
    /// own time it is nothing.
    fn delay(&self) -> Duration {
        Duration::ZERO
    }
}

/// Bytes on a file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// All of it.
    pub total: u64,
    /// What this user may still write.
    pub free: u64,
}

/// What to expect of a file that is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenMode {
    /// It must be there.
    Existing,
    /// It must not be there.
    New,
    /// It is created if it is not there.
    Any,
}

/// An open file. Offsets and lengths in bytes; all calls are safe from several threads.
pub trait DiskFile: Send + Sync + 'static {
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether there is nothing in it.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `buf` from `offset`; running into the end is an `UnexpectedEof` error.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `buf` at `offset`.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// Sets the length; growth reads as zeros and takes no room.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Reserves room for the whole range, so that later writes into it cannot run out of space.
    /// May block for long. File systems that cannot reserve are left sparse.
    fn reserve(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Takes over all of another file's blocks without copying them. Few file systems can.
    fn share_blocks_of(&self, _from: BorrowedFd<'_>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes data and length durable. May block for long.
    fn sync(&self) -> io::Result<()>;

    /// When it was last written to, in nanoseconds of wall time: changes with every write, by
    /// whatever name.
    fn modified_ns(&self) -> io::Result<u64>;

    /// Locks the whole file until it is closed; false if another process holds it and goes on to.
    fn try_lock(&self) -> io::Result<bool>;

    /// The kernel's descriptor, where there is one: for sendfile and for handing it to a caller.
    fn as_fd(&self) -> Option<BorrowedFd<'_>>;
}

/// The kernel's files.
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32);
        match mode {
            OpenMode::Existing => &mut options,
            OpenMode::New => options.create_new(true),
            OpenMode::Any => options.create(true),
        };
        Ok(Arc::new(RealFile(options.open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn link(&self, from: BorrowedFd<'_>, to: &Path) -> io::Result<()> {
        let open = format!("/proc/self/fd/{}", from.as_raw_fd());
        Ok(linkat(CWD, &open, CWD, to, AtFlags::SYMLINK_FOLLOW)?)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            // A name that is not text is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let stat = statvfs(path)?;
        Ok(Space { total: stat.f_blocks * stat.f_frsize, free: stat.f_bavail * stat.f_frsize })
    }

    fn check_private(&self, path: &Path) -> io::Result<()> {
        let meta = fs::symlink_metadata(path)?;
        let mode = meta.permissions().mode();
        if !meta.is_dir() || meta.uid() != rustix::process::geteuid().as_raw() || mode & 0o022 != 0 {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "others could change what is in it"));
        }
        if mode & 0o077 != 0 {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
        }
        Ok(())
    }

    fn boot_id(&self) -> [u8; 16] {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let mut id = [0; 16];
        id.copy_from_slice(&blake3::hash(text.trim().as_bytes()).as_bytes()[..16]);
        id
    }
}

struct RealFile(File);

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(&self.0, buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(&self.0, buf, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn reserve(&self, offset: u64, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        match fallocate(&self.0, FallocateFlags::KEEP_SIZE, offset, len) {
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
            other => Ok(other?),
        }
    }

    fn share_blocks_of(&self, from: BorrowedFd<'_>) -> io::Result<()> {
        Ok(ioctl_ficlone(&self.0, from)?)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn modified_ns(&self) -> io::Result<u64> {
        let meta = self.0.metadata()?;
        let nanos = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
        Ok(u64::try_from(nanos).unwrap_or(0))
    }

    fn try_lock(&self) -> io::Result<bool> {
        let locked = await_file(|| match self.0.try_lock() {
            Ok(()) => Some(Ok(true)),
            Err(fs::TryLockError::WouldBlock) => None,
            Err(fs::TryLockError::Error(error)) => Some(Err(error)),
        });
        locked.unwrap_or(Ok(false))
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
}
