//! The commands, the flags and the settings of dfcache.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use serde::{Deserialize, Serialize};

use super::super::delivery::Link;
use super::super::progress::Show;
use crate::config::{CommandLine, ConfigFlags, Given, Settings, Surroundings};
use crate::console::Color;
use crate::digest::Digest;
use crate::units::{Rate, Size, Span};

/// What dfcache can be told once for all.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CacheSettings {
    /// The daemon's socket; without it, the usual ones are tried.
    pub(crate) endpoint: Option<PathBuf>,
    /// The longest that a command may take.
    pub(crate) timeout: Option<Span>,
    /// How progress is shown.
    pub(crate) progress: Show,
    /// Whether messages are in colour.
    pub(crate) color: Color,
}

impl Settings for CacheSettings {
    const FILE_NAME: &'static str = "dfcache.yaml";

    fn defaults(_: &Surroundings, _: &Given) -> Self {
        Self::default()
    }
}

/// Put data made on this node into the cache of the swarm, and get it on any other
///
/// A content has a name, its id, and maybe a tag. An id that is a digest, sha256: or blake3: and 64
/// hexadecimal digits, is checked against the bytes; any other is a mere name. The local dfdaemon does
/// the work: it keeps what is imported and tells the scheduler, from whom other nodes learn where it is.
#[derive(Parser, Clone, Debug)]
#[command(name = "dfcache", version, after_help = AFTER_HELP, arg_required_else_help = true)]
pub(crate) struct CacheCommand {
    /// What to do.
    #[command(subcommand)]
    pub(crate) what: Option<What>,
    /// What dfcache can be told once for all.
    #[command(flatten)]
    pub(crate) settings: CacheFlags,
    /// What to say about it.
    #[command(flatten)]
    pub(crate) report: Report,
    /// The flags on the configuration itself.
    #[command(flatten)]
    pub(crate) config: ConfigFlags,
}

const AFTER_HELP: &str = "\
Examples:
  dfcache import --cid sha256:9f86d0… --tag models /data/model.bin
  tar c results | dfcache import -i results-7 -
  dfcache stat -i results-7 && dfcache export -i results-7 -O - | tar x
  dfcache delete -i results-7

Exit codes: 0 done, 2 usage, 3 local file, 4 network, 7 protocol, 9 no space, 10 not in the cache,
11 no daemon, 12 no scheduler (an import is done, but not announced yet), 13 exists, 14 blocked,
15 busy, 28 timeout, 32 digest; 130 ^C, 141 output closed, 143 terminated; 1 a bug.";

impl CommandLine for CacheCommand {
    type Settings = CacheSettings;
    type Flags = CacheFlags;

    fn flags(&self) -> &CacheFlags {
        &self.settings
    }

    fn config(&self) -> &ConfigFlags {
        &self.config
    }
}

/// The commands.
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum What {
    /// Put a file, or what comes on stdin, into the cache
    Import(Import),
    /// Tell whether a content is in the cache: exit code 0 if so, 10 if not, 11 without a daemon
    Stat(Stat),
    /// Get a content from the cache; it appears under its name when it is whole
    Export(Export),
    /// Delete a content from the cache, on this node and all others
    #[command(alias = "rm")]
    Delete(Delete),
    /// List the cached contents that are on this node
    #[command(alias = "ls")]
    List(List),
}

/// The name of a content.
#[derive(Args, Clone, Default, Debug)]
pub(crate) struct Name {
    /// Id of the content: a name, or sha256:HEX or blake3:HEX
    #[arg(short = 'i', long, value_name = "CID")]
    pub(crate) cid: String,
    /// Tag that keeps contents of one id apart
    #[arg(short = 't', long, value_name = "TAG", default_value = "", hide_default_value = true)]
    pub(crate) tag: String,
}

/// How an import takes a file over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum TakeOver {
    /// Shared blocks where the file system can, else a copy
    Copy,
    /// A second name for the file itself: it must not be written to any more
    Hard,
}

/// `dfcache import`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Import {
    #[command(flatten)]
    pub(crate) name: Name,
    /// What to import; '-' reads stdin
    #[arg(value_name = "PATH", conflicts_with = "input")]
    pub(crate) path: Option<PathBuf>,
    /// The same as PATH
    #[arg(short = 'I', long, value_name = "PATH")]
    pub(crate) input: Option<PathBuf>,
    /// Drop it from this node after this long [default: keep it]
    #[arg(long, value_name = "TIME")]
    pub(crate) ttl: Option<Span>,
    /// Have so many nodes hold it, this one included
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) replicas: u32,
    /// Length of a piece, such as 4MiB [default: by the length of the content]
    #[arg(long, alias = "piece-length", value_name = "SIZE")]
    pub(crate) piece_size: Option<Size>,
    /// Application it belongs to
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub(crate) application: String,
    /// How the file is taken over
    #[arg(long, value_name = "HOW", value_enum, default_value_t = TakeOver::Copy)]
    pub(crate) link: TakeOver,
    /// Send the bytes over the socket rather than an open file
    #[arg(long)]
    pub(crate) stream: bool,
    /// Do not compare the bytes with an id that is a digest
    #[arg(long)]
    pub(crate) no_verify: bool,
}

