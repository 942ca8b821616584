//! The settings and the flags of dfdaemon.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use clap::{Args, Parser, ValueEnum};
use serde::{Deserialize, Serialize};

use super::value::{reachable, texts, within};
use super::{CommandLine, ConfigFlags, Given, HostPort, ManagerAddress, ManagerLink, Settings, Surroundings};
use crate::peer::source::Cidr;
use crate::units::{Rate, Size, Span};

/// Most transfers at once, of either kind.
const TRANSFER_LIMIT: u64 = 1024;

/// What a dfdaemon is told. The default is one for tests: a host without a name, all else as in
/// production.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PeerConfig {
    /// What others know of this host.
    pub host: HostIdentity,
    /// Its part as a seed peer.
    pub seed_peer: SeedPeer,
    /// The schedulers it asks, unless its manager names others.
    pub scheduler: Schedulers,
    /// The manager whose cluster it is in.
    pub manager: ManagerLink,
    /// Where contents and the index are kept.
    pub data_dir: PathBuf,
    /// The unix socket for local callers.
    pub socket: PathBuf,
    /// The port for gRPC from other peers.
    pub rpc: Port,
    /// The port for pieces.
    pub pieces: Port,
    /// What it takes from others.
    pub download: Download,
    /// What it gives to others.
    pub upload: Upload,
    /// How it reads from sources.
    pub source: Source,
    /// How much it keeps.
    pub store: Store,
    /// Exit when nothing was asked for this long.
    pub alive_time: Option<Span>,
    /// What it says about its work.
    pub log: Log,
}

/// What others know of a host.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostIdentity {
    /// Its name.
    pub hostname: String,
    /// The address it advertises.
    #[serde(deserialize_with = "reachable")]
    pub ip: IpAddr,
    /// The data centre it is in; pieces cross between data centres as few times as possible.
    pub idc: Option<String>,
    /// Its place inside the data centre, from the large to the small, such as `room1|rack7`.
    pub location: Option<String>,
}

/// The part of a seed peer.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SeedPeer {
    /// Whether it is one: fetches from sources when a scheduler says so, and serves all.
    pub enable: bool,
}

/// The schedulers.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Schedulers {
    /// Their addresses. With none, every download goes to its source.
    pub addresses: Vec<HostPort>,
}

/// A listening port.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Its number; 0 takes any free one.
    #[serde(deserialize_with = "within::<0, 65_535, _, _>")]
    pub port: u16,
}

/// Limits on what is taken from others.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Download {
    /// All downloads of the host together.
    pub rate_limit: Option<Rate>,
    /// Each download.
    pub task_rate_limit: Option<Rate>,
    /// All reading from sources together.
    pub source_rate_limit: Option<Rate>,
    /// Transfers from parents at once.
    #[serde(deserialize_with = "within::<1, TRANSFER_LIMIT, _, _>")]
    pub transfer_limit: u32,
}

/// Limits on what is given to others.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Upload {
    /// All uploads of the host together.
    pub rate_limit: Option<Rate>,
    /// Transfers to children that the scheduler may grant at once; no more than one child alone may have.
    #[serde(deserialize_with = "within::<1, TRANSFER_LIMIT, _, _>")]
    pub transfer_limit: u32,
    /// Requests for pieces that are served at once, granted or not.
    #[serde(deserialize_with = "within::<1, 65_536, _, _>")]
    pub request_limit: u32,
    /// Requests of one child that are served at once.
    #[serde(deserialize_with = "within::<1, 65_536, _, _>")]
    pub child_limit: u32,
}

/// How sources are read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Source {
    /// Networks that requests from other hosts may reach although they are refused by default.
    #[serde(with = "texts")]
    pub allow: Vec<Cidr>,
    /// Networks that requests from other hosts may not reach.
    #[serde(with = "texts")]
    pub deny: Vec<Cidr>,
    /// Certificate authorities (PEM) believed besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Time without a byte after which a source is taken to hang.
    pub stall_limit: Span,
    /// Further tries of one request after passing faults.
    #[serde(deserialize_with = "within::<0, 100, _, _>")]
    pub retry_limit: u32,
    /// Connections to the source of one content at once.
    #[serde(deserialize_with = "within::<1, 64, _, _>")]
    pub connection_limit: u32,
}

/// How much is kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// Most bytes of contents; without it, what the disk has room for.
    pub quota: Option<Size>,
    /// Bytes left free on the disk.
    pub free_floor: Size,
    /// Percent of the quota beyond which what was used least recently is dropped, until...
    #[serde(deserialize_with = "within::<1, 100, _, _>")]
    pub high_watermark: u64,
    /// ...so many percent are taken.
    #[serde(deserialize_with = "within::<0, 100, _, _>")]
    pub low_watermark: u64,
    /// What nobody has asked for so long is dropped, unless it was imported here.
    pub task_ttl: Option<Span>,
}

