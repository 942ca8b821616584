//! Back to source: one run of pieces read from the source into the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use df_api::failure::{Code, Failure};
use df_core::downloader::{FetchId, Input, SourceFailure};
use df_core::piece::{PieceNumber, PiecePlan};

use super::Peer;
use super::job::Job;
use super::source::{SourceError, SourceErrorKind, SourceRange, SourceRequest, SourceResponse, Trust, Version};
use super::store::PieceWriter;
use super::throttle::Throttle;

/// Attempts to go on after a body that broke off, as long as none brought a byte.
const RESUME_LIMIT: u32 = 3;

/// Piece length while the length of the content is unknown and none was asked for.
const OPEN_PIECE_LEN: u64 = 4 << 20;

/// One run from the source. Its end can be moved while it runs.
pub(super) struct OriginRun {
    peer: Peer,
    job: Arc<Job>,
    fetch: FetchId,
    /// Piece after the last; `u32::MAX` for the end.
    to: Arc<AtomicU32>,
    throttle: Throttle,
}

/// Why a run ended early.
struct Broken {
    failure: Failure,
    is_final: bool,
    is_changed: bool,
    is_resumable: bool,
}

impl From<SourceError> for Broken {
    fn from(error: SourceError) -> Self {
        let is_changed = error.kind == SourceErrorKind::Changed;
        let is_retryable = error.is_retryable();
        Self { is_changed, is_resumable: is_retryable, is_final: !is_retryable, failure: error.into() }
    }
}

/// A failure of this host, not of the source: somebody else may fare better.
impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        let is_changed = failure.code == Code::Protocol;
        Self { failure, is_final: is_changed, is_changed, is_resumable: false }
    }
}

/// Where in the content a body is, and what it is being written to.
struct Cursor {
    offset: u64,
    writer: Option<PieceWriter>,
}

impl OriginRun {
    /// A run of `job` that ends before piece `to`.
    pub(super) const fn new(peer: Peer, job: Arc<Job>, fetch: FetchId, to: Arc<AtomicU32>, throttle: Throttle) -> Self {
        Self { peer, job, fetch, to, throttle }
    }

    /// Reads pieces from `from` on, those the store lacks, and tells the downloader how it went.
    pub(super) async fn run(self, from: u32) {
        let result = match self.read(from).await {
            Ok(()) => Ok(()),
            Err(broken) => {
                tracing::info!(task = %self.job.task, failure = %broken.failure, "back to source failed");
                self.job.note_failure(broken.failure);
                Err(SourceFailure { is_final: broken.is_final, is_changed: broken.is_changed })
            }
        };
        self.tell(Input::SourceEnded { fetch: self.fetch, result }).await;
    }

    async fn tell(&self, input: Input) {
        self.peer.downloader().tell(input).await;
    }

    async fn read(&self, from: u32) -> Result<(), Broken> {
        let (mut next, mut attempts) = (from, 0);
        let mut cursor = Cursor { offset: 0, writer: None };
        loop {
            if cursor.writer.is_none() {
                let Some(offset) = self.next_offset(next) else { return Ok(()) };
                cursor.offset = offset;
            }
            let before = cursor.offset;
            match self.read_body(&mut cursor).await {
                Ok(true) => return Ok(()),
                Ok(false) => attempts = 0,
                Err(broken) => {
                    attempts = if cursor.offset > before { 1 } else { attempts + 1 };
                    if !broken.is_resumable || attempts > RESUME_LIMIT || self.job.stored.plan().is_none() {
                        return Err(broken);
                    }
                }
            }
            let plan = self.job.stored.plan();
            next = plan.and_then(|plan| plan.piece_at(cursor.offset)).map_or(u32::MAX, PieceNumber::get);
        }
    }

    /// Where the first piece from `next` on begins that the store lacks; `None` at the run's end.
    fn next_offset(&self, next: u32) -> Option<u64> {
        let Some(plan) = self.job.stored.plan() else { return Some(0) };
        let held = self.job.stored.held();
        let end = self.to.load(Ordering::Relaxed).min(plan.count().unwrap_or(u32::MAX));
        let piece = (next..end).find_map(|n| plan.number(n).filter(|piece| !held.contains(*piece)))?;
        Some(plan.range(piece).start)
    }

