//! One piece on its way into the store: written by one, read by many while it arrives.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use df_core::id::PieceDigest;
use df_core::piece::{ByteRange, PieceNumber};
use df_core::planted::{Bug, is_planted};
use tokio::sync::watch;

use super::task::StoredTask;

/// The end of a piece that is not passed on before the whole is verified: a child that gets it can
/// be sure that this host vouches for the piece, and one that does not that nobody is to blame.
const HELD_BACK_BYTES: u64 = 16 * 1024;

/// How far a piece has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// So many bytes from its start may be passed on.
    Bytes(u64),
    /// All of it is verified and stored.
    Kept,
    /// It will not come, or was not what it should be.
    Failed,
}

/// A piece that is arriving, as those see it who pass it on.
pub struct Incoming {
    range: ByteRange,
    /// The download it is a part of, see [`StoredTask::end_download`].
    pub(super) download: u64,
    /// All bytes are there: nobody writes any more.
    pub(super) has_arrived: AtomicBool,
    written: AtomicU64,
    stage: watch::Sender<Stage>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Counts the wake-ups, so that each is seen.
    Arriving(u64),
    Kept,
    Failed,
}

impl Incoming {
    pub(super) fn new(range: ByteRange, download: u64) -> Self {
        let (has_arrived, written) = (AtomicBool::new(false), AtomicU64::new(0));
        Self { range, download, has_arrived, written, stage: watch::Sender::new(Stage::Arriving(0)) }
    }

    fn progress(&self) -> Progress {
        let stage = *self.stage.borrow();
        match stage {
            Stage::Arriving(_) => {
                let passable = self.range.len.saturating_sub(HELD_BACK_BYTES.min(self.range.len / 2 + 1));
                Progress::Bytes(self.written.load(Ordering::Acquire).min(passable))
            }
            Stage::Kept => Progress::Kept,
            Stage::Failed => Progress::Failed,
        }
    }

    /// Waits until more than `beyond` bytes of the piece may be passed on, or its fate is known.
    pub async fn advance(&self, beyond: u64) -> Progress {
        let mut stage = self.stage.subscribe();
        loop {
            stage.borrow_and_update();
            match self.progress() {
                Progress::Bytes(bytes) if bytes <= beyond => {}
                progress => return progress,
            }
            if stage.changed().await.is_err() {
                return Progress::Failed;
            }
        }
    }

    fn advanced(&self, bytes: u64) {
        self.written.fetch_add(bytes, Ordering::AcqRel);
        if self.stage.receiver_count() > 0 {
            self.stage.send_modify(|stage| {
                if let Stage::Arriving(count) = stage {
                    *count += 1;
                }
            });
        }
    }

    pub(super) fn kept(&self) {
        self.stage.send_replace(Stage::Kept);
    }

    pub(super) fn failed(&self) {
        self.stage.send_replace(Stage::Failed);
    }
}

/// The right to write one piece: nobody else writes there meanwhile. Dropped before
/// [`PieceWriter::finish`], the piece has failed.
pub struct PieceWriter {
    task: Arc<StoredTask>,
    piece: PieceNumber,
    incoming: Arc<Incoming>,
    hasher: blake3::Hasher,
    written: u64,
    is_finished: bool,
}

impl PieceWriter {
    pub(super) fn new(task: Arc<StoredTask>, piece: PieceNumber, incoming: Arc<Incoming>) -> Self {
        Self { task, piece, incoming, hasher: blake3::Hasher::new(), written: 0, is_finished: false }
    }

    /// The piece.
    pub const fn piece(&self) -> PieceNumber {
        self.piece
    }

    /// The piece as others see it arrive.
    pub(in crate::peer) fn incoming(&self) -> Arc<Incoming> {
        self.incoming.clone()
    }

    /// Bytes of the piece that are still to come.
    pub fn remaining(&self) -> u64 {
        self.incoming.range.len - self.written
    }

    /// Writes the next bytes, at most [`PieceWriter::remaining`]. Blocks for as long as the kernel
    /// does.
    ///
    /// # Errors
    /// Those of the disk; more bytes than remain are `InvalidInput`.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() as u64 > self.remaining() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let at = self.incoming.range.start + self.written;
        let is_short = is_planted(Bug::LastPieceShort)
            && self.task.plan().and_then(|plan| plan.content_len()) == Some(at + bytes.len() as u64);
        let written = self.task.file().write_all_at(&bytes[..bytes.len() - usize::from(is_short)], at);
        if !is_planted(Bug::PromisedBeforeStored) {
            written?;
        }
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        self.incoming.advanced(bytes.len() as u64);
        Ok(())
    }

    /// All bytes are there: their digest. The piece waits for [`StoredTask::keep`] or
    /// [`StoredTask::drop_piece`]. With bytes missing the piece has failed: `None`.
    pub fn finish(mut self) -> Option<PieceDigest> {
        self.is_finished = self.remaining() == 0;
        if self.is_finished {
            self.task.arrived(self.piece, &self.incoming);
        }
        self.is_finished.then(|| PieceDigest::from_bytes(*self.hasher.finalize().as_bytes()))
    }

    /// The content ended within this piece (of an open plan): what was written is all of it.
    pub fn finish_short(mut self) -> (u64, PieceDigest) {
        self.is_finished = true;
        self.task.arrived(self.piece, &self.incoming);
        (self.written, PieceDigest::from_bytes(*self.hasher.finalize().as_bytes()))
    }
}

impl Drop for PieceWriter {
    fn drop(&mut self) {
        if !self.is_finished {
            self.task.drop_piece(self.piece);
        }
    }
}
