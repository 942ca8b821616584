//! One task on the scheduler: who has what, what is on its way to whom, how rare each piece is.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::cached::Replicas;
use super::event::{PeerKey, Zone};
use super::member::Member;
use super::pool::{Entry, Pool, PoolKind};
use super::rows::Rows;
use super::seeding::SourceBook;
use super::usual::Usual;
use super::zone::ZoneBook;
use crate::id::{PieceDigest, TaskId};
use crate::lifecycle::TaskState;
use crate::piece::set::bits;
use crate::piece::{Availability, PieceNumber, PiecePlan, PieceSet};
use crate::prefetch::prefetch;
use crate::time::Instant;

/// A peer's place in its swarm's tables, as long as it is a member.
pub(super) type Row = u32;

/// One task's swarm.
#[derive(Debug)]
pub(super) struct Swarm {
    pub(super) task: TaskId,
    pub(super) state: TaskState,
    pub(super) plan: Option<PiecePlan>,
    pub(super) is_ranged: bool,
    /// Hash of the source's validators; 0 if unknown.
    pub(super) version: u64,
    pub(super) members: Vec<Option<Member>>,
    free_rows: Vec<Row>,
    /// Per row: the pieces it has, and those on their way to it.
    rows: Rows,
    /// Copies of each piece that exist or are on their way: so a seed, whose copy is the only one,
    /// sends every piece once before it repeats any.
    pub(super) availability: Availability,
    pub(super) zones: BTreeMap<Zone, ZoneBook>,
    /// Members that want pieces and have room to receive.
    pub(super) hungry: Pool,
    /// Members whose host had room to upload but nothing that anybody wanted.
    pub(super) idle: Pool,
    /// Members that want pieces.
    pub(super) wanting: u32,
    /// How many of these no seed is woken for.
    pub(super) modest: u32,
    /// Whether parents stand idle while the last are served.
    pub(super) is_endgame: bool,
    /// Pieces that came by grants.
    pub(super) delivered: u64,
    /// When those who wait were last told that they are not forgotten.
    pub(super) reassured: Instant,
    /// When bytes were last heard to arrive anywhere in it.
    pub(super) moved: Instant,
    /// Transfers begun a second time because the first was slow.
    pub(super) second_starts: u64,
    pub(super) usual: Usual,
    pub(super) source: SourceBook,
    /// Members that pull.
    pub(super) pullers: Vec<PeerKey>,
    /// Whether a parent has turned up that those who pull have not been offered.
    pub(super) has_new_parent: bool,
    /// Copies somebody wants of a cached content.
    pub(super) replicas: Replicas,
    digests: Vec<Option<PieceDigest>>,
    digest_log: Vec<(u32, PieceDigest)>,
    /// Digests somebody claims, of pieces nobody vouches for yet.
    claims: BTreeMap<u32, Claim>,
    /// When the last member left.
    pub(super) deserted: Instant,
}

impl Swarm {
    pub(super) fn new(task: TaskId, now: Instant) -> Self {
        Self {
            task,
            state: TaskState::Pending,
            plan: None,
            is_ranged: true,
            version: 0,
            members: Vec::new(),
            free_rows: Vec::new(),
            rows: Rows::default(),
            availability: Availability::new(0),
            zones: BTreeMap::new(),
            hungry: Pool::new(PoolKind::Hungry),
            idle: Pool::new(PoolKind::Idle),
            wanting: 0,
            modest: 0,
            is_endgame: false,
            delivered: 0,
            reassured: now,
            moved: now,
            second_starts: 0,
            usual: Usual::default(),
            source: SourceBook::new(false, now),
            pullers: Vec::new(),
            has_new_parent: false,
            replicas: Replicas::default(),
            digests: Vec::new(),
            digest_log: Vec::new(),
            claims: BTreeMap::new(),
            deserted: now,
        }
    }

