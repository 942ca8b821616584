//! Hosts and peers come and go, and pieces with them.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::Scheduler;
use super::candidates::Work;
use super::event::{HostInfo, HostKey, HostKind, Mode, Output, PeerKey, Refusal, Registration, RequestId};
use super::host::{Host, Peer, Seat, Short, SwarmKey, forget};
use super::member::Member;
use super::pool::PoolKind;
use super::pulling::Puller;
use super::swarm::{Row, Swarm};
use crate::blacklist::Record;
use crate::id::{HostId, PieceDigest, TaskId};
use crate::isolation::Isolation;
use crate::lifecycle::{PeerState, TaskState};
use crate::piece::{Order, PieceNumber, PieceSet};
use crate::time::Instant;

impl Scheduler {
    pub(super) fn host_announced(&mut self, now: Instant, request: RequestId, info: HostInfo) {
        let mut opinion = None;
        if let Some(old) = self.host_keys.get(&info.id).copied() {
            // The connection was replaced. A new incarnation begins with a clean record.
            let known = &self.hosts[old];
            let is_same = known.info.incarnation == info.incarnation;
            opinion = is_same.then(|| (known.record.clone(), known.isolation.clone()));
            self.host_left(now, old);
        }
        if self.hosts.len() >= self.config.host_limit {
            self.outbox.push(Output::Refuse { request, why: Refusal::Full });
            return;
        }
        let mut host = Host::new(info, now);
        if let Some(opinion) = opinion {
            (host.record, host.isolation) = opinion;
        }
        let key = self.hosts.insert(host);
        self.host_keys.insert(info.id, key);
        if info.kind == HostKind::Seed {
            self.seeds.push(key);
        }
        self.outbox.push(Output::HostAccepted { request, host: key });
    }

    pub(super) fn host_left(&mut self, now: Instant, key: HostKey) {
        let Some(host) = self.hosts.get(key) else { return };
        let id = host.info.id;
        for peer in host.peers.clone() {
            self.peer_left(now, peer);
        }
        self.work.retain(|work| !matches!(work, Work::Serve(host) if *host == key));
        if let Some(host) = self.hosts.remove(key) {
            *host = Host::new(host.info, now); // What was said of it would stay until its slot is used again.
        }
        self.host_keys.remove(&id);
        self.seeds.retain(|seed| *seed != key);
        if !self.pairs.is_empty() {
            self.pairs.forget(|(child, parent)| child == key || parent == key);
        }
    }

    pub(super) fn host_pardoned(&mut self, now: Instant, host: HostId) {
        let Some(key) = self.host_keys.get(&host).copied() else { return };
        let host = &mut self.hosts[key];
        host.record = Record::new(now);
        host.isolation = Isolation::new();
        self.pairs.forget(|(child, parent)| child == key || parent == key);
        self.work.push_back(Work::Serve(key));
        self.review_host_hunger(key);
    }

    pub(super) fn peer_registered(&mut self, now: Instant, registration: Registration) {
        let (request, task) = (registration.request, registration.task);
        match self.admit(now, registration) {
            Ok(key) => self.welcome(now, request, key),
            Err(why) => {
                self.outbox.push(Output::Refuse { request, why });
                if let Some(swarm) = self.tasks.get(&task) {
                    self.ensure_source(now, *swarm);
                }
            }
        }
    }

