//! An export over a link of a known rate: two network namespaces, joined by a virtual cable that is shaped
//! in both directions. Needs root.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::node::{Cluster, Place};
use super::{good, human, ms, sha256sum};

/// How often each length is measured.
const RUNS: usize = 3;

/// Room of the shaper for one packet that the kernel has not cut yet, in bytes, at the least.
const BURST_FLOOR: u64 = 64 << 10;

/// Two namespaces; gone when dropped.
struct Link {
    names: [String; 2],
}

fn tool(program: &str, arguments: &str) -> Result<()> {
    let output = Command::new(program).args(arguments.split(' ')).output();
    let output = output.with_context(|| format!("{program} does not start"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments}: {}", said.trim());
    Ok(())
}

impl Link {
    fn up(rate_mbit: u64) -> Result<Self> {
        let name = |side: &str| format!("df{}{side}", std::process::id());
        let link = Self { names: [name("a"), name("b")] };
        for name in &link.names {
            tool("ip", &format!("netns add {name}")).context("namespaces need root")?;
            tool("ip", &format!("-n {name} link set lo up"))?;
        }
        let [one, two] = &link.names;
        tool("ip", &format!("-n {one} link add cable type veth peer name cable netns {two}"))?;
        // As much as passes in 4 ms at once, and 50 ms of it may wait.
        let bytes_per_sec = rate_mbit * 1_000_000 / 8;
        let (burst, limit) = ((bytes_per_sec / 250).max(BURST_FLOOR), (bytes_per_sec / 20).max(3 * BURST_FLOOR));
        for (number, name) in (1..).zip(&link.names) {
            tool("ip", &format!("-n {name} addr add 10.77.0.{number}/24 dev cable"))?;
            tool("ip", &format!("-n {name} link set cable up"))?;
            let shape = format!("qdisc add dev cable root tbf rate {rate_mbit}mbit burst {burst} limit {limit}");
            tool("tc", &format!("-n {name} {shape}"))?;
        }
        Ok(link)
    }

    fn places(&self) -> Vec<Place> {
        let place = |(number, name): (u32, &String)| Place::within(name, &format!("10.77.0.{number}"));
        (1..).zip(&self.names).map(place).collect()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for name in &self.names {
            // Nothing is left to be done about one that does not go.
            let _ = tool("ip", &format!("netns del {name}"));
        }
    }
}

/// Exports contents up to `largest` bytes from one side to the other.
pub(super) fn measure(programs: &Path, folder: &Path, rate_mbit: u64, largest: u64, page: &mut String) -> Result<()> {
    let link = Link::up(rate_mbit)?;
    let places = link.places();
    let cluster = Cluster::start_at(programs, folder, &places[..1], &places)?;
    let shown = rate_mbit as f64 / 1000.0;
    write!(
        page,
        "## Over a link\n\nThe two nodes in network namespaces, joined by a virtual cable shaped to {shown} Gbit/s in \
         both directions (`tbf`; what it counts are Ethernet frames, of which at most 95.6 % is content). Wall time of \
         `dfcache export` on the node that does not have the content, {RUNS} runs each, and the fastest and the median \
         over length / rate. `name` is an id that says nothing of the content; under a `sha256:` id the whole is \
         verified besides.\n\n\
         | length | length / rate | id | export, ms | fastest | median |\n| ---: | ---: | --- | --- | ---: | ---: |\n"
    )?;
    for len in [64 << 20, 256 << 20, 1 << 30].into_iter().filter(|len| *len <= largest) {
        let file = cluster.file("content", len)?;
        let sum = sha256sum(&file)?;
        let bound = len as f64 * 8e3 / (rate_mbit as f64 * 1e6);
        for (kind, cid) in [("name", "named".to_owned()), ("`sha256:`", format!("sha256:{sum}"))] {
            let mut took = Vec::new();
            for run in 0..RUNS {
                good(cluster.run(1, &format!("import -q -i {cid} -t {run} content"))?)?;
                took.push(good(cluster.run(2, &format!("export -q -i {cid} -t {run} there"))?)?);
                ensure!(sha256sum(&cluster.path("there"))? == sum, "an export of {len} bytes differs");
                fs::remove_file(cluster.path("there"))?;
                good(cluster.run(1, &format!("delete -i {cid} -t {run}"))?)?;
            }
            let each: Vec<String> = took.iter().copied().map(ms).collect();
            took.sort_unstable();
            let ratio = |at: usize| took.get(at).map_or(0.0, |took| took.as_secs_f64() * 1e3 / bound);
            let (length, each) = (human(len), each.join(", "));
            let (fastest, median) = (ratio(0), ratio(RUNS / 2));
            writeln!(page, "| {length} | {bound:.0} ms | {kind} | {each} | {fastest:.2} | {median:.2} |")?;
            eprintln!("  {length} by {kind}: {each} ms; {fastest:.2}, {median:.2} of {bound:.0} ms");
        }
    }
    page.push('\n');
    Ok(())
}