    /// Reads one answer of the source from the cursor on. `Ok(true)` at the run's end; `Ok(false)` if
    /// the next piece is further on, so that another answer is cheaper than reading up to it.
    async fn read_body(&self, cursor: &mut Cursor) -> Result<bool, Broken> {
        let mut response = self.open(cursor.offset).await?;
        self.adopt(&response, cursor).await?;
        let mut skip = cursor.offset.saturating_sub(response.start);
        while let Some(mut chunk) = response.chunk().await? {
            let skipped = skip.min(chunk.len() as u64);
            skip -= skipped;
            let _ = chunk.split_to(usize::try_from(skipped).unwrap_or(usize::MAX));
            while !chunk.is_empty() {
                match self.next_piece(cursor, response.accepts_ranges).await? {
                    Step::Write => self.write(cursor, &mut chunk).await?,
                    Step::Skip(bytes) => {
                        let bytes = bytes.min(chunk.len() as u64);
                        cursor.offset += bytes;
                        let _ = chunk.split_to(usize::try_from(bytes).unwrap_or(usize::MAX));
                    }
                    Step::Reopen => return Ok(false),
                    Step::Done => return Ok(true),
                }
            }
        }
        self.end(cursor, &response).await
    }

    /// Asks the source for the content from an offset on.
    async fn open(&self, offset: u64) -> Result<SourceResponse, Broken> {
        let job = &self.job;
        let headers: Vec<(String, String)> =
            job.request.meta.header.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let trust = if job.options.is_local { Trust::Local } else { Trust::Network };
        let range = match self.job.stored.plan().filter(|_| offset > 0) {
            Some(plan) => self.bounded(plan, offset),
            None => SourceRange::starting_at(offset),
        };
        let mut request = SourceRequest::new(job.request.url.as_str(), &headers)?
            .trust(trust)
            .insecure(job.options.is_insecure)
            .range(range);
        if let Some(version) = job.stored.version() {
            request = request.pinned(version);
        }
        self.job.note_source_request();
        Ok(self.peer.source().open(&request).await?)
    }

    /// From an offset to the end of the run.
    fn bounded(&self, plan: PiecePlan, offset: u64) -> SourceRange {
        let last = self.to.load(Ordering::Relaxed).checked_sub(1).and_then(|last| plan.number(last));
        last.and_then(|last| SourceRange::between(offset, plan.range(last).end().saturating_sub(1)))
            .unwrap_or_else(|| SourceRange::starting_at(offset))
    }

    /// Learns from an answer how the content is cut, and tells.
    async fn adopt(&self, response: &SourceResponse, cursor: &mut Cursor) -> Result<(), Broken> {
        let stored = &self.job.stored;
        let asked = self.job.request.piece_len;
        let known = stored.plan();
        let plan = match (response.version.content_len, known) {
            (Some(len), Some(known)) => PiecePlan::with_piece_len(len, known.piece_len()),
            (Some(len), None) if asked > 0 => PiecePlan::with_piece_len(len, asked),
            (Some(len), None) => PiecePlan::for_content(len),
            (None, Some(known)) => Ok(known),
            (None, None) => PiecePlan::open(if asked > 0 { asked } else { OPEN_PIECE_LEN }),
        };
        let plan = plan.map_err(|error| Failure::new(Code::Usage, error.to_string()))?;
        self.set_plan(plan).await?;
        stored.set_version(&response.version)?;
        if response.start > cursor.offset {
            return Err(Failure::new(Code::Protocol, "the source sent other bytes than were asked for").into());
        }
        let is_ranged = response.accepts_ranges;
        let version = version_hash(&response.version);
        self.tell(Input::SourceOpened { fetch: self.fetch, plan, is_ranged, version }).await;
        Ok(())
    }

    async fn set_plan(&self, plan: PiecePlan) -> Result<(), Failure> {
        let (store, stored) = (self.peer.store().clone(), self.job.stored.clone());
        self.peer.env().blocking(move || store.set_plan(&stored, plan)).await
    }

