//! This daemon as a member of a manager's cluster: what it is told holds at once.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use df_api::failure::Failure;
use df_api::manager as wire;
use df_api::manager::member_order::Order;
use df_api::scheduler as scheduler_wire;
use df_api::task::TaskRequest;
use tokio_util::sync::CancellationToken;

use super::Peer;
use super::store::StoredTask;
use crate::member::{Member, Membership, Reporter, Rules, Subject};
use crate::sync::lock;

/// Name of the file with what the manager told, in the data directory.
const KEPT: &str = "dynconfig";

/// Rates below this are mistakes, not limits.
const RATE_FLOOR: u64 = 1024;

/// What the manager's word changes here.
struct Node {
    peer: Peer,
    host: scheduler_wire::Host,
    stop: CancellationToken,
}

impl Peer {
    /// Joins the cluster of the configured manager, if there is one.
    pub(super) fn join_cluster(&self, host: &scheduler_wire::Host, stop: &CancellationToken) -> Result<(), Failure> {
        let config = self.config();
        let kind = if config.seed_peer.enable { wire::MemberKind::SeedPeer } else { wire::MemberKind::Peer };
        let hello = wire::Hello {
            kind: kind.into(),
            hostname: host.hostname.clone(),
            ip: host.ip.clone(),
            rpc_port: host.rpc_port,
            piece_port: host.piece_port,
            idc: host.idc.clone(),
            location: host.location.clone(),
            cluster: config.manager.cluster.clone().unwrap_or_default(),
            host_id: host.id.clone(),
            incarnation: host.incarnation,
            configuration_version: 0,
            release: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let node = Arc::new(Node { peer: self.clone(), host: host.clone(), stop: stop.clone() });
        let kept = config.data_dir.join(KEPT);
        Membership::start(self.env(), config.manager.clone(), kept, hello, node, stop).map(drop)
    }

    /// Whether the operator lets a content be downloaded here. What the network asks for has no priority.
    pub(super) fn check_download(&self, request: &TaskRequest, is_local: bool) -> Result<(), Failure> {
        let rules = lock(&self.0.rules).clone();
        let meta = &request.meta;
        rules.check_download(&Subject {
            url: request.url.as_str(),
            tag: &meta.tag,
            application: &meta.application,
            priority: is_local.then_some(meta.priority),
        })
    }

    /// Whether the operator lets a content be given to other hosts. What is stored knows its URL without
    /// secrets and query.
    pub(super) fn check_upload(&self, stored: &StoredTask) -> Result<(), Failure> {
        let rules = lock(&self.0.rules).clone();
        let label = stored.label();
        let (url, tag, application) = (&label.shown, &label.tag, &label.application);
        rules.check_upload(&Subject { url, tag, application, priority: None })
    }

    /// Bytes per second of a download that asks for no limit itself.
    pub(super) fn task_rate(&self) -> Option<u64> {
        *lock(&self.0.task_rate)
    }
}

/// One limit: as the manager says, 0 for none; or as configured here.
fn rate(what: &str, told: Option<u64>, own: Option<crate::units::Rate>) -> Result<Option<u64>, String> {
    match told {
        None => Ok(own.map(|rate| rate.bytes_per_sec())),
        Some(0) => Ok(None),
        Some(rate) if rate >= RATE_FLOOR => Ok(Some(rate)),
        Some(rate) => Err(format!("{what} is {rate}; {RATE_FLOOR} at least")),
    }
}

fn address(told: &wire::MemberAddress) -> Result<String, String> {
    let ip: IpAddr = told.ip.parse().map_err(|_| format!("{:?} is no address", told.ip))?;
    let port = u16::try_from(told.rpc_port).ok().filter(|port| *port != 0);
    let port = port.ok_or_else(|| format!("{} is no port", told.rpc_port))?;
    Ok(SocketAddr::new(ip, port).to_string())
}

impl Node {
    /// The limits that are meant for this host.
    fn limits(&self, told: &wire::Configuration) -> wire::HostLimits {
        let limits = told.limits.unwrap_or_default();
        let is_seed = self.peer.config().seed_peer.enable;
        let base = if is_seed { limits.seed_peer } else { limits.peer }.unwrap_or_default();
        let own = told.overrides.iter().find(|own| own.host_id == self.host.id).and_then(|own| own.limits);
        let Some(own) = own else { return base };
        wire::HostLimits {
            upload_slot_limit: own.upload_slot_limit.or(base.upload_slot_limit),
            download_slot_limit: own.download_slot_limit.or(base.download_slot_limit),
            upload_rate_bytes_per_sec: own.upload_rate_bytes_per_sec.or(base.upload_rate_bytes_per_sec),
            download_rate_bytes_per_sec: own.download_rate_bytes_per_sec.or(base.download_rate_bytes_per_sec),
            source_rate_bytes_per_sec: own.source_rate_bytes_per_sec.or(base.source_rate_bytes_per_sec),
            task_rate_bytes_per_sec: own.task_rate_bytes_per_sec.or(base.task_rate_bytes_per_sec),
        }
    }
}

impl Member for Node {
    fn configure(&self, told: &wire::Configuration) -> Result<(), String> {
        let (inner, config) = (&self.peer.0, self.peer.config());
        let limits = self.limits(told);
        let upload = rate("upload rate", limits.upload_rate_bytes_per_sec, config.upload.rate_limit)?;
        let download = rate("download rate", limits.download_rate_bytes_per_sec, config.download.rate_limit)?;
        let source = rate("source rate", limits.source_rate_bytes_per_sec, config.download.source_rate_limit)?;
        let task = rate("task rate", limits.task_rate_bytes_per_sec, config.download.task_rate_limit)?;
        let rules = Rules::new(&told.block_rules, config.seed_peer.enable)?;
        let mut schedulers = told.schedulers.iter().map(address).collect::<Result<Vec<_>, _>>()?;
        if schedulers.is_empty() {
            schedulers = config.scheduler.addresses.iter().map(ToString::to_string).collect();
        }
        // Nothing is wrong: all of it holds from now on.
        let now = self.peer.env().clock.now();
        let limits = [(&inner.upload_limit, upload), (&inner.download_limit, download), (&inner.source_limit, source)];
        limits.into_iter().for_each(|(limit, rate)| limit.set_rate(now, rate));
        *lock(&inner.task_rate) = task;
        *lock(&inner.rules) = Arc::new(rules);
        inner.links.change(&self.peer, &self.host, &self.stop, &schedulers);
        Ok(())
    }

    fn carry_out(&self, order: Order, _: &Reporter) {
        tracing::debug!(?order, "no order for a daemon");
    }

    fn disk(&self) -> (u64, u64) {
        (self.peer.store().used_bytes(), self.peer.config().store.quota.map_or(0, |quota| quota.bytes()))
    }

    fn parted(&self) {}
}
