//! The settings and the flags of dfmanager.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser};
use serde::{Deserialize, Serialize};

use super::value::texts;
use super::{CommandLine, ConfigFlags, Given, Log, LogFormat, LogLevel, Settings, Surroundings};
use crate::peer::source::Cidr;

/// What a dfmanager is told.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ManagerSettings {
    /// Where it listens for members and operators.
    pub listen_grpc: SocketAddr,
    /// Where it listens for Harbor.
    pub listen_rest: SocketAddr,
    /// Where its store is.
    pub data_dir: PathBuf,
    /// Where the password of the first user goes; without it, to standard output.
    pub init_admin_password_file: Option<PathBuf>,
    /// Networks whose members may advertise another address than the one they connect from.
    #[serde(with = "texts")]
    pub trusted_networks: Vec<Cidr>,
    /// Networks of registries that may be asked although they are refused by default.
    #[serde(with = "texts")]
    pub source_allow: Vec<Cidr>,
    /// Networks of registries that may not be asked.
    #[serde(with = "texts")]
    pub source_deny: Vec<Cidr>,
    /// Certificate authorities (PEM) believed besides the system's.
    pub source_ca_file: Option<PathBuf>,
    /// What it says about its work.
    pub log: Log,
}

impl Default for ManagerSettings {
    fn default() -> Self {
        Self {
            listen_grpc: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 65_003)),
            listen_rest: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080)),
            data_dir: "/var/lib/damselfly".into(),
            init_admin_password_file: None,
            trusted_networks: Vec::new(),
            source_allow: Vec::new(),
            source_deny: Vec::new(),
            source_ca_file: None,
            log: Log::default(),
        }
    }
}

impl Settings for ManagerSettings {
    const FILE_NAME: &'static str = "dfmanager.yaml";

    fn defaults(around: &Surroundings, _: &Given) -> Self {
        Self { data_dir: around.data_dir().join("manager"), ..Self::default() }
    }
}

/// Keeps clusters, what holds in them, users and preheats; downloads go on without it
#[derive(Parser, Clone, Debug)]
#[command(name = "dfmanager", version)]
pub struct ManagerCommand {
    /// The settings among the flags.
    #[command(flatten)]
    pub flags: ManagerFlags,
    /// The flags on the configuration itself.
    #[command(flatten)]
    pub config: ConfigFlags,
}

impl CommandLine for ManagerCommand {
    type Settings = ManagerSettings;
    type Flags = ManagerFlags;

    fn flags(&self) -> &ManagerFlags {
        &self.flags
    }

    fn config(&self) -> &ConfigFlags {
        &self.config
    }
}

/// The flags of dfmanager that are settings.
#[derive(Args, Clone, Default, Debug, Serialize)]
pub struct ManagerFlags {
    /// Address and port for schedulers, daemons, dfconsole and dfctl [default: 0.0.0.0:65003]
    #[arg(id = "listen_grpc", long = "listen-grpc", value_name = "IP:PORT", env = "DFMANAGER_LISTEN_GRPC")]
    #[serde(rename = "listen_grpc", skip_serializing_if = "Option::is_none")]
    pub listen_grpc: Option<SocketAddr>,
    /// Address and port for Harbor [default: 0.0.0.0:8080]
    #[arg(id = "listen_rest", long = "listen-rest", value_name = "IP:PORT", env = "DFMANAGER_LISTEN_REST")]
    #[serde(rename = "listen_rest", skip_serializing_if = "Option::is_none")]
    pub listen_rest: Option<SocketAddr>,
    /// Folder for the store
    #[arg(id = "data_dir", long = "data-dir", value_name = "DIR", env = "DFMANAGER_DATA_DIR")]
    #[serde(rename = "data_dir", skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// Write the password of the first user to FILE instead of standard output
    #[arg(id = "init_admin_password_file", long = "init-admin-password-file", value_name = "FILE")]
    #[arg(env = "DFMANAGER_INIT_ADMIN_PASSWORD_FILE")]
    #[serde(rename = "init_admin_password_file", skip_serializing_if = "Option::is_none")]
    pub init_admin_password_file: Option<PathBuf>,
    /// Networks whose members may advertise another address than they connect from, with commas
    #[arg(id = "trusted_networks", long = "trusted-networks", value_name = "CIDR", value_delimiter = ',')]
    #[arg(env = "DFMANAGER_TRUSTED_NETWORKS")]
    #[serde(rename = "trusted_networks", skip_serializing_if = "Option::is_none", serialize_with = "networks")]
    pub trusted_networks: Option<Vec<Cidr>>,
    /// Networks of registries that may be asked although they are refused by default, with commas
    #[arg(id = "source_allow", long = "source-allow", value_name = "CIDR", value_delimiter = ',')]
    #[arg(env = "DFMANAGER_SOURCE_ALLOW")]
    #[serde(rename = "source_allow", skip_serializing_if = "Option::is_none", serialize_with = "networks")]
    pub source_allow: Option<Vec<Cidr>>,
    /// Least severe messages to log
    #[arg(id = "log.level", long = "log-level", value_name = "LEVEL", env = "DFMANAGER_LOG_LEVEL")]
    #[serde(rename = "log.level", skip_serializing_if = "Option::is_none")]
    pub log_level: Option<LogLevel>,
    /// Log lines for people, or JSON objects
    #[arg(id = "log.format", long = "log-format", value_name = "FORMAT", env = "DFMANAGER_LOG_FORMAT")]
    #[serde(rename = "log.format", skip_serializing_if = "Option::is_none")]
    pub log_format: Option<LogFormat>,
}

fn networks<S: serde::Serializer>(list: &Option<Vec<Cidr>>, to: S) -> Result<S::Ok, S::Error> {
    texts::serialize(list.as_deref().unwrap_or_default(), to)
}
