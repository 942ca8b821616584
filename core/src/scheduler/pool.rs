//! Sets of members from which a few are drawn.

use alloc::vec::Vec;

use super::event::{HostKey, PeerKey};
use super::member::Member;
use super::swarm::Row;
use crate::rng::Rng;

/// A member in a pool, and what is asked of those who are drawn: with this at hand, all that a decision is
/// about to look at can be fetched at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub(super) row: Row,
    /// Who is served first, smaller earlier.
    pub(super) rank: u32,
    pub(super) host: HostKey,
    pub(super) peer: PeerKey,
}

impl Entry {
    pub(super) const fn new(row: Row, member: &Member) -> Self {
        Self { row, rank: member.rank(), host: member.host, peer: member.peer }
    }
}

/// A set of members from which one can be drawn, all in constant time. Each member knows its place in it.
#[derive(Debug)]
pub(super) struct Pool {
    entries: Vec<Entry>,
    kind: PoolKind,
}

/// Which of a swarm's pools.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PoolKind {
    /// Those who want pieces and have room to receive.
    Hungry,
    /// Those whose host had room to upload but nothing that anybody wanted.
    Idle,
}

/// A member's places in the pools, plus one; 0 where it is not.
pub(super) type Places = [u32; 2];

impl Pool {
    pub(super) const fn new(kind: PoolKind) -> Self {
        Self { entries: Vec::new(), kind }
    }

    pub(super) const fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) const fn contains(&self, member: &Member) -> bool {
        member.places[self.kind as usize] > 0
    }

    /// Puts the member of a row in; false if it was.
    pub(super) fn insert(&mut self, row: Row, member: &mut Member) -> bool {
        let is_new = !self.contains(member);
        if is_new {
            self.entries.push(Entry::new(row, member));
            member.places[self.kind as usize] = self.entries.len() as u32;
        }
        is_new
    }

    /// Notes a member's new rank, if it is in the pool.
    pub(super) fn rerank(&mut self, member: &Member) {
        if let Some(at) = member.places[self.kind as usize].checked_sub(1) {
            self.entries[at as usize].rank = member.rank();
        }
    }

    /// Takes the member of a row out.
    pub(super) fn remove(&mut self, row: Row, members: &mut [Option<Member>]) {
        let mut place = |row: Row, place: u32| {
            members[row as usize]
                .as_mut()
                .map_or(0, |member| core::mem::replace(&mut member.places[self.kind as usize], place))
        };
        if let Some(at) = place(row, 0).checked_sub(1) {
            self.entries.swap_remove(at as usize);
            if let Some(moved) = self.entries.get(at as usize) {
                place(moved.row, at + 1);
            }
        }
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = Row> {
        self.entries.iter().map(|entry| entry.row)
    }

    /// Fills `sample` with members of the pool: all of them up to `limits.scan`, else `limits.draw` drawn at
    /// random (possibly the same twice). Their order is drawn, or begins at a drawn place.
    pub(super) fn sample(&self, rng: &mut Rng, limits: SampleLimits, sample: &mut Vec<Entry>) {
        sample.clear();
        let first = rng.index(self.entries.len());
        if self.entries.len() <= limits.scan {
            sample.extend(self.entries[first..].iter().chain(&self.entries[..first]));
        } else {
            sample.extend((0..limits.draw).map(|_| self.entries[rng.index(self.entries.len())]));
        }
    }
}

/// How much of a pool is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct SampleLimits {
    /// Pools up to this size are looked at whole.
    pub(super) scan: usize,
    /// From larger pools this many rows are drawn.
    pub(super) draw: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::event::Zone;
    use crate::time::Instant;

    #[test]
    fn a_pool_finds_what_was_put_in_and_nothing_else() {
        let mut pool = Pool::new(PoolKind::Idle);
        let mut members = [Some(Member::new(Instant::ZERO, HostKey::default(), Zone(0), false)); 4];
        let insert = |pool: &mut Pool, members: &mut [Option<Member>; 4], row: Row| {
            pool.insert(row, members[row as usize].as_mut().unwrap())
        };
        assert!([0, 1, 3].into_iter().all(|row| insert(&mut pool, &mut members, row)));
        assert!(!insert(&mut pool, &mut members, 1));
        pool.remove(0, &mut members);
        pool.remove(0, &mut members);
        let is_in = members.map(|member| pool.contains(&member.unwrap()));
        assert_eq!(is_in, [false, true, false, true]);
        pool.remove(3, &mut members);
        let member = members[1].as_mut().unwrap();
        member.held = 9;
        pool.rerank(member);
        assert_eq!((pool.rows().collect::<Vec<_>>(), pool.entries[0].rank), (alloc::vec![1], 9));
    }
}
