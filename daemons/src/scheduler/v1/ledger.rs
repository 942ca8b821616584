//! Which v1 peers are registered, who may speak for each, and what each has been told.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use df_api::base::Code as V1Code;
use df_api::failure::{Code, Failure};
use df_api::scheduler::peer_packet::DestPeer;
use df_api::scheduler::{self as wire, PeerPacket};
use df_api::v1::V1Name;
use df_core::piece::PiecePlan;
use df_core::scheduler::{HostKey, PeerKey, Refusal, RequestId, Scheduler};
use df_core::time::Instant;
use tokio::sync::{mpsc, oneshot};

use super::super::effects::refusal;
use super::super::stream::Books;
use super::is_same;
use super::wanted::Wanted;

/// V1 peers registered at once.
const SEAT_LIMIT: usize = 100_000;

/// Those of them that come from one address.
const SEATS_PER_ADDRESS_LIMIT: usize = 2048;

/// How long a peer may take from its registration to its stream, and from one stream to the next.
const STREAM_TERM: Duration = Duration::from_secs(3);

/// How long a finished peer is taken for a parent without another word from it.
const HOLDER_TERM: Duration = Duration::from_secs(1800);

/// The same for what it has imported, which it announces once: as long as a v1 daemon keeps a content.
const IMPORT_TERM: Duration = Duration::from_secs(6 * 3600);

/// Connections a v1 peer is told to use at once.
const PARALLEL_COUNT: i32 = 4;

/// See the [module](self).
#[derive(Default)]
pub(super) struct Ledger {
    seats: BTreeMap<V1Name, Seat>,
    peers: BTreeMap<PeerKey, V1Name>,
    hosts: BTreeMap<HostKey, V1Name>,
    asked: BTreeMap<RequestId, Asked>,
    crowds: BTreeMap<IpAddr, usize>,
    /// When the next seat's time may be over.
    next_end: Option<Instant>,
}

/// What an answer of the machine is for.
pub(super) enum Asked {
    Host(V1Name, oneshot::Sender<Result<HostKey, Failure>>),
    Peer(V1Name, oneshot::Sender<Result<Option<PiecePlan>, Failure>>),
}

/// One peer.
struct Seat {
    /// Who may speak for it.
    from: IpAddr,
    parent: wire::Parent,
    host: Option<HostKey>,
    peer: Option<PeerKey>,
    /// The open stream, by number.
    stream: Option<(u64, mpsc::Sender<PeerPacket>)>,
    /// What it is to hear as soon as it opens one.
    waiting: Option<PeerPacket>,
    /// Parents it was told, by the names it knows.
    offered: Vec<(String, PeerKey)>,
    is_at_source: bool,
    is_done: bool,
    is_imported: bool,
    /// When it is over, unless a stream is open.
    until: Instant,
}

/// A peer that has said how it ended.
pub(super) struct Ended {
    pub(super) peer: PeerKey,
    pub(super) was_at_source: bool,
    /// The host to take leave of, if it is gone.
    pub(super) host: Option<HostKey>,
}

impl Ledger {
    /// Takes in a peer that registers; answers the host of an earlier registration of the same name.
    pub(super) fn admit(&mut self, wanted: &Wanted, now: Instant) -> Result<Option<HostKey>, Failure> {
        let known = self.seats.get(&wanted.name).map(|seat| seat.from);
        if known.is_some_and(|from| !is_same(from, wanted.from)) {
            return Err(Failure::new(Code::Blocked, "a peer of this name is registered from elsewhere"));
        }
        let crowd = self.crowds.get(&wanted.from).copied().unwrap_or(0);
        if known.is_none() && (self.seats.len() >= SEAT_LIMIT || crowd >= SEATS_PER_ADDRESS_LIMIT) {
            return Err(Failure::new(Code::Busy, "the scheduler has as many v1 peers as it may have"));
        }
        let replaced = self.remove(&wanted.name);
        *self.crowds.entry(wanted.from).or_default() += 1;
        let seat = Seat {
            from: wanted.from,
            parent: wanted.parent.clone(),
            host: None,
            peer: None,
            stream: None,
            waiting: None,
            offered: Vec::new(),
            is_at_source: false,
            is_done: false,
            is_imported: wanted.is_imported,
            until: now + STREAM_TERM,
        };
        self.seats.insert(wanted.name.clone(), seat);
        self.note_end(now + STREAM_TERM);
        if wanted.wants_source {
            self.send(&wanted.name, V1Code::SchedNeedBackSource, Vec::new());
        }
        Ok(replaced)
    }

