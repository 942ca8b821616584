//! Who got what from whom, at what cost, and whether all is well: for people and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use super::fetch::Fetched;
use super::origin::Sent;

/// The origin may send this much, in file sizes.
const ORIGIN_LIMIT: f64 = 1.05;

const MIB: f64 = (1 << 20) as f64;
const GIB: f64 = (1 << 30) as f64;

/// All that came of a demonstration.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Length of the file in bytes.
    pub(super) file_bytes: u64,
    /// From the start of the first dfget to the end of the last.
    pub(super) wall_ms: u64,
    pub(super) origin: Sent,
    /// CPU time of all processes together, where the system tells.
    pub(super) cpu_ms: Option<u64>,
    pub(super) peers: Vec<Peer>,
}

/// One peer's copy.
#[derive(Debug, Serialize)]
pub(super) struct Peer {
    pub(super) name: String,
    pub(super) fetched: Fetched,
    /// Where the copy first differs from the file, in bytes; `None` if it is equal.
    pub(super) differs_at: Option<u64>,
}

/// The JSON object.
#[derive(Serialize)]
struct Object<'a> {
    v: u32,
    ok: bool,
    problems: Vec<String>,
    origin_ratio: Option<f64>,
    cpu_secs_per_gib: Option<f64>,
    #[serde(flatten)]
    report: &'a Report,
}

