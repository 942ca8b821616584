//! What a peer makes of its configuration: how it announces itself, reads sources, and bounds uploads.

use df_api::failure::{Code, Failure};
use df_api::scheduler as wire;
use df_core::uploader::SlotLimits;

use super::source::{Cidr, Egress, SourceConfig};
use super::{Peer, PeerIncoming, UPLOAD_LEASE_TERM};
use crate::config::PeerConfig;
use crate::env::net::Listener;

/// How sources are read.
pub(super) fn source_config(config: &PeerConfig) -> SourceConfig {
    let from = &config.source;
    let mut allow = from.allow.clone();
    if config.host.ip.is_loopback() {
        // A host that itself lives on loopback has its sources there.
        allow.extend(["127.0.0.0/8", "::1/128"].iter().filter_map(|cidr| cidr.parse::<Cidr>().ok()));
    }
    SourceConfig {
        egress: Egress { allow, deny: from.deny.clone() },
        ca_file: from.ca_file.clone(),
        stall_limit: from.stall_limit.duration(),
        retry_limit: from.retry_limit,
        ..SourceConfig::from_env()
    }
}

/// How many uploads at once.
pub(super) fn slot_limits(peer: &Peer) -> SlotLimits {
    let upload = &peer.config().upload;
    SlotLimits { slot_limit: upload.request_limit, per_child_limit: upload.child_limit, lease_term: UPLOAD_LEASE_TERM }
}

/// What this host says of itself to schedulers.
pub(super) fn of(peer: &Peer, incoming: &PeerIncoming) -> Result<wire::Host, Failure> {
    let port = |listener: &Listener| {
        let address = listener.local_addr();
        address
            .map(|a| u32::from(a.port()))
            .map_err(|e| Failure::new(Code::Network, "a port without a number").because(e))
    };
    let config = peer.config();
    let kind = if config.seed_peer.enable { wire::HostKind::Seed } else { wire::HostKind::Normal };
    Ok(wire::Host {
        id: peer.store().host_id().as_bytes().to_vec(),
        incarnation: peer.0.incarnation,
        kind: kind.into(),
        hostname: config.host.hostname.clone(),
        ip: config.host.ip.to_string(),
        rpc_port: port(&incoming.rpc)?,
        piece_port: port(&incoming.pieces)?,
        idc: config.host.idc.clone().unwrap_or_default(),
        location: config.host.location.clone().unwrap_or_default(),
        // More at once could all be granted to one child, which would be refused, and blame this host.
        upload_limit: config.upload.transfer_limit.min(slot_limits(peer).of_one_child()),
        download_limit: config.download.transfer_limit,
    })
}
