//! What a v1 peer asks for when it registers, checked.

use std::collections::BTreeSet;
use std::net::IpAddr;

use df_api::convert;
use df_api::failure::{Code, Failure};
use df_api::scheduler::{self as wire, AnnounceTaskRequest, Pattern, PeerHost, PeerTaskRequest};
use df_api::task::TaskRequest;
use df_api::v1::{self, V1Name};
use df_core::id::{HostId, PeerId, TaskId};
use df_core::piece::{Order, PieceSet};
use df_core::scheduler::{Cached, HostInfo, HostKey, HostKind, Mode, Registration, RequestId};

/// Uploads at once of a v1 daemon, and downloads it is good for.
const LANE_LIMIT: u32 = 4;

/// Schemes our own daemons fetch, so that a seed peer can be woken for a v1 peer.
const SEEDABLE_SCHEMES: [&str; 2] = ["http", "https"];

/// Scheme of v1's cached data, which has no source.
const CACHE_SCHEME: &str = "d7y";

/// Pieces in one announcement.
const PIECE_LIMIT: usize = 1 << 16;

/// A checked registration.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) name: V1Name,
    /// Where it registers from.
    pub(super) from: IpAddr,
    pub(super) task: TaskId,
    pub(super) request: TaskRequest,
    pub(super) host: HostInfo,
    /// Where others find it.
    pub(super) parent: wire::Parent,
    /// Whether our own daemons can fetch the content from its source.
    pub(super) can_be_seeded: bool,
    /// Whether the peer asked to be sent to the source whatever others have.
    pub(super) wants_source: bool,
    /// Whether it has all of it already.
    pub(super) is_imported: bool,
    can_fetch_source: bool,
    wakes_seeds: bool,
}

impl Wanted {
    /// Checks a request that came from `from`. The peer is offered to others under that address, or
    /// under the one it names if `may_advertise`.
    pub(super) fn new(
        request: PeerTaskRequest,
        from: IpAddr,
        may_advertise: impl Fn(IpAddr) -> bool,
    ) -> Result<Self, Failure> {
        let usage = |what: String| Failure::new(Code::Usage, what);
        let wants_source = request.pattern() == Pattern::Source;
        let mut meta = request.url_meta.unwrap_or_default();
        let task_id = if request.task_id.is_empty() { v1::task_id(&request.url, &meta) } else { request.task_id };
        let name = V1Name::new(&task_id, &request.peer_id).map_err(|malformed| usage(malformed.0))?;
        if !meta.range.is_empty() {
            // The same is said twice: by the field, and by a header among those for the source.
            meta.header.retain(|name, _| !name.eq_ignore_ascii_case("range"));
        }
        let is_whole = meta.range.is_empty();
        let wanted = match v1::cid_of(&request.url) {
            Some(cid) if is_whole => TaskRequest::cached(&cid, &meta.tag)?,
            _ => TaskRequest::new(&request.url, meta, 0)?,
        };
        let leave = wanted.leave()?;
        let host = request.peer_host.unwrap_or_default();
        let ip = host.ip.parse().ok().filter(|claimed| may_advertise(*claimed)).unwrap_or(from);
        let id = host_id(&name, from, &host);
        let scheme = wanted.url.scheme();
        Ok(Self {
            from,
            task: wanted.id(),
            host: HostInfo {
                id,
                incarnation: 1,
                kind: HostKind::Normal,
                zone: convert::zone(&host.idc, &host.location),
                upload_limit: LANE_LIMIT,
                download_limit: LANE_LIMIT,
            },
            parent: wire::Parent {
                host_id: id.as_bytes().to_vec(),
                ip: ip.to_string(),
                rpc_port: port(host.rpc_port)?,
                piece_port: port(host.down_port)?,
                kind: wire::HostKind::Normal.into(),
                v1_task_id: name.task().to_owned(),
                v1_peer_id: name.peer().to_owned(),
            },
            can_be_seeded: is_whole && SEEDABLE_SCHEMES.contains(&scheme),
            can_fetch_source: scheme != CACHE_SCHEME && leave.may_fetch_source,
            wakes_seeds: leave.wakes_seeds,
            wants_source,
            is_imported: false,
            name,
            request: wanted,
        })
    }

    /// Checks the announcement of a content that a peer has all of.
    pub(super) fn announced(
        request: AnnounceTaskRequest,
        from: IpAddr,
        may_advertise: impl Fn(IpAddr) -> bool,
    ) -> Result<(Self, BTreeSet<u32>), Failure> {
        let usage = |what: &str| Failure::new(Code::Usage, what);
        let packet = request.piece_packet.ok_or_else(|| usage("an announcement without pieces"))?;
        let registration = PeerTaskRequest {
            url: request.cid,
            url_meta: request.url_meta,
            peer_id: packet.dst_pid,
            peer_host: request.peer_host,
            task_id: request.task_id,
            ..PeerTaskRequest::default()
        };
        let wanted = Self::new(registration, from, may_advertise)?;
        if wanted.request.cid.is_none() {
            return Err(usage("what is announced has to be a cached content"));
        }
        let pieces = packet.piece_infos.iter().take(PIECE_LIMIT).map(|piece| u32::try_from(piece.piece_num));
        let pieces: BTreeSet<u32> =
            pieces.collect::<Result<_, _>>().map_err(|_| usage("a piece with a number below 0"))?;
        let is_all = u32::try_from(packet.total_piece).is_ok_and(|total| pieces.iter().copied().eq(0..total));
        if !is_all {
            return Err(usage("an announcement of less than all pieces, or of too many"));
        }
        Ok((Self { is_imported: true, ..wanted }, pieces))
    }

