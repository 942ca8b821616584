//! Where the bytes go: a file that appears when it is whole, or a stream of bytes in order.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use df_api::failure::{Code, Failure};
use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};

/// A name of so many bytes might be too long with something added (255 is the limit on most file
/// systems).
const LONG_NAME: usize = 240;

/// What somebody asked for with `-O`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Place {
    /// The standard output.
    Stdout,
    /// A path: a file, or a device or pipe that is written to as it is.
    Path(PathBuf),
}

impl Place {
    /// The place with this name on the command line.
    pub(super) fn new(name: &Path) -> Self {
        match name.to_str() {
            Some("-" | "/dev/stdout") => Self::Stdout,
            _ => Self::Path(name.to_owned()),
        }
    }

    /// The name on the command line.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Stdout => "-".to_owned(),
            Self::Path(path) => path.display().to_string(),
        }
    }
}

/// An open output.
pub(super) enum Output {
    /// A file.
    Part(Part),
    /// The standard output, a device, a pipe: bytes in order.
    Stream(File),
}

impl Output {
    /// Opens a place, so that what is wrong with it is known before anything is downloaded. What is
    /// there stays as it is.
    pub(super) fn open(place: &Place, clobbers: bool) -> Result<Self, Failure> {
        let Place::Path(path) = place else {
            let stdout = io::stdout().as_fd().try_clone_to_owned().map_err(|error| local("write to stdout", &error))?;
            return Ok(Self::Stream(stdout.into()));
        };
        let cannot = |error: &io::Error| local(&format!("write to {}", path.display()), error);
        let target = target(path).map_err(|error| cannot(&error))?;
        let there = match fs::metadata(&target) {
            Ok(there) => Some(there),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(cannot(&error)),
        };
        let Some(there) = there else {
            return Part::open(path, target, clobbers, None).map(Self::Part);
        };
        let kind = there.file_type();
        let refused =
            |why: &str| Failure::new(Code::LocalIo, format!("cannot write to {}", path.display())).because(why);
        if kind.is_dir() {
            return Err(refused("it is a directory").hint("name a file in it with -O"));
        }
        if kind.is_char_device() || kind.is_fifo() {
            let file = OpenOptions::new().write(true).open(&target).map_err(|error| cannot(&error))?;
            return Ok(Self::Stream(file));
        }
        if !kind.is_file() {
            return Err(refused("it is neither a file nor a character device nor a pipe"));
        }
        if !clobbers {
            return Err(exists(path));
        }
        Part::open(path, target, clobbers, Some(&there)).map(Self::Part)
    }

    /// Whether it takes bytes in their order alone.
    pub(super) fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_))
    }

    /// Where a daemon of this process keeps its contents: beside the output, so that the same
    /// command finds them again and the output can be a link. Nowhere for a stream.
    pub(super) fn store(&self, is_alone: bool) -> Option<PathBuf> {
        let Self::Part(part) = self else { return None };
        let store =
            if is_alone { beside(&part.target, "dfstore")? } else { part.target.with_file_name(".dfget.dfstore") };
        std::path::absolute(store).ok()
    }

    /// Whether an earlier download to it was begun.
    pub(super) fn is_resumed(&self) -> bool {
        matches!(self, Self::Part(part) if part.existed)
    }
}

/// A file on its way: `.NAME.dfpart` beside it, locked, so that no two downloads write to it.
///
/// What an earlier attempt left in it is not used. Only the daemon's store knows which bytes of
/// which version are good, and gives them again without the network.
pub(super) struct Part {
    /// The output.
    target: PathBuf,
    pub(super) path: PathBuf,
    /// A name for a link that is about to be renamed.
    pub(super) link: PathBuf,
    pub(super) file: File,
    clobbers: bool,
    /// Whether it was there before.
    existed: bool,
    /// Permission bits of the file that is replaced.
    old_mode: Option<u32>,
    /// Whether it is worth keeping when the download fails.
    pub(super) has_begun: bool,
}

impl Part {
    fn open(shown: &Path, target: PathBuf, clobbers: bool, old: Option<&Metadata>) -> Result<Self, Failure> {
        let cannot = |error: &io::Error| local(&format!("create {}", shown.display()), error);
        let nameless = || cannot(&io::Error::other("it has no file name"));
        let path = beside(&target, "dfpart").ok_or_else(nameless)?;
        let link = beside(&target, "dflink").ok_or_else(nameless)?;
        let (file, existed) = locked(&path).map_err(|error| match error {
            None => Failure::new(Code::Busy, format!("another download is writing {}", shown.display()))
                .hint("wait for it, or choose another output with -O"),
            Some(error) if error.kind() == io::ErrorKind::NotFound => cannot(&error).hint("create the directory first"),
            Some(error) => cannot(&error),
        })?;
        let old_mode = old.map(|old| old.mode() & 0o777);
        Ok(Self { target, path, link, file, clobbers, existed, old_mode, has_begun: false })
    }

