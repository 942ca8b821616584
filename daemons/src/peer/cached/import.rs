//! Taking a content over from a local caller: copied, hashed and verified before anybody sees it.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use df_api::dfdaemon as wire;
use df_api::failure::{Code, Failure};
use df_api::task::TaskRequest;
use df_core::id::PieceDigest;
use df_core::piece::PiecePlan;
use df_core::planted::{Bug, is_planted};
use tokio_util::sync::CancellationToken;

use crate::digest::{Digest, Hasher};
use crate::env::Env;
use crate::env::disk::DiskFile;
use crate::peer::Peer;
use crate::peer::membership::Announcement;
use crate::peer::store::{Draft, Finished, Keeping, Label, StoredTask};

/// Bytes read, hashed and written at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Bytes that have to be there before it pays to write them to the disk.
const WRITE_STEP: u64 = 32 << 20;

/// Longest frame of a stream, in bytes.
const FRAME_LIMIT: u32 = 16 << 20;

/// Where the bytes come from.
pub(in crate::peer) enum Source {
    /// A regular file the caller has opened for reading.
    File(File),
    /// Frames: a length (4 bytes, little-endian) and as many bytes; a length of 0 ends the content.
    Stream(UnixStream),
}

/// What to do with them.
pub(in crate::peer) struct Wish {
    /// The name.
    pub(in crate::peer) request: TaskRequest,
    /// Explicit piece length in bytes; 0 for the default rule.
    pub(in crate::peer) piece_len: u64,
    /// Milliseconds until it is dropped; 0 for never.
    pub(in crate::peer) ttl_ms: u64,
    /// Hosts that are to have it.
    pub(in crate::peer) replicas: u32,
    /// Whether to take the file itself by a second name.
    pub(in crate::peer) is_hard_link: bool,
}

/// The part of a source that is still to be read.
struct Reader {
    source: Source,
    /// Bytes read of a file; bytes left in the frame of a stream.
    at: u64,
    is_over: bool,
}

fn unreadable(error: &io::Error) -> Failure {
    Failure::new(Code::LocalIo, "cannot read what is to be imported").because(error)
}

impl Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.source {
            Source::File(file) => {
                let read = std::os::unix::fs::FileExt::read_at(file, buffer, self.at)?;
                self.at += read as u64;
                Ok(read)
            }
            Source::Stream(stream) => {
                if self.at == 0 && !self.is_over {
                    let mut len = [0; 4];
                    stream.read_exact(&mut len)?;
                    let len = u32::from_le_bytes(len);
                    if len > FRAME_LIMIT {
                        return Err(io::ErrorKind::InvalidData.into());
                    }
                    (self.at, self.is_over) = (len.into(), len == 0);
                }
                let most = usize::try_from(self.at).unwrap_or(usize::MAX).min(buffer.len());
                stream.read_exact(&mut buffer[..most])?;
                self.at -= most as u64;
                Ok(most)
            }
        }
    }

    /// Fills the buffer, short only at the end.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(unreadable(&error).because("the caller went away in the middle of it"));
                }
                Err(error) => return Err(unreadable(&error)),
            }
        }
        Ok(filled)
    }
}

/// Digests of pieces of one length, as bytes come.
struct Pieces {
    piece_len: u64,
    hasher: blake3::Hasher,
    hashed: u64,
    digests: Vec<PieceDigest>,
}

impl Pieces {
    fn new(piece_len: u64) -> Self {
        Self { piece_len, hasher: blake3::Hasher::new(), hashed: 0, digests: Vec::new() }
    }

    fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = usize::try_from(self.piece_len - self.hashed).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.hasher.update(now);
            self.hashed += now.len() as u64;
            if self.hashed == self.piece_len {
                self.end_piece();
            }
            bytes = later;
        }
    }

    fn end_piece(&mut self) {
        self.digests.push(PieceDigest::from_bytes(*self.hasher.finalize().as_bytes()));
        self.hasher.reset();
        self.hashed = 0;
    }

    fn finish(mut self) -> Vec<PieceDigest> {
        if self.hashed > 0 {
            self.end_piece();
        }
        self.digests
    }
}

/// What a content turned out to be.
struct Content {
    plan: PiecePlan,
    digests: Vec<PieceDigest>,
    /// The digest that its name is, if it is one.
    verified: Option<String>,
}