    fn note_end(&mut self, end: Instant) {
        self.next_end = Some(self.next_end.map_or(end, |known| known.min(end)));
    }

    /// Takes a peer out; answers its host.
    pub(super) fn remove(&mut self, name: &V1Name) -> Option<HostKey> {
        let seat = self.seats.remove(name)?;
        if let Some(crowd) = self.crowds.get_mut(&seat.from) {
            *crowd -= 1;
            if *crowd == 0 {
                self.crowds.remove(&seat.from);
            }
        }
        if let Some(peer) = seat.peer {
            self.peers.remove(&peer);
        }
        let host = seat.host?;
        self.hosts.remove(&host);
        Some(host)
    }

    /// The same, on the word of somebody at an address.
    pub(super) fn remove_own(&mut self, name: &V1Name, from: IpAddr) -> Option<HostKey> {
        self.seat(name, from)?;
        self.remove(name)
    }

    /// A peer, if `from` may speak for it.
    fn seat(&mut self, name: &V1Name, from: IpAddr) -> Option<&mut Seat> {
        self.seats.get_mut(name).filter(|seat| is_same(seat.from, from))
    }

    pub(super) fn ask(&mut self, request: RequestId, asked: Asked) {
        self.asked.insert(request, asked);
    }

    /// The machine has accepted a host; false if it is not a v1 peer's.
    pub(super) fn host_accepted(&mut self, request: RequestId, host: HostKey) -> bool {
        let Some(Asked::Host(name, answer)) = self.take_host(request) else { return false };
        if let Some(seat) = self.seats.get_mut(&name) {
            seat.host = Some(host);
            self.hosts.insert(host, name);
        }
        let _ = answer.send(Ok(host));
        true
    }

    fn take_host(&mut self, request: RequestId) -> Option<Asked> {
        if matches!(self.asked.get(&request), Some(Asked::Host(..))) { self.asked.remove(&request) } else { None }
    }

    /// The machine has accepted a peer; false if it is not a v1 peer.
    pub(super) fn registered(&mut self, request: RequestId, peer: PeerKey, plan: Option<PiecePlan>) -> bool {
        let Some(Asked::Peer(name, answer)) = self.asked.remove(&request) else { return false };
        if let Some(seat) = self.seats.get_mut(&name) {
            seat.peer = Some(peer);
            self.peers.insert(peer, name);
        }
        let _ = answer.send(Ok(plan));
        true
    }

    /// The machine has refused a host or a peer; false if it was not a v1 peer's.
    pub(super) fn refused(&mut self, request: RequestId, why: Refusal) -> bool {
        match self.asked.remove(&request) {
            Some(Asked::Host(_, answer)) => drop(answer.send(Err(refusal(why)))),
            Some(Asked::Peer(_, answer)) => drop(answer.send(Err(refusal(why)))),
            None => return false,
        }
        true
    }

    /// Whether a peer is one of these.
    pub(super) fn knows(&self, peer: PeerKey) -> bool {
        self.peers.contains_key(&peer)
    }

    /// A peer has opened its stream; an earlier one of its own ends.
    pub(super) fn attach(
        &mut self,
        name: &V1Name,
        from: IpAddr,
        stream: u64,
        sender: mpsc::Sender<PeerPacket>,
    ) -> Option<PeerKey> {
        let seat = self.seat(name, from)?;
        let peer = seat.peer?;
        if let Some(packet) = seat.waiting.take() {
            let _ = sender.try_send(packet);
        }
        seat.stream = Some((stream, sender));
        Some(peer)
    }

    /// A stream is over: orderly, or cut off.
    pub(super) fn detach(&mut self, name: &V1Name, stream: u64, has_ended: bool, now: Instant) {
        let Some(seat) = self.seats.get_mut(name) else { return };
        if seat.stream.as_ref().is_some_and(|(open, _)| *open != stream) {
            return;
        }
        seat.stream = None;
        let term = if has_ended || seat.is_done { HOLDER_TERM } else { STREAM_TERM };
        seat.until = now + term;
        self.note_end(now + term);
    }

    /// A peer says how it ended. One that failed is gone with all it had.
    pub(super) fn finish(&mut self, name: &V1Name, from: IpAddr, is_success: bool, now: Instant) -> Option<Ended> {
        let seat = self.seat(name, from)?;
        let (peer, was_at_source) = (seat.peer?, seat.is_at_source);
        let term = if seat.is_imported { IMPORT_TERM } else { HOLDER_TERM };
        (seat.is_done, seat.is_at_source, seat.until) = (is_success, false, now + term);
        let host = if is_success { None } else { self.remove(name) };
        Some(Ended { peer, was_at_source, host })
    }