/// What is logged, and how.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The least severe messages that are logged.
    pub level: LogLevel,
    /// Lines for people or objects for machines.
    pub format: LogFormat,
}

/// How severe a message has to be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "each name says what it is")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

impl From<LogLevel> for tracing::level_filters::LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

/// The form of a log line.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object each.
    Json,
}

impl Default for PeerConfig {
    fn default() -> Self {
        Self {
            host: HostIdentity::default(),
            seed_peer: SeedPeer::default(),
            scheduler: Schedulers::default(),
            manager: ManagerLink::default(),
            data_dir: "/var/lib/damselfly".into(),
            socket: Surroundings::system_socket(),
            rpc: Port { port: 65_000 },
            pieces: Port { port: 65_002 },
            download: Download::default(),
            upload: Upload::default(),
            source: Source::default(),
            store: Store::default(),
            alive_time: None,
            log: Log::default(),
        }
    }
}

impl Default for HostIdentity {
    fn default() -> Self {
        Self { hostname: "localhost".to_owned(), ip: Ipv4Addr::LOCALHOST.into(), idc: None, location: None }
    }
}

impl Default for Download {
    fn default() -> Self {
        Self { rate_limit: None, task_rate_limit: None, source_rate_limit: None, transfer_limit: 4 }
    }
}

impl Default for Upload {
    fn default() -> Self {
        Self { rate_limit: None, transfer_limit: 4, request_limit: 64, child_limit: 16 }
    }
}

impl Default for Source {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            deny: Vec::new(),
            ca_file: None,
            stall_limit: Span::from_secs(30),
            retry_limit: 3,
            connection_limit: 4,
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self { quota: None, free_floor: Size::new(256 << 20), high_watermark: 90, low_watermark: 80, task_ttl: None }
    }
}

impl Settings for PeerConfig {
    const FILE_NAME: &'static str = "dfdaemon.yaml";

    fn defaults(around: &Surroundings, given: &Given) -> Self {
        let data_dir = given.text("data_dir").map_or_else(|| around.data_dir(), PathBuf::from);
        let host =
            HostIdentity { hostname: Surroundings::hostname(), ip: Surroundings::address(), ..HostIdentity::default() };
        Self { host, socket: around.socket(&data_dir), data_dir, ..Self::default() }
    }
}

/// A node of the swarm: downloads for this host, and serves others what it has
#[derive(Parser, Clone, Debug)]
#[command(name = "dfdaemon", version)]
pub struct PeerCommand {
    /// The settings among the flags.
    #[command(flatten)]
    pub flags: PeerFlags,
    /// The flags on the configuration itself.
    #[command(flatten)]
    pub config: ConfigFlags,
}

impl CommandLine for PeerCommand {
    type Settings = PeerConfig;
    type Flags = PeerFlags;

    fn flags(&self) -> &PeerFlags {
        &self.flags
    }

    fn config(&self) -> &ConfigFlags {
        &self.config
    }
}