    fn admit(&mut self, now: Instant, registration: Registration) -> Result<PeerKey, Refusal> {
        let known = self.hosts.get(registration.host).ok_or(Refusal::UnknownHost)?;
        let (is_seed, zone) = (known.is_seed(), known.info.zone);
        // One peer for each host and task: a new registration replaces the old one, whatever comes of it, for the
        // host says that it has something else now. Nobody looks for a source meanwhile: what the host had is
        // missing for this moment alone.
        let old = self.tasks.get(&registration.task).and_then(|swarm| self.peer_on(registration.host, *swarm));
        if let Some(old) = old {
            self.remove_peer(now, old);
        }
        self.check_cached(now, &registration)?;
        let Registration { host, peer: id, task, plan, held, digests, cached, .. } = registration;
        let key = self.swarm_for(now, task)?;
        let swarm = &mut self.swarms[key];
        if swarm.len() >= self.config.peer_limit {
            return Err(Refusal::Full);
        }
        if let (Some(known), Some(plan)) = (swarm.plan, plan)
            && (known.piece_len() != plan.piece_len()
                || known.content_len().zip(plan.content_len()).is_some_and(|(a, b)| a != b))
        {
            return Err(Refusal::PlanMismatch);
        }
        // A content may change at its source and keep its length: pieces of two versions must not meet.
        let version = registration.version;
        if swarm.version != 0 && version != 0 && swarm.version != version {
            return Err(Refusal::PlanMismatch);
        }
        swarm.source.exists |= registration.has_source;
        self.version_learned(key, version);
        if let Some(cached) = cached {
            self.note_cached(now, key, cached);
        }
        let swarm = &mut self.swarms[key];
        let member = Member::new(now, host, zone, is_seed);
        let row = swarm.join(member);
        let peer = self.peers.insert(Peer {
            id,
            host,
            swarm: key,
            row,
            state: PeerState::Pending,
            order: registration.order,
            can_fetch_source: registration.can_fetch_source,
            wakes_seeds: registration.wakes_seeds,
            digests_told: 0,
            inbound: Short::new(),
            outbound: Short::new(),
            puller: (registration.mode == Mode::Candidates).then(Box::<Puller>::default),
        });
        if let Some(member) = self.swarms[key].members[row as usize].as_mut() {
            member.peer = peer;
            member.is_in_order = registration.order != Order::RarestFirst;
        }
        self.hosts[host].peers.push(peer);
        if registration.mode == Mode::Candidates {
            self.swarms[key].pullers.push(peer);
        }
        if self.swarms[key].wanting > 0 {
            self.hosts[host].serving.push(Seat { swarm: key, row });
        }
        if let Some(plan) = plan {
            self.adopt_plan(now, key, plan);
            self.adopt_pieces(now, peer, cached.is_some(), &held, &digests);
        }
        if registration.is_wanting && !self.swarms[key].is_complete(row) {
            self.begin_wanting(peer);
        }
        Ok(peer)
    }

    /// The peer a host has in a task, looked for where there is less to look through: a host may be in
    /// many tasks, and a task on many hosts.
    pub(super) fn peer_on(&self, host: HostKey, key: SwarmKey) -> Option<PeerKey> {
        let (swarm, known) = (&self.swarms[key], self.hosts.get(host)?);
        if swarm.members.len() < known.peers.len() {
            return swarm.iter().find(|(_, member)| member.host == host).map(|(_, member)| member.peer);
        }
        known.peers.iter().copied().find(|peer| self.peers[*peer].swarm == key)
    }

    /// Pieces a peer brings along. A seed's word is enough, and so is anybody's of a cached content (who
    /// imported the data is its source). Otherwise a digest needs two that agree, or the source itself;
    /// until then the piece is not offered to anybody.
    fn adopt_pieces(
        &mut self,
        now: Instant,
        peer: PeerKey,
        is_cached: bool,
        held: &PieceSet,
        digests: &[(u32, PieceDigest)],
    ) {
        let (key, host) = (self.peers[peer].swarm, self.peers[peer].host);
        let is_trusted = self.hosts[host].is_seed() || is_cached;
        let Some(plan) = self.swarms[key].plan else { return };
        let top = held.iter().last().map_or(0, |piece| piece.get() + 1);
        self.make_room(key, plan.count().unwrap_or(top));
        for (number, digest) in digests {
            if let Some(piece) = plan.number(*number).filter(|piece| held.contains(*piece)) {
                self.piece_claimed(now, peer, piece, *digest, is_trusted);
            }
        }
    }

