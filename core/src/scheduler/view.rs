//! What a scheduler knows, for those who watch: rows that cost as much as they are many, and change
//! nothing.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::event::{GrantKey, HostInfo, HostKey, PeerKey};
use super::{Scheduler, swarm::Row};
use crate::blacklist::BlacklistPolicy;
use crate::id::TaskId;
use crate::lifecycle::PeerState;
use crate::piece::{PieceNumber, PiecePlan};
use crate::time::Instant;

/// A task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskRow {
    /// Its name.
    pub task: TaskId,
    /// How its content is cut, once that is known.
    pub plan: Option<PiecePlan>,
    /// Hosts in it.
    pub peers: u32,
    /// Those of them that have all of it.
    pub complete: u32,
    /// Seeds among them.
    pub seeds: u32,
    /// Those that want pieces.
    pub wanting: u32,
    /// Pieces all of them have, together.
    pub held: u64,
    /// Copies of the rarest piece, those on their way included.
    pub fewest_copies: u32,
}

/// A host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostRow {
    /// Its key.
    pub key: HostKey,
    /// What it says of itself.
    pub info: HostInfo,
    /// Transfers from it, and to it.
    pub uploads: u32,
    /// See `uploads`.
    pub downloads: u32,
    /// Until when nobody is offered it, if it is listed.
    pub listed_until: Option<Instant>,
    /// Whether it was listed, and has not behaved for long enough since.
    pub is_on_parole: bool,
    /// Whether its own failures say that it is itself at fault.
    pub is_isolated: bool,
    /// Tasks it is in.
    pub tasks: u32,
    /// Those of them it wants pieces of.
    pub wanting: u32,
}

/// How often peers for which too little came were helped.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Rescues {
    /// Transfers given to a faster parent at the end of a download.
    pub taken_over: u64,
    /// Peers sent to the source for what others have and do not send.
    pub sent_to_source: u64,
    /// Peers let be served across zones.
    pub let_across: u64,
}

/// A host's part in a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemberRow {
    /// The peer.
    pub peer: PeerKey,
    /// Its host.
    pub host: HostKey,
    /// Pieces it has.
    pub held: u32,
    /// Pieces on their way to it.
    pub coming: u32,
    /// Whether it wants more.
    pub is_wanting: bool,
    /// Whether it was sent to the source.
    pub is_at_source: bool,
}

/// A transfer under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transfer {
    /// Whose content.
    pub task: TaskId,
    /// Who sends.
    pub parent: HostKey,
    /// Who receives.
    pub child: HostKey,
    /// Length of the piece in bytes.
    pub bytes: u64,
}

/// What a peer has of a piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PieceState {
    /// Nothing.
    Missing,
    /// It is on its way.
    Coming,
    /// It has it.
    Held,
}

impl Scheduler {
    /// How often peers were helped since this scheduler was made.
    pub const fn rescues(&self) -> Rescues {
        self.rescues
    }

    /// All tasks.
    pub fn task_rows(&self) -> impl Iterator<Item = TaskRow> + '_ {
        self.swarms.values().map(|swarm| {
            let members = || swarm.iter();
            TaskRow {
                task: swarm.task,
                plan: swarm.plan,
                peers: swarm.len() as u32,
                complete: members().filter(|(row, _)| swarm.is_complete(*row)).count() as u32,
                seeds: members().filter(|(_, member)| member.is_seed).count() as u32,
                wanting: swarm.wanting,
                held: members().map(|(_, member)| u64::from(member.held)).sum(),
                fewest_copies: swarm.availability.fewest(),
            }
        })
    }

    /// All connected hosts.
    pub fn host_rows(&self, now: Instant) -> impl Iterator<Item = HostRow> + '_ {
        self.hosts.iter().map(move |(key, host)| HostRow {
            key,
            info: host.info,
            uploads: host.upload.used,
            downloads: host.download.used,
            listed_until: host.record.listed_until().filter(|until| now < *until),
            is_on_parole: host.record.is_on_parole(now, &BlacklistPolicy::GLOBAL),
            is_isolated: !host.isolation.is_sound(now),
            tasks: host.peers.len() as u32,
            wanting: host.wanting.len() as u32,
        })
    }

    /// Children `.0` that do not use parents `.1` for now, and until when.
    pub fn listed_pairs(&self, now: Instant) -> impl Iterator<Item = ((HostKey, HostKey), Instant)> + '_ {
        self.pairs.listed(now)
    }

    /// The hosts in a task; nothing for an unknown task.
    pub fn members_of(&self, task: &TaskId) -> impl Iterator<Item = MemberRow> + '_ {
        let swarm = self.tasks.get(task).map(|key| &self.swarms[*key]);
        swarm.into_iter().flat_map(|swarm| swarm.iter()).map(|(_, member)| {
            let peer = self.peers.get(member.peer);
            let is_wanting = peer.is_some_and(|peer| peer.state.is_downloading());
            MemberRow {
                peer: member.peer,
                host: member.host,
                held: member.held,
                coming: member.coming,
                is_wanting,
                is_at_source: peer.is_some_and(|peer| peer.state == PeerState::BackToSource),
            }
        })
    }

    /// Copies of a piece of a task, those on their way included.
    pub fn copies_of(&self, task: &TaskId, piece: PieceNumber) -> u32 {
        self.tasks.get(task).map_or(0, |key| self.swarms[*key].availability.copies(piece))
    }

    /// What a peer has of a piece.
    pub fn piece_state(&self, peer: PeerKey, piece: PieceNumber) -> PieceState {
        let Some(known) = self.peers.get(peer) else { return PieceState::Missing };
        let (swarm, row): (_, Row) = (&self.swarms[known.swarm], known.row);
        if swarm.has(row, piece) {
            PieceState::Held
        } else if swarm.expects(row, piece) {
            PieceState::Coming
        } else {
            PieceState::Missing
        }
    }

    /// The transfer of a grant that has not ended.
    pub fn transfer(&self, grant: GrantKey) -> Option<Transfer> {
        let grant = self.grants.get(grant)?;
        let task = self.swarms[grant.swarm].task;
        Some(Transfer { task, parent: grant.from, child: grant.to, bytes: self.bytes_of(grant.swarm, grant.piece) })
    }

    /// How many transfers are under way in a task, by who sends `.0` and who receives `.1`.
    pub fn edges_of(&self, task: &TaskId) -> BTreeMap<(HostKey, HostKey), u32> {
        let mut edges = BTreeMap::new();
        let peers: Vec<PeerKey> = self.members_of(task).map(|member| member.peer).collect();
        for peer in peers.into_iter().filter_map(|key| self.peers.get(key)) {
            for transfer in peer.inbound.iter().filter_map(|inbound| self.transfer(inbound.grant)) {
                *edges.entry((transfer.parent, transfer.child)).or_insert(0) += 1;
            }
        }
        edges
    }
}