/// One import, on a thread that may block.
struct Import {
    peer: Peer,
    wish: Wish,
    cancel: CancellationToken,
}

impl Import {
    /// The task, and whether it was there before.
    fn run(&self, source: Source) -> Result<(Arc<StoredTask>, bool), Failure> {
        let task = self.wish.request.id();
        let before = match &source {
            Source::File(file) => Some(checked(file)?),
            Source::Stream(_) => None,
        };
        if let Some(known) = self.peer.whole(&task) {
            return self.compare(source, before.as_ref(), &known).map(|()| (known, true));
        }
        let len = before.as_ref().map(Metadata::len);
        let existing = match &source {
            Source::File(file) if self.wish.is_hard_link => Some(file.as_fd()),
            _ => None,
        };
        let mut draft = self.peer.store().draft(&task, len, existing)?;
        let content = match source {
            Source::File(file) => {
                let content = self.take_file(&mut draft, &file, len.unwrap_or(0))?;
                unchanged(&file, before.as_ref())?;
                content
            }
            Source::Stream(_) => self.take_stream(&mut draft, source)?,
        };
        let finished = Finished {
            label: Label::from(&self.wish.request),
            plan: content.plan,
            digests: content.digests,
            keeping: self.keeping(),
            verified: content.verified,
        };
        draft.publish(finished).map(|stored| (stored, false))
    }

    fn keeping(&self) -> Keeping {
        let now = self.peer.env().clock.wall();
        let expires = now + std::time::Duration::from_millis(self.wish.ttl_ms);
        let expires_secs = if self.wish.ttl_ms == 0 { 0 } else { expires.as_secs().max(now.as_secs() + 1) };
        Keeping { is_pinned: true, expires_secs, replicas: self.wish.replicas }
    }

    fn plan(&self, len: u64) -> Result<PiecePlan, Failure> {
        let plan = match self.wish.piece_len {
            0 => PiecePlan::for_content(len),
            piece_len => PiecePlan::with_piece_len(len, piece_len),
        };
        plan.map_err(|error| Failure::new(Code::Usage, "the content cannot be cut into pieces").because(error))
    }

    /// Takes a file: its blocks, where the file system shares them, else its bytes.
    fn take_file(&self, draft: &mut Draft, file: &File, len: u64) -> Result<Content, Failure> {
        let is_there = self.wish.is_hard_link || draft.file().share_blocks_of(file.as_fd()).is_ok();
        if !is_there {
            draft.allocate()?;
        }
        let source = file.try_clone().map_err(|error| unreadable(&error))?;
        let mut reader = Reader { source: Source::File(source), at: 0, is_over: false };
        let plan = self.plan(len)?;
        let mut written = (!is_there).then(|| Written::new(self.peer.env(), draft.file()));
        let (read, digests, verified) = self.pass(&mut reader, plan.piece_len(), |bytes, at| match &mut written {
            _ if at + bytes.len() as u64 > len => Err(changed()),
            Some(to) => to.write(bytes, at),
            None => Ok(()),
        })?;
        if read != len {
            return Err(changed());
        }
        Ok(Content { plan, digests, verified })
    }

    fn take_stream(&self, draft: &mut Draft, source: Source) -> Result<Content, Failure> {
        let mut reader = Reader { source, at: 0, is_over: false };
        let guess = self.plan(0)?.piece_len();
        let file = draft.file().clone();
        let mut written = Written::new(self.peer.env(), &file);
        let (len, digests, verified) = self.pass(&mut reader, guess, |bytes, at| {
            draft.grow(at + bytes.len() as u64)?;
            written.write(bytes, at)
        })?;
        let plan = self.plan(len)?;
        if plan.piece_len() == guess {
            return Ok(Content { plan, digests, verified });
        }
        // Longer than thought: cut in another way.
        let mut pieces = Pieces::new(plan.piece_len());
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut at = 0;
        while at < len {
            self.go_on()?;
            let part = usize::try_from(len - at).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            file.read_exact_at(&mut buffer[..part], at).map_err(|error| unreadable(&error))?;
            pieces.update(&buffer[..part]);
            at += part as u64;
        }
        Ok(Content { plan, digests: pieces.finish(), verified })
    }

