//! What the citizens of a town do: the effects of their downloaders, without bytes.

use df_core::downloader::{self, FetchId};
use df_core::id::{HostId, PieceDigest};
use df_core::machine::Machine;
use df_core::piece::{PieceNumber, PiecePlan};
use df_core::scheduler::PieceFailure;
use df_core::time::Duration;

use super::{
    Event, Manner, NEWS_INTERVAL, SOURCE_NEWS_INTERVAL, STALL_LIMIT, SourceManner, SourceRun, ToScheduler, Town,
    true_digest,
};

impl Town {
    pub(super) fn tell(&mut self, who: usize, input: downloader::Input) {
        if self.citizens[who].is_up {
            self.note(format!("{who} is told {input:?}"));
            self.citizens[who].downloader.handle_input(self.now, input);
            self.drain(who);
        }
    }

    pub(super) fn drain(&mut self, who: usize) {
        self.citizens[who].downloader.check_invariants();
        while let Some(output) = self.citizens[who].downloader.poll_output() {
            self.act(who, output);
        }
    }

    pub(super) fn act(&mut self, who: usize, output: downloader::Output) {
        use downloader::Output;
        self.note(format!("{who} wants {output:?}"));
        match output {
            Output::Register { .. } => self.after(self.latency, Event::Up(who, ToScheduler::Register)),
            Output::Report { report, .. } => self.after(self.latency, Event::Up(who, ToScheduler::Report(report))),
            Output::FetchPiece { fetch, piece, parent, .. } => self.fetch(who, fetch, piece, parent),
            Output::AbortFetch { fetch } => drop(self.citizens[who].fetches.remove(&fetch)),
            Output::KeepPiece { piece, digest, .. } => {
                assert_eq!(digest, true_digest(piece), "only true bytes are kept");
                self.citizens[who].held.insert(piece);
                self.citizens[who].digests.insert(piece.get(), digest);
                let kept = downloader::Input::PieceKept { task: self.task, piece, result: Ok(()) };
                self.after(Duration::ZERO, Event::Local(who, kept));
            }
            Output::DropPiece { .. } => {}
            Output::FetchSource { fetch, from, to, .. } => {
                self.source_runs += 1;
                self.citizens[who].source = Some(SourceRun { fetch, next: from, to });
                self.after(self.latency, Event::SourceAnswer(who, fetch));
            }
            Output::TrimSource { to, .. } => {
                if let Some(run) = &mut self.citizens[who].source {
                    run.to = Some(to);
                }
            }
            Output::AbortSource { .. } => self.citizens[who].source = None,
            Output::AskParent { parent, .. } => {
                let Some(at) = self.citizens.iter().position(|citizen| citizen.id == parent) else { return };
                if self.citizens[at].is_up {
                    let held = self.citizens[at].held.clone();
                    let told = downloader::Input::ParentTold { task: self.task, parent, held };
                    self.after(self.latency, Event::Local(who, told));
                }
            }
            Output::Complete { .. } => {
                self.citizens[who].outcome = Some(Ok(()));
                self.citizens[who].finished_at = Some(self.now);
            }
            Output::Fail { why, .. } => self.citizens[who].outcome = Some(Err(why)),
        }
    }

    pub(super) fn fetch(&mut self, who: usize, fetch: FetchId, piece: PieceNumber, parent: HostId) {
        let parent = self.citizens.iter().position(|citizen| citizen.id == parent).unwrap();
        assert_ne!(parent, who, "nobody is its own parent");
        self.transfers.push((who, parent, piece.get()));
        if !self.citizens[parent].is_up {
            let result = Err(PieceFailure::Disconnected);
            let ended = downloader::Input::FetchEnded { fetch, result, elapsed: self.latency };
            return self.after(self.latency, Event::Local(who, ended));
        }
        self.citizens[who].fetches.insert(fetch, (piece, parent));
        if self.citizens[parent].manner == Manner::Hung {
            self.after(STALL_LIMIT, Event::Stall(who, fetch));
        } else {
            self.after(self.piece_time.saturating_sub(self.latency * 2), Event::Nearly(who, fetch));
            self.after(self.piece_time, Event::Arrival(who, fetch));
            self.every(NEWS_INTERVAL, who, &downloader::Input::FetchProgressed { fetch });
        }
    }

