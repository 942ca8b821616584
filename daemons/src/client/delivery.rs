//! How bytes come from the daemon's file to the output: shared blocks, a second name, or a copy that
//! keeps pace with the download.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use clap::ValueEnum;
use df_api::failure::{Code, Failure};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{AtFlags, CWD, FallocateFlags, copy_file_range, fallocate, ioctl_ficlone, linkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::Ending;
use super::output::{Output, Part, local};
use crate::console::Stop;
use crate::digest::{Algorithm, Digest, Hasher};

/// Bytes read and written at once where the kernel cannot copy by itself.
const COPY_LEN: u64 = 256 << 10;

/// How a file may be delivered.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Link {
    /// The first that works: shared blocks, a hard link if the daemon runs as the same user, a copy
    #[default]
    Auto,
    /// Shared blocks: an independent file without copying (btrfs, xfs, bcachefs)
    Reflink,
    /// A second name for the daemon's file, with its permissions: do not edit the output in place
    Hard,
    /// A copy
    Copy,
}

/// How a file was delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Delivered {
    Reflink,
    Hard,
    Copy,
}

/// An output that is being filled from the daemon's file. Its methods block.
pub(super) struct Delivery {
    content: File,
    to: To,
    /// Bytes from the start that are in the output.
    copied: u64,
}

enum To {
    /// A file, by the way that was chosen, and whether another way will do as well.
    Part(Part, Delivered, Link),
    Stream(File),
}

impl Delivery {
    /// Begins to fill an output with a content of so many bytes, if that is known. `seen_at` is where
    /// the daemon says that its file is.
    ///
    /// # Errors
    /// When the way that was asked for is none, or there is no room for a copy.
    pub(super) fn begin(
        output: Output,
        content: File,
        seen_at: &Path,
        link: Link,
        len: Option<u64>,
    ) -> Result<Self, Failure> {
        let to = match output {
            Output::Stream(file) => To::Stream(file),
            Output::Part(part) => {
                let way = choose(&part, &content, seen_at, link)?;
                if way != Delivered::Reflink {
                    part.file.set_len(0).map_err(|error| local("empty the part file", &error))?;
                }
                if way == Delivered::Copy {
                    reserve(&part.file, len.unwrap_or(0))?;
                }
                To::Part(part, way, link)
            }
        };
        Ok(Self { content, to, copied: 0 })
    }

    /// There are verified bytes: what there is now is kept for another try. False for a stream.
    pub(super) const fn keep(&mut self) -> bool {
        match &mut self.to {
            To::Part(part, ..) => {
                part.has_begun = true;
                true
            }
            To::Stream(_) => false,
        }
    }

    /// Whether there is something to do when the bytes up to `end` are verified.
    pub(super) fn is_due(&self, end: u64) -> bool {
        end > self.copied && !matches!(self.to, To::Part(_, Delivered::Reflink | Delivered::Hard, _))
    }

    /// Copies what is new up to `end`, all of it verified.
    pub(super) fn advance(&mut self, end: u64) -> Result<(), Ending> {
        if self.is_due(end) {
            match &self.to {
                To::Part(part, ..) => copy_range(&self.content, &part.file, self.copied, end)?,
                To::Stream(file) => write_range(&self.content, file, self.copied, end)?,
            }
            self.copied = end;
        }
        Ok(())
    }

    /// The digest of the content, all of it verified by the daemon.
    pub(super) fn digest(&self, algorithm: Algorithm, len: u64) -> Result<Digest, Failure> {
        let mut hasher = Hasher::new(algorithm);
        pump(&self.content, 0, len, |piece, _| {
            hasher.update(piece);
            Ok::<(), Failure>(())
        })?;
        Ok(hasher.finish())
    }

    /// Ends a download of `len` verified bytes: how they were delivered, `None` for a stream. The
    /// daemon's file is private if nobody will use it after this download: then a link to it may
    /// take on the permissions of a new file. It is durable if a link to it need not wait for the disk.
    pub(super) fn finish(mut self, len: u64, is_private: bool, is_durable: bool) -> Result<Option<Delivered>, Ending> {
        // A clone of a file that is too short could be made long enough, with zeros.
        if self.content.metadata().map_err(|error| unreadable(&error))?.len() < len {
            return Err(unreadable(&io::ErrorKind::UnexpectedEof.into()).into());
        }
        if let To::Part(part, way, link) = &mut self.to {
            match *way {
                Delivered::Reflink if clone(part, &self.content, len).is_err() => {
                    part.file.set_len(0).map_err(|error| local("empty the part file", &error))?;
                    *way = Delivered::Copy;
                }
                Delivered::Hard => match publish_link(part, &self.content, len, is_private, is_durable) {
                    Ok(()) => return Ok(Some(Delivered::Hard)),
                    Err(failure) if *link == Link::Hard => return Err(failure.into()),
                    Err(_) => *way = Delivered::Copy,
                },
                Delivered::Reflink | Delivered::Copy => {}
            }
        }
        self.advance(len)?;
        let To::Part(part, way, _) = self.to else { return Ok(None) };
        let cannot = |error: io::Error| local("make the output durable", &error);
        part.file.set_len(len).map_err(cannot)?;
        // Best effort: some file systems have no permissions.
        let _ = part.permissions().and_then(|mode| part.file.set_permissions(mode));
        part.file.sync_all().map_err(cannot)?;
        part.publish(&part.path)?;
        Ok(Some(way))
    }
}

