//! What dfctl is called with.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::access::Access;
use crate::format;
use crate::request::{LimitKind, LimitValue};

/// Operate a cluster from scripts: what dfconsole shows and does, one command at a time
#[derive(Parser, Debug)]
#[command(name = "dfctl", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Control {
    #[command(flatten)]
    pub(super) access: Access,
    /// The daemon of this node, for doctor
    #[arg(
        short,
        long,
        global = true,
        value_name = "PATH",
        env = "DFCTL_ENDPOINT",
        default_value = "/run/damselfly/dfdaemon.sock"
    )]
    pub(super) endpoint: PathBuf,
    /// One JSON object on stdout, failures too
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Ask a cluster that is made up, for trying it
    #[arg(long, global = true)]
    pub(super) demo: bool,
    #[command(subcommand)]
    pub(super) what: What,
}

const EXAMPLES: &str = "Examples:
  dfctl login ops                                sign in; the token is kept for the next calls
  dfctl preheat image registry.example/app:v81 --scope all_seed_peers --wait
  dfctl task ls --filter 'rate>10M state=run' --sort rate
  dfctl limit set upload=200M                    on every peer, within 2 s
  dfctl host isolate h0412 --for 1h --reason 'disk fails'
  dfctl events -f --json | jq .text

Exit codes are those of all tools: 0 done, 2 wrong call, 6 no or bad token, 10 not found, 11 no manager,
14 not allowed, 15 try again, 28 too late.";

/// The commands.
#[derive(Subcommand, Debug)]
pub(super) enum What {
    /// Sign in with a name and a password, and keep the token for the next calls
    Login(Login),
    /// End the session and forget its token
    Logout,
    /// Who the token is, and what it is good for
    Whoami,
    /// Bring images or files to hosts before anybody asks
    Preheat(Preheat),
    /// Preheats
    #[command(subcommand)]
    Job(Job),
    /// Tasks
    #[command(subcommand)]
    Task(Task),
    /// Peers and seed peers
    #[command(subcommand)]
    Host(Host),
    /// What is forbidden
    #[command(subcommand)]
    Block(Block),
    /// Rate limits
    #[command(subcommand)]
    Limit(Limit),
    /// Clusters and their members
    #[command(subcommand)]
    Cluster(Cluster),
    /// Who may sign in
    #[command(subcommand)]
    User(User),
    /// Personal access tokens
    #[command(subcommand)]
    Token(Token),
    /// Who changed what
    Audit(Rows),
    /// What happens
    Events(Events),
    /// Look for what is wrong, and say what to do about it
    Doctor,
    /// A script that completes dfctl's command lines, for a shell
    Completions {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// dfctl's manual page; with a folder, the pages of all its commands, as files there
    Man {
        #[arg(value_name = "DIR")]
        folder: Option<PathBuf>,
    },
}

/// Which rows of a list.
#[derive(Args, Clone, Default, Debug)]
pub(super) struct Rows {
    /// Words, !word, field=begin, field~part, field>10M: as in the console
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(super) filter: String,
    /// Sort by a column; with - before it, the largest first
    #[arg(long, value_name = "COLUMN", allow_hyphen_values = true)]
    pub(super) sort: Option<String>,
    /// At most so many
    #[arg(short = 'n', long, value_name = "N")]
    pub(super) limit: Option<usize>,
    /// All columns
    #[arg(short, long)]
    pub(super) wide: bool,
}

/// A password that stands in no command line.
#[derive(Args, Clone, Debug)]
pub(super) struct Password {
    /// A file with the password [default: DFCTL_PASSWORD, else it is asked for]
    #[arg(long, value_name = "PATH")]
    pub(super) password_file: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(super) struct Login {
    /// The user
    #[arg(value_name = "NAME")]
    pub(super) name: String,
    #[command(flatten)]
    pub(super) password: Password,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Kind {
    /// A container image: host/name:tag, or the URL of a manifest
    Image,
    /// Files
    File,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum Where {
    /// One seed peer of each cluster
    SingleSeedPeer,
    /// All seed peers
    AllSeedPeers,
    /// All peers
    AllPeers,
}

#[derive(Args, Debug)]
pub(super) struct Preheat {
    #[arg(value_enum)]
    pub(super) kind: Kind,
    /// URLs, or images as host/name:tag
    #[arg(value_name = "URL", required = true)]
    pub(super) urls: Vec<String>,
    /// Where to
    #[arg(long, value_enum, value_name = "SCOPE", default_value = "single_seed_peer")]
    pub(super) scope: Where,
    /// Of an image: os/architecture [default: every platform]
    #[arg(long, value_name = "OS/ARCH")]
    pub(super) platform: Option<String>,
    /// So many hosts of the scope
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=200))]
    pub(super) count: Option<u32>,
    /// So many per cent of them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(super) percentage: Option<u32>,
    /// These hosts of the scope
    #[arg(long = "ip", value_name = "IP")]
    pub(super) ips: Vec<String>,
    /// Parts at once [default: 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(super) concurrency: Option<u32>,
    /// Give up after this time
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = span)]
    pub(super) timeout: u64,
    /// Sets versions of a URL apart
    #[arg(long, value_name = "TAG", default_value = "")]
    pub(super) tag: String,
    /// Who it is for
    #[arg(long, value_name = "NAME", default_value = "")]
    pub(super) application: String,
    /// Explicit piece length
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(super) piece_length: Option<u64>,
    /// Sent to the source
    #[arg(short = 'H', long = "header", value_name = "K: V", value_parser = header)]
    pub(super) headers: Vec<(String, String)>,
    /// The registry's user
    #[arg(long, value_name = "NAME", default_value = "")]
    pub(super) username: String,
    #[command(flatten)]
    pub(super) password: Password,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Wait until it is over
    #[arg(long, conflicts_with = "dry_run")]
    pub(super) wait: bool,
}

