//! How a command of dfcache ended, as a JSON object and for people.

use df_api::dfdaemon::{ListEntry, Tally};
use df_api::failure::{Code, Failure};
use serde::Serialize;

use super::super::Ending;
use super::super::delivery::Delivered;
use super::super::report::{From, Reason};
use crate::console::one_line;
use crate::units::{Rate, Size, Span};

/// The version of the JSON object; it changes when a reader of the old one would break.
const VERSION: u32 = 1;

/// The JSON object of any command; what does not apply is left out.
#[derive(Clone, Default, Debug, Serialize)]
pub(crate) struct Answer {
    pub(crate) v: u32,
    pub(crate) ok: bool,
    pub(crate) command: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) cid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) tag: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) task: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pieces: Option<u32>,
    pub(crate) ms: u64,
    /// Whether an import found the same bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) existed: Option<bool>,
    /// Whether the scheduler has confirmed an import: "confirmed", "pending", or "nowhere" without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) announced: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) local: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peers: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) output: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<From>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) link: Option<Delivered>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) contents: Option<Vec<Content>>,
    pub(crate) exit: u8,
    pub(crate) error: Option<Reason>,
}

/// One content of a list.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Content {
    cid: String,
    tag: String,
    application: String,
    task: String,
    bytes: Option<u64>,
    stored: u64,
    complete: bool,
    pinned: bool,
    /// Seconds of wall time.
    created: u64,
    used: u64,
    expires: Option<u64>,
}

impl std::convert::From<ListEntry> for Content {
    fn from(entry: ListEntry) -> Self {
        Self {
            cid: entry.cid,
            tag: entry.tag,
            application: entry.application,
            task: entry.task_id,
            bytes: entry.content_length,
            stored: entry.stored_length,
            complete: entry.is_complete,
            pinned: entry.is_pinned,
            created: entry.created,
            used: entry.used,
            expires: Some(entry.expires).filter(|expires| *expires > 0),
        }
    }
}

impl Answer {
    /// A command that has done what it was to do.
    pub(crate) fn new(command: &'static str, cid: &str, tag: &str) -> Self {
        Self { v: VERSION, ok: true, command, cid: cid.to_owned(), tag: tag.to_owned(), ..Self::default() }
    }

    /// It ended early.
    pub(crate) fn failed(mut self, ending: &Ending) -> Self {
        let (exit, failure) = match ending {
            Ending::Failed(failure) => (failure.code.exit(), failure.clone()),
            Ending::Stopped(stop) => (stop.exit(), Failure::new(Code::Cancelled, stop.word())),
        };
        (self.ok, self.exit, self.error) = (false, exit, Some(Reason::new(&failure)));
        self
    }

    /// It has done its work, but whoever asked must know more.
    pub(crate) fn with_exit(mut self, code: Code) -> Self {
        self.exit = code.exit();
        self
    }

    pub(crate) fn with_tally(mut self, tally: &Tally) -> Self {
        self.from = Some(From::new(tally));
        self
    }

    /// The exit code.
    pub(crate) const fn exit(&self) -> u8 {
        self.exit
    }

    /// The JSON object, on one line.
    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// `1.0 GiB in 1.2s, 850 MiB/s, announced`, for a transfer.
    pub(crate) fn summary(&self) -> String {
        let bytes = self.bytes.unwrap_or(0);
        let took = Span::new(std::time::Duration::from_millis(self.ms)).for_people();
        let mut parts = vec![format!("{} in {took}", Size::new(bytes).for_people())];
        let bps = u64::try_from(u128::from(bytes) * 1000 / u128::from(self.ms.max(1))).unwrap_or(u64::MAX);
        parts.extend(Rate::new(bps).map(Rate::for_people));
        parts.extend(self.from.and_then(|from| from.shares()));
        if self.existed == Some(true) {
            parts.push("it was here already".to_owned());
        }
        if self.announced == Some("confirmed") {
            parts.push("announced".to_owned());
        }
        parts.join(", ")
    }

    /// What stdout gets without `--json`.
    pub(crate) fn text(&self) -> String {
        if let Some(contents) = &self.contents {
            return contents.iter().map(Content::line).collect();
        }
        if self.command != "stat" || !self.ok {
            return String::new();
        }
        let place = match (self.local, self.peers) {
            (Some(true), _) => "here".to_owned(),
            (_, Some(1)) => "on another host".to_owned(),
            (_, peers) => format!("on {} other hosts", peers.unwrap_or(0)),
        };
        let size = Size::new(self.bytes.unwrap_or(0)).for_people();
        format!("{}  {size}  {} pieces  {place}\n", one_line(&self.cid), self.pieces.unwrap_or(0))
    }
}

impl Content {
    fn line(&self) -> String {
        let size = self.bytes.map_or_else(|| "?".to_owned(), |bytes| Size::new(bytes).for_people());
        let state = match (self.complete, self.pinned) {
            (true, true) => "pinned",
            (true, false) => "copy",
            (false, _) => "partial",
        };
        format!("{size:>10}  {state:<7}  {:<20}  {}\n", one_line(&self.tag), one_line(&self.cid))
    }
}