    /// A peer says that it has a piece with this digest.
    pub(super) fn piece_claimed(
        &mut self,
        now: Instant,
        peer: PeerKey,
        piece: PieceNumber,
        digest: PieceDigest,
        is_trusted: bool,
    ) {
        let swarm = &mut self.swarms[self.peers[peer].swarm];
        if piece.get() >= swarm.availability.count() {
            return; // The plan is open and nobody with a mandate got this far.
        }
        let was_sure = swarm.is_sure(piece);
        let holders = if is_trusted && !was_sure {
            let mut holders = swarm.settle_claim(piece, digest);
            holders.push(peer);
            holders
        } else {
            swarm.claim(piece, digest, peer)
        };
        holders.into_iter().for_each(|holder| self.piece_found(now, holder, piece));
        if !was_sure {
            self.promote_claims(now, self.peers[peer].swarm, piece);
        }
    }

    fn swarm_for(&mut self, now: Instant, task: TaskId) -> Result<SwarmKey, Refusal> {
        if let Some(key) = self.tasks.get(&task) {
            return Ok(*key);
        }
        if self.swarms.len() >= self.config.task_limit {
            let deserted = self.swarms.iter().filter(|(_, swarm)| swarm.is_empty()).min_by_key(|(_, s)| s.deserted);
            let oldest = deserted.map(|(key, _)| key).ok_or(Refusal::Full)?;
            self.remove_swarm(oldest);
        }
        let key = self.swarms.insert(Swarm::new(task, now));
        self.tasks.insert(task, key);
        Ok(key)
    }

    /// Answers a registration and puts the new peer to work.
    fn welcome(&mut self, now: Instant, request: RequestId, key: PeerKey) {
        self.outbox.push(Output::Registered { request, peer: key });
        let (seat, host) = (self.peers[key].seat(), self.peers[key].host);
        if let Some(plan) = self.swarms[seat.swarm].plan {
            self.outbox.push(Output::TellPlan { peer: key, plan });
        }
        self.tell_digests(seat.swarm, key);
        self.finish_if_complete(now, seat);
        self.review_seat(seat);
        self.ensure_source(now, seat.swarm);
        self.offer_parents(now, key);
        self.work.push_back(Work::Serve(host));
    }

    fn begin_wanting(&mut self, key: PeerKey) {
        let peer = &mut self.peers[key];
        peer.state.step(PeerState::Running);
        self.hosts[peer.host].wanting.push(peer.seat());
        let swarm = &mut self.swarms[peer.swarm];
        swarm.wanting += 1;
        swarm.modest += u32::from(!peer.wakes_seeds);
        swarm.note_wanting(peer.row, peer.puller.is_none());
        if swarm.wanting == 1 {
            swarm.state = TaskState::Running;
            for (row, member) in swarm.members.iter_mut().enumerate() {
                let Some(member) = member else { continue };
                self.hosts[member.host].serving.push(Seat { swarm: peer.swarm, row: row as Row });
                // Nobody asked them before: whoever is fed will find them here.
                swarm.idle.insert(row as Row, member);
            }
        }
    }

    /// A peer no longer wants pieces. It keeps what it has.
    pub(super) fn stop_peer(&mut self, now: Instant, key: PeerKey) {
        self.end_wanting(now, key, PeerState::Failed);
    }

