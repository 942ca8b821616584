//! One connection to the source: a stretch of pieces read into the store, then the next.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use df_api::failure::{Code, Failure};
use df_core::downloader::Input;
use df_core::piece::{PieceNumber, PiecePlan};
use df_core::planted::{Bug, is_planted};

use super::stretch::{FIRST_LEN, Stretch};
use super::{Broken, OriginRun};
use crate::peer::effects::give_up_if_gone;
use crate::peer::source::{SourceRange, SourceRequest, SourceResponse, Trust};
use crate::peer::store::PieceWriter;

/// Attempts to go on after a body that broke off, as long as none brought a byte.
const RESUME_LIMIT: u32 = 3;

/// Piece length while the length of the content is unknown and none was asked for.
const OPEN_PIECE_LEN: u64 = 4 << 20;

/// One connection of a run.
pub(super) struct Lane {
    run: Arc<OriginRun>,
    stretch: Stretch,
}

/// Where in the content a body is, and what it is being written to.
struct Cursor {
    offset: u64,
    writer: Option<PieceWriter>,
}

impl Lane {
    /// A connection that begins with `stretch`.
    pub(super) const fn new(run: Arc<OriginRun>, stretch: Stretch) -> Self {
        Self { run, stretch }
    }

    /// Reads its stretch, and further ones until the run is taken or it is one lane too many.
    pub(super) async fn run(mut self) -> Result<(), Broken> {
        loop {
            self.read().await?;
            let Some(stretch) = self.run.next_stretch() else { return Ok(()) };
            self.stretch = stretch;
        }
    }

    async fn read(&mut self) -> Result<(), Broken> {
        let (mut next, mut attempts) = (self.stretch.from, 0);
        let mut cursor = Cursor { offset: 0, writer: None };
        loop {
            if cursor.writer.is_none() {
                let Some(offset) = self.next_offset(next) else { return Ok(()) };
                cursor.offset = offset;
            }
            let before = cursor.offset;
            match self.read_body(&mut cursor).await {
                Ok(true) => return Ok(()),
                Ok(false) if cursor.offset > before => attempts = 0,
                Ok(false) if attempts >= RESUME_LIMIT && !is_planted(Bug::SourceAskedForEver) => {
                    return Err(Failure::new(Code::Protocol, "the source ends before its content does").into());
                }
                Ok(false) => attempts += 1,
                Err(broken) => {
                    attempts = if cursor.offset > before { 1 } else { attempts + 1 };
                    let is_enough = attempts > RESUME_LIMIT && !is_planted(Bug::SourceAskedForEver);
                    if !broken.is_resumable || is_enough || self.run.job.stored.plan().is_none() {
                        return Err(broken);
                    }
                }
            }
            let plan = self.run.job.stored.plan();
            next = plan.and_then(|plan| plan.piece_at(cursor.offset)).map_or(u32::MAX, PieceNumber::get);
        }
    }

    /// Piece after the last this lane reads.
    fn end(&self) -> u32 {
        self.stretch.to.min(self.run.stretches.end())
    }

    /// Where the first piece from `next` on begins that the store lacks; `None` at the stretch's end.
    fn next_offset(&self, next: u32) -> Option<u64> {
        let Some(plan) = self.run.job.stored.plan() else { return Some(0) };
        let held = self.run.job.stored.held();
        let end = self.end().min(plan.count().unwrap_or(u32::MAX));
        let piece = (next..end).find_map(|n| plan.number(n).filter(|piece| !held.contains(*piece)))?;
        Some(plan.range(piece).start)
    }