    /// Reads and hashes all there is, and hands it on: its length, the digests of its pieces, and that
    /// of the whole if the name is one, compared with it.
    fn pass(
        &self,
        reader: &mut Reader,
        piece_len: u64,
        mut take: impl FnMut(&[u8], u64) -> Result<(), Failure>,
    ) -> Result<(u64, Vec<PieceDigest>, Option<String>), Failure> {
        let expected = &self.wish.request.meta.digest;
        let expected: Option<Digest> = expected.parse().ok();
        let mut whole = expected.map(|digest| Hasher::new(digest.algorithm()));
        let mut pieces = Pieces::new(piece_len);
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut at = 0;
        loop {
            self.go_on()?;
            let filled = reader.fill(&mut buffer)?;
            let bytes = &buffer[..filled];
            take(bytes, at)?;
            pieces.update(bytes);
            if let Some(whole) = &mut whole {
                whole.update(bytes);
            }
            at += filled as u64;
            if filled < CHUNK_BYTES {
                break;
            }
        }
        let found = whole.map(Hasher::finish);
        if let (Some(expected), Some(found)) = (expected, found)
            && expected != found
            && !is_planted(Bug::ImportNotVerified)
        {
            return Err(Failure::new(Code::Digest, format!("the content is not {expected}"))
                .because(format!("its digest is {found}"))
                .hint("import it under its own digest, or under a name of another form"));
        }
        Ok((at, pieces.finish(), found.map(|found| found.to_string())))
    }

    /// Reads a content whose name is taken: it has to be the same.
    fn compare(&self, source: Source, before: Option<&Metadata>, known: &Arc<StoredTask>) -> Result<(), Failure> {
        let others = || {
            let name = self.wish.request.shown();
            Failure::new(Code::Exists, format!("{name} is in the cache already, with other bytes"))
                .hint("delete it first, or import under another name or tag")
        };
        let plan = known.plan().ok_or_else(others)?;
        let file = match &source {
            Source::File(file) => Some(file.try_clone().map_err(|error| unreadable(&error))?),
            Source::Stream(_) => None,
        };
        let mut reader = Reader { source, at: 0, is_over: false };
        let (len, digests, _) = self.pass(&mut reader, plan.piece_len(), |_, _| Ok(()))?;
        if let Some(file) = &file {
            unchanged(file, before)?;
        }
        let is_same = known.digests().into_iter().map(|(_, digest)| digest).eq(digests);
        if !is_same || plan.content_len() != Some(len) {
            return Err(others());
        }
        known.set_keeping(self.keeping())?;
        // What was downloaded is promised to nobody, what is imported is.
        self.peer.store().settling(known.clone()).settle()
    }

    fn go_on(&self) -> Result<(), Failure> {
        if self.cancel.is_cancelled() {
            return Err(Failure::new(Code::Cancelled, "the caller went away"));
        }
        Ok(())
    }
}

/// A file that is written from its start, and to the disk as it grows: so that little is left to be waited
/// for at its end.
struct Written {
    env: Env,
    file: Arc<dyn DiskFile>,
    next: u64,
    is_syncing: Arc<AtomicBool>,
}

impl Written {
    fn new(env: &Env, file: &Arc<dyn DiskFile>) -> Self {
        Self { env: env.clone(), file: file.clone(), next: WRITE_STEP, is_syncing: Arc::default() }
    }

    fn write(&mut self, bytes: &[u8], at: u64) -> Result<(), Failure> {
        self.file.write_all_at(bytes, at).map_err(|error| {
            let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            let code = if is_full { Code::NoSpace } else { Code::LocalIo };
            Failure::new(code, "cannot write to the store").because(error)
        })?;
        let end = at + bytes.len() as u64;
        if end >= self.next && !self.is_syncing.swap(true, Ordering::AcqRel) {
            self.next = end + WRITE_STEP;
            let (env, file, is_syncing) = (self.env.clone(), self.file.clone(), self.is_syncing.clone());
            drop(self.env.spawn_data(async move {
                // A disk that fails says so once more at the end.
                let _ = env.blocking(move || file.sync()).await;
                is_syncing.store(false, Ordering::Release);
            }));
        }
        Ok(())
    }
}

/// What the caller passed has to be a file: nothing else has an end and a version.
fn checked(file: &File) -> Result<Metadata, Failure> {
    let there = file.metadata().map_err(|error| unreadable(&error))?;
    if !there.is_file() {
        return Err(Failure::new(Code::LocalIo, "what is to be imported is not a regular file")
            .hint("give anything else as a stream: dfcache import … - < it"));
    }
    Ok(there)
}