    fn end_wanting(&mut self, now: Instant, key: PeerKey, state: PeerState) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let was_wanting = peer.state.is_downloading();
        if peer.state.may_become(state) {
            peer.state.step(state);
        }
        if !was_wanting {
            return;
        }
        let (seat, host, is_modest) = (peer.seat(), peer.host, !peer.wakes_seeds);
        self.swarms[seat.swarm].note_wanting(seat.row, false);
        self.abandon_runs(now, key);
        while let Some(grant) = self.peers[key].inbound.first().map(|inbound| inbound.grant) {
            self.revoke(now, grant);
        }
        forget(&mut self.hosts[host].wanting, seat);
        let swarm = &mut self.swarms[seat.swarm];
        swarm.note_pooled(PoolKind::Hungry, seat.row, false);
        swarm.wanting -= 1;
        swarm.modest -= u32::from(is_modest);
        if swarm.wanting == 0 {
            for (row, member) in swarm.iter() {
                forget(&mut self.hosts[member.host].serving, Seat { swarm: seat.swarm, row });
            }
            let is_held = swarm.iter().any(|(row, _)| swarm.is_complete(row));
            swarm.state = if is_held { TaskState::Succeeded } else { TaskState::Pending };
        }
    }

    pub(super) fn finish_if_complete(&mut self, now: Instant, seat: Seat) {
        let swarm = &self.swarms[seat.swarm];
        let Some(key) = swarm.member(seat.row).filter(|_| swarm.is_complete(seat.row)).map(|m| m.peer) else { return };
        if self.peers[key].state != PeerState::Succeeded {
            self.end_wanting(now, key, PeerState::Succeeded);
            let swarm = &mut self.swarms[seat.swarm];
            if swarm.wanting > 0 {
                swarm.state = TaskState::Succeeded;
            }
        }
    }

    pub(super) fn peer_stopped(&mut self, now: Instant, key: PeerKey) {
        let Some(swarm) = self.peers.get(key).map(|peer| peer.swarm) else { return };
        self.stop_peer(now, key);
        self.ensure_source(now, swarm);
    }

    pub(super) fn peer_left(&mut self, now: Instant, key: PeerKey) {
        let Some(swarm) = self.peers.get(key).map(|peer| peer.swarm) else { return };
        self.remove_peer(now, key);
        self.ensure_source(now, swarm);
    }

    /// Takes a peer out with everything it had, expected and was to send.
    pub(super) fn remove_peer(&mut self, now: Instant, key: PeerKey) {
        if !self.peers.contains_key(key) {
            return;
        }
        self.end_wanting(now, key, PeerState::Left);
        while let Some((grant, _)) = self.peers[key].outbound.first().copied() {
            self.revoke(now, grant);
        }
        self.forget_puller(key);
        let Some(peer) = self.peers.remove(key) else { return };
        debug_assert!(peer.inbound.is_empty());
        let swarm = &mut self.swarms[peer.swarm];
        swarm.withdraw_claims(key);
        swarm.source.forget_peer(key, peer.host);
        swarm.leave(peer.row, now);
        let host = &mut self.hosts[peer.host];
        forget(&mut host.peers, key);
        forget(&mut host.serving, peer.seat());
    }

    pub(super) fn remove_swarm(&mut self, key: SwarmKey) {
        if let Some(swarm) = self.swarms.remove(key) {
            self.tasks.remove(&swarm.task);
        }
    }

    /// A peer has a piece by another way than a grant of it. One that is under way is in vain.
    pub(super) fn piece_found(&mut self, now: Instant, key: PeerKey, piece: PieceNumber) {
        let Some(seat) = self.peers.get(key).map(Peer::seat) else { return };
        self.piece_held(now, seat, piece);
        if let Some(grant) = self.inbound(key, piece).map(|inbound| inbound.grant) {
            self.revoke(now, grant);
        }
    }

    /// What a peer passes on of a piece comes no more slowly than the links let it, from now on.
    fn note_fed(&mut self, now: Instant, key: PeerKey, piece: PieceNumber) {
        for (grant, _) in self.peers[key].outbound.iter().filter(|(_, sent)| *sent == piece) {
            self.grants[*grant].fed.get_or_insert(now);
        }
    }

    /// A peer has a piece from now on: it may be done, and it may have something for others.
    pub(super) fn piece_held(&mut self, now: Instant, seat: Seat, piece: PieceNumber) {
        let swarm = &mut self.swarms[seat.swarm];
        swarm.note_held(now, seat.row, piece, self.config.last_pieces);
        let Some((key, host)) = swarm.member(seat.row).map(|member| (member.peer, member.host)) else { return };
        if let Some(puller) = self.peers[key].puller.as_mut() {
            puller.claims.remove(piece);
        }
        self.note_fed(now, key, piece);
        self.note_new_parent(seat);
        self.finish_if_complete(now, seat);
        // What was learned of its lane may have made room in it, for its other tasks too.
        self.review_host_hunger(host);
        self.work.push_back(Work::Serve(host));
    }

    /// Makes room for pieces up to `count`. While a plan is open every new piece is one more that
    /// the others lack.
    pub(super) fn make_room(&mut self, key: SwarmKey, count: u32) {
        let swarm = &mut self.swarms[key];
        let is_more = count > swarm.availability.count();
        swarm.make_room(count);
        if is_more {
            let members: Vec<PeerKey> = swarm.iter().map(|(_, member)| member.peer).collect();
            members.into_iter().for_each(|peer| self.review_hunger(peer));
        }
    }

    /// A peer has all it wanted, whether or not each piece's way is known here.
    pub(super) fn peer_done(&mut self, now: Instant, key: PeerKey) {
        let Some(swarm) = self.peers.get_mut(key).map(|peer| {
            if let Some(puller) = peer.puller.as_mut() {
                puller.is_done = true;
            }
            peer.swarm
        }) else {
            return;
        };
        self.note_complete(now, key);
        self.end_wanting(now, key, PeerState::Succeeded);
        self.ensure_source(now, swarm);
    }

    /// A peer that is granted pieces has everything. Word of one of them may have come too late: after its
    /// parent left, nothing is known of that grant.
    fn note_complete(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peers.get(key).filter(|peer| peer.puller.is_none()) else { return };
        let (swarm, row) = (&self.swarms[peer.swarm], peer.row);
        let Some(plan) = swarm.plan.filter(|plan| plan.count().is_some() && !swarm.is_complete(row)) else { return };
        let late: Vec<PieceNumber> =
            plan.pieces().filter(|piece| swarm.is_sure(*piece) && !swarm.has(row, *piece)).collect();
        late.into_iter().for_each(|piece| self.piece_found(now, key, piece));
    }

    pub(super) fn foreign_piece_held(&mut self, now: Instant, key: PeerKey, piece: u32) {
        let Some(swarm) = self.peers.get(key).map(|peer| peer.swarm) else { return };
        let known = self.swarms[swarm].plan.and_then(|plan| plan.number(piece));
        // It can only have verified the piece if the digest went through here.
        let Some(piece) = known.filter(|piece| self.swarms[swarm].is_sure(*piece)) else {
            return self.piece_pulled(now, key, piece);
        };
        self.piece_found(now, key, piece);
    }

    pub(super) fn reported_lost(&mut self, now: Instant, key: PeerKey, piece: u32) {
        let Some(swarm) = self.peers.get(key).map(|peer| peer.swarm) else { return };
        if let Some(piece) = self.swarms[swarm].plan.and_then(|plan| plan.number(piece)) {
            self.piece_lost(now, key, piece);
        }
    }

    /// A peer turned out not to have a piece: nobody is sent there for it any more.
    pub(super) fn piece_lost(&mut self, now: Instant, key: PeerKey, piece: PieceNumber) {
        let Some((swarm, row)) = self.peers.get(key).map(|peer| (peer.swarm, peer.row)) else { return };
        if !self.swarms[swarm].has(row, piece) {
            return;
        }
        self.swarms[swarm].clear_held(row, piece);
        let outbound = self.peers[key].outbound.clone();
        for (grant, _) in outbound.into_iter().filter(|(_, sent)| *sent == piece) {
            self.revoke(now, grant);
        }
        self.review_hunger(key);
        self.ensure_source(now, swarm);
    }
}
