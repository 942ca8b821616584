//! `Daemon.Download` as Dragonfly v1 clients ask for it: the daemon writes the file they name, with their
//! rights.

use std::time::Duration;

use df_api::dfdaemon::{DownRequest, DownResult};
use df_api::failure::{Code, Failure};
use df_api::task::TaskRequest;
use df_core::piece::{ByteRange, PiecePlan};
use futures_util::stream::BoxStream;
use tokio::time::{Instant as TokioInstant, timeout_at};
use tonic::Status;

use super::Busy;
use super::caller::Caller;
use super::download::rate_of;
use super::target::{Copy, Target};
use crate::digest::Digest;
use crate::env::net::Remote;
use crate::peer::job::JobOptions;
use crate::peer::store::StoredTask;
use crate::peer::{Peer, Waiting};

/// Time between two messages; the first comes as soon.
const REPORT_INTERVAL: Duration = Duration::from_millis(200);

/// Which bytes of a content: `first..=last`, from `first` to the end, or the last so many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Between(u64, u64),
    From(u64),
    Last(u64),
}

/// A download and where it goes.
struct Delivery {
    peer: Peer,
    waiting: Waiting,
    target: Target,
    part: Option<Part>,
    /// Of the part; that of a whole content is the job's to verify.
    digest: Option<Digest>,
    deadline: Option<TokioInstant>,
}

/// Checks a request, opens its output, joins the download, and answers its progress.
pub(super) async fn start(
    peer: &Peer,
    request: DownRequest,
    remote: Option<Remote>,
    busy: Busy,
) -> Result<BoxStream<'static, Result<DownResult, Status>>, Status> {
    let caller = Caller::of(remote)?;
    let owner = caller.owner(request.uid, request.gid)?;
    let (task, part, digest) = checked(&request)?;
    let options = JobOptions {
        may_fetch_source: !request.disable_back_source,
        is_insecure: request.insecure,
        ..JobOptions::CALLER
    };
    let is_in_place = request.keep_original_offset;
    let target = Target::open(peer.env(), caller, owner, &request.output, is_in_place).await?;
    let waiting = peer.join(task, options, rate_of(request.limit)).await?;
    let clock = &peer.env().clock;
    // v1 clients send a Go duration.
    let term = Duration::from_nanos(request.timeout);
    let deadline = (!term.is_zero()).then(|| clock.at(clock.now() + term));
    let delivery = Delivery { peer: peer.clone(), waiting, target, part, digest, deadline };
    Ok(Box::pin(delivery.follow(busy)))
}

/// The task, which part of it is wanted, and the part's digest. A part is taken from the task of the
/// whole, so that all who want any of it share one swarm.
fn checked(request: &DownRequest) -> Result<(TaskRequest, Option<Part>, Option<Digest>), Failure> {
    let usage = |what: String| Failure::new(Code::Usage, what);
    let mut meta = request.url_meta.clone().unwrap_or_default();
    let digest: Option<Digest> = match meta.digest.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|error| usage(format!("{text:?} is not a digest")).because(error))?),
    };
    let range = std::mem::take(&mut meta.range);
    let part = if range.is_empty() { None } else { Some(part(&range)?) };
    if part.is_some() {
        meta.digest.clear();
        // dfget says the same once more in a header.
        meta.header.retain(|name, _| !name.eq_ignore_ascii_case("range"));
    } else if request.keep_original_offset {
        return Err(usage("an original offset is kept for a range, and none is named".to_owned()));
    }
    let task = TaskRequest::new(&request.url, meta, request.piece_length)?;
    Ok((task, part, digest.filter(|_| part.is_some())))
}

/// Reads `a-b`, `a-` or `-n`, with or without `bytes=`.
fn part(text: &str) -> Result<Part, Failure> {
    let malformed = || Failure::new(Code::Usage, format!("{text:?} is not a range such as 0-99"));
    let (first, last) = text.strip_prefix("bytes=").unwrap_or(text).split_once('-').ok_or_else(malformed)?;
    let number = |digits: &str| {
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if is_number { digits.parse::<u64>().map_err(|_| malformed()) } else { Err(malformed()) }
    };
    Ok(match (first, last) {
        ("", last) => Part::Last(number(last)?),
        (first, "") => Part::From(number(first)?),
        (first, last) => Part::Between(number(first)?, number(last)?),
    })
}

