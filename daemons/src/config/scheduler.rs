//! The settings and the flags of dfscheduler.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser};
use df_core::scheduler::SchedulerConfig;
use serde::{Deserialize, Serialize};

use super::value::{texts, within};
use super::{
    CommandLine, ConfigFlags, Given, Log, LogFormat, LogLevel, ManagerAddress, ManagerLink, Settings, Surroundings,
};
use crate::peer::source::Cidr;
use crate::units::Span;

/// What a dfscheduler is told.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SchedulerSettings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// How much it keeps track of.
    pub limits: Limits,
    /// How many hops a piece may be passed on while it is still arriving; 0 turns relaying off.
    #[serde(deserialize_with = "within::<0, 64, _, _>")]
    pub relay_depth_limit: u32,
    /// After this long without anything on its way, a peer may be served across zones whatever there
    /// is in its own.
    pub zone_escape: Span,
    /// After this long without a piece, though others have what it lacks, a peer may be sent to the
    /// source.
    pub source_escape: Span,
    /// How long a task without peers is remembered.
    pub task_ttl: Span,
    /// Networks whose hosts may advertise another address than the one they connect from.
    #[serde(with = "texts")]
    pub trusted_networks: Vec<Cidr>,
    /// The manager whose cluster it is in.
    pub manager: ManagerLink,
    /// The name members know it by.
    pub hostname: String,
    /// The address it advertises to the manager; without it, the one it connects from.
    pub advertise_ip: Option<IpAddr>,
    /// Its data centre.
    pub idc: Option<String>,
    /// Its place inside the data centre.
    pub location: Option<String>,
    /// Where it keeps what the manager told.
    pub data_dir: PathBuf,
    /// What it says about its work.
    pub log: Log,
}

/// How much a scheduler keeps track of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Hosts connected at once.
    #[serde(deserialize_with = "within::<1, 10_000_000, _, _>")]
    pub host_limit: usize,
    /// Tasks known at once.
    #[serde(deserialize_with = "within::<1, 10_000_000, _, _>")]
    pub task_limit: usize,
    /// Peers of one task.
    #[serde(deserialize_with = "within::<1, 10_000_000, _, _>")]
    pub peer_limit: usize,
}

impl Default for SchedulerSettings {
    /// The decisions' defaults are the machine's own.
    fn default() -> Self {
        let machine = SchedulerConfig::default();
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8002)),
            limits: Limits::default(),
            relay_depth_limit: machine.relay_depth_limit,
            zone_escape: Span::new(machine.zone_escape),
            source_escape: Span::new(machine.source_escape),
            task_ttl: Span::new(machine.task_ttl),
            trusted_networks: Vec::new(),
            manager: ManagerLink::default(),
            hostname: "localhost".to_owned(),
            advertise_ip: None,
            idc: None,
            location: None,
            data_dir: "/var/lib/damselfly".into(),
            log: Log::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let SchedulerConfig { host_limit, task_limit, peer_limit, .. } = SchedulerConfig::default();
        Self { host_limit, task_limit, peer_limit }
    }
}

impl SchedulerSettings {
    /// What the machine that decides is told of them.
    pub fn machine(&self) -> SchedulerConfig {
        SchedulerConfig {
            host_limit: self.limits.host_limit,
            task_limit: self.limits.task_limit,
            peer_limit: self.limits.peer_limit,
            relay_depth_limit: self.relay_depth_limit,
            zone_escape: self.zone_escape.duration(),
            source_escape: self.source_escape.duration(),
            task_ttl: self.task_ttl.duration(),
            ..SchedulerConfig::default()
        }
    }
}

impl Settings for SchedulerSettings {
    const FILE_NAME: &'static str = "dfscheduler.yaml";

    fn defaults(around: &Surroundings, _: &Given) -> Self {
        Self { hostname: Surroundings::hostname(), data_dir: around.data_dir().join("scheduler"), ..Self::default() }
    }
}

/// The one that decides which peer fetches which piece from whom
#[derive(Parser, Clone, Debug)]
#[command(name = "dfscheduler", version)]
pub struct SchedulerCommand {
    /// The settings among the flags.
    #[command(flatten)]
    pub flags: SchedulerFlags,
    /// The flags on the configuration itself.
    #[command(flatten)]
    pub config: ConfigFlags,
}

impl CommandLine for SchedulerCommand {
    type Settings = SchedulerSettings;
    type Flags = SchedulerFlags;

    fn flags(&self) -> &SchedulerFlags {
        &self.flags
    }

    fn config(&self) -> &ConfigFlags {
        &self.config
    }
}

