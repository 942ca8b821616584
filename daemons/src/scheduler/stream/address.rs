//! Whether a host is where it says it is.

use std::net::IpAddr;

use df_api::failure::{Code, Failure};
use df_api::scheduler as wire;

use super::Desk;
use crate::env::net::Remote;

impl Desk {
    /// Whether a host that connects from `from` may say that it is to be found at `claimed`.
    pub(in crate::scheduler) fn may_advertise(&self, claimed: IpAddr, from: IpAddr) -> bool {
        let is_own = claimed.to_canonical() == from || (claimed.is_loopback() && from.is_loopback());
        is_own || self.0.trusted.iter().any(|network| network.contains(from))
    }

    /// Nobody is sent to an address that is not the connection's own, or the scheduler would make
    /// others attack whoever a host names.
    pub(super) fn check_address(&self, host: &wire::Host, remote: Option<Remote>) -> Result<(), Failure> {
        let claimed: IpAddr =
            host.ip.parse().map_err(|_| Failure::new(Code::Usage, format!("{:?} is not an IP address", host.ip)))?;
        let ports = [host.rpc_port, host.piece_port];
        if ports.iter().any(|port| !(1..=u32::from(u16::MAX)).contains(port)) {
            return Err(Failure::new(Code::Usage, format!("ports {ports:?}")));
        }
        let Some(Remote::Tcp(from)) = remote else { return Ok(()) };
        let from = from.ip().to_canonical();
        if self.may_advertise(claimed, from) {
            return Ok(());
        }
        Err(Failure::new(Code::Blocked, format!("{claimed} is advertised over a connection from {from}"))
            .hint("start the daemon with --ip of the address it connects from, or trust its network"))
    }
}
