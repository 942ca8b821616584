//! All peers fetch the file at once; how far they are, and what dfget says at the end.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::crew::{Crew, Event, Member};
use super::now;
use super::origin::Origin;
use super::report::megabytes;

/// A line on a terminal is drawn this often...
const FRAME_INTERVAL: Duration = Duration::from_millis(100);

/// ...and elsewhere a new one comes this often.
const LINE_INTERVAL: Duration = Duration::from_secs(2);

/// What one dfget says at the end.
#[derive(Clone, PartialEq, Eq, Default, Debug, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Fetched {
    pub(super) ok: bool,
    pub(super) exit: u8,
    pub(super) ms: u64,
    pub(super) bps: u64,
    pub(super) from: From,
    pub(super) pieces: Pieces,
    pub(super) parents: Vec<Parent>,
    pub(super) error: Option<Reason>,
}

/// Bytes by kind of sender.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Deserialize, Serialize)]
pub(super) struct From {
    pub(super) local: u64,
    pub(super) peers: u64,
    pub(super) seed: u64,
    pub(super) origin: u64,
}

/// Counts of pieces.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Deserialize, Serialize)]
pub(super) struct Pieces {
    pub(super) total: u32,
    pub(super) reused: u32,
    pub(super) retried: u32,
}

/// Who sent something.
#[derive(Clone, PartialEq, Eq, Default, Debug, Deserialize, Serialize)]
pub(super) struct Parent {
    pub(super) address: String,
    pub(super) pieces: u32,
    pub(super) bytes: u64,
    pub(super) seed: bool,
}

/// Why a download failed.
#[derive(Clone, PartialEq, Eq, Default, Debug, Deserialize, Serialize)]
pub(super) struct Reason {
    pub(super) code: String,
    pub(super) message: String,
}

/// An event of `dfget --progress=json`, as much as matters here.
#[derive(Deserialize)]
struct Progress {
    #[serde(default)]
    bytes: u64,
}

/// Sees the downloads of `members` to their end: their results in the same order, and when the last
/// one ended.
///
/// # Errors
/// When one says nothing that can be understood; `Interrupted`.
pub(super) fn follow(
    crew: &mut Crew,
    members: &[Member],
    len: u64,
    origin: &Origin,
    since: Instant,
) -> Result<(Vec<Fetched>, Duration)> {
    let mut meter = Meter::new(len * members.len() as u64, since);
    let mut far: BTreeMap<Member, u64> = BTreeMap::new();
    let mut said: BTreeMap<Member, String> = BTreeMap::new();
    let mut open = members.len();
    while open > 0 {
        match crew.next(now() + FRAME_INTERVAL)? {
            Some(Event::Said(member, line)) => drop(said.insert(member, line)),
            Some(Event::Told(member, line)) => {
                if let Ok(Progress { bytes }) = serde_json::from_str(&line) {
                    let known = far.entry(member).or_default();
                    *known = bytes.max(*known);
                }
            }
            Some(Event::Silent(member)) if members.contains(&member) => {
                crew.outcome(member)?;
                open -= 1;
                far.insert(member, len);
            }
            Some(Event::Silent(member)) => anyhow::bail!("{} ended in the middle", crew.name(member)),
            Some(Event::Signal(_)) | None => {}
        }
        meter.show(far.values().sum(), members.len() - open, origin.sent().bytes);
    }
    let took = now() - since;
    meter.end();
    let result = |member: &Member| {
        let name = crew.name(*member);
        let line = said.get(member).with_context(|| format!("{name} ended without a result"))?;
        serde_json::from_str(line).with_context(|| format!("{name} says {line}"))
    };
    Ok((members.iter().map(result).collect::<Result<_>>()?, took))
}

/// One line about all of them.
struct Meter {
    total: u64,
    since: Instant,
    last: Instant,
    interval: Duration,
    is_terminal: bool,
}

impl Meter {
    fn new(total: u64, since: Instant) -> Self {
        let is_terminal = stderr().is_terminal();
        let interval = if is_terminal { FRAME_INTERVAL } else { LINE_INTERVAL };
        Self { total, since, last: since, interval, is_terminal }
    }

    fn show(&mut self, bytes: u64, done: usize, from_origin: u64) {
        let at = now();
        if at - self.last < self.interval {
            return;
        }
        self.last = at;
        let percent = bytes * 100 / self.total.max(1);
        let line = format!(
            "  {:>5.1} s  {percent:>3} %  {} of {}, {done} done; the origin sent {}",
            (at - self.since).as_secs_f64(),
            megabytes(bytes),
            megabytes(self.total),
            megabytes(from_origin)
        );
        // Nobody is left to tell when the standard error is gone; the same below.
        let _ = match self.is_terminal {
            true => write!(stderr(), "\r\x1b[K{line}"),
            false => writeln!(stderr(), "{line}"),
        };
    }

    fn end(&self) {
        if self.is_terminal {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Fetched, From, Parent};

    #[test]
    fn results_of_either_kind_are_understood() {
        let good = r#"{"v":1,"ok":true,"url":"u","output":"f","task":"9f","bytes":9,"ms":4,"bps":2250,"from":{"local":1,"peers":2,"seed":3,"origin":4},"pieces":{"total":5,"reused":6,"retried":7},"parents":[{"address":"127.0.0.1:9","pieces":1,"bytes":2,"seed":false}],"digest":null,"resumed":false,"link":null,"exit":0,"error":null}"#;
        let fetched: Fetched = serde_json::from_str(good).unwrap();
        assert_eq!(fetched.from, From { local: 1, peers: 2, seed: 3, origin: 4 });
        assert_eq!(fetched.parents, [Parent { address: "127.0.0.1:9".to_owned(), pieces: 1, bytes: 2, seed: false }]);
        let bad = r#"{"v":1,"ok":false,"url":"u","exit":8,"error":{"code":"ORIGIN_STATUS","http":404,"message":"no","hint":null,"retryable":false}}"#;
        let fetched: Fetched = serde_json::from_str(bad).unwrap();
        assert_eq!((fetched.ok, fetched.exit, fetched.error.unwrap().message), (false, 8, "no".to_owned()));
    }
}
