//! The scheduler's invariants, checked after each step when debug assertions are on.

use alloc::collections::{BTreeMap, BTreeSet};

use super::Scheduler;
use super::event::{HostKey, PeerKey};
use super::host::{Host, Inbound, Peer, Seat, Single};
use super::swarm::Swarm;
use crate::piece::PieceNumber;
use crate::piece::set::bits;

impl Scheduler {
    /// Panics with the number of the invariant that does not hold.
    pub(super) fn check(&self) {
        self.swarms.values().for_each(|swarm| self.check_swarm(swarm));
        self.check_lanes();
        self.check_grants();
        self.check_lists();
    }

    fn check_swarm(&self, swarm: &Swarm) {
        swarm.availability.check_invariants();
        let mut copies: BTreeMap<PieceNumber, u32> = BTreeMap::new();
        for (row, member) in swarm.iter() {
            let (held, coming) = (swarm.held(row), swarm.coming(row));
            assert!(held.iter().zip(coming).all(|(a, b)| a & b == 0), "I2: has what it expects");
            let count = |words: &[u64]| words.iter().map(|word| word.count_ones()).sum::<u32>();
            assert_eq!((member.held, member.coming), (count(held), count(coming)), "I2: counts");
            for piece in bits(held.iter().copied()).chain(bits(coming.iter().copied())) {
                *copies.entry(piece).or_default() += 1;
            }
            assert_eq!(swarm.is_hungry(row), self.is_hungry(swarm, row), "I7: {:?}", member.peer);
            let peer = &self.peers[member.peer];
            assert_eq!(
                member.is_wanting,
                peer.state.is_downloading() && peer.puller.is_none(),
                "I7: {:?}",
                member.peer
            );
            for claim in peer.puller.iter().flat_map(|puller| puller.claims.iter()) {
                let is_mere = !swarm.has(row, claim) && !swarm.is_sure(claim);
                assert!(is_mere && swarm.pullers.contains(&member.peer), "I11: {claim:?}");
            }
            for piece in bits(coming.iter().copied()) {
                let by_source = swarm.source.brings(member.peer, piece);
                let inbound = &self.peers[member.peer].inbound;
                let by_grant = inbound.iter().filter(|inbound| self.grants[inbound.grant].piece == piece).count();
                assert!(by_grant == 1 || (by_grant == 0 && by_source), "I4: {piece:?} comes {by_grant} times");
            }
        }
        for piece in swarm.availability.rarest_first() {
            let expected = copies.get(&piece).copied().unwrap_or(0);
            assert_eq!(swarm.availability.copies(piece), expected, "I1: copies of {piece:?}");
            let by_zone: u32 = swarm.zones.values().map(|zone| zone.copies(piece)).sum();
            assert_eq!(by_zone, expected, "I9: zones of {piece:?}");
            for zone in swarm.zones.values() {
                assert_eq!(zone.present().contains(piece), zone.copies(piece) > 0, "I9: presence of {piece:?}");
            }
        }
        for (at, run) in swarm.source.runs.iter().enumerate() {
            for other in &swarm.source.runs[at + 1..] {
                let is_apart = run.to.is_some_and(|to| to <= other.from) || other.to.is_some_and(|to| to <= run.from);
                assert!(is_apart && run.peer != other.peer, "I8: {run:?} and {other:?}");
            }
        }
    }

    fn check_lanes(&self) {
        let mut used: BTreeMap<HostKey, (u32, u32)> = BTreeMap::new();
        for grant in self.grants.values() {
            used.entry(grant.from).or_default().0 += u32::from(grant.fills_up);
            used.entry(grant.to).or_default().1 += u32::from(grant.fills_down);
        }
        for (key, host) in self.hosts.iter() {
            let (up, down) = used.get(&key).copied().unwrap_or_default();
            assert_eq!((host.upload.used, host.download.used), (up, down), "I3: lanes");
            assert!(up <= host.upload.limit() && down <= host.download.limit(), "I3: limits");
        }
    }

    fn check_grants(&self) {
        for (key, grant) in self.grants.iter() {
            let (parent, child) = (&self.peers[grant.parent], &self.peers[grant.child]);
            assert!(
                parent.outbound.contains(&(key, grant.piece)) && child.inbound.contains(&Inbound::of(key, grant)),
                "I10: lists of {key:?}"
            );
            assert_eq!((parent.host, child.host), (grant.from, grant.to), "I10: hosts of {key:?}");
            assert_eq!(
                (parent.seat(), child.seat()),
                (Seat { swarm: grant.swarm, row: grant.from_row }, Seat { swarm: grant.swarm, row: grant.to_row }),
                "I10: seats of {key:?}"
            );
            let swarm = &self.swarms[parent.swarm];
            let has = swarm.has(parent.row, grant.piece) || swarm.expects(parent.row, grant.piece);
            assert!(has, "I5: {grant:?}");
            assert_eq!(grant.fed.is_some(), swarm.has(parent.row, grant.piece), "I5: fed: {grant:?}");
            assert!(swarm.expects(child.row, grant.piece), "I4: not expected: {grant:?}");
            let mut upstream: PeerKey = grant.parent;
            for _ in 0..self.grants.len() {
                assert_ne!(upstream, grant.child, "I6: {grant:?}");
                match self.inbound(upstream, grant.piece) {
                    Some(next) => upstream = self.grants[next.grant].parent,
                    None => break,
                }
            }
        }
    }

    fn check_lists(&self) {
        let all = |list: fn(&Host) -> &Single<Seat>| -> BTreeSet<Seat> {
            self.hosts.values().flat_map(|host| list(host).iter().copied()).collect()
        };
        let listed: BTreeSet<PeerKey> = self.hosts.values().flat_map(|host| host.peers.iter().copied()).collect();
        let (wants, serves) = (all(|host| &host.wanting), all(|host| &host.serving));
        for (key, host) in self.hosts.iter() {
            let is_own = |peer: &PeerKey| self.peers.get(*peer).is_some_and(|peer| peer.host == key);
            let sits = |seat: &Seat| self.member(*seat).is_some_and(|member| member.host == key);
            let seats = [&host.wanting, &host.serving];
            let is_sound = host.peers.iter().all(is_own) && seats.into_iter().flatten().all(sits);
            assert!(is_sound, "I10: {key:?} lists another host's peer");
        }
        for (key, peer) in self.peers.iter() {
            let swarm = &self.swarms[peer.swarm];
            assert!(listed.contains(&key), "I10: {key:?} is not its host's");
            assert_eq!(wants.contains(&peer.seat()), peer.state.is_downloading(), "I10: wanting {key:?}");
            assert_eq!(serves.contains(&peer.seat()), swarm.wanting > 0, "I10: serving {key:?}");
            assert_eq!(swarm.member(peer.row).map(|member| member.peer), Some(key), "I10: row of {key:?}");
        }
        for swarm in self.swarms.values() {
            let wanting = swarm.iter().filter(|(_, m)| self.peers[m.peer].state.is_downloading()).count();
            assert_eq!(swarm.wanting as usize, wanting, "I10: wanting");
            let is_modest = |peer: &Peer| peer.state.is_downloading() && !peer.wakes_seeds;
            let modest = swarm.iter().filter(|(_, m)| is_modest(&self.peers[m.peer])).count();
            assert_eq!(swarm.modest as usize, modest, "I10: modest");
        }
        let listed: usize = self.hosts.values().map(|host| host.peers.len()).sum();
        assert_eq!(listed, self.peers.len(), "I10: peers");
        assert!(self.hosts.len() <= self.config.host_limit && self.swarms.len() <= self.config.task_limit);
    }
}