    /// What to do with the byte at the cursor.
    async fn next_piece(&self, cursor: &mut Cursor, is_ranged: bool) -> Result<Step, Broken> {
        if cursor.writer.is_some() {
            return Ok(Step::Write);
        }
        let plan = self.job.stored.plan().ok_or_else(|| Failure::new(Code::Internal, "a body without a plan"))?;
        let Some(piece) = plan.piece_at(cursor.offset) else {
            return Err(Failure::new(Code::Protocol, "the source sent more than the content has").into());
        };
        if piece.get() >= self.to.load(Ordering::Relaxed) {
            return Ok(Step::Done);
        }
        let range = plan.range(piece);
        let is_at_start = range.start == cursor.offset;
        cursor.writer = if is_at_start { self.job.stored.begin(piece) } else { None };
        if cursor.writer.is_some() {
            self.tell(Input::SourceStarted { fetch: self.fetch, piece }).await;
            return Ok(Step::Write);
        }
        // It is here, or comes from a parent. One piece is read over; several are worth a new request.
        let beyond = self.next_offset(piece.get() + 1);
        match beyond {
            None if is_at_start => Ok(Step::Done),
            Some(offset) if is_ranged && offset > range.end() => Ok(Step::Reopen),
            _ => Ok(Step::Skip(range.end() - cursor.offset)),
        }
    }

    /// Writes as much of a chunk as belongs to the present piece.
    async fn write(&self, cursor: &mut Cursor, chunk: &mut Bytes) -> Result<(), Broken> {
        let Some(writer) = &mut cursor.writer else { return Ok(()) };
        let most = usize::try_from(writer.remaining()).unwrap_or(usize::MAX).min(chunk.len());
        let part = chunk.split_to(self.throttle.take(most).await);
        writer.write(&part).map_err(|error| self.disk_failure(&error))?;
        cursor.offset += part.len() as u64;
        self.job.note_source_bytes(part.len() as u64);
        if writer.remaining() == 0
            && let Some(writer) = cursor.writer.take()
        {
            let piece = writer.piece();
            if let Some(digest) = writer.finish() {
                self.tell(Input::SourceArrived { fetch: self.fetch, piece, digest }).await;
            }
        }
        Ok(())
    }

    fn disk_failure(&self, error: &std::io::Error) -> Broken {
        let is_full = matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
        let code = if is_full { Code::NoSpace } else { Code::LocalIo };
        Failure::new(code, "cannot write to the store").because(error).into()
    }

    /// The body is at its end: for a content of unknown length this is where it ends.
    async fn end(&self, cursor: &mut Cursor, response: &SourceResponse) -> Result<bool, Broken> {
        let stored = &self.job.stored;
        let Some(mut plan) = stored.plan().filter(|plan| plan.content_len().is_none()) else {
            return Ok(cursor.writer.is_none() && self.next_offset(0).is_none_or(|offset| offset < cursor.offset));
        };
        plan.close(cursor.offset).map_err(|error| Failure::new(Code::Protocol, error.to_string()))?;
        let last = cursor.writer.take().map(|writer| (writer.piece(), writer.finish_short().1));
        self.set_plan(plan).await?;
        let is_ranged = response.accepts_ranges;
        self.tell(Input::SourceOpened { fetch: self.fetch, plan, is_ranged, version: version_hash(&response.version) })
            .await;
        if let Some((piece, digest)) = last {
            self.tell(Input::SourceArrived { fetch: self.fetch, piece, digest }).await;
        }
        Ok(true)
    }
}

enum Step {
    Write,
    Skip(u64),
    Reopen,
    Done,
}

/// The hash by which schedulers tell versions of a source apart; 0 without validators.
fn version_hash(version: &Version) -> u64 {
    if version.etag.is_none() && version.last_modified.is_none() {
        return 0;
    }
    let mut hash = blake3::Hasher::new();
    for part in [&version.etag, &version.last_modified] {
        let text = part.as_deref().unwrap_or_default();
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash.finalize().as_bytes()[..8]);
    u64::from_le_bytes(bytes).max(1)
}
