//! A set of pieces of one content, as a bit per piece.

use alloc::vec::Vec;
use core::fmt;

use super::plan::{PIECE_COUNT_LIMIT, PieceNumber, PiecePlan};

/// Which pieces somebody has, wants or is fetching: one bit each, growing as needed.
///
/// Invariant: words beyond the last set bit may be missing but never lie, so two sets with the
/// same members are equal whatever their history.
#[derive(Clone, Default, Eq)]
pub struct PieceSet {
    words: Vec<u64>,
    len: u32,
}

impl PieceSet {
    /// The empty set.
    pub const fn new() -> Self {
        Self { words: Vec::new(), len: 0 }
    }

    /// All pieces of a closed plan; the empty set for an open one.
    pub fn all(plan: &PiecePlan) -> Self {
        let count = plan.count().unwrap_or(0);
        let mut words = alloc::vec![u64::MAX; count.div_ceil(64) as usize];
        if let (Some(last), rest @ 1..) = (words.last_mut(), count % 64) {
            *last = (1 << rest) - 1;
        }
        Self { words, len: count }
    }

    /// Number of members.
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether there is no member.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the set holds every piece of a closed plan.
    pub fn is_complete(&self, plan: &PiecePlan) -> bool {
        plan.count() == Some(self.len)
    }

    /// Whether `piece` is a member.
    pub fn contains(&self, piece: PieceNumber) -> bool {
        self.words.get(piece.index() / 64).is_some_and(|word| word >> (piece.get() % 64) & 1 == 1)
    }

    /// Adds `piece`; false if it was there.
    pub fn insert(&mut self, piece: PieceNumber) -> bool {
        let at = piece.index() / 64;
        if at >= self.words.len() {
            self.words.resize(at + 1, 0);
        }
        let bit = 1 << (piece.get() % 64);
        let is_new = self.words[at] & bit == 0;
        self.words[at] |= bit;
        self.len += u32::from(is_new);
        is_new
    }

    /// Removes `piece`; false if it was not there.
    pub fn remove(&mut self, piece: PieceNumber) -> bool {
        let was_there = self.contains(piece);
        if was_there {
            self.words[piece.index() / 64] &= !(1 << (piece.get() % 64));
            self.len -= 1;
        }
        was_there
    }

    /// Removes everything, keeping the memory.
    pub fn clear(&mut self) {
        self.words.clear();
        self.len = 0;
    }

    /// The bits, 64 pieces a word, lowest piece in the lowest bit.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Word `at` of the bits; 0 beyond the end.
    pub fn word(&self, at: usize) -> u64 {
        self.words.get(at).copied().unwrap_or(0)
    }

    /// Members in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = PieceNumber> + '_ {
        bits(self.words.iter().copied())
    }

    /// Pieces of a closed plan that are not members, in ascending order.
    pub fn missing<'a>(&'a self, plan: &PiecePlan) -> impl Iterator<Item = PieceNumber> + use<'a> {
        plan.pieces().filter(|piece| !self.contains(*piece))
    }

    /// The first piece of the contiguous run of members from piece 0 that is *not* a member: how
    /// far a reader in order can go.
    pub fn contiguous(&self) -> u32 {
        let full = self.words.iter().take_while(|word| **word == u64::MAX).count();
        full as u32 * 64 + self.word(full).trailing_ones()
    }

    /// The set as bytes, eight pieces each, lowest piece in the lowest bit, without trailing zeros.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes.truncate(used);
        bytes
    }

    /// Reads [`PieceSet::to_bytes`]; bits of pieces the plan does not have make it `None`.
    pub fn from_bytes(bytes: &[u8], plan: &PiecePlan) -> Option<Self> {
        if bytes.len() as u64 * 8 > u64::from(PIECE_COUNT_LIMIT) + 7 {
            return None;
        }
        let mut set = Self::new();
        for (at, chunk) in bytes.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            for bit in bits([u64::from_le_bytes(word)].into_iter()) {
                set.insert(plan.number(at as u32 * 64 + bit.get())?);
            }
        }
        Some(set)
    }
}

/// The set bits of a sequence of words, as pieces in ascending order.
pub fn bits(words: impl Iterator<Item = u64>) -> impl Iterator<Item = PieceNumber> {
    words.enumerate().flat_map(|(at, word)| {
        core::iter::successors((word != 0).then_some(word), |rest| {
            let rest = rest & (rest - 1);
            (rest != 0).then_some(rest)
        })
        .map(move |rest| PieceNumber::from_table(at as u32 * 64 + rest.trailing_zeros()))
    })
}

impl PartialEq for PieceSet {
    fn eq(&self, other: &Self) -> bool {
        let longest = self.words.len().max(other.words.len());
        self.len == other.len && (0..longest).all(|at| self.word(at) == other.word(at))
    }
}

impl fmt::Debug for PieceSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl FromIterator<PieceNumber> for PieceSet {
    fn from_iter<I: IntoIterator<Item = PieceNumber>>(pieces: I) -> Self {
        let mut set = Self::new();
        for piece in pieces {
            set.insert(piece);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(count: u64) -> PiecePlan {
        PiecePlan::with_piece_len(count, 1).unwrap()
    }

    #[test]
    fn all_is_complete_at_word_edges() {
        for count in [0, 1, 63, 64, 65, 128, 200] {
            let plan = plan(count);
            let all = PieceSet::all(&plan);
            assert!(all.is_complete(&plan));
            assert_eq!(all, plan.pieces().collect());
            assert_eq!(u64::from(all.contiguous()), count);
            assert_eq!(all.missing(&plan).count(), 0);
        }
    }

    #[test]
    fn contiguous_stops_at_the_first_hole() {
        let plan = plan(200);
        let mut set = PieceSet::all(&plan);
        for hole in [199, 130, 64, 63, 0] {
            set.remove(plan.number(hole).unwrap());
            assert_eq!(set.contiguous(), hole);
        }
    }

    #[test]
    fn foreign_bytes_are_refused() {
        let plan = plan(10);
        assert_eq!(PieceSet::from_bytes(&[0xff, 0x03], &plan), Some(PieceSet::all(&plan)));
        assert_eq!(PieceSet::from_bytes(&[0xff, 0x07], &plan), None);
        assert_eq!(PieceSet::from_bytes(&[0; 1 << 20], &plan), None);
    }
}