    pub(super) fn arrive(&mut self, who: usize, fetch: FetchId) {
        let Some((piece, parent)) = self.citizens[who].fetches.get(&fetch).copied() else { return };
        let result = match self.citizens[parent].manner {
            _ if self.citizens[who].manner == Manner::Slanderer => Err(PieceFailure::Corrupt),
            Manner::Corrupt => Ok(PieceDigest::from_bytes([0xbb; 32])),
            _ if self.citizens[parent].held.contains(piece) => Ok(true_digest(piece)),
            // The parent is still receiving it and passes it on as it arrives.
            _ if self.is_coming(parent, piece) => return self.after(self.latency, Event::Arrival(who, fetch)),
            _ => Err(PieceFailure::Aborted),
        };
        self.citizens[who].fetches.remove(&fetch);
        self.tell(who, downloader::Input::FetchEnded { fetch, result, elapsed: self.piece_time });
    }

    /// Says something again and again while a piece is on its way.
    fn every(&mut self, interval: Duration, who: usize, input: &downloader::Input) {
        let piece_time = self.piece_time;
        let times = (1..).map(|n| interval * n).take_while(|at| *at < piece_time);
        times.for_each(|at| self.after(at, Event::Local(who, input.clone())));
    }

    pub(super) fn is_coming(&self, who: usize, piece: PieceNumber) -> bool {
        let citizen = &self.citizens[who];
        citizen.fetches.values().any(|(coming, _)| *coming == piece)
            || citizen.source.as_ref().is_some_and(|run| run.next <= piece.get())
    }

    pub(super) fn source_answer(&mut self, who: usize, fetch: FetchId) {
        let is_over = self.citizens[who].source.as_ref().is_none_or(|run| run.fetch != fetch);
        if is_over || self.source == SourceManner::Hangs {
            return;
        }
        if let SourceManner::Fails(failure) = self.source {
            self.citizens[who].source = None;
            return self.tell(who, downloader::Input::SourceEnded { fetch, result: Err(failure) });
        }
        let is_streaming = self.source == SourceManner::Streams;
        let plan = if is_streaming { PiecePlan::open(self.plan.piece_len()).unwrap() } else { self.plan };
        self.citizens[who].plan = Some(plan);
        let opened = downloader::Input::SourceOpened { fetch, plan, is_ranged: !is_streaming, version: 1 };
        self.tell(who, opened);
        self.source_next(who, fetch);
    }

    /// Begins the next piece of the run that the store lacks, or ends it.
    pub(super) fn source_next(&mut self, who: usize, fetch: FetchId) {
        let plan = self.plan;
        let Some(run) = self.citizens[who].source.as_ref() else { return };
        let end = run.to.unwrap_or(u32::MAX).min(plan.count().unwrap());
        let citizen = &self.citizens[who];
        let is_here = |piece| citizen.held.contains(piece) || citizen.fetches.values().any(|f| f.0 == piece);
        let piece = (run.next..end).find_map(|n| plan.number(n).filter(|piece| !is_here(*piece)));
        match piece {
            Some(piece) => {
                self.citizens[who].source.as_mut().unwrap().next = piece.get();
                self.tell(who, downloader::Input::SourceStarted { fetch, piece });
                self.after(self.piece_time, Event::SourceStep(who, fetch));
                self.every(SOURCE_NEWS_INTERVAL, who, &downloader::Input::SourceProgressed { fetch });
            }
            None => {
                self.citizens[who].source = None;
                if self.source == SourceManner::Streams {
                    let opened = downloader::Input::SourceOpened { fetch, plan, is_ranged: false, version: 1 };
                    self.tell(who, opened);
                }
                self.tell(who, downloader::Input::SourceEnded { fetch, result: Ok(()) });
            }
        }
    }

    pub(super) fn source_step(&mut self, who: usize, fetch: FetchId) {
        let Some(run) = self.citizens[who].source.as_mut().filter(|run| run.fetch == fetch) else { return };
        if self.source == SourceManner::Hangs {
            return;
        }
        if let SourceManner::Fails(failure) = self.source {
            self.citizens[who].source = None;
            return self.tell(who, downloader::Input::SourceEnded { fetch, result: Err(failure) });
        }
        let piece = self.plan.number(run.next).unwrap();
        run.next += 1;
        *self.source_sent.entry(piece.get()).or_default() += 1;
        self.tell(who, downloader::Input::SourceArrived { fetch, piece, digest: true_digest(piece) });
        self.source_next(who, fetch);
    }
}
