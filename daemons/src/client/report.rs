//! How a download ended, as a JSON object and for people.

use df_api::dfdaemon::{ParentTally, Tally};
use df_api::failure::{Code, Failure};
use serde::Serialize;

use super::Ending;
use super::delivery::Delivered;
use crate::units::{Rate, Size, Span};

/// The version of the JSON object; it changes when a reader of the old one would break.
const VERSION: u32 = 1;

/// How a download ended: the JSON object.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Outcome {
    /// The output is there.
    Done(Done),
    /// It is not.
    Failed(Failed),
}

/// A download that succeeded.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Done {
    v: u32,
    ok: bool,
    pub(super) url: String,
    pub(super) output: String,
    pub(super) task: String,
    pub(super) bytes: u64,
    pub(super) ms: u64,
    pub(super) bps: u64,
    pub(super) from: From,
    pub(super) pieces: Pieces,
    parents: Vec<Parent>,
    pub(super) digest: Option<String>,
    pub(super) resumed: bool,
    pub(super) link: Option<Delivered>,
    exit: u8,
    error: Option<()>,
}

/// A download that did not.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Failed {
    v: u32,
    ok: bool,
    url: String,
    exit: u8,
    error: Reason,
}

/// Why.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Reason {
    code: &'static str,
    http: Option<u16>,
    message: String,
    hint: Option<String>,
    retryable: bool,
}

/// Bytes by where they came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub(super) struct From {
    local: u64,
    peers: u64,
    seed: u64,
    origin: u64,
}

/// Counts of pieces.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Pieces {
    total: u32,
    reused: u32,
    retried: u32,
}

/// Who sent something, the busiest first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct Parent {
    address: String,
    seed: bool,
    pieces: u32,
    bytes: u64,
}

impl Parent {
    fn all(tallies: Vec<ParentTally>) -> Vec<Self> {
        let parent = |tally: ParentTally| {
            let ParentTally { address, is_seed: seed, pieces, bytes } = tally;
            Self { address, seed, pieces, bytes }
        };
        let mut parents: Vec<Self> = tallies.into_iter().map(parent).collect();
        parents.sort_by(|one, other| (other.bytes, &one.address).cmp(&(one.bytes, &other.address)));
        parents
    }
}

impl From {
    pub(super) fn new(tally: &Tally) -> Self {
        let Tally { local_bytes: local, peer_bytes: peers, seed_bytes: seed, origin_bytes: origin, .. } = *tally;
        Self { local, peers, seed, origin }
    }

    /// `p2p 91% origin 9%` of what was transferred, or `local` if nothing had to be.
    pub(super) fn shares(&self) -> Option<String> {
        let p2p = u128::from(self.peers) + u128::from(self.seed);
        let all = p2p + u128::from(self.origin);
        match all {
            0 if self.local > 0 => Some("local".to_owned()),
            0 => None,
            _ => {
                let percent = (p2p * 200 + all) / (all * 2);
                Some(format!("p2p {percent}% origin {}%", 100 - percent))
            }
        }
    }
}

impl Done {
    /// A download of `bytes` that took `ms`.
    pub(super) fn new(url: &str, output: String, task: String, bytes: u64, ms: u64, tally: Tally) -> Self {
        let bps = u64::try_from(u128::from(bytes) * 1000 / u128::from(ms.max(1))).unwrap_or(u64::MAX);
        let Tally { total_pieces: total, reused_pieces: reused, retried_pieces: retried, .. } = tally;
        Self {
            v: VERSION,
            ok: true,
            url: url.to_owned(),
            output,
            task,
            bytes,
            ms,
            bps,
            from: From::new(&tally),
            pieces: Pieces { total, reused, retried },
            parents: Parent::all(tally.parents),
            digest: None,
            resumed: false,
            link: None,
            exit: 0,
            error: None,
        }
    }

    /// Who sent how much, a line each: seeds, peers, the source, what was there.
    pub(super) fn explain(&self) -> Vec<String> {
        let share = |bytes: u64| {
            let percent = (bytes as f64 * 100.0 / self.bytes.max(1) as f64).round();
            format!("{:>10}  {percent:>3}%", Size::new(bytes).for_people())
        };
        let mut lines: Vec<String> = self
            .parents
            .iter()
            .map(|parent| {
                let kind = if parent.seed { "seed" } else { "peer" };
                let address = crate::console::one_line(&parent.address);
                format!("{}  {kind} {address}, {} pieces", share(parent.bytes), parent.pieces)
            })
            .collect();
        for (bytes, name) in [(self.from.origin, "the source"), (self.from.local, "was here already")] {
            if bytes > 0 {
                lines.push(format!("{}  {name}", share(bytes)));
            }
        }
        lines
    }
}

impl Outcome {
    /// One that did not succeed.
    pub(super) fn failed(url: &str, ending: &Ending) -> Self {
        let (exit, error) = match ending {
            Ending::Failed(failure) => (failure.code.exit(), Reason::new(failure)),
            Ending::Stopped(stop) => (stop.exit(), Reason::new(&Failure::new(Code::Cancelled, stop.word()))),
        };
        Self::Failed(Failed { v: VERSION, ok: false, url: url.to_owned(), exit, error })
    }