#[derive(Subcommand, Debug)]
pub(super) enum Job {
    /// The latest first
    Ls(Rows),
    /// One, with its parts
    Show { job: String },
    /// Wait until one is over; fails if it fails
    Wait { job: String },
    /// Stop one
    Cancel { job: String },
}

#[derive(Subcommand, Debug)]
pub(super) enum Task {
    /// Busiest first
    Ls(Rows),
    /// One, by id, begin of an id, or name
    Show { task: String },
    /// Who has how much of it
    Who { task: String },
    /// Make every host drop it
    Rm {
        task: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

#[derive(Subcommand, Debug)]
pub(super) enum Host {
    /// By name
    Ls(Rows),
    /// One, by name, id or begin of one
    Show { host: String },
    /// Those that are not used, and why
    Isolated(Rows),
    /// Take one out of use
    Isolate {
        host: String,
        /// For so long [default: until it is released]
        #[arg(long = "for", value_name = "TIME", value_parser = span)]
        term: Option<u64>,
        /// Why
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// Put one to use again
    Release { host: String },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Field {
    /// The caller's application
    Application,
    /// A regular expression on the URL
    Url,
    /// The task's tag
    Tag,
    /// 0 to 6
    Priority,
}

#[derive(Subcommand, Debug)]
pub(super) enum Block {
    /// All rules
    Ls(Rows),
    /// Forbid something
    Add {
        #[arg(value_enum)]
        field: Field,
        value: String,
        /// Uploads of what is there, not downloads
        #[arg(long)]
        upload: bool,
        /// Uploads and downloads
        #[arg(long, conflicts_with = "upload")]
        both: bool,
        /// Whoever meets it is told
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// Allow it again
    Rm { rule: String },
}

#[derive(Subcommand, Debug)]
pub(super) enum Limit {
    /// What is set, and on how many members it is in force
    Get,
    /// Set limits: download=1G upload=200M source=none task=unset
    Set {
        #[arg(value_name = "KIND=RATE", required = true, value_parser = limit)]
        limits: Vec<(LimitKind, LimitValue)>,
        /// Of each seed peer, not of each peer
        #[arg(long, conflicts_with = "host")]
        seeds: bool,
        /// Of one host alone
        #[arg(long, value_name = "HOST")]
        host: Option<String>,
    },
}

/// For whom a cluster is.
#[derive(Args, Clone, Debug)]
pub(super) struct Scopes {
    /// What it is for, in words
    #[arg(long, value_name = "TEXT")]
    pub(super) description: Option<String>,
    /// IDCs, with | between
    #[arg(long, value_name = "IDC")]
    pub(super) idc: Option<String>,
    /// Elements with | between, from the widest to the narrowest
    #[arg(long, value_name = "LOCATION")]
    pub(super) location: Option<String>,
    /// Networks, such as 10.0.0.0/8
    #[arg(long = "cidr", value_name = "CIDR")]
    pub(super) cidrs: Vec<String>,
    /// Regular expressions on the host's name
    #[arg(long = "hostname", value_name = "REGEX")]
    pub(super) hostnames: Vec<String>,
}

#[derive(Subcommand, Debug)]
pub(super) enum Cluster {
    /// All clusters
    Ls(Rows),
    /// Make one, for nodes of some place
    Add {
        name: String,
        #[command(flatten)]
        scopes: Scopes,
    },
    /// Change whom one is for; what is not given stays
    Set {
        name: String,
        #[command(flatten)]
        scopes: Scopes,
    },
    /// Remove one that has no members
    Rm { name: String },
    /// Schedulers, seed peers and peers
    Members(Rows),
    /// Forget a lost member at once
    Forget { member: String },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum RoleName {
    /// May look
    Guest,
    /// And operate, preheat, configure
    Operator,
    /// And everything else
    Root,
}

#[derive(Subcommand, Debug)]
pub(super) enum User {
    /// All users
    Ls(Rows),
    /// Let somebody in
    Add {
        name: String,
        #[arg(long, value_enum, default_value = "guest")]
        role: RoleName,
        #[command(flatten)]
        password: Password,
    },
    /// Change what somebody may do
    Role {
        name: String,
        #[arg(value_enum)]
        role: RoleName,
    },
    /// Give somebody else another password; the user's sessions end
    Reset {
        name: String,
        #[command(flatten)]
        password: Password,
    },
    /// Let somebody in no more
    Disable { name: String },
    /// Let somebody in again
    Enable { name: String },
    /// Change one's own password
    Passwd {
        #[command(flatten)]
        password: Password,
        /// A file with the new one [default: DFCTL_NEW_PASSWORD, else it is asked for]
        #[arg(long, value_name = "PATH")]
        new_password_file: Option<PathBuf>,
    },
}

#[derive(Subcommand, Debug)]
pub(super) enum Token {
    /// One's own; all, for root
    Ls(Rows),
    /// Make one; it is shown this once
    Create {
        name: String,
        /// view, operate, preheat, configure, admin, join
        #[arg(long = "scope", value_name = "SCOPE", required = true)]
        scopes: Vec<String>,
        /// For so long
        #[arg(long = "for", value_name = "TIME", default_value = "30d", value_parser = span)]
        term: u64,
    },
    /// End one
    Revoke { token: String },
}

#[derive(Args, Debug)]
pub(super) struct Events {
    /// Go on as they happen, one JSON object a line with --json
    #[arg(short, long)]
    pub(super) follow: bool,
    /// The latest so many first
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub(super) lines: u32,
    /// As in lists
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(super) filter: String,
}

fn span(text: &str) -> Result<u64, String> {
    format::parse_span(text).ok_or_else(|| "a time is such as 90s, 30m, 2h, 1d".to_owned())
}

fn size(text: &str) -> Result<u64, String> {
    format::parse_size(text).ok_or_else(|| "a size is such as 4MiB or 10MB".to_owned())
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or_else(|| "a header is such as 'Accept: text/plain'".to_owned())?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

fn limit(text: &str) -> Result<(LimitKind, LimitValue), String> {
    let (kind, rate) = text.split_once('=').ok_or_else(|| "a limit is such as upload=200M".to_owned())?;
    let kind = LimitKind::named(kind).ok_or_else(|| "limits are download, upload, source and task".to_owned())?;
    Ok((kind, rate.parse()?))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_makes_sense() {
        Control::command().debug_assert();
    }

    #[test]
    fn limits_are_read_in_pairs() {
        assert_eq!(limit("total=1G"), Ok((LimitKind::Download, LimitValue::BytesPerSec(1 << 30))));
        assert_eq!(limit("upload=unset"), Ok((LimitKind::Upload, LimitValue::Unset)));
        for text in ["upload", "fast=1G", "upload=fast", "upload=-1"] {
            assert!(limit(text).is_err(), "{text}");
        }
    }
}
