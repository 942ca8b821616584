//! What a decision is about to look at, fetched before it does: see [`crate::prefetch`].

use super::Scheduler;
use super::event::{GrantKey, Input};
use super::host::{Grant, Host, Peer, SwarmKey};
use super::pool::Entry;
use crate::prefetch::prefetch;

impl Scheduler {
    /// A driver that has many inputs at hand may show each twice before it tells it: some two dozen inputs
    /// earlier by this, some dozen earlier by [`Scheduler::look_ahead`]. Nothing changes by either but the
    /// time it takes: the grant an input speaks of is fetched from memory meanwhile.
    pub fn look_far_ahead(&self, input: &Input) {
        if let Some(grant) = subject(input).and_then(|key| self.grants.prefetch(key)) {
            prefetch(grant);
            prefetch(&grant.rate);
        }
    }

    /// What it takes to handle an input is fetched from memory meanwhile: see [`Scheduler::look_far_ahead`].
    pub fn look_ahead(&self, input: &Input) {
        match (input, subject(input).and_then(|key| self.grants.get(key))) {
            (Input::NearlyFinished { .. }, Some(grant)) => self.prefetch_nearly(grant),
            (_, Some(grant)) => self.prefetch_finished(grant),
            _ => {}
        }
    }

    /// The lanes of both ends have room then, and the parent looks for somebody else.
    fn prefetch_nearly(&self, grant: &Grant) {
        let (parent, child) = (&self.hosts[grant.from], &self.hosts[grant.to]);
        prefetch_parent(parent);
        prefetch_child(child);
        prefetch(&child.upload);
        prefetch_inbound(&self.peers[grant.parent]);
        prefetch_outbound(&self.peers[grant.parent]);
        let swarm = &self.swarms[grant.swarm];
        swarm.prefetch(grant.from_row);
        swarm.prefetch(grant.to_row);
    }

    /// The lists of both ends are shorter then, the parent is vouched for, and the child may be a parent.
    fn prefetch_finished(&self, grant: &Grant) {
        let (parent, child) = (&self.hosts[grant.from], &self.hosts[grant.to]);
        prefetch_parent(parent);
        prefetch_parent(child);
        prefetch_child(child);
        prefetch_outbound(&self.peers[grant.parent]);
        prefetch_inbound(&self.peers[grant.child]);
        prefetch_outbound(&self.peers[grant.child]);
        let swarm = &self.swarms[grant.swarm];
        swarm.prefetch(grant.to_row);
        swarm.prefetch_member(grant.from_row);
    }

    /// Who may be given something next.
    pub(super) fn prefetch_receiver(&self, key: SwarmKey, entry: &Entry) {
        let host = &self.hosts[entry.host];
        prefetch_parent(host);
        prefetch_child(host);
        prefetch_inbound(&self.peers[entry.peer]);
        self.swarms[key].prefetch(entry.row);
    }

    /// Who may give something next.
    pub(super) fn prefetch_parents(&self, key: SwarmKey, sample: &[Entry]) {
        for entry in sample {
            prefetch_parent(&self.hosts[entry.host]);
            prefetch_inbound(&self.peers[entry.peer]);
            self.swarms[key].prefetch_member(entry.row);
        }
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

/// A host's lines as a parent.
fn prefetch_parent(host: &Host) {
    prefetch(&host.upload);
    prefetch(&host.record);
}

/// A host's line as a child.
fn prefetch_child(host: &Host) {
    prefetch(&host.download);
}

/// A peer's line with what is on its way to it.
fn prefetch_inbound(peer: &Peer) {
    prefetch(peer);
}

/// A peer's line with what it sends.
fn prefetch_outbound(peer: &Peer) {
    prefetch(&peer.outbound);
}