    /// The member of a row that is in use.
    pub(super) fn member(&self, row: Row) -> Option<&Member> {
        self.members.get(row as usize)?.as_ref()
    }

    pub(super) fn len(&self) -> usize {
        self.members.len() - self.free_rows.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Members, in row order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Row, &Member)> {
        self.members.iter().enumerate().filter_map(|(row, member)| Some((row as Row, member.as_ref()?)))
    }

    pub(super) fn join(&mut self, member: Member) -> Row {
        self.zones.entry(member.zone).or_default().members += 1;
        if let Some(row) = self.free_rows.pop() {
            self.members[row as usize] = Some(member);
            return row;
        }
        self.members.push(Some(member));
        self.rows.push();
        (self.members.len() - 1) as Row
    }

    /// Takes a member out with all it has. What is on its way to it must have been cleared.
    pub(super) fn leave(&mut self, row: Row, now: Instant) {
        let held: Vec<PieceNumber> = bits(self.held(row).iter().copied()).collect();
        held.into_iter().for_each(|piece| self.clear_held(row, piece));
        self.hungry.remove(row, &mut self.members);
        self.idle.remove(row, &mut self.members);
        if let Some(member) = self.members[row as usize].take() {
            debug_assert_eq!(member.progress(), 0);
            if let Some(zone) = self.zones.get_mut(&member.zone) {
                zone.members -= 1;
            }
            self.zones.retain(|_, zone| zone.members > 0);
            self.free_rows.push(row);
        }
        if self.is_empty() {
            self.deserted = now;
        }
    }

    /// Whether a row is in the pool of the hungry.
    pub(super) fn is_hungry(&self, row: Row) -> bool {
        self.member(row).is_some_and(|member| self.hungry.contains(member))
    }

    /// Puts a member in one of the pools, or takes it out. True if it was not there and is now.
    pub(super) fn note_pooled(&mut self, kind: PoolKind, row: Row, is_in: bool) -> bool {
        let pool = match kind {
            PoolKind::Hungry => &mut self.hungry,
            PoolKind::Idle => &mut self.idle,
        };
        if !is_in {
            pool.remove(row, &mut self.members);
        }
        is_in && self.members[row as usize].as_mut().is_some_and(|member| pool.insert(row, member))
    }

    /// A row wants pieces that are granted, or does not any more.
    pub(super) fn note_wanting(&mut self, row: Row, is_wanting: bool) {
        if let Some(member) = self.members[row as usize].as_mut() {
            member.is_wanting = is_wanting;
        }
    }

    /// Number of pieces known so far: all, once the plan is closed.
    pub(super) fn piece_count(&self) -> u32 {
        self.plan.and_then(|plan| plan.count()).unwrap_or_else(|| self.availability.count())
    }

    /// Whether this row has every piece of a closed plan.
    pub(super) fn is_complete(&self, row: Row) -> bool {
        let count = self.plan.and_then(|plan| plan.count());
        count.is_some() && self.member(row).map(|member| member.held) == count
    }

    /// Makes room for pieces up to the plan's end, or up to `piece` while the plan is open.
    pub(super) fn make_room(&mut self, count: u32) {
        self.rows.widen(count);
        self.availability.grow(count);
        if self.digests.len() < count as usize {
            self.digests.resize(count as usize, None);
        }
    }

    pub(super) fn held(&self, row: Row) -> &[u64] {
        self.rows.held(row)
    }

    /// Has a member and its row fetched.
    pub(super) fn prefetch(&self, row: Row) {
        self.rows.prefetch(row);
        self.prefetch_member(row);
    }

    /// Has a member fetched.
    pub(super) fn prefetch_member(&self, row: Row) {
        prefetch(&self.members[row as usize]);
    }

    /// Has the rows of a sample fetched.
    pub(super) fn prefetch_rows(&self, sample: &[Entry]) {
        sample.iter().for_each(|entry| self.rows.prefetch(entry.row));
    }

