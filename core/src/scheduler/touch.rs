//! Fetching from memory, all at once, what a decision is about to look at one after the other.
//!
//! With 100,000 peers none of it is in a cache, and a decision would wait for memory a few dozen times. What
//! the keys at hand lead to is known beforehand: read without using it, all of it is on its way together.

use core::hint::black_box;

use super::Scheduler;
use super::event::{GrantKey, HostKey, PeerKey};
use super::host::SwarmKey;
use super::swarm::Row;

impl Scheduler {
    /// Both ends of a grant.
    pub(super) fn touch_grant(&self, key: GrantKey) {
        let Some(grant) = self.grants.get(key) else { return };
        let hosts = self.touched_host(grant.from) ^ self.touched_host(grant.to);
        let peers = self.touched_peer(grant.parent) ^ self.touched_peer(grant.child);
        let swarm = &self.swarms[grant.swarm];
        black_box(hosts ^ peers ^ swarm.touched(grant.from_row) ^ swarm.touched(grant.to_row));
    }

    /// A member, its host and its part in the task.
    pub(super) fn touch_member(&self, key: SwarmKey, row: Row) {
        let swarm = &self.swarms[key];
        let Some(member) = swarm.member(row) else { return };
        black_box(swarm.touched(row) ^ self.touched_host(member.host) ^ self.touched_peer(member.peer));
    }

    /// The hosts of those who may be parents.
    pub(super) fn touch_hosts(&self, key: SwarmKey, sample: &[(u32, Row)]) {
        let members = sample.iter().filter_map(|(_, row)| self.swarms[key].member(*row));
        black_box(members.fold(0, |all, member| all ^ self.touched_host(member.host)));
    }

    fn touched_host(&self, key: HostKey) -> u64 {
        self.hosts.get(key).map_or(0, |host| {
            let lanes = host.upload.touched() ^ host.download.touched();
            lanes ^ u64::from(host.turn ^ host.pulls) ^ host.wanting.len() as u64
        })
    }

    fn touched_peer(&self, key: PeerKey) -> u64 {
        self.peers.get(key).map_or(0, |peer| u64::from(peer.row ^ peer.digests_told) ^ peer.inbound.len() as u64)
    }
}
