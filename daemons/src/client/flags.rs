//! The settings and the flags of dfget.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser};
use clap_complete::Shell;
use serde::{Deserialize, Serialize};

use super::delivery::Link;
use super::progress::Show;
use crate::config::{CommandLine, ConfigFlags, Given, HostPort, Settings, Surroundings};
use crate::console::Color;
use crate::digest::{Algorithm, Digest};
use crate::units::{Rate, Size, Span};

/// What dfget can be told once for all downloads.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct GetSettings {
    /// The daemon's socket; without it, the usual ones are tried.
    pub(super) endpoint: Option<PathBuf>,
    /// Schedulers for a daemon that is started here.
    pub(super) scheduler: Vec<HostPort>,
    /// The application that downloads belong to.
    pub(super) application: String,
    /// The longest that everything together may take.
    pub(super) timeout: Span,
    /// Rate of each download.
    pub(super) rate_limit: Option<Rate>,
    /// How a file is delivered.
    pub(super) link: Link,
    /// Downloads of a list at once.
    #[serde(deserialize_with = "crate::config::within::<1, 1000, _, _>")]
    pub(super) jobs: usize,
    /// How progress is shown.
    pub(super) progress: Show,
    /// Whether messages are in colour.
    pub(super) color: Color,
}

impl Default for GetSettings {
    fn default() -> Self {
        Self {
            endpoint: None,
            scheduler: Vec::new(),
            application: String::new(),
            timeout: Span::from_secs(2 * 60 * 60),
            rate_limit: None,
            link: Link::default(),
            jobs: 5,
            progress: Show::default(),
            color: Color::default(),
        }
    }
}

impl Settings for GetSettings {
    const FILE_NAME: &'static str = "dfget.yaml";

    fn defaults(_: &Surroundings, _: &Given) -> Self {
        Self::default()
    }
}

/// Download files through the swarm
///
/// The file comes from peers that have it, piece by piece and each piece verified, and from its source
/// only where nobody has it. It appears under its name when it is whole: until then it is
/// .NAME.dfpart beside it, and a file that was there before survives every failure. After a failure
/// or ^C the same command goes on where it ended, for the daemon keeps every piece it has.
#[derive(Parser, Clone, Debug)]
#[command(name = "dfget", version, after_help = AFTER_HELP, override_usage = USAGE)]
// Those who type -c mean to continue, as with other tools.
#[command(mut_arg("config", |arg| arg.short(None)))]
pub(super) struct GetCommand {
    /// What to download.
    #[command(flatten)]
    pub(super) what: What,
    /// What to do with it.
    #[command(flatten)]
    pub(super) output: OutputFlags,
    /// How to get it.
    #[command(flatten)]
    pub(super) transfer: Transfer,
    /// What dfget can be told once for all downloads.
    #[command(flatten)]
    pub(super) settings: GetFlags,
    /// What to say about it.
    #[command(flatten)]
    pub(super) report: Report,
    /// The flags on the configuration itself.
    #[command(flatten)]
    pub(super) config: ConfigFlags,
}

const USAGE: &str = "dfget [OPTIONS] URL\n       dfget [OPTIONS] --input-file LIST|-";

const AFTER_HELP: &str = "\
Examples:
  dfget https://origin.example/model.bin
  dfget -O /data/model.bin --digest sha256:9f86d0… https://origin.example/model.bin
  dfget -O - https://origin.example/data.tar | tar x
  dfget --input-file list.txt -j 8 --json | jq .output

Sizes are written 10MiB or 10MB, rates 20MiB/s or 20MB/s, durations 90s, 2h or 1h30m.

Exit codes: 0 done and verified, 2 usage, 3 local file, 4 network, 5 TLS, 6 authentication,
7 protocol, 8 status of the source, 9 no space, 11 no daemon, 12 no scheduler, 13 output exists,
14 blocked, 15 busy, 28 timeout, 32 digest; 130 ^C, 141 output closed, 143 terminated; 1 a bug.";

impl CommandLine for GetCommand {
    type Settings = GetSettings;
    type Flags = GetFlags;

    fn flags(&self) -> &GetFlags {
        &self.settings
    }

    fn config(&self) -> &ConfigFlags {
        &self.config
    }
}