    pub(super) fn coming(&self, row: Row) -> &[u64] {
        self.rows.coming(row)
    }

    pub(super) fn has(&self, row: Row, piece: PieceNumber) -> bool {
        self.held(row).get(piece.index() / 64).is_some_and(|word| word >> (piece.get() % 64) & 1 == 1)
    }

    pub(super) fn expects(&self, row: Row, piece: PieceNumber) -> bool {
        self.coming(row).get(piece.index() / 64).is_some_and(|word| word >> (piece.get() % 64) & 1 == 1)
    }

    /// The row expects a piece from now on. It must neither have nor expect it.
    pub(super) fn set_coming(&mut self, row: Row, piece: PieceNumber) {
        debug_assert!(!self.has(row, piece) && !self.expects(row, piece));
        self.rows.flip(row, piece, true);
        self.count_copy(row, piece, true);
        self.adjust(row, 0, 1);
    }

    /// The row no longer expects a piece.
    pub(super) fn clear_coming(&mut self, row: Row, piece: PieceNumber) {
        if self.expects(row, piece) {
            self.rows.flip(row, piece, true);
            self.count_copy(row, piece, false);
            self.adjust(row, 0, -1);
        }
    }

    /// The row has got a piece at `now`; the end is near when `last` are left.
    pub(super) fn note_held(&mut self, now: Instant, row: Row, piece: PieceNumber, last: u32) {
        self.set_held(row, piece);
        self.moved = now;
        self.note_news(now, row);
        let count = self.plan.and_then(|plan| plan.count()).unwrap_or(u32::MAX);
        if let Some(member) = self.members[row as usize].as_mut().filter(|member| !member.is_seed) {
            member.is_behind = self.usual.is_behind(member.progress(), count, last);
        }
    }

    /// Something came for this row.
    pub(super) fn note_news(&mut self, now: Instant, row: Row) {
        if let Some(member) = self.members[row as usize].as_mut() {
            member.served = now;
        }
    }

    /// The row has a piece from now on; false if it had.
    pub(super) fn set_held(&mut self, row: Row, piece: PieceNumber) -> bool {
        if self.has(row, piece) {
            return false;
        }
        if self.expects(row, piece) {
            self.rows.flip(row, piece, true);
            self.adjust(row, 1, -1);
        } else {
            self.count_copy(row, piece, true);
            self.adjust(row, 1, 0);
        }
        self.rows.flip(row, piece, false);
        true
    }

    /// The row lost a piece.
    pub(super) fn clear_held(&mut self, row: Row, piece: PieceNumber) {
        if self.has(row, piece) {
            self.rows.flip(row, piece, false);
            self.count_copy(row, piece, false);
            self.adjust(row, -1, 0);
        }
    }

    /// A piece is on its way between two rows from now on.
    pub(super) fn note_granted(&mut self, from: Row, to: Row, piece: PieceNumber) {
        self.set_coming(to, piece);
        if let Some(member) = self.members[to as usize].as_mut() {
            member.near = piece.get();
        }
        if let Some(member) = self.members[from as usize].as_mut() {
            member.last_child = to;
        }
    }

    /// A row has got a piece from a member in `zone`.
    pub(super) fn note_served(&mut self, row: Row, zone: Zone) {
        if let Some(member) = self.members[row as usize].as_mut() {
            member.is_escaping &= member.zone != zone;
            member.note_spent(false);
            self.hungry.rerank(member);
        }
    }

    /// A transfer to this row was in vain, as all to its host lately.
    pub(super) fn note_spent(&mut self, row: Row) {
        if let Some(member) = self.members[row as usize].as_mut() {
            member.note_spent(true);
            self.hungry.rerank(member);
        }
    }

    fn adjust(&mut self, row: Row, held: i32, coming: i32) {
        if let Some(member) = self.members[row as usize].as_mut() {
            member.held = member.held.wrapping_add_signed(held);
            member.coming = member.coming.wrapping_add_signed(coming);
            self.hungry.rerank(member);
        }
    }

