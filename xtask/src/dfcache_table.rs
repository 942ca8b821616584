//! `cargo xtask dfcache-table`: every form of dfcache on real daemons, and how long they take.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};

use crate::{Task, repo};
use node::{Cluster, Ran};

mod link;
mod node;

/// Where the result is written, relative to the root.
const PAGE: &str = "docs/dfcache.md";

/// How often a short command is measured.
const REPEATS: usize = 20;

/// How often a content of each length is looked for; the median counts.
const STATS: usize = 9;

/// Lengths of the contents in the table, in bytes.
const LENGTHS: [u64; 7] = [1 << 10, 64 << 10, 1 << 20, 16 << 20, 256 << 20, 1 << 30, 4 << 30];

/// Show every form of dfcache, and measure it
///
/// Builds the programs, then starts three schedulers and two daemons on the loopback address. Every form
/// of every command is run and written down with what it printed. Then contents from 1 KiB up are
/// imported, asked for, exported and deleted, each beside `cp` and `sha256sum` of the same file on the
/// same disk in the same run; and many small ones are imported, and the daemon is started anew on them.
///
/// With --link, which needs root, contents are exported over a link of that rate besides: the nodes run in
/// network namespaces, joined by a virtual cable that `tc` shapes.
///
/// Writes docs/dfcache.md. Fails if a command does not end as it should.
#[derive(Parser)]
#[command(name = "dfcache-table")]
pub(crate) struct DfcacheTable {
    /// Length of the largest content
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    largest: u64,
    /// Small contents for the test of many
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    many: usize,
    /// Measure what is built without optimisation for speed
    #[arg(long)]
    dev: bool,
    /// Rate of a link over which contents are exported, in Mbit/s; needs root
    #[arg(long, value_name = "MBIT")]
    link: Option<u64>,
    /// Measure this part alone and print it
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Take the programs in this folder instead of building them in release
    #[arg(long, value_name = "DIR", conflicts_with = "dev")]
    programs: Option<PathBuf>,
    /// Work in a folder in this one [default: the system's for temporary files]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Parts of the page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Part {
    Forms,
    Sizes,
    Many,
    Link,
}

impl Task for DfcacheTable {
    fn run(self) -> Result<()> {
        let programs = self.programs.clone().map_or_else(|| build(self.dev), Ok)?;
        let mut folder = tempfile::Builder::new();
        folder.prefix("df-cache-");
        let folder = match &self.dir {
            Some(dir) => folder.tempdir_in(dir),
            None => folder.tempdir(),
        };
        let folder = folder.context("no temporary folder")?;
        let mut page = String::from(HEAD);
        let profile = if self.dev { "dev (opt-level 1)" } else { "release" };
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        writeln!(page, "Measured with the `{profile}` profile on {cores} cores; all processes share them.\n")?;
        let load = || fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let begun = load();

        let wants = |part: Part| self.only.is_none_or(|only| only == part);
        if self.only != Some(Part::Link) {
            let mut cluster = Cluster::start(&programs, folder.path(), 3, 2)?;
            if wants(Part::Forms) {
                eprintln!("the forms");
                transcript(&cluster, &mut page)?;
            }
            if wants(Part::Sizes) {
                eprintln!("the sizes");
                sizes(&cluster, self.largest << 20, &mut page)?;
            }
            if wants(Part::Many) {
                eprintln!("{} contents", self.many);
                many(&mut cluster, self.many, &mut page)?;
            }
        }
        if let Some(rate_mbit) = self.link.filter(|_| wants(Part::Link)) {
            eprintln!("over a link of {rate_mbit} Mbit/s");
            let folder = folder.path().join("link");
            fs::create_dir(&folder)?;
            link::measure(&programs, &folder, rate_mbit, self.largest << 20, &mut page)?;
        }
        let first = |load: &str| load.split(' ').next().unwrap_or("?").to_owned();
        writeln!(
            page,
            "## How busy the machine was\n\nLoad average before: {}, after: {}. This command alone keeps about one core \
             busy; with more than two the times above are those of a machine that had something else to do.\n",
            first(&begun),
            first(&load()),
        )?;
        if self.only.is_some() {
            print!("{page}");
            return Ok(());
        }
        let path = repo::root()?.join(PAGE);
        fs::write(&path, page.trim_end().to_owned() + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
        println!("wrote {PAGE}");
        Ok(())
    }
}

const HEAD: &str = "\
# dfcache, shown and measured

Written by `cargo xtask dfcache-table`; not for editing. Three schedulers and two daemons run on the
loopback address of one machine, each a process of its own with its own data directory.

";

#[expect(clippy::disallowed_methods, reason = "what is measured here is no part of any simulation")]
fn now() -> Instant {
    Instant::now()
}

fn build(is_dev: bool) -> Result<PathBuf> {
    let mut cargo = repo::cargo()?;
    cargo.args(["build", "--package", "df-daemons", "--bins"]);
    if !is_dev {
        cargo.arg("--release");
    }
    ensure!(cargo.status().context("cargo does not start")?.success(), "the programs do not build");
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| repo::root().map(|root| root.join("target")), |dir| Ok(dir.into()))?;
    Ok(target.join(if is_dev { "debug" } else { "release" }))
}