    /// The permissions of the output: those of the file it replaces, as if that were written to, or
    /// those of a new file.
    pub(super) fn permissions(&self) -> io::Result<fs::Permissions> {
        match self.old_mode {
            Some(mode) => Ok(fs::Permissions::from_mode(mode)),
            None => Ok(self.file.metadata()?.permissions()),
        }
    }

    /// Puts `path`, which is whole and durable, in the place of the output.
    pub(super) fn publish(&self, path: &Path) -> Result<(), Failure> {
        let cannot = |error: &io::Error| local(&format!("rename to {}", self.target.display()), error);
        if self.clobbers {
            return fs::rename(path, &self.target).map_err(|error| cannot(&error));
        }
        match renameat_with(CWD, path, CWD, &self.target, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::EXIST) => Err(exists(&self.target)),
            // A file system that cannot promise it: look first.
            Err(rustix::io::Errno::INVAL) if self.target.exists() => Err(exists(&self.target)),
            Err(rustix::io::Errno::INVAL) => fs::rename(path, &self.target).map_err(|error| cannot(&error)),
            Err(error) => Err(cannot(&error.into())),
        }
    }
}

impl Drop for Part {
    /// A download that never began leaves nothing behind, and no download a link.
    fn drop(&mut self) {
        let _ = super::delivery::remove_any(&self.link);
        let is_ours = |path: &Path| is_same(&self.file, path).unwrap_or(false);
        if !self.has_begun && !self.existed && is_ours(&self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Opens and locks a file that may or may not be there: the file and whether it was. `Err(None)` if
/// somebody else has it.
fn locked(path: &Path) -> Result<(File, bool), Option<io::Error>> {
    loop {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(OFlags::NOFOLLOW.bits() as i32);
        let (file, existed) = match options.clone().create_new(true).open(path) {
            Ok(file) => (file, false),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match options.open(path) {
                Ok(file) => (file, true),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Some(error)),
            },
            Err(error) => return Err(Some(error)),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(None),
            // A file system without locks: nothing better is to be had there.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(Some(error)),
        }
        // Somebody's trap, or a mistake: nothing else is to be written to by this name.
        let meta = file.metadata().map_err(Some)?;
        if !meta.is_file() || meta.nlink() > 1 {
            let why = format!("{} is in the way: it is no file of its own", path.display());
            return Err(Some(io::Error::other(why)));
        }
        // Whoever had the lock before may have renamed the file away.
        if is_same(&file, path).map_err(Some)? {
            return Ok((file, existed));
        }
    }
}

/// Whether a path still leads to an open file.
pub(super) fn is_same(file: &File, path: &Path) -> io::Result<bool> {
    let open = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The file that writing to `path` writes: where a symbolic link leads, even if nothing is there
/// yet. As with curl, the link stays and its target is replaced.
fn target(path: &Path) -> io::Result<PathBuf> {
    if !fs::symlink_metadata(path).is_ok_and(|there| there.is_symlink()) {
        return Ok(path.to_owned());
    }
    match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let to = path.parent().unwrap_or(Path::new("")).join(fs::read_link(path)?);
            // A link that leads nowhere may be made to lead somewhere; a chain of them is a mistake.
            if fs::symlink_metadata(&to).is_ok() { Err(error) } else { Ok(to) }
        }
        other => other,
    }
}

/// `.NAME.SUFFIX` in the same directory; of a very long name, its hash.
fn beside(target: &Path, suffix: &str) -> Option<PathBuf> {
    let name = target.file_name()?;
    let mut hidden = std::ffi::OsString::from(".");
    if name.len() < LONG_NAME {
        hidden.push(name);
    } else {
        hidden.push(blake3::hash(name.as_encoded_bytes()).to_hex().as_str());
    }
    hidden.push(".");
    hidden.push(suffix);
    Some(target.with_file_name(hidden))
}

/// A failure of a call on a local file.
pub(super) fn local(what: &str, error: &io::Error) -> Failure {
    const DQUOT: i32 = rustix::io::Errno::DQUOT.raw_os_error();
    let is_full = error.kind() == io::ErrorKind::StorageFull || error.raw_os_error() == Some(DQUOT);
    let code = if is_full { Code::NoSpace } else { Code::LocalIo };
    Failure::new(code, format!("cannot {what}")).because(error)
}

fn exists(path: &Path) -> Failure {
    Failure::new(Code::Exists, format!("{} exists", path.display())).hint("--overwrite replaces it")
}