impl Report {
    /// All that is not as it must be.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for Peer { name, fetched, differs_at } in &self.peers {
            match (&fetched.error, fetched.ok, differs_at) {
                (Some(error), ..) => problems.push(format!("{name}: {} (exit {})", error.message, fetched.exit)),
                (None, false, _) => problems.push(format!("{name}: exit {}", fetched.exit)),
                (None, true, Some(at)) => problems.push(format!("{name}: its copy differs at byte {at}")),
                (None, true, None) => {}
            }
        }
        if self.origin.bytes as f64 > self.file_bytes as f64 * ORIGIN_LIMIT {
            let (sent, limit) = (self.origin.bytes, ORIGIN_LIMIT);
            problems.push(format!("the origin sent {sent} bytes, over {limit} times the file's {}", self.file_bytes));
        }
        problems
    }

    /// What the origin sent, in file sizes; `None` for an empty file.
    fn origin_ratio(&self) -> Option<f64> {
        (self.file_bytes > 0).then(|| self.origin.bytes as f64 / self.file_bytes as f64)
    }

    fn delivered_bytes(&self) -> u64 {
        self.file_bytes * self.peers.iter().filter(|peer| peer.fetched.ok).count() as u64
    }

    fn cpu_secs_per_gib(&self) -> Option<f64> {
        let delivered = self.delivered_bytes();
        let cpu_ms = self.cpu_ms.filter(|_| delivered > 0)?;
        Some(cpu_ms as f64 / 1000.0 / (delivered as f64 / GIB))
    }

    /// One JSON object.
    pub(super) fn json(&self) -> String {
        let problems = self.problems();
        let object = Object {
            v: 1,
            ok: problems.is_empty(),
            problems,
            origin_ratio: self.origin_ratio(),
            cpu_secs_per_gib: self.cpu_secs_per_gib(),
            report: self,
        };
        serde_json::to_string(&object).unwrap_or_default()
    }

    /// Tables and sums. `names` has the name of whoever serves pieces at an address.
    pub(super) fn text(&self, names: &BTreeMap<String, String>) -> String {
        let unit = Unit::fit(self.file_bytes);
        let mut text = format!("Who got how much, in {}:\n\n{}", unit.name, self.shares(&unit));
        write!(text, "\nFrom whom, in {}:\n\n{}\n", unit.name, self.senders(&unit, names)).ok();
        text + &self.sums()
    }

    /// A line each: bytes by kind of sender, pieces, time.
    fn shares(&self, unit: &Unit) -> Table {
        let heads = ["", "source", "seed", "peers", "local", "pieces", "again", "time", "rate"];
        let mut table = Table::new(heads.map(str::to_owned).to_vec());
        let by_peers: u64 = self.peers.iter().map(|peer| peer.fetched.from.origin).sum();
        // What no peer has asked for was for the seed peer, which nobody asks what it did.
        table.line(["seed".to_owned(), unit.show(self.origin.bytes.saturating_sub(by_peers))]);
        for Peer { name, fetched, .. } in &self.peers {
            let from = [fetched.from.origin, fetched.from.seed, fetched.from.peers, fetched.from.local];
            let mut cells = vec![name.clone()];
            cells.extend(from.map(|bytes| unit.show(bytes)));
            cells.extend([fetched.pieces.total, fetched.pieces.retried].map(|count| count.to_string()));
            cells.push(format!("{:.2} s", fetched.ms as f64 / 1000.0));
            cells.push(format!("{}/s", megabytes(fetched.bps)));
            table.line(cells);
        }
        table
    }

    /// A line for each receiver, a column for each sender.
    fn senders(&self, unit: &Unit, names: &BTreeMap<String, String>) -> Table {
        let mut senders: Vec<&String> = names.values().collect();
        // The seed before its peers, and these as they were counted.
        senders.sort_by_key(|name| (name.len(), name.as_str()));
        let mut table = Table::new([&"to \\ from".to_owned()].into_iter().chain(senders.clone()).cloned().collect());
        let mut sums = vec![0; senders.len()];
        for Peer { name, fetched, .. } in &self.peers {
            let mut cells = vec![name.clone()];
            for (sender, sum) in senders.iter().zip(&mut sums) {
                let is_sender = |address: &str| names.get(address) == Some(sender);
                let bytes = fetched.parents.iter().filter(|p| is_sender(&p.address)).map(|p| p.bytes).sum();
                *sum += bytes;
                cells.push(if bytes > 0 { unit.show(bytes) } else { "·".to_owned() });
            }
            table.line(cells);
        }
        table.line(["all".to_owned()].into_iter().chain(sums.into_iter().map(|sum| unit.show(sum))));
        table
    }

    fn sums(&self) -> String {
        let Sent { connections, requests, bytes } = self.origin;
        let ratio = self.origin_ratio().map(|ratio| format!(", {ratio:.2} x the file")).unwrap_or_default();
        let wall = Duration::from_millis(self.wall_ms).as_secs_f64();
        let delivered = self.delivered_bytes();
        let mut text = format!("origin  {bytes} bytes{ratio}; requests: {requests}, connections: {connections}\n");
        let rate = megabytes((delivered as f64 / wall.max(0.001)) as u64);
        writeln!(text, "time    {wall:.2} s for {} delivered, {rate}/s", megabytes(delivered)).ok();
        if let (Some(cpu_ms), Some(per_gib)) = (self.cpu_ms, self.cpu_secs_per_gib()) {
            let secs = cpu_ms as f64 / 1000.0;
            writeln!(text, "CPU     {secs:.2} s in all processes, {per_gib:.1} s for each GiB delivered").ok();
        }
        text
    }
}

/// Bytes as MiB, for people.
pub(super) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / MIB)
}

/// The unit of a table.
struct Unit {
    name: &'static str,
    bytes: f64,
}

impl Unit {
    /// One in which a file of this length has a readable size.
    fn fit(len: u64) -> Self {
        match len {
            0..0x4000 => Self { name: "bytes", bytes: 1.0 },
            0x4000..0x40_0000 => Self { name: "KiB", bytes: 1024.0 },
            _ => Self { name: "MiB", bytes: MIB },
        }
    }

    fn show(&self, bytes: u64) -> String {
        let decimals = usize::from(self.bytes > 1.0);
        format!("{:.decimals$}", bytes as f64 / self.bytes)
    }
}

/// Columns as wide as they have to be; the first to the left, the others to the right.
struct Table(Vec<Vec<String>>);

impl Table {
    fn new(heads: Vec<String>) -> Self {
        Self(vec![heads])
    }