/// The flags of dfdaemon that are settings.
#[derive(Args, Clone, Default, Debug, Serialize)]
pub struct PeerFlags {
    /// Schedulers to ask, with commas between them; a port left out is 8002
    #[arg(
        id = "scheduler.addresses",
        short = 'n',
        long = "scheduler",
        visible_alias = "node",
        value_name = "HOST:PORT"
    )]
    #[arg(env = "DFDAEMON_SCHEDULER", value_delimiter = ',')]
    #[serde(rename = "scheduler.addresses", skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Vec<HostPort>>,
    /// Folder for contents and their index
    #[arg(id = "data_dir", long = "data-dir", value_name = "DIR", env = "DFDAEMON_DATA_DIR")]
    #[serde(rename = "data_dir", skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// Unix socket for dfget and other callers on this host
    #[arg(id = "socket", long = "socket", value_name = "PATH", env = "DFDAEMON_SOCKET")]
    #[serde(rename = "socket", skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
    /// Address that other hosts reach this one by
    #[arg(id = "host.ip", long = "ip", alias = "advertise-ip", value_name = "IP", env = "DFDAEMON_IP")]
    #[serde(rename = "host.ip", skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    /// Name of this host
    #[arg(id = "host.hostname", long = "hostname", value_name = "NAME", env = "DFDAEMON_HOSTNAME")]
    #[serde(rename = "host.hostname", skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Data centre this host is in; contents cross between data centres as little as possible
    #[arg(id = "host.idc", long = "idc", value_name = "NAME", env = "DFDAEMON_IDC")]
    #[serde(rename = "host.idc", skip_serializing_if = "Option::is_none")]
    pub idc: Option<String>,
    /// Place inside the data centre, large to small, such as 'room1|rack7'
    #[arg(id = "host.location", long = "location", value_name = "PLACE", env = "DFDAEMON_LOCATION")]
    #[serde(rename = "host.location", skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Be a seed peer: fetch from sources when the scheduler says so, and serve everybody
    #[arg(id = "seed_peer.enable", long = "seed", value_name = "BOOL", env = "DFDAEMON_SEED", num_args = 0..=1)]
    #[arg(require_equals = true, default_missing_value = "true", hide_possible_values = true)]
    #[arg(value_parser = clap::builder::BoolishValueParser::new())]
    #[serde(rename = "seed_peer.enable", skip_serializing_if = "Option::is_none")]
    pub seed: Option<bool>,
    /// Port for gRPC from other peers; 0 takes any free one [default: 65000]
    #[arg(id = "rpc.port", long = "rpc-port", value_name = "PORT", env = "DFDAEMON_RPC_PORT")]
    #[serde(rename = "rpc.port", skip_serializing_if = "Option::is_none")]
    pub rpc_port: Option<u16>,
    /// Port that pieces are served at; 0 takes any free one [default: 65002]
    #[arg(id = "pieces.port", long = "piece-port", value_name = "PORT", env = "DFDAEMON_PIECE_PORT")]
    #[serde(rename = "pieces.port", skip_serializing_if = "Option::is_none")]
    pub piece_port: Option<u16>,
    /// All downloads together, such as 200MiB/s
    #[arg(id = "download.rate_limit", long = "download-rate-limit", alias = "total-limit", alias = "totallimit")]
    #[arg(value_name = "RATE", env = "DFDAEMON_DOWNLOAD_RATE_LIMIT")]
    #[serde(rename = "download.rate_limit", skip_serializing_if = "Option::is_none")]
    pub download_rate_limit: Option<Rate>,
    /// All uploads together, such as 100MB/s
    #[arg(id = "upload.rate_limit", long = "upload-rate-limit", value_name = "RATE")]
    #[arg(env = "DFDAEMON_UPLOAD_RATE_LIMIT")]
    #[serde(rename = "upload.rate_limit", skip_serializing_if = "Option::is_none")]
    pub upload_rate_limit: Option<Rate>,
    /// All reading from sources together
    #[arg(id = "download.source_rate_limit", long = "source-rate-limit", value_name = "RATE")]
    #[arg(env = "DFDAEMON_SOURCE_RATE_LIMIT")]
    #[serde(rename = "download.source_rate_limit", skip_serializing_if = "Option::is_none")]
    pub source_rate_limit: Option<Rate>,
    /// Manager whose cluster to join, HOST:PORT; a port left out is 65003
    #[arg(id = "manager.address", long = "manager", value_name = "HOST:PORT", env = "DFDAEMON_MANAGER")]
    #[serde(rename = "manager.address", skip_serializing_if = "Option::is_none")]
    pub manager: Option<ManagerAddress>,
    /// File with the token to join the manager's cluster with
    #[arg(id = "manager.join_token_file", long = "join-token-file", value_name = "FILE")]
    #[arg(env = "DFDAEMON_JOIN_TOKEN_FILE")]
    #[serde(rename = "manager.join_token_file", skip_serializing_if = "Option::is_none")]
    pub join_token_file: Option<PathBuf>,
    /// Cluster to join [default: the one that fits best]
    #[arg(id = "manager.cluster", long = "cluster", value_name = "NAME", env = "DFDAEMON_CLUSTER")]
    #[serde(rename = "manager.cluster", skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Exit when nobody has asked for anything this long, such as 5m
    #[arg(
        id = "alive_time",
        long = "alive-time",
        alias = "alivetime",
        value_name = "TIME",
        env = "DFDAEMON_ALIVE_TIME"
    )]
    #[serde(rename = "alive_time", skip_serializing_if = "Option::is_none")]
    pub alive_time: Option<Span>,
    /// Least severe messages to log
    #[arg(id = "log.level", long = "log-level", value_name = "LEVEL", env = "DFDAEMON_LOG_LEVEL")]
    #[serde(rename = "log.level", skip_serializing_if = "Option::is_none")]
    pub log_level: Option<LogLevel>,
    /// Log lines for people, or JSON objects
    #[arg(id = "log.format", long = "log-format", value_name = "FORMAT", env = "DFDAEMON_LOG_FORMAT")]
    #[serde(rename = "log.format", skip_serializing_if = "Option::is_none")]
    pub log_format: Option<LogFormat>,
}