/// What to download.
#[derive(Args, Clone, Default, Debug)]
pub(super) struct What {
    /// What to download
    #[arg(value_name = "URL", conflicts_with_all = ["url_flag", "input_file"])]
    pub(super) url: Option<String>,
    /// The same as the argument URL
    #[arg(id = "url_flag", short = 'u', long = "url", value_name = "URL", conflicts_with = "input_file")]
    pub(super) url_flag: Option<String>,
    /// Download every line of a list: a URL and, after a space, the output; '-' reads the list from stdin
    #[arg(long, value_name = "LIST", conflicts_with = "output")]
    pub(super) input_file: Option<PathBuf>,
}

/// What to do with the content.
#[derive(Args, Clone, Default, Debug)]
#[command(next_help_heading = "Output")]
pub(super) struct OutputFlags {
    /// Write to PATH; '-' streams to stdout [default: the last segment of the URL's path]
    ///
    /// A symbolic link is followed and its target replaced. A character device or a pipe is
    /// written to as it is, in order, as stdout is: bytes are verified piece by piece before they
    /// are written, but a wrong --digest of the whole shows only in the exit code.
    #[arg(short = 'O', long, short_alias = 'o', value_name = "PATH")]
    pub(super) output: Option<PathBuf>,
    /// Replace a file that exists (the default)
    #[arg(long, overrides_with = "no_clobber")]
    pub(super) overwrite: bool,
    /// Fail with exit code 13 if the output exists
    #[arg(long, overrides_with = "overwrite")]
    pub(super) no_clobber: bool,
}

/// How to get the content.
#[derive(Args, Clone, Default, Debug)]
#[command(next_help_heading = "Transfer")]
pub(super) struct Transfer {
    /// Digest of the whole content: md5, sha256, sha512, blake3, crc32 or crc32c
    #[arg(long, value_name = "ALG:HEX", conflicts_with = "md5")]
    pub(super) digest: Option<Digest>,
    #[arg(short = 'm', long, value_name = "HEX", hide = true, value_parser = md5)]
    pub(super) md5: Option<Digest>,
    /// Header for the source, 'Name: value'; may be repeated
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    pub(super) headers: Vec<String>,
    /// Tag that keeps contents of one URL apart
    #[arg(long, short_alias = 'i', alias = "identifier", value_name = "TAG", env = "DFGET_TAG")]
    pub(super) tag: Option<String>,
    /// Query parameters that do not tell contents apart, 'a&b' or repeated, such as signatures
    #[arg(long, short_alias = 'f', alias = "filtered-query-param", value_name = "NAMES", env = "DFGET_FILTER")]
    pub(super) filter: Vec<String>,
    /// Length of a piece, such as 4MiB [default: by the length of the content]
    #[arg(long, alias = "piece-length", value_name = "SIZE", env = "DFGET_PIECE_SIZE")]
    pub(super) piece_size: Option<Size>,
    /// Fail rather than fetch from the source
    #[arg(long, aliases = ["disable-back-to-source", "notbs"], env = "DFGET_DISABLE_BACK_SOURCE")]
    #[arg(value_parser = BoolishValueParser::new())]
    pub(super) disable_back_source: bool,
    /// Priority: 1 is refused, 2 takes only what other hosts have, 3 asks the source without waking seed peers; for
    /// all others seed peers fetch [default: 0]
    #[arg(short = 'P', long, value_name = "0..6", env = "DFGET_PRIORITY")]
    #[arg(default_value_t = 0, hide_default_value = true, value_parser = clap::value_parser!(u8).range(0..=6))]
    pub(super) priority: u8,
    /// Do not verify the source's certificate
    #[arg(short = 'k', long, env = "DFGET_INSECURE", value_parser = BoolishValueParser::new())]
    pub(super) insecure: bool,
    /// Download in this process, without any daemon; what others ask for is served meanwhile
    #[arg(long, env = "DFGET_NO_DAEMON", value_parser = BoolishValueParser::new(), conflicts_with = "require_daemon")]
    pub(super) no_daemon: bool,
    /// Fail with exit code 11 if no daemon answers, rather than start one
    #[arg(long, env = "DFGET_REQUIRE_DAEMON", value_parser = BoolishValueParser::new())]
    pub(super) require_daemon: bool,
}