    fn line(&mut self, cells: impl IntoIterator<Item = String>) {
        self.0.push(cells.into_iter().collect());
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let width = |column: usize| {
            self.0.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        for line in &self.0 {
            let mut text = String::from(" ");
            for (column, cell) in line.iter().enumerate() {
                let width = width(column);
                match column {
                    0 => write!(text, " {cell:<width$}")?,
                    _ => write!(text, "  {cell:>width$}")?,
                }
            }
            writeln!(f, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::fetch::{Fetched, From, Parent, Pieces, Reason};
    use super::{Peer, Report, Sent};

    fn peer(name: &str, from: From, parents: &[(&str, u64)]) -> Peer {
        let parent = |&(address, bytes): &(&str, u64)| Parent { address: address.into(), bytes, ..Parent::default() };
        let fetched = Fetched {
            ok: true,
            ms: 1250,
            bps: 8 << 20,
            from,
            pieces: Pieces { total: 3, reused: 0, retried: 1 },
            parents: parents.iter().map(parent).collect(),
            ..Fetched::default()
        };
        Peer { name: name.to_owned(), fetched, differs_at: None }
    }

    fn report() -> Report {
        let peers = vec![
            peer(
                "peer-1",
                From { seed: 6 << 20, peers: 4 << 20, ..From::default() },
                &[("s:1", 6 << 20), ("p:2", 4 << 20)],
            ),
            peer("peer-2", From { seed: 10 << 20, ..From::default() }, &[("s:1", 10 << 20)]),
        ];
        let origin = Sent { connections: 2, requests: 4, bytes: 10 << 20 };
        Report { file_bytes: 10 << 20, wall_ms: 2000, origin, cpu_ms: Some(100), peers }
    }

    #[test]
    fn the_tables_say_who_got_what_from_whom() {
        let names = [("s:1", "seed"), ("p:1", "peer-1"), ("p:2", "peer-2")];
        let names: BTreeMap<String, String> = names.map(|(at, name)| (at.to_owned(), name.to_owned())).into();
        let expected = "\
Who got how much, in MiB:

          source  seed  peers  local  pieces  again    time       rate
  seed      10.0
  peer-1     0.0   6.0    4.0    0.0       3      1  1.25 s  8.0 MiB/s
  peer-2     0.0  10.0    0.0    0.0       3      1  1.25 s  8.0 MiB/s

From whom, in MiB:

  to \\ from  seed  peer-1  peer-2
  peer-1      6.0       ·     4.0
  peer-2     10.0       ·       ·
  all        16.0     0.0     4.0

origin  10485760 bytes, 1.00 x the file; requests: 4, connections: 2
time    2.00 s for 20.0 MiB delivered, 10.0 MiB/s
CPU     0.10 s in all processes, 5.1 s for each GiB delivered
";
        assert_eq!(report().text(&names), expected);
        assert!(report().problems().is_empty());
    }

    #[test]
    fn whatever_is_wrong_is_named() {
        let mut bad = report();
        bad.origin.bytes = 11 << 20;
        bad.peers[0].differs_at = Some(7);
        let reason = Reason { code: "NETWORK".to_owned(), message: "gone".to_owned() };
        bad.peers[1].fetched = Fetched { exit: 4, error: Some(reason), ..Fetched::default() };
        let problems = [
            "peer-1: its copy differs at byte 7",
            "peer-2: gone (exit 4)",
            "the origin sent 11534336 bytes, over 1.05 times the file's 10485760",
        ];
        assert_eq!(bad.problems(), problems);
        let object: serde_json::Value = serde_json::from_str(&bad.json()).unwrap();
        assert_eq!((&object["ok"], &object["problems"][1]), (&false.into(), &problems[1].into()));
        let object: serde_json::Value = serde_json::from_str(&report().json()).unwrap();
        assert_eq!((&object["ok"], &object["origin_ratio"]), (&true.into(), &1.0.into()));
        assert_eq!(object["peers"][0]["fetched"]["parents"][1]["bytes"], 4 << 20);
    }

    #[test]
    fn an_empty_file_has_no_ratio() {
        let empty = Report { file_bytes: 0, origin: Sent::default(), peers: Vec::new(), ..report() };
        assert!(empty.problems().is_empty() && empty.origin_ratio().is_none() && empty.cpu_secs_per_gib().is_none());
    }
}
