//! Fetching from memory, all at once, what a decision is about to look at one after the other.
//!
//! With 100,000 peers none of it is in a cache, and a decision would wait for memory a few dozen times. What
//! the keys at hand lead to is known beforehand: read without using it, all of it is on its way together.

use core::hint::black_box;

use super::Scheduler;
use super::event::{GrantKey, Input};
use super::host::{Grant, Host, Peer, SwarmKey};
use super::pool::Entry;

impl Scheduler {
    /// A driver that has several inputs at hand shows them first; then it tells them one by one. Nothing changes
    /// by this: what it takes to handle them is fetched from memory for all of them at once, and not for each
    /// when its turn comes.
    pub fn look_ahead(&self, inputs: &[Input]) {
        let known = || inputs.iter().filter_map(|input| Some((input, self.grants.get(subject(input)?)?)));
        black_box(known().fold(0, |all, (_, grant)| all ^ u64::from(grant.to_row)));
        black_box(known().fold(0, |all, (input, grant)| match input {
            Input::NearlyFinished { .. } => all ^ self.touched_nearly(grant),
            _ => all ^ self.touched_finished(grant),
        }));
    }

    /// The lanes of both ends have room then, and the parent looks for somebody else.
    fn touched_nearly(&self, grant: &Grant) -> u64 {
        let swarm = &self.swarms[grant.swarm];
        let peer = &self.peers[grant.parent];
        let parent = touched_parent(&self.hosts[grant.from]) ^ touched_child(peer) ^ u64::from(peer.row);
        let child = &self.hosts[grant.to];
        let child = child.download.touched() ^ child.upload.touched();
        parent ^ child ^ swarm.touched(grant.from_row) ^ swarm.touched(grant.to_row)
    }

    /// The lists of both ends are shorter then, the parent is vouched for, and the child may be a parent.
    fn touched_finished(&self, grant: &Grant) -> u64 {
        let (parent, child) = (&self.hosts[grant.from], &self.hosts[grant.to]);
        let peers = u64::from(self.peers[grant.parent].row) ^ touched_child(&self.peers[grant.child]);
        let hosts = touched_parent(parent) ^ touched_parent(child) ^ child.download.touched();
        let swarm = &self.swarms[grant.swarm];
        peers
            ^ hosts
            ^ swarm.touched(grant.to_row)
            ^ swarm.touched_member(grant.from_row)
            ^ u64::from(grant.rate.is_some())
    }

    /// Who may be given something next.
    pub(super) fn touch_receiver(&self, key: SwarmKey, entry: &Entry) {
        let host = &self.hosts[entry.host];
        let touched = host.download.touched() ^ touched_parent(host) ^ touched_child(&self.peers[entry.peer]);
        black_box(touched ^ self.swarms[key].touched(entry.row));
    }

    /// Who may give something next.
    pub(super) fn touch_parents(&self, key: SwarmKey, sample: &[Entry]) {
        let swarm = &self.swarms[key];
        let touched = |entry: &Entry| {
            let peer = touched_child(&self.peers[entry.peer]);
            peer ^ touched_parent(&self.hosts[entry.host]) ^ swarm.touched_member(entry.row)
        };
        black_box(sample.iter().fold(0, |all, entry| all ^ touched(entry)));
    }
}

/// The grant that an input speaks of.
const fn subject(input: &Input) -> Option<GrantKey> {
    match input {
        Input::NearlyFinished { grant } | Input::PieceFinished { grant } | Input::PieceFailed { grant, .. } => {
            Some(*grant)
        }
        _ => None,
    }
}

fn touched_parent(host: &Host) -> u64 {
    host.upload.touched() ^ u64::from(host.turn)
}

fn touched_child(peer: &Peer) -> u64 {
    u64::from(peer.digests_told)
}