/// Every form, with what it printed.
fn transcript(cluster: &Cluster, page: &mut String) -> Result<()> {
    let file = cluster.file("testfile", 10_000_000)?;
    let sum = sha256sum(&file)?;
    let by_digest = format!("import --cid sha256:{sum} --tag testtag testfile");
    let lines: [(usize, &str, i32); 27] = [
        (1, &by_digest, 0),
        (1, "import --cid sha256:xxxxxx --tag testtag testfile", 0),
        (1, "import -i testid testfile", 0),
        (1, "import -i testid -I testfile --json", 0),
        (1, "stat --cid testid --local", 0),
        (2, "stat --cid testid --local", 10),
        (2, "stat -i testid", 0),
        (2, "stat -i testid --json", 0),
        (2, "export --cid testid -O out", 0),
        (2, "export -i testid testfile.export", 0),
        (2, "export -i testid testfile.export", 13),
        (2, "export -i testid -O - | sha256sum", 0),
        (2, "export -i testid --local again --json", 0),
        (1, "import -i labelled testfile --application trainer -q", 0),
        (1, "stat -i labelled -q --json", 0),
        (1, "list", 0),
        (2, "list --json", 0),
        (2, "import -i testid smaller", 13),
        (1, "import -i sha256:0000000000000000000000000000000000000000000000000000000000000000 testfile", 32),
        (1, "import -i dir .", 3),
        (1, "import -i piped - < testfile", 0),
        (1, "import -i kept testfile --replicas 2 --ttl 1h", 0),
        (1, "delete -i testid -t testtag", 10),
        (1, "delete -i sha256:xxxxxx -t testtag", 0),
        (1, "delete -i testid", 0),
        (2, "stat -i testid", 10),
        (2, "delete -i testid --if-exists", 0),
    ];
    cluster.file("smaller", 1000)?;
    page.push_str("## Every form\n\n```console\n");
    for (node, line, exit) in lines {
        let ran = cluster.shell(node, line)?;
        ensure!(ran.exit == Some(exit), "`dfcache {line}` on node {node} ended with {:?}:\n{}", ran.exit, ran.text);
        writeln!(page, "node{node}$ dfcache {line}")?;
        page.push_str(&ran.text);
        if exit != 0 {
            writeln!(page, "[exit {exit}]")?;
        }
    }
    page.push_str("```\n\n");
    ensure!(fs::read(cluster.path("out"))? == fs::read(&file)?, "the export differs from the file");
    Ok(())
}

fn sha256sum(file: &Path) -> Result<String> {
    let output = std::process::Command::new("sha256sum").arg(file).output().context("sha256sum does not start")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.split(' ').next().unwrap_or_default().to_owned())
}

fn ms(took: Duration) -> String {
    let ms = took.as_secs_f64() * 1e3;
    if ms < 10.0 { format!("{ms:.1}") } else { format!("{ms:.0}") }
}

fn human(len: u64) -> String {
    match len {
        0..0x10_0000 => format!("{} KiB", len >> 10),
        0x10_0000..0x4000_0000 => format!("{} MiB", len >> 20),
        _ => format!("{} GiB", len >> 30),
    }
}