/// The best way to a part file that is allowed and seems to work.
fn choose(part: &Part, content: &File, seen_at: &Path, link: Link) -> Result<Delivered, Failure> {
    let refused = |why: &dyn std::fmt::Display, way: &str| {
        let failure = Failure::new(Code::LocalIo, format!("cannot {way} the daemon's file")).because(why);
        Err(failure.hint("--link=auto takes whatever way there is"))
    };
    if matches!(link, Link::Auto | Link::Reflink) {
        // The file is still growing: this only finds out whether the file system can.
        match ioctl_ficlone(&part.file, content) {
            Ok(()) => return Ok(Delivered::Reflink),
            Err(error) if link == Link::Reflink => return refused(&error, "share blocks with"),
            Err(_) => {}
        }
    }
    if link == Link::Copy {
        return Ok(Delivered::Copy);
    }
    let there = content.metadata().map_err(|error| local("look at the daemon's file", &error))?;
    if link == Link::Auto && there.uid() != rustix::process::geteuid().as_raw() {
        return Ok(Delivered::Copy);
    }
    match make_link(part, content, seen_at) {
        Ok(()) => Ok(Delivered::Hard),
        Err(error) if link == Link::Hard => refused(&error, "link to"),
        Err(_) => Ok(Delivered::Copy),
    }
}

/// Shares the blocks of a complete file.
fn clone(part: &Part, content: &File, len: u64) -> io::Result<()> {
    part.file.set_len(0)?;
    ioctl_ficlone(&part.file, content)?;
    // What the store may have reserved behind the end is not content.
    part.file.set_len(len)
}

/// Makes a second name, beside the output, for the daemon's file while it still grows: so that it is
/// known in time whether that can be done. The part file is never that name: it is opened for
/// writing.
///
/// A descriptor from another mount namespace cannot be linked to; the same file by its path can, if
/// it leads there.
fn make_link(part: &Part, content: &File, seen_at: &Path) -> io::Result<()> {
    let name = &part.link;
    remove_any(name)?;
    let open = format!("/proc/self/fd/{}", content.as_raw_fd());
    let by_path = |_| linkat(CWD, seen_at, CWD, name, AtFlags::empty());
    linkat(CWD, &open, CWD, name, AtFlags::SYMLINK_FOLLOW).or_else(by_path)?;
    if super::output::is_same(content, name)? {
        return Ok(());
    }
    remove_any(name)?;
    Err(io::Error::other("its path leads to another file"))
}

/// Gives the second name of a complete file the place of the output.
fn publish_link(part: &Part, content: &File, len: u64, is_private: bool, is_durable: bool) -> Result<(), Failure> {
    let cannot = |error: io::Error| local("link to the daemon's file", &error);
    let there = content.metadata().map_err(cannot)?;
    if there.len() != len {
        return Err(cannot(io::Error::other(format!("it has {} bytes, not {len}", there.len()))));
    }
    if !is_durable {
        content.sync_data().map_err(cannot)?;
    }
    if is_private {
        let _ = part.permissions().and_then(|mode| fs::set_permissions(&part.link, mode));
    }
    part.publish(&part.link)?;
    // Renaming onto another name of the same file leaves both names.
    remove_any(&part.link).map_err(cannot)?;
    remove_any(&part.path).map_err(cannot)
}

pub(super) fn remove_any(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Reserves room, so that a full disk is known before the download and not after it.
fn reserve(file: &File, len: u64) -> Result<(), Failure> {
    match fallocate(file, FallocateFlags::KEEP_SIZE, 0, len) {
        Err(error @ (Errno::NOSPC | Errno::DQUOT)) if len > 0 => {
            let needed = crate::units::Size::new(len).for_people();
            Err(local(&format!("reserve {needed} for the output"), &error.into()))
        }
        // File systems that cannot reserve are written to without.
        _ => Ok(()),
    }
}

/// Copies a range to the same place in another file, in the kernel where it can.
fn copy_range(from: &File, to: &File, start: u64, end: u64) -> Result<(), Failure> {
    let (mut read_at, mut write_at) = (start, start);
    while read_at < end {
        let len = usize::try_from(end - read_at).unwrap_or(usize::MAX);
        match copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), len) {
            Ok(1..) | Err(Errno::INTR) => {}
            // Other file systems, or a kernel that has its reasons; a lasting error shows again.
            Ok(0) | Err(_) => {
                return pump(from, read_at, end, |piece, at| {
                    to.write_all_at(piece, at).map_err(|error| local("write the output", &error))
                });
            }
        }
    }
    Ok(())
}

/// Writes a range to where it cannot be placed.
fn write_range(from: &File, to: &File, start: u64, end: u64) -> Result<(), Ending> {
    pump(from, start, end, |piece, _| match write_all(to, piece) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Ending::Stopped(Stop::PipeClosed)),
        other => Ok(other.map_err(|error| local("write the output", &error))?),
    })
}

/// Writes all, even to what somebody else has made non-blocking, as happens to a shared terminal.
fn write_all(mut to: &File, mut piece: &[u8]) -> io::Result<()> {
    while !piece.is_empty() {
        match to.write(piece) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => piece = piece.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                match poll(&mut [PollFd::new(to, PollFlags::OUT)], None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Hands a range of a file, piece by piece, to `write`.
fn pump<E: From<Failure>>(
    from: &File,
    start: u64,
    end: u64,
    mut write: impl FnMut(&[u8], u64) -> Result<(), E>,
) -> Result<(), E> {
    let mut buffer = vec![0; COPY_LEN.min(end - start) as usize];
    let mut at = start;
    while at < end {
        let len = buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
        let (piece, _) = buffer.split_at_mut(len);
        from.read_exact_at(piece, at).map_err(|error| unreadable(&error))?;
        write(piece, at)?;
        at += len as u64;
    }
    Ok(())
}

/// A failure to read what the daemon said is there.
fn unreadable(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Failure::new(Code::Protocol, "the daemon's file is shorter than it said"),
        _ => local("read the daemon's file", error),
    }
}