    fn count_copy(&mut self, row: Row, piece: PieceNumber, is_more: bool) {
        if is_more {
            self.availability.add(piece);
        } else {
            self.availability.remove(piece);
        }
        if let Some(zone) = self.members[row as usize].map(|member| member.zone) {
            self.zones.entry(zone).or_default().count(piece, is_more);
        }
    }

    /// Writes down what a row could give: what it has and, with `relays`, what is on its way to it.
    pub(super) fn note_offered(&self, row: Row, relays: bool, words: &mut Vec<u64>) {
        words.clear();
        words.extend_from_slice(self.held(row));
        if relays {
            words.iter_mut().zip(self.coming(row)).for_each(|(word, coming)| *word |= coming);
        }
    }

    /// Writes down what a row could be given: what it neither has nor expects.
    pub(super) fn note_lacked(&self, row: Row, words: &mut Vec<u64>) {
        words.clear();
        words.extend(self.held(row).iter().zip(self.coming(row)).map(|(held, coming)| !(held | coming)));
    }

    /// Whether a row neither has nor expects one of these pieces.
    pub(super) fn lacks_any(&self, row: Row, words: &[u64]) -> bool {
        let has = self.held(row).iter().zip(self.coming(row));
        has.zip(words).fold(0, |some, ((held, coming), word)| some | (word & !(held | coming))) != 0
    }

    /// Whether a row has, or with `relays` expects, one of these pieces.
    pub(super) fn offers_any(&self, row: Row, relays: bool, words: &[u64]) -> bool {
        let mask = if relays { u64::MAX } else { 0 };
        let has = self.held(row).iter().zip(self.coming(row));
        has.zip(words).fold(0, |some, ((held, coming), word)| some | ((held | coming & mask) & word)) != 0
    }

    /// The first piece at or after `from` that a row does not have: how far a reader in order gets.
    pub(super) fn prefix(&self, row: Row, from: u32) -> u32 {
        let held = self.held(row);
        let mut piece = from;
        while let Some(word) = held.get(piece as usize / 64) {
            let ones = (word >> (piece % 64)).trailing_ones().min(64 - piece % 64);
            piece += ones;
            if !piece.is_multiple_of(64) || ones == 0 {
                break;
            }
        }
        piece
    }

    /// Pieces with a copy in a zone or on its way into it.
    pub(super) fn present_in(&self, zone: Zone) -> Option<&PieceSet> {
        self.zones.get(&zone).map(ZoneBook::present)
    }

    /// Remembers the digest of a piece for good. `Some(false)` if another one is known for good.
    pub(super) fn note_digest(&mut self, piece: PieceNumber, digest: PieceDigest) -> Option<bool> {
        let slot = self.digests.get_mut(piece.index())?;
        match slot {
            Some(known) => Some(*known == digest),
            None => {
                *slot = Some(digest);
                self.digest_log.push((piece.get(), digest));
                Some(true)
            }
        }
    }

    /// Whether the digest of a piece is known for good.
    pub(super) fn is_sure(&self, piece: PieceNumber) -> bool {
        self.digests.get(piece.index()).is_some_and(Option::is_some)
    }

    /// The digest of a piece, if somebody vouches for it.
    pub(super) fn digest(&self, piece: PieceNumber) -> Option<PieceDigest> {
        self.digests.get(piece.index()).copied().flatten()
    }

    /// Somebody without a mandate says that a piece has this digest and that it has the piece. One
    /// voice is not enough; the second that agrees settles it. Answers who has the piece if the
    /// digest is now known for good.
    pub(super) fn claim(&mut self, piece: PieceNumber, digest: PieceDigest, by: PeerKey) -> Vec<PeerKey> {
        if self.is_sure(piece) {
            return if self.note_digest(piece, digest) == Some(true) { alloc::vec![by] } else { Vec::new() };
        }
        let claim = self.claims.entry(piece.get()).or_insert_with(|| Claim { digest, by: Vec::new() });
        if claim.digest != digest || claim.by.contains(&by) {
            return Vec::new();
        }
        claim.by.push(by);
        if claim.by.len() < 2 { Vec::new() } else { self.settle_claim(piece, digest) }
    }