/// The flags of dfscheduler that are settings.
#[derive(Args, Clone, Default, Debug, Serialize)]
pub struct SchedulerFlags {
    /// Address and port for peers; port 0 takes any free one [default: 0.0.0.0:8002]
    #[arg(id = "listen", long = "listen", value_name = "IP:PORT", env = "DFSCHEDULER_LISTEN")]
    #[serde(rename = "listen", skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// Hosts connected at once
    #[arg(id = "limits.host_limit", long = "host-limit", value_name = "N", env = "DFSCHEDULER_HOST_LIMIT")]
    #[serde(rename = "limits.host_limit", skip_serializing_if = "Option::is_none")]
    pub host_limit: Option<usize>,
    /// Tasks known at once
    #[arg(id = "limits.task_limit", long = "task-limit", value_name = "N", env = "DFSCHEDULER_TASK_LIMIT")]
    #[serde(rename = "limits.task_limit", skip_serializing_if = "Option::is_none")]
    pub task_limit: Option<usize>,
    /// Peers of one task
    #[arg(id = "limits.peer_limit", long = "peer-limit", value_name = "N", env = "DFSCHEDULER_PEER_LIMIT")]
    #[serde(rename = "limits.peer_limit", skip_serializing_if = "Option::is_none")]
    pub peer_limit: Option<usize>,
    /// Hops a piece may be passed on while it is still arriving; 0 turns relaying off [default: 24]
    #[arg(id = "relay_depth_limit", long = "relay-depth-limit", value_name = "N")]
    #[arg(env = "DFSCHEDULER_RELAY_DEPTH_LIMIT")]
    #[serde(rename = "relay_depth_limit", skip_serializing_if = "Option::is_none")]
    pub relay_depth_limit: Option<u32>,
    /// How long a peer waits for its own zone before it is served across zones [default: 4s]
    #[arg(id = "zone_escape", long = "zone-escape", value_name = "TIME", env = "DFSCHEDULER_ZONE_ESCAPE")]
    #[serde(rename = "zone_escape", skip_serializing_if = "Option::is_none")]
    pub zone_escape: Option<Span>,
    /// How long a peer waits for others before it is sent to the source [default: 15s]
    #[arg(id = "source_escape", long = "source-escape", value_name = "TIME", env = "DFSCHEDULER_SOURCE_ESCAPE")]
    #[serde(rename = "source_escape", skip_serializing_if = "Option::is_none")]
    pub source_escape: Option<Span>,
    /// How long a task without peers is remembered [default: 30m]
    #[arg(id = "task_ttl", long = "task-ttl", value_name = "TIME", env = "DFSCHEDULER_TASK_TTL")]
    #[serde(rename = "task_ttl", skip_serializing_if = "Option::is_none")]
    pub task_ttl: Option<Span>,
    /// Manager whose cluster to join, HOST:PORT; a port left out is 65003
    #[arg(id = "manager.address", long = "manager", value_name = "HOST:PORT", env = "DFSCHEDULER_MANAGER")]
    #[serde(rename = "manager.address", skip_serializing_if = "Option::is_none")]
    pub manager: Option<ManagerAddress>,
    /// File with the token to join the manager's cluster with
    #[arg(id = "manager.join_token_file", long = "join-token-file", value_name = "FILE")]
    #[arg(env = "DFSCHEDULER_JOIN_TOKEN_FILE")]
    #[serde(rename = "manager.join_token_file", skip_serializing_if = "Option::is_none")]
    pub join_token_file: Option<PathBuf>,
    /// Cluster to join [default: the one that fits best]
    #[arg(id = "manager.cluster", long = "cluster", value_name = "NAME", env = "DFSCHEDULER_CLUSTER")]
    #[serde(rename = "manager.cluster", skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Networks whose hosts may advertise another address than they connect from, with commas
    #[arg(id = "trusted_networks", long = "trusted-networks", value_name = "CIDR", value_delimiter = ',')]
    #[arg(env = "DFSCHEDULER_TRUSTED_NETWORKS")]
    #[serde(rename = "trusted_networks", skip_serializing_if = "Option::is_none")]
    #[serde(serialize_with = "networks")]
    pub trusted_networks: Option<Vec<Cidr>>,
    /// Address that members reach this scheduler by [default: the one it connects to the manager from]
    #[arg(id = "advertise_ip", long = "ip", alias = "advertise-ip", value_name = "IP", env = "DFSCHEDULER_IP")]
    #[serde(rename = "advertise_ip", skip_serializing_if = "Option::is_none")]
    pub advertise_ip: Option<IpAddr>,
    /// Name of this host
    #[arg(id = "hostname", long = "hostname", value_name = "NAME", env = "DFSCHEDULER_HOSTNAME")]
    #[serde(rename = "hostname", skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Folder for what the manager told
    #[arg(id = "data_dir", long = "data-dir", value_name = "DIR", env = "DFSCHEDULER_DATA_DIR")]
    #[serde(rename = "data_dir", skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// Least severe messages to log
    #[arg(id = "log.level", long = "log-level", value_name = "LEVEL", env = "DFSCHEDULER_LOG_LEVEL")]
    #[serde(rename = "log.level", skip_serializing_if = "Option::is_none")]
    pub log_level: Option<LogLevel>,
    /// Log lines for people, or JSON objects
    #[arg(id = "log.format", long = "log-format", value_name = "FORMAT", env = "DFSCHEDULER_LOG_FORMAT")]
    #[serde(rename = "log.format", skip_serializing_if = "Option::is_none")]
    pub log_format: Option<LogFormat>,
}

fn networks<S: serde::Serializer>(list: &Option<Vec<Cidr>>, to: S) -> Result<S::Ok, S::Error> {
    texts::serialize(list.as_deref().unwrap_or_default(), to)
}