    /// The parent that was offered to a peer under a name.
    pub(super) fn parent_called(&self, name: &V1Name, parent: &str) -> Option<PeerKey> {
        let offered = &self.seats.get(name)?.offered;
        offered.iter().find(|(known, _)| known == parent).map(|(_, peer)| *peer)
    }

    /// Where pieces of a host are to be had.
    pub(super) fn parent(&self, host: HostKey) -> Option<wire::Parent> {
        self.seats.get(self.hosts.get(&host)?).map(|seat| seat.parent.clone())
    }

    /// Tells a peer its parents; false if it is not one of these.
    pub(super) fn offer(&mut self, machine: &Scheduler, peer: PeerKey, books: &Books) -> bool {
        let Some(name) = self.peers.get(&peer).cloned() else { return false };
        let parents = machine.offered(peer).filter_map(|parent| self.destination(machine, parent, &name, books));
        let (offered, destinations): (Vec<_>, Vec<_>) = parents.unzip();
        if let Some(seat) = self.seats.get_mut(&name) {
            seat.offered = offered;
        }
        if !destinations.is_empty() {
            self.send(&name, V1Code::Success, destinations);
        }
        true
    }

    /// A parent as a v1 peer is told of it. Another v1 peer must know the task by the same id.
    fn destination(
        &self,
        machine: &Scheduler,
        parent: PeerKey,
        child: &V1Name,
        books: &Books,
    ) -> Option<((String, PeerKey), DestPeer)> {
        let view = machine.peer(parent)?;
        let (peer_id, at) = match self.peers.get(&parent) {
            Some(name) if name.task() == child.task() => (name.peer().to_owned(), self.parent(view.host)?),
            Some(_) => return None,
            None => (view.id.to_string(), books.parent(view.host)?),
        };
        let destination = DestPeer { ip: at.ip, rpc_port: i32::try_from(at.rpc_port).ok()?, peer_id: peer_id.clone() };
        Some(((peer_id, parent), destination))
    }

    /// Sends a peer to the source; false if it is not one of these.
    pub(super) fn send_to_source(&mut self, peer: PeerKey) -> bool {
        if let Some(seat) = self.peers.get(&peer).and_then(|name| self.seats.get_mut(name)) {
            seat.is_at_source = true;
        }
        self.tell_code(peer, V1Code::SchedNeedBackSource)
    }

    /// Tells a peer a code; false if it is not one of these.
    pub(super) fn tell_code(&mut self, peer: PeerKey, code: V1Code) -> bool {
        let Some(name) = self.peers.get(&peer).cloned() else { return false };
        self.send(&name, code, Vec::new());
        true
    }

    /// The machine no longer knows a peer: it is told to go. Answers its host, if it is one of these.
    pub(super) fn forget(&mut self, peer: PeerKey) -> Option<HostKey> {
        self.tell_code(peer, V1Code::SchedPeerGone);
        let name = self.peers.get(&peer).cloned()?;
        self.remove(&name)
    }

    fn send(&mut self, name: &V1Name, code: V1Code, parents: Vec<DestPeer>) {
        let Some(seat) = self.seats.get_mut(name) else { return };
        let mut parents = parents.into_iter();
        let packet = PeerPacket {
            task_id: name.task().to_owned(),
            src_pid: name.peer().to_owned(),
            parallel_count: PARALLEL_COUNT,
            main_peer: parents.next(),
            steal_peers: parents.collect(),
            code: code.into(),
        };
        match &seat.stream {
            Some((_, sender)) if sender.try_send(packet.clone()).is_ok() => {}
            // Too slow, or on its way out: it hears it if it comes again.
            _ => (seat.stream, seat.waiting) = (None, Some(packet)),
        }
    }

    /// Lets those go whose time is over; answers their hosts.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<HostKey> {
        if self.next_end.is_none_or(|end| now < end) {
            return Vec::new();
        }
        let over = |seat: &Seat| seat.stream.is_none() && seat.until <= now;
        let names: Vec<V1Name> =
            self.seats.iter().filter(|(_, seat)| over(seat)).map(|(name, _)| name.clone()).collect();
        let hosts = names.iter().filter_map(|name| self.remove(name)).collect();
        self.next_end = self.seats.values().filter(|seat| seat.stream.is_none()).map(|seat| seat.until).min();
        hosts
    }
}
