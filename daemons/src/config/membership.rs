//! How a scheduler or a daemon is told of its manager.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::address::{HostPort, HostPortError};
use super::value::parsed;

/// The port of a manager that is named without one.
const MANAGER_PORT: u16 = 65_003;

/// The manager, and what it takes to be a member.
#[derive(Clone, PartialEq, Eq, Default, Debug, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ManagerLink {
    /// Where it is. Without it, there is none.
    pub address: Option<ManagerAddress>,
    /// A file with the token to join with.
    pub join_token_file: Option<PathBuf>,
    /// The cluster to be in; without it, the one that fits best.
    pub cluster: Option<String>,
}

/// A manager's host and port, `host:port` or `http://host:port`; without a port, 65003.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ManagerAddress(pub HostPort);

impl FromStr for ManagerAddress {
    type Err = HostPortError;

    fn from_str(text: &str) -> Result<Self, HostPortError> {
        let bare = text.strip_prefix("http://").unwrap_or(text);
        let bare = bare.strip_suffix('/').unwrap_or(bare);
        let mut address: HostPort = bare.parse()?;
        // A name or address without a port was given the one of schedulers.
        if !bare.ends_with(&format!(":{}", address.port)) {
            address.port = MANAGER_PORT;
        }
        Ok(Self(address))
    }
}

impl fmt::Display for ManagerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for ManagerAddress {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ManagerAddress {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        parsed(from, |text| {
            text.parse().map_err(|_| format!("{text:?} is no address of a manager: write it as HOST:PORT"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn managers_are_named_with_and_without_scheme_and_port() {
        let table = [
            ("m1", "m1:65003"),
            ("m1:9", "m1:9"),
            ("m1:8002", "m1:8002"),
            ("http://m1:9", "m1:9"),
            ("http://m1/", "m1:65003"),
            ("10.0.0.1", "10.0.0.1:65003"),
            ("[::1]", "[::1]:65003"),
            ("[::1]:7", "[::1]:7"),
        ];
        for (text, shown) in table {
            assert_eq!(text.parse::<ManagerAddress>().unwrap().to_string(), shown);
        }
        for text in ["", "http://", "ftp://m1", "m1:0"] {
            assert!(text.parse::<ManagerAddress>().is_err(), "{text:?}");
        }
    }
}