    /// The exit code.
    pub(super) fn exit(&self) -> u8 {
        match self {
            Self::Done(_) => 0,
            Self::Failed(failed) => failed.exit,
        }
    }

    /// `1.9 GiB in 4.8s, 412 MiB/s, p2p 91% origin 9%`, for a success.
    pub(super) fn summary(&self) -> Option<String> {
        let Self::Done(done) = self else { return None };
        let took = Span::new(std::time::Duration::from_millis(done.ms)).for_people();
        let mut parts = vec![format!("{} in {took}", Size::new(done.bytes).for_people())];
        parts.extend(Rate::new(done.bps).map(Rate::for_people));
        parts.extend(done.from.shares());
        Some(parts.join(", "))
    }

    /// The JSON object, on one line.
    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Reason {
    pub(super) fn new(failure: &Failure) -> Self {
        Self {
            code: failure.code.name(),
            http: failure.http_status,
            message: failure.to_string(),
            hint: failure.hint.clone(),
            retryable: failure.code.is_retryable(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Stop;

    #[test]
    fn the_object_of_a_success_has_every_field_in_its_place() {
        let tally = Tally {
            peer_bytes: 1_808_765_432,
            origin_bytes: 178_888_889,
            total_pieces: 474,
            reused_pieces: 12,
            retried_pieces: 1,
            parents: vec![ParentTally { address: "10.0.0.9:65002".into(), pieces: 431, bytes: 1, is_seed: false }],
            ..Tally::default()
        };
        let mut done = Done::new("https://h/f", "/tmp/f".into(), "9f".into(), 1_987_654_321, 4810, tally);
        (done.digest, done.resumed, done.link) = (Some("sha256:0".into()), true, Some(Delivered::Hard));
        let expected = r#"{"v":1,"ok":true,"url":"https://h/f","output":"/tmp/f","task":"9f","bytes":1987654321,"ms":4810,"bps":413233746,"from":{"local":0,"peers":1808765432,"seed":0,"origin":178888889},"pieces":{"total":474,"reused":12,"retried":1},"parents":[{"address":"10.0.0.9:65002","seed":false,"pieces":431,"bytes":1}],"digest":"sha256:0","resumed":true,"link":"hard","exit":0,"error":null}"#;
        let outcome = Outcome::Done(done);
        assert_eq!(outcome.json(), expected);
        assert_eq!(outcome.summary().as_deref(), Some("1.9 GiB in 4.8s, 394 MiB/s, p2p 91% origin 9%"));
    }

    #[test]
    fn the_object_of_a_failure_says_what_and_whether_to_try_again() {
        let failure = Failure::new(Code::OriginStatus, "origin answered 404 Not Found").hint("check").http_status(404);
        let outcome = Outcome::failed("https://h/f", &failure.into());
        let expected = r#"{"v":1,"ok":false,"url":"https://h/f","exit":8,"error":{"code":"ORIGIN_STATUS","http":404,"message":"origin answered 404 Not Found","hint":"check","retryable":false}}"#;
        assert_eq!((outcome.json().as_str(), outcome.exit(), outcome.summary()), (expected, 8, None));
        let outcome = Outcome::failed("u", &Ending::Stopped(Stop::Terminated));
        let expected = r#"{"v":1,"ok":false,"url":"u","exit":143,"error":{"code":"CANCELLED","http":null,"message":"terminated","hint":null,"retryable":false}}"#;
        assert_eq!(outcome.json(), expected);
    }

    #[test]
    fn shares_are_of_what_was_transferred() {
        let shares = |local, peers, seed, origin| From { local, peers, seed, origin }.shares();
        assert_eq!(shares(5, 0, 0, 0).as_deref(), Some("local"));
        assert_eq!(shares(0, 0, 0, 0), None);
        assert_eq!(shares(9, 1, 1, 1).as_deref(), Some("p2p 67% origin 33%"));
        assert_eq!(shares(0, u64::MAX, u64::MAX, 0).as_deref(), Some("p2p 100% origin 0%"));
    }

    #[test]
    fn the_explanation_names_the_busiest_first() {
        let parent = |address: &str, bytes, is_seed| ParentTally { address: address.into(), pieces: 2, bytes, is_seed };
        let parents = vec![parent("10.0.0.1:65002", 1 << 20, false), parent("10.0.0.2:65002", 2 << 20, true)];
        let tally = Tally { origin_bytes: 1 << 20, parents, ..Tally::default() };
        let done = Done::new("u", "f".into(), String::new(), 4 << 20, 1, tally);
        let expected = [
            "   2.0 MiB   50%  seed 10.0.0.2:65002, 2 pieces",
            "   1.0 MiB   25%  peer 10.0.0.1:65002, 2 pieces",
            "   1.0 MiB   25%  the source",
        ];
        assert_eq!(done.explain(), expected);
    }
}