/// The flags of dfget that are settings.
#[derive(Args, Clone, Default, Debug, Serialize)]
#[command(next_help_heading = "Transfer")]
pub(super) struct GetFlags {
    /// The daemon's socket [default: the system's, else the user's own]
    #[arg(id = "endpoint", short = 'e', long = "endpoint", alias = "daemon-sock", value_name = "PATH")]
    #[arg(env = "DFGET_ENDPOINT")]
    #[serde(rename = "endpoint", skip_serializing_if = "Option::is_none")]
    endpoint: Option<PathBuf>,
    /// Schedulers for a daemon that has to be started, with commas between them
    #[arg(id = "scheduler", short = 'n', long = "scheduler", visible_alias = "node", value_name = "HOST:PORT")]
    #[arg(env = "DFGET_SCHEDULER", value_delimiter = ',')]
    #[serde(rename = "scheduler", skip_serializing_if = "Option::is_none")]
    scheduler: Option<Vec<HostPort>>,
    /// Application that downloads belong to; keeps contents of one URL apart
    #[arg(id = "application", long = "application", value_name = "NAME", env = "DFGET_APPLICATION")]
    #[serde(rename = "application", skip_serializing_if = "Option::is_none")]
    application: Option<String>,
    /// Give up after this long [default: 2h]
    #[arg(id = "timeout", long = "timeout", value_name = "TIME", env = "DFGET_TIMEOUT")]
    #[serde(rename = "timeout", skip_serializing_if = "Option::is_none")]
    timeout: Option<Span>,
    /// Rate of each download, such as 20MiB/s
    #[arg(id = "rate_limit", long = "rate-limit", short_alias = 's', value_name = "RATE", env = "DFGET_RATE_LIMIT")]
    #[arg(aliases = ["ratelimit", "limit", "locallimit"])]
    #[serde(rename = "rate_limit", skip_serializing_if = "Option::is_none")]
    rate_limit: Option<Rate>,
    /// How the file comes from the daemon's store
    #[arg(id = "link", long = "link", value_name = "HOW", env = "DFGET_LINK")]
    #[serde(rename = "link", skip_serializing_if = "Option::is_none")]
    link: Option<Link>,
    /// Downloads of a list at once [default: 5]
    #[arg(id = "jobs", short = 'j', long = "jobs", value_name = "N", env = "DFGET_JOBS")]
    #[serde(rename = "jobs", skip_serializing_if = "Option::is_none")]
    jobs: Option<usize>,
    /// How progress is shown on stderr: a bar, plain lines, JSON events
    #[arg(id = "progress", long = "progress", value_name = "HOW", env = "DFGET_PROGRESS", help_heading = "Reporting")]
    #[serde(rename = "progress", skip_serializing_if = "Option::is_none")]
    progress: Option<Show>,
    /// Whether messages are in colour
    #[arg(id = "color", long = "color", value_name = "WHEN", env = "DFGET_COLOR", help_heading = "Reporting")]
    #[serde(rename = "color", skip_serializing_if = "Option::is_none")]
    color: Option<Color>,
}

/// What to say about the download.
#[derive(Args, Clone, Default, Debug)]
#[command(next_help_heading = "Reporting")]
pub(super) struct Report {
    /// Show failures alone
    #[arg(short, long, conflicts_with = "verbose")]
    pub(super) quiet: bool,
    /// Show what is being done
    #[arg(short, long)]
    pub(super) verbose: bool,
    #[arg(short = 'b', long, alias = "show-progress", hide = true, conflicts_with = "no_progress")]
    pub(super) showbar: bool,
    #[arg(long, hide = true)]
    pub(super) no_progress: bool,
    /// Print the result as a JSON object, one for each file, to stdout or to FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "-")]
    pub(super) json: Option<PathBuf>,
    /// Show who sent how much
    #[arg(long)]
    pub(super) explain: bool,
    /// Print the completions for a shell and exit
    #[arg(long, value_name = "SHELL")]
    pub(super) completions: Option<Shell>,
}

impl Report {
    /// How progress is shown, given what the settings say.
    pub(super) fn show(&self, setting: Show) -> Show {
        match self {
            Self { quiet: true, .. } | Self { no_progress: true, .. } => Show::None,
            Self { showbar: true, .. } => Show::Bar,
            _ => setting,
        }
    }
}

/// An MD5 without its name, as Dragonfly v1 had it.
fn md5(hex: &str) -> Result<Digest, crate::digest::DigestError> {
    format!("{}:{hex}", Algorithm::Md5.name()).parse()
}
