//! The file a local caller names: found, written and put in its place with the caller's rights.
//!
//! It appears whole or not at all, under a name that is no symbolic link. With its original offset kept,
//! a range is written into the file that is there, as v1 clients put one together from ranges.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use df_api::failure::{Code, Failure};
use df_core::piece::ByteRange;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, fchmod, fchown, fstat, openat, openat2, renameat,
    statat, unlinkat,
};
use rustix::io::Errno;

use super::caller::Caller;
use crate::digest::{Digest, Hasher};
use crate::env::Env;
use crate::peer::store::StoredTask;

/// Bytes copied at once.
const COPY_BYTES: usize = 1 << 20;

/// Longest path, as the kernel has it.
const PATH_LIMIT: usize = 4096;

/// Permissions of a new file, as v1 has them.
const FILE_MODE: Mode = Mode::from_bits_retain(0o644);

/// A file that is going to be written.
pub(super) struct Target {
    caller: Caller,
    owner: Option<(u32, u32)>,
    shown: String,
    open: Open,
}

/// An open output; what is not finished is removed when dropped.
struct Open {
    folder: OwnedFd,
    name: OsString,
    file: File,
    /// Under which name it is written; `None` if in place.
    temporary: Option<String>,
}

/// What is to be written.
pub(super) struct Copy {
    pub(super) stored: Arc<StoredTask>,
    pub(super) range: ByteRange,
    /// Compared with the bytes of the range before the file appears.
    pub(super) digest: Option<Digest>,
}

impl Target {
    /// Opens what `path` names, before a byte is downloaded for it.
    ///
    /// # Errors
    /// A path that is relative, or ends in no name; what the caller may not write; what is no regular file.
    pub(super) async fn open(
        env: &Env,
        caller: Caller,
        owner: Option<(u32, u32)>,
        path: &str,
        is_in_place: bool,
    ) -> Result<Self, Failure> {
        let shown = path.to_owned();
        let path = Path::new(path);
        let is_sound = path.is_absolute() && !shown.contains('\0') && shown.len() < PATH_LIMIT;
        // A path that ends in "/" or "/." has a last name, but does not end in it.
        let name = path.file_name().filter(|name| is_sound && shown.as_bytes().ends_with(name.as_encoded_bytes()));
        let (Some(name), Some(folder)) = (name, path.parent()) else {
            return Err(Failure::new(Code::Usage, format!("{shown:?} is not the absolute path of a file")));
        };
        let (name, folder) = (name.to_owned(), folder.to_owned());
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| Failure::new(Code::Internal, error.to_string()))?;
        let temporary = (!is_in_place).then(|| format!(".df-{:016x}.part", u64::from_le_bytes(random)));
        let opened = caller.act(env, move || Open::new(&folder, name, temporary)).await;
        let open = opened.map_err(|error| failure(&shown, &error))?;
        Ok(Self { caller, owner, shown, open })
    }

    /// Writes a range of a stored content: at its offset if in place, else as all there is.
    ///
    /// # Errors
    /// When reading or writing fails, and [`Code::Digest`].
    pub(super) async fn fill(self, env: &Env, copy: Copy) -> Result<(), Failure> {
        let Self { caller, owner, shown, open } = self;
        let expected = copy.digest;
        let filled = caller.act(env, move || open.fill(&copy, owner)).await;
        match filled.map_err(|error| failure(&shown, &error))? {
            None => Ok(()),
            Some(found) => Err(Failure::new(Code::Digest, "the content is not what it should be").because(format!(
                "expected {}, got {found}",
                expected.map(|digest| digest.to_string()).unwrap_or_default()
            ))),
        }
    }
}

fn failure(path: &str, error: &io::Error) -> Failure {
    let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let code = if is_full { Code::NoSpace } else { Code::LocalIo };
    Failure::new(code, format!("cannot write {path}")).because(error)
}

impl Open {
    fn new(folder: &Path, name: OsString, temporary: Option<String>) -> io::Result<Self> {
        // Links such as /proc/self/fd/7 would lead to what this process has open, not the caller.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat2(CWD, folder, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)?;
        match statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => check_regular(&stat)?,
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let common = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match &temporary {
            Some(temporary) => openat(&folder, temporary, common | OFlags::EXCL, Mode::from_bits_retain(0o600))?,
            None => openat(&folder, &name, common, FILE_MODE)?,
        };
        let open = Self { folder, name, file: file.into(), temporary };
        check_regular(&fstat(&open.file)?)?;
        Ok(open)
    }

    /// Copies and puts the file in its place; or answers the digest that was found instead of the one
    /// expected.
    fn fill(mut self, copy: &Copy, owner: Option<(u32, u32)>) -> io::Result<Option<Digest>> {
        let shift = if self.temporary.is_some() { copy.range.start } else { 0 };
        let mut hasher = copy.digest.map(|digest| Hasher::new(digest.algorithm()));
        let mut buffer = vec![0; COPY_BYTES];
        let mut at = copy.range.start;
        while at < copy.range.end() {
            let most = usize::try_from(copy.range.end() - at).unwrap_or(COPY_BYTES).min(COPY_BYTES);
            copy.stored.file().read_exact_at(&mut buffer[..most], at)?;
            self.file.write_all_at(&buffer[..most], at - shift)?;
            if let Some(hasher) = &mut hasher {
                hasher.update(&buffer[..most]);
            }
            at += most as u64;
        }
        let found = hasher.map(Hasher::finish);
        if found != copy.digest {
            return Ok(found);
        }
        if let Some((uid, gid)) = owner {
            fchown(&self.file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        if let Some(temporary) = &self.temporary {
            fchmod(&self.file, FILE_MODE)?;
            renameat(&self.folder, temporary, &self.folder, &self.name)?;
            self.temporary = None;
        }
        Ok(None)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = unlinkat(&self.folder, temporary, AtFlags::empty());
        }
    }
}

fn check_regular(stat: &rustix::fs::Stat) -> io::Result<()> {
    let what = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => return Ok(()),
        FileType::Symlink => "it is a symbolic link, which is neither followed nor replaced",
        FileType::Directory => "it is a directory",
        _ => "it is no regular file",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, what))
}