    /// A digest is known for good: who claimed the same has the piece.
    pub(super) fn settle_claim(&mut self, piece: PieceNumber, digest: PieceDigest) -> Vec<PeerKey> {
        self.note_digest(piece, digest);
        let claim = self.claims.remove(&piece.get()).filter(|claim| claim.digest == digest);
        claim.map_or_else(Vec::new, |claim| claim.by)
    }

    /// A peer is gone, and its claims with it.
    pub(super) fn withdraw_claims(&mut self, by: PeerKey) {
        self.claims.values_mut().for_each(|claim| claim.by.retain(|known| *known != by));
        self.claims.retain(|_, claim| !claim.by.is_empty());
    }

    /// Digests in the order they became known.
    pub(super) fn digest_log(&self) -> &[(u32, PieceDigest)] {
        &self.digest_log
    }
}

/// A digest on the word of holders alone.
#[derive(Debug)]
struct Claim {
    digest: PieceDigest,
    by: Vec<PeerKey>,
}

#[cfg(test)]
mod tests {
    use super::super::event::HostKey;
    use super::*;

    #[test]
    fn the_prefix_ends_at_the_first_hole_across_words() {
        let mut swarm = Swarm::new(TaskId::from_bytes([0; 32]), Instant::ZERO);
        let row = swarm.join(Member::new(Instant::ZERO, HostKey::default(), Zone(0), false));
        let plan = PiecePlan::with_piece_len(200, 1).unwrap();
        swarm.make_room(200);
        for hole in [0, 1, 63, 64, 65, 128, 150] {
            plan.pieces().take_while(|piece| piece.get() < hole).for_each(|piece| _ = swarm.set_held(row, piece));
            let beyond = plan.number(hole + 1).unwrap();
            swarm.set_held(row, beyond);
            assert!((0..=hole).all(|from| swarm.prefix(row, from) == hole), "{hole}");
            swarm.clear_held(row, beyond);
        }
        plan.pieces().for_each(|piece| _ = swarm.set_held(row, piece));
        assert_eq!(swarm.prefix(row, 3), 200);
    }

    #[test]
    fn making_room_keeps_what_is_known() {
        let mut swarm = Swarm::new(TaskId::from_bytes([0; 32]), Instant::ZERO);
        let member = Member::new(Instant::ZERO, HostKey::default(), Zone(0), false);
        let rows = [swarm.join(member), swarm.join(member)];
        let plan = PiecePlan::with_piece_len(200, 1).unwrap();
        let [first, last] = [plan.number(1).unwrap(), plan.number(130).unwrap()];
        swarm.make_room(2);
        swarm.set_held(rows[1], first);
        swarm.make_room(200);
        swarm.set_coming(rows[0], last);
        assert!(swarm.has(rows[1], first) && !swarm.has(rows[0], first));
        assert!(swarm.expects(rows[0], last) && !swarm.expects(rows[1], last));
        let mut words = Vec::new();
        swarm.note_lacked(rows[1], &mut words);
        assert!(swarm.offers_any(rows[0], true, &words) && !swarm.offers_any(rows[0], false, &words));
        swarm.note_offered(rows[0], true, &mut words);
        assert_eq!(bits(words.iter().copied()).collect::<Vec<_>>(), [last]);
        assert!(swarm.lacks_any(rows[1], &words) && !swarm.lacks_any(rows[0], &words));
        swarm.clear_coming(rows[0], last);
        swarm.leave(rows[1], Instant::ZERO);
        assert_eq!(swarm.availability.copies(first), 0);
        swarm.availability.check_invariants();
    }
}