fn sizes(cluster: &Cluster, largest: u64, page: &mut String) -> Result<()> {
    let head = format!(
        "## Sizes\n\nWall time of the whole command in milliseconds. `cp + hash` is `cp` and then `sha256sum` of the \
         same file; its ratio is that of the rates, import over `cp + hash`. The import is under a `sha256:` id, so \
         that it hashes the content twice: by pieces with BLAKE3 and whole with SHA-256. `export` is on the other \
         node, through the swarm; `export here` on the node that has it; `stat` on the other node, the median of {STATS}.\n\n\
         | length | cp + hash | import | ratio | stat | export | MiB/s | export here | delete |\n\
         | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    page.push_str(&head);
    for len in LENGTHS.into_iter().filter(|len| *len <= largest) {
        let file = cluster.file("content", len)?;
        let since = now();
        fs::copy(&file, cluster.path("content.cp")).context("cp")?;
        let sum = sha256sum(&cluster.path("content.cp"))?;
        let reference = since.elapsed();
        fs::remove_file(cluster.path("content.cp"))?;
        let import = good(cluster.run(1, &format!("import -q -i sha256:{sum} content"))?)?;
        let stats = (0..STATS).map(|_| cluster.run(2, &format!("stat -i sha256:{sum}")).and_then(good));
        let mut stats = stats.collect::<Result<Vec<_>>>()?;
        stats.sort_unstable();
        let stat = stats[STATS / 2];
        let export = good(cluster.run(2, &format!("export -q -i sha256:{sum} there"))?)?;
        let here = good(cluster.run(1, &format!("export -q -i sha256:{sum} here"))?)?;
        let delete = good(cluster.run(1, &format!("delete -i sha256:{sum}"))?)?;
        ensure!(sha256sum(&cluster.path("there"))? == sum, "an export of {len} bytes differs");
        ["there", "here"].into_iter().try_for_each(|name| fs::remove_file(cluster.path(name)))?;
        let rate = len as f64 / f64::from(1 << 20) / export.as_secs_f64();
        let ratio = reference.as_secs_f64() / import.as_secs_f64();
        let (length, [a, b, c, d, e, f]) = (human(len), [reference, import, stat, export, here, delete].map(ms));
        writeln!(page, "| {length} | {a} | {b} | {ratio:.2} | {c} | {d} | {rate:.0} | {e} | {f} |")?;
        eprintln!("  {length}: import {b} ms ({ratio:.2} of cp + hash), export {d} ms, here {e} ms");
    }
    page.push('\n');
    Ok(())
}

fn good(ran: Ran) -> Result<Duration> {
    ensure!(ran.exit == Some(0), "a command ended with {:?}:\n{}", ran.exit, ran.text);
    Ok(ran.took)
}

fn many(cluster: &mut Cluster, count: usize, page: &mut String) -> Result<()> {
    let since = now();
    for number in 0..count {
        fs::write(cluster.path("small"), format!("content {number}"))?;
        good(cluster.run(1, &format!("import -q -i many-{number} small"))?)?;
    }
    let imported = since.elapsed();
    let mut stats = measure(cluster, count, 1000.min(count))?;
    let before = summary(&mut stats);
    let since = now();
    cluster.restart(1)?;
    good(cluster.run(1, &format!("stat -i many-{} --local", count.saturating_sub(1)))?)?;
    let restart = since.elapsed();
    let since = now();
    while measure(cluster, count, REPEATS).is_err() {
        ensure!(since.elapsed() < Duration::from_secs(120), "the contents are not announced again");
    }
    let announced = since.elapsed();
    let mut stats = measure(cluster, count, REPEATS)?;
    let after = summary(&mut stats);
    writeln!(
        page,
        "## Many contents\n\n\
         | what | took |\n| --- | ---: |\n\
         | {count} imports of a few bytes, one after the other | {} ms each |\n\
         | `dfcache stat` on the other node, median and 99th percentile | {before} ms |\n\
         | restart of the daemon (SIGKILL), until it has answered a local `dfcache stat` | {} ms |\n\
         | after that, until the other node finds all of a sample again | {} ms |\n\
         | `dfcache stat` after that | {after} ms |\n",
        ms(imported / u32::try_from(count.max(1)).unwrap_or(1)),
        ms(restart),
        ms(announced),
    )?;
    Ok(())
}

fn measure(cluster: &Cluster, count: usize, times: usize) -> Result<Vec<Duration>> {
    let ask = |n: usize| cluster.run(2, &format!("stat -i many-{}", n * 7919 % count)).and_then(good);
    (0..times).map(ask).collect()
}

fn summary(stats: &mut [Duration]) -> String {
    stats.sort_unstable();
    let at = |percent: usize| {
        stats.get((stats.len() * percent / 100).min(stats.len().saturating_sub(1))).copied().unwrap_or_default()
    };
    format!("{}, {}", ms(at(50)), ms(at(99)))
}