/// `dfcache stat`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Stat {
    #[command(flatten)]
    pub(crate) name: Name,
    /// Look on this node alone
    #[arg(short, long)]
    pub(crate) local: bool,
}

/// `dfcache export`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Export {
    #[command(flatten)]
    pub(crate) name: Name,
    /// Where to write; '-' is stdout
    #[arg(value_name = "OUT", conflicts_with = "output")]
    pub(crate) out: Option<PathBuf>,
    /// The same as OUT
    #[arg(short = 'O', long, value_name = "OUT")]
    pub(crate) output: Option<PathBuf>,
    /// Only if it is on this node
    #[arg(short, long)]
    pub(crate) local: bool,
    /// Replace a file that exists
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Digest that the content must have besides
    #[arg(long, value_name = "ALG:HEX")]
    pub(crate) digest: Option<Digest>,
    /// Rate at which it is fetched, such as 20MiB/s
    #[arg(long, value_name = "RATE")]
    pub(crate) rate_limit: Option<Rate>,
    /// How the file comes from the daemon's store
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Link::Auto)]
    pub(crate) link: Link,
    /// Copy the bytes, whatever links there could be
    #[arg(long, conflicts_with = "link")]
    pub(crate) stream: bool,
}

/// `dfcache delete`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Delete {
    #[command(flatten)]
    pub(crate) name: Name,
    /// On this node alone
    #[arg(short, long)]
    pub(crate) local: bool,
    /// Succeed if there is nothing to delete
    #[arg(long)]
    pub(crate) if_exists: bool,
}

/// Orders of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Sort {
    /// The largest first
    Size,
    /// The youngest first
    Age,
    /// By id and tag
    Name,
}

/// `dfcache list`.
#[derive(Args, Clone, Debug)]
pub(crate) struct List {
    /// Those with this tag
    #[arg(short = 't', long, value_name = "TAG", default_value = "", hide_default_value = true)]
    pub(crate) tag: String,
    /// What is listed anyway: contents of this node
    #[arg(short, long, hide = true)]
    pub(crate) local: bool,
    /// Order
    #[arg(long, value_name = "BY", value_enum, default_value_t = Sort::Name)]
    pub(crate) sort: Sort,
}

/// The flags of dfcache that are settings.
#[derive(Args, Clone, Default, Debug, Serialize)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct CacheFlags {
    /// The daemon's socket [default: the system's, else the user's own]
    #[arg(id = "endpoint", short = 'e', long = "endpoint", alias = "daemon-sock", value_name = "PATH")]
    #[arg(env = "DFCACHE_ENDPOINT", global = true)]
    #[serde(rename = "endpoint", skip_serializing_if = "Option::is_none")]
    endpoint: Option<PathBuf>,
    /// Give up after this long [default: 2h for import and export, else 30s]
    #[arg(id = "timeout", long = "timeout", value_name = "TIME", env = "DFCACHE_TIMEOUT", global = true)]
    #[serde(rename = "timeout", skip_serializing_if = "Option::is_none")]
    timeout: Option<Span>,
    /// How progress is shown on stderr
    #[arg(id = "progress", long = "progress", value_name = "HOW", env = "DFCACHE_PROGRESS", global = true)]
    #[serde(rename = "progress", skip_serializing_if = "Option::is_none")]
    progress: Option<Show>,
    /// Whether messages are in colour
    #[arg(id = "color", long = "color", value_name = "WHEN", env = "DFCACHE_COLOR", global = true)]
    #[serde(rename = "color", skip_serializing_if = "Option::is_none")]
    color: Option<Color>,
}

/// What to say about it.
#[derive(Args, Clone, Default, Debug)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Report {
    /// Show failures alone
    #[arg(short, long, conflicts_with = "verbose", global = true)]
    pub(crate) quiet: bool,
    /// Show what is being done
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    /// Print the result as a JSON object, to stdout or to FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-", global = true)]
    pub(crate) json: Option<PathBuf>,
    /// Print the completions for a shell and exit
    #[arg(long, value_name = "SHELL")]
    pub(crate) completions: Option<Shell>,
    /// Understood for those who have always given them; there is nothing left for them to do.
    #[command(flatten)]
    pub(crate) old: OldFlags,
}

/// Flags of Dragonfly's dfcache that have no meaning here.
#[derive(Args, Clone, Default, Debug)]
pub(crate) struct OldFlags {
    #[arg(long, hide = true, global = true)]
    console: bool,
    #[arg(long, hide = true, global = true)]
    workhome: Option<PathBuf>,
    #[arg(long, alias = "log-dir", hide = true, global = true)]
    logdir: Option<PathBuf>,
    #[arg(long, hide = true, global = true)]
    log_level: Option<String>,
}