    /// Reads one answer of the source from the cursor on. `Ok(true)` at the stretch's end; `Ok(false)`
    /// if more has to be asked for: the answer was a part, or the next piece is so much further on
    /// that another answer is cheaper than reading up to it.
    async fn read_body(&mut self, cursor: &mut Cursor) -> Result<bool, Broken> {
        let mut response = self.open(cursor.offset).await?;
        self.adopt(&response, cursor).await?;
        let mut skip = cursor.offset.saturating_sub(response.start);
        if is_planted(Bug::SkipOneShort) {
            skip = skip.saturating_sub(1);
        }
        while let Some(mut chunk) = response.chunk().await? {
            self.run.has_news.store(true, Ordering::Relaxed);
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
        self.ended(cursor, &response).await
    }

    /// Asks the source for the content from an offset on, as far as the stretch goes.
    async fn open(&self, offset: u64) -> Result<SourceResponse, Broken> {
        let Some(plan) = self.run.job.stored.plan() else {
            let range = SourceRange::between(offset, offset.saturating_add(FIRST_LEN - 1));
            let response = self.request(range.unwrap_or(SourceRange::starting_at(offset))).await?;
            if response.version.content_len.is_some() || !response.accepts_ranges {
                return Ok(response);
            }
            // A part of who knows how much: only the whole shows where the end is.
            return self.request(SourceRange::starting_at(offset)).await;
        };
        let last = self.end().checked_sub(1).and_then(|last| plan.number(last));
        let range = last.and_then(|last| SourceRange::between(offset, plan.range(last).end().saturating_sub(1)));
        self.request(range.unwrap_or(SourceRange::starting_at(offset))).await
    }

    async fn request(&self, range: SourceRange) -> Result<SourceResponse, Broken> {
        let job = &self.run.job;
        let headers: Vec<(String, String)> =
            job.request.meta.header.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let trust = if job.options().is_local { Trust::Local } else { Trust::Network };
        let mut request = SourceRequest::new(job.request.url.as_str(), &headers)?
            .trust(trust)
            .insecure(job.options().is_insecure)
            .range(range);
        if let Some(version) = job.stored.version()
            && !is_planted(Bug::VersionIgnored)
        {
            request = request.pinned(version);
        }
        job.note_source_request();
        Ok(self.run.peer.source().open(&request).await?)
    }

    /// Now that the source has answered it is known whether others can read the rest meanwhile.
    fn share(&mut self, is_ranged: bool, plan: &PiecePlan) {
        let is_whole = self.stretch.to == u32::MAX;
        if !is_ranged {
            self.stretch.to = self.run.stretches.take_all().to;
        } else if is_whole && plan.count().is_some() {
            self.stretch = self.run.stretches.give_back(self.stretch, plan, FIRST_LEN);
        }
    }

    /// Learns from an answer how the content is cut, and tells.
    async fn adopt(&mut self, response: &SourceResponse, cursor: &mut Cursor) -> Result<(), Broken> {
        let stored = &self.run.job.stored;
        stored.adopt_version_hash(response.version.hash())?;
        let asked = self.run.job.request.piece_len;
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
        self.share(response.accepts_ranges, &plan);
        let stored = &self.run.job.stored;
        stored.set_version(&response.version)?;
        if response.start > cursor.offset {
            return Err(Failure::new(Code::Protocol, "the source sent other bytes than were asked for").into());
        }
        let is_ranged = response.accepts_ranges;
        let version = response.version.hash();
        self.run.tell(Input::SourceOpened { fetch: self.run.fetch, plan, is_ranged, version }).await;
        Ok(())
    }

    async fn set_plan(&self, plan: PiecePlan) -> Result<(), Failure> {
        self.run.peer.store().set_plan_soon(&self.run.job.stored, plan).await
    }

    /// What to do with the byte at the cursor.
    async fn next_piece(&self, cursor: &mut Cursor, is_ranged: bool) -> Result<Step, Broken> {
        if cursor.writer.is_some() {
            return Ok(Step::Write);
        }
        let plan = self.run.job.stored.plan().ok_or_else(|| Failure::new(Code::Internal, "a body without a plan"))?;
        let Some(piece) = plan.piece_at(cursor.offset) else {
            return Err(Failure::new(Code::Protocol, "the source sent more than the content has").into());
        };
        if piece.get() >= self.end() {
            return Ok(Step::Done);
        }
        let range = plan.range(piece);
        let is_at_start = range.start == cursor.offset;
        cursor.writer = if is_at_start { self.run.job.stored.begin(piece) } else { None };
        if let Some(writer) = &cursor.writer {
            self.run.claims.note(piece, writer.incoming());
            self.run.tell(Input::SourceStarted { fetch: self.run.fetch, piece }).await;
            return Ok(Step::Write);
        }
        give_up_if_gone(&self.run.peer, &self.run.job, piece).await;
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
        let part = chunk.split_to(self.run.throttle.take(most).await);
        writer.write(&part).map_err(|error| disk_failure(&error))?;
        cursor.offset += part.len() as u64;
        self.run.note_bytes(part.len() as u64);
        if writer.remaining() == 0
            && let Some(writer) = cursor.writer.take()
        {
            let piece = writer.piece();
            if let Some(digest) = writer.finish() {
                self.run.tell(Input::SourceArrived { fetch: self.run.fetch, piece, digest }).await;
            }
        }
        Ok(())
    }

    /// The body is at its end: for a content of unknown length this is where it ends.
    async fn ended(&self, cursor: &mut Cursor, response: &SourceResponse) -> Result<bool, Broken> {
        let stored = &self.run.job.stored;
        let Some(mut plan) = stored.plan().filter(|plan| plan.content_len().is_none()) else {
            let len = stored.plan().and_then(|plan| plan.content_len());
            if len == Some(cursor.offset)
                && !is_planted(Bug::SourceAskedForEver)
                && let Some(writer) = cursor.writer.take()
            {
                // Begun before the length was known, and told meanwhile: it is shorter than it was to be.
                let (piece, (_, digest)) = (writer.piece(), writer.finish_short());
                self.run.tell(Input::SourceArrived { fetch: self.run.fetch, piece, digest }).await;
            }
            let next = stored.plan().and_then(|plan| plan.piece_at(cursor.offset)).map_or(u32::MAX, PieceNumber::get);
            return Ok(cursor.writer.is_none() && self.next_offset(next).is_none());
        };
        plan.close(cursor.offset).map_err(|error| Failure::new(Code::Protocol, error.to_string()))?;
        let last = cursor.writer.take().map(|writer| (writer.piece(), writer.finish_short().1));
        self.set_plan(plan).await?;
        let is_ranged = response.accepts_ranges;
        self.run
            .tell(Input::SourceOpened { fetch: self.run.fetch, plan, is_ranged, version: response.version.hash() })
            .await;
        if let Some((piece, digest)) = last {
            self.run.tell(Input::SourceArrived { fetch: self.run.fetch, piece, digest }).await;
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

fn disk_failure(error: &std::io::Error) -> Broken {
    let is_full = matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
    let code = if is_full { Code::NoSpace } else { Code::LocalIo };
    Failure::new(code, "cannot write to the store").because(error).into()
}