impl Part {
    /// The bytes meant in a content of this length.
    fn within(self, len: u64) -> Option<ByteRange> {
        let (start, end) = match self {
            Self::Between(first, last) => (first, last.saturating_add(1).min(len)),
            Self::From(first) => (first, len),
            Self::Last(bytes) => (len.saturating_sub(bytes), len),
        };
        (start < end).then(|| ByteRange { start, len: end - start })
    }
}

impl Delivery {
    fn follow(self, busy: Busy) -> impl futures_util::Stream<Item = Result<DownResult, Status>> {
        async_stream::stream! {
            let _busy = busy;
            let job = self.waiting.job().clone();
            let (mut outcome, clock) = (job.outcome(), self.peer.env().clock.clone());
            loop {
                let report_at = clock.at(clock.now() + REPORT_INTERVAL);
                let until = self.deadline.map_or(report_at, |deadline| deadline.min(report_at));
                let _ = timeout_at(until, outcome.wait_for(Option::is_some)).await;
                let ended = outcome.borrow().clone();
                if let Some(Err(failure)) = ended {
                    yield Err(failure.into());
                    return;
                }
                if ended.is_some() || self.has_part(&job.stored) {
                    break;
                }
                if self.deadline.is_some_and(|deadline| deadline <= until) {
                    yield Err(Failure::new(Code::Timeout, "the download took longer than it may").into());
                    return;
                }
                yield Ok(result(&self.peer, &job.stored, job.stored.held_bytes().0, false));
            }
            let (peer, stored) = (self.peer.clone(), job.stored.clone());
            yield match self.finish().await {
                Ok(bytes) => Ok(result(&peer, &stored, bytes, true)),
                Err(failure) => Err(failure.into()),
            };
        }
    }

    /// Whether the wanted part is here while the rest may not be.
    fn has_part(&self, stored: &StoredTask) -> bool {
        let Some((plan, range)) = self.part.and_then(|part| range_in(stored, part)) else { return false };
        let held = stored.held();
        let last = plan.piece_at(range.end() - 1);
        let Some((first, last)) = plan.piece_at(range.start).zip(last) else { return false };
        (first.get()..=last.get()).all(|number| plan.number(number).is_some_and(|piece| held.contains(piece)))
    }

    /// Writes the file; answers its bytes.
    async fn finish(self) -> Result<u64, Failure> {
        let stored = self.waiting.job().stored.clone();
        let range = match self.part {
            Some(part) => range_in(&stored, part).map(|(_, range)| range),
            None => stored.plan().and_then(|plan| plan.content_len()).map(|len| ByteRange { start: 0, len }),
        };
        let range = range.ok_or_else(|| Failure::new(Code::Usage, "the content has no such bytes"))?;
        self.target.fill(self.peer.env(), Copy { stored, range, digest: self.digest }).await?;
        Ok(range.len)
    }
}

/// The bytes of a part, once the content's length is known.
fn range_in(stored: &StoredTask, part: Part) -> Option<(PiecePlan, ByteRange)> {
    let plan = stored.plan()?;
    Some((plan, part.within(plan.content_len()?)?))
}

fn result(peer: &Peer, stored: &StoredTask, completed_length: u64, done: bool) -> DownResult {
    DownResult {
        task_id: stored.id().to_string(),
        peer_id: peer.peer_id(&stored.id()).to_string(),
        completed_length,
        done,
        ..DownResult::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_as_v1_writes_them() {
        let within = |text: &str, len| part(text).map(|part| part.within(len).map(|range| (range.start, range.len)));
        assert_eq!(within("0-9", 100), Ok(Some((0, 10))));
        assert_eq!(within("bytes=90-", 100), Ok(Some((90, 10))));
        assert_eq!(within("-5", 100), Ok(Some((95, 5))));
        assert_eq!(within("-500", 100), Ok(Some((0, 100))));
        assert_eq!(within("50-500", 100), Ok(Some((50, 50))));
        assert_eq!(within("0-18446744073709551615", 100), Ok(Some((0, 100))));
        assert_eq!(within("100-", 100), Ok(None));
        assert_eq!(within("9-1", 100), Ok(None));
        assert_eq!(within("0-0", 0), Ok(None));
        for bad in ["", "-", "a-b", "1", "1-2,4-5", "+1-2", "1-2x", "sebytes=1-2", "0-99999999999999999999"] {
            assert!(part(bad).is_err(), "{bad}");
        }
    }
}