fn changed() -> Failure {
    Failure::new(Code::LocalIo, "the file changed while it was imported")
        .hint("import it again when nobody writes to it")
}

fn unchanged(file: &File, before: Option<&Metadata>) -> Result<(), Failure> {
    let after = checked(file)?;
    let version = |of: &Metadata| (of.len(), of.mtime(), of.mtime_nsec());
    if before.is_some_and(|before| version(before) != version(&after)) {
        return Err(changed());
    }
    Ok(())
}

/// Imports a content and announces it. Dropped, it stops and leaves nothing that was not there.
///
/// # Errors
/// [`Code::Exists`] if the name stands for other bytes, here or with others; [`Code::Digest`] if it is
/// the digest of other bytes; [`Code::LocalIo`], [`Code::NoSpace`].
pub(in crate::peer) async fn import(
    peer: &Peer,
    wish: Wish,
    source: Source,
) -> Result<wire::ImportTaskResult, Failure> {
    let cancel = CancellationToken::new();
    let _guard = cancel.clone().drop_guard();
    let (request, env) = (wish.request.clone(), peer.env().clone());
    let running = Import { peer: peer.clone(), wish, cancel };
    let (stored, existed) = env.blocking(move || running.run(source)).await?;
    let task = stored.id();
    let announced = match peer.links().announce(peer, &task).await {
        Announcement::Nowhere => wire::Announced::Nowhere,
        Announcement::Confirmed => wire::Announced::Confirmed,
        Announcement::Pending => wire::Announced::Pending,
        Announcement::Refused(failure) => {
            if !existed && failure.code == Code::Exists {
                drop(stored);
                peer.drop_content(&task).await;
            }
            return Err(failure);
        }
    };
    let plan = stored.plan();
    Ok(wire::ImportTaskResult {
        task_id: task.to_string(),
        content_length: plan.and_then(|plan| plan.content_len()).unwrap_or(0),
        total_pieces: plan.and_then(|plan| plan.count()).unwrap_or(0),
        existed,
        announced: announced.into(),
        digest: request.meta.digest,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_that_changes_while_it_is_read_is_noticed() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"before").unwrap();
        let before = checked(&file).unwrap();
        assert_eq!(unchanged(&file, Some(&before)), Ok(()));
        file.write_all(b"after").unwrap();
        assert_eq!(unchanged(&file, Some(&before)).unwrap_err().code, Code::LocalIo);
        file.set_len(6).unwrap();
        // The same length again, but written to meanwhile.
        assert!(unchanged(&file, Some(&before)).is_err());
        let device = File::open("/dev/null").unwrap();
        assert_eq!(checked(&device).unwrap_err().code, Code::LocalIo);
    }

    #[test]
    fn pieces_are_cut_where_they_end_however_the_bytes_come() {
        let digest = |bytes: &[u8]| PieceDigest::from_bytes(*blake3::hash(bytes).as_bytes());
        for step in [1, 2, 3, 7, 10] {
            let mut pieces = Pieces::new(3);
            b"0123456789".chunks(step).for_each(|some| pieces.update(some));
            assert_eq!(pieces.finish(), [digest(b"012"), digest(b"345"), digest(b"678"), digest(b"9")]);
        }
        assert_eq!(Pieces::new(3).finish(), []);
    }

    #[test]
    fn a_stream_ends_with_an_empty_frame_and_nowhere_else() {
        let read = |frames: &[&[u8]]| {
            let (here, mut there) = UnixStream::pair().unwrap();
            frames.iter().for_each(|frame| there.write_all(frame).unwrap());
            drop(there);
            let mut reader = Reader { source: Source::Stream(here), at: 0, is_over: false };
            let mut buffer = [0; 8];
            reader.fill(&mut buffer).map(|filled| buffer[..filled].to_vec())
        };
        assert_eq!(read(&[&[2, 0, 0, 0], b"ab", &[1, 0, 0, 0], b"c", &[0; 4]]).unwrap(), b"abc");
        assert_eq!(read(&[&[0; 4]]).unwrap(), b"");
        let cuts: [&[&[u8]]; 4] = [&[], &[&[2, 0, 0, 0], b"a"], &[&[2, 0, 0, 0], b"ab"], &[&[0xff; 4], b"ab"]];
        for cut in cuts {
            assert!(read(cut).is_err(), "{cut:?}");
        }
    }
}
