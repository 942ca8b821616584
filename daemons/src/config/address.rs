//! Addresses of other daemons as they are configured: a host and a port.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::value::parsed;

/// The port of a scheduler that is named without one.
const SCHEDULER_PORT: u16 = 8002;

/// Longest host name (RFC 1035, 2.3.4).
const HOST_LIMIT: usize = 253;

/// A scheduler's host (name or address) and port, `host:port`; without a port, 8002.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct HostPort {
    /// A name or an address, IPv6 without brackets.
    pub host: String,
    /// A TCP port, not 0.
    pub port: u16,
}

/// Why a text is no [`HostPort`]: shows the text.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is no address of a scheduler: write it as HOST:PORT")]
pub struct HostPortError(String);

impl FromStr for HostPort {
    type Err = HostPortError;

    /// Dragonfly v1 wrote a weight behind an address (`host:port=2`); it is read over, for tasks are
    /// shared among schedulers evenly.
    fn from_str(text: &str) -> Result<Self, HostPortError> {
        let error = || HostPortError(text.to_owned());
        let address = match text.split_once('=') {
            Some((address, weight)) if weight.parse::<u32>().is_ok() => address,
            Some(_) => return Err(error()),
            None => text,
        };
        let (host, port) = match address.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or_else(error)?;
                host.parse::<Ipv6Addr>().map_err(|_| error())?;
                (host, if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or_else(error)?) })
            }
            None if address.parse::<Ipv6Addr>().is_ok() => (address, None),
            None => match address.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (address, None),
            },
        };
        let port = match port {
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(error)?,
            None => SCHEDULER_PORT,
        };
        let is_v6 = host.contains(':');
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if host.is_empty() || host.len() > HOST_LIMIT || !is_v6 && !host.chars().all(is_plain) {
            return Err(error());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Serialize for HostPort {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HostPort {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        parsed(from, |text| text.parse().map_err(|error: HostPortError| error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_printed() {
        let table = [
            ("s1:9000", "s1:9000"),
            ("s1", "s1:8002"),
            ("10.0.0.1:1", "10.0.0.1:1"),
            ("10.0.0.1:8002=2", "10.0.0.1:8002"),
            ("::1", "[::1]:8002"),
            ("[::1]", "[::1]:8002"),
            ("[fd00::7]:80", "[fd00::7]:80"),
            ("sched_1.example.com:8002", "sched_1.example.com:8002"),
        ];
        for (text, printed) in table {
            assert_eq!(text.parse::<HostPort>().map(|address| address.to_string()), Ok(printed.to_owned()));
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long = format!("{}:1", "x".repeat(HOST_LIMIT + 1));
        for text in
            ["", ":1", "h:", "h:0", "h:65536", "h:x", "h:1=", "h:1=x", "[::1", "[h]:1", "[::1]1", "a b:1", &long]
        {
            assert!(text.parse::<HostPort>().is_err(), "{text:?}");
        }
        assert!("http://h:1".parse::<HostPort>().is_err());
    }
}