    /// The peer as the machine is told of it, with the stamp of what happens now.
    pub(super) fn registration(&self, request: RequestId, host: HostKey, stamp: u64) -> Registration {
        let cached =
            Cached { is_imported: self.is_imported, replicas: 0, stamp: if self.is_imported { stamp } else { 0 } };
        let mut peer = [0; PeerId::LEN];
        peer.copy_from_slice(self.host.id.as_bytes());
        Registration {
            request,
            host,
            peer: PeerId::from_bytes(peer),
            task: self.task,
            plan: None,
            held: PieceSet::new(),
            digests: Vec::new(),
            version: 0,
            is_wanting: !self.wants_source && !self.is_imported,
            has_source: self.can_be_seeded,
            cached: self.request.cid.as_ref().map(|_| cached),
            can_fetch_source: self.can_fetch_source,
            wakes_seeds: self.wakes_seeds,
            order: Order::RarestFirst,
            mode: Mode::Candidates,
        }
    }
}

fn port(port: i32) -> Result<u32, Failure> {
    let port = u16::try_from(port).ok().filter(|port| *port > 0);
    port.map(u32::from).ok_or_else(|| Failure::new(Code::Usage, "a peer without ports"))
}

/// One host for each v1 peer: it comes and goes with it.
fn host_id(name: &V1Name, from: IpAddr, host: &PeerHost) -> HostId {
    let mut hash = blake3::Hasher::new();
    let from = from.to_string();
    let ports = format!("{} {}", host.rpc_port, host.down_port);
    for part in ["damselfly v1 host 1", name.task(), name.peer(), &from, &ports] {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    let mut id = [0; HostId::LEN];
    id.copy_from_slice(&hash.finalize().as_bytes()[..HostId::LEN]);
    HostId::from_bytes(id)
}

#[cfg(test)]
mod tests {
    use df_api::base::UrlMeta;

    use super::*;

    fn request(change: impl FnOnce(&mut PeerTaskRequest)) -> PeerTaskRequest {
        let host = PeerHost { ip: "10.0.0.9".to_owned(), rpc_port: 65000, down_port: 65002, ..PeerHost::default() };
        let mut request = PeerTaskRequest {
            url: "http://h/f".to_owned(),
            url_meta: Some(UrlMeta::default()),
            peer_id: "10.0.0.9-1-a".to_owned(),
            peer_host: Some(host),
            ..PeerTaskRequest::default()
        };
        change(&mut request);
        request
    }

    fn wanted(trusts: bool, change: impl FnOnce(&mut PeerTaskRequest)) -> Result<Wanted, Failure> {
        Wanted::new(request(change), "10.0.0.1".parse().unwrap(), |_| trusts)
    }

    #[test]
    fn the_address_offered_is_the_connections_own_unless_the_other_is_trusted() {
        assert_eq!(wanted(false, |_| {}).unwrap().parent.ip, "10.0.0.1");
        assert_eq!(wanted(true, |_| {}).unwrap().parent.ip, "10.0.0.9");
        let nonsense = wanted(true, |request| request.peer_host.as_mut().unwrap().ip = "metadata.internal".to_owned());
        assert_eq!(nonsense.unwrap().parent.ip, "10.0.0.1");
    }

    #[test]
    fn peers_without_ports_names_or_urls_are_refused() {
        let refused = |change: fn(&mut PeerTaskRequest)| wanted(true, change).unwrap_err().code == Code::Usage;
        assert!(refused(|request| request.peer_host.as_mut().unwrap().rpc_port = 0));
        assert!(refused(|request| request.peer_host.as_mut().unwrap().down_port = 70_000));
        assert!(refused(|request| request.peer_host = None));
        assert!(refused(|request| request.peer_id = "a/../b".to_owned()));
        assert!(refused(|request| request.task_id = "../x".to_owned()));
        assert!(refused(|request| request.url = "nothing".to_owned()));
    }

    #[test]
    fn seeds_are_woken_only_for_what_they_can_fetch() {
        assert!(wanted(true, |_| {}).unwrap().can_be_seeded);
        let ranged = wanted(true, |request| request.url_meta.as_mut().unwrap().range = "0-9".to_owned()).unwrap();
        assert!(!ranged.can_be_seeded && ranged.can_fetch_source);
        let cached = wanted(true, |request| request.url = "d7y:/some-cid".to_owned()).unwrap();
        assert!(!cached.can_be_seeded && !cached.can_fetch_source);
        let bucket = wanted(true, |request| request.url = "s3://bucket/key".to_owned()).unwrap();
        assert!(!bucket.can_be_seeded && bucket.can_fetch_source);
    }
}
