//! How many copies of each piece exist (or are on their way) in a swarm.

use alloc::vec::Vec;

use super::plan::PieceNumber;

/// Copies per piece, with the fewest known at any time. All operations take constant time.
///
/// Pieces are kept sorted by their number of copies, with the place where each number starts, so
/// that one more or one less copy is a swap at the border of two groups.
#[derive(Clone, Debug, Default)]
pub struct Availability {
    copies: Vec<u32>,
    /// Pieces in ascending order of copies.
    order: Vec<u32>,
    /// Where each piece stands in `order`.
    place: Vec<u32>,
    /// `starts[c]`: first place in `order` of a piece with at least `c` copies.
    starts: Vec<u32>,
}

impl Availability {
    /// For a content of `count` pieces, none of which exists yet.
    pub fn new(count: u32) -> Self {
        let mut new = Self::default();
        new.grow(count);
        new
    }

    /// Number of pieces.
    pub fn count(&self) -> u32 {
        self.copies.len() as u32
    }

    /// Adds pieces without copies until there are `count`. Linear in the pieces there are.
    pub fn grow(&mut self, count: u32) {
        let old = self.count();
        if count <= old {
            return;
        }
        self.copies.resize(count as usize, 0);
        self.order.splice(0..0, old..count);
        self.place.resize(count as usize, 0);
        for (place, piece) in self.order.iter().enumerate() {
            self.place[*piece as usize] = place as u32;
        }
        self.starts.iter_mut().skip(1).for_each(|start| *start += count - old);
        if self.starts.is_empty() {
            self.starts.push(0);
        }
    }

    /// Copies of one piece.
    pub fn copies(&self, piece: PieceNumber) -> u32 {
        self.copies.get(piece.index()).copied().unwrap_or(0)
    }

    /// The fewest copies any piece has; 0 without pieces.
    pub fn fewest(&self) -> u32 {
        self.order.first().map_or(0, |piece| self.copies[*piece as usize])
    }

    /// Pieces from the rarest to the commonest.
    pub fn rarest_first(&self) -> impl Iterator<Item = PieceNumber> + '_ {
        self.order.iter().map(|piece| PieceNumber::from_table(*piece))
    }

    /// Pieces with at least one copy, from the rarest to the commonest.
    pub fn existing(&self) -> impl Iterator<Item = PieceNumber> + '_ {
        let first = self.starts.get(1).copied().unwrap_or(self.count());
        self.order[first as usize..].iter().map(|piece| PieceNumber::from_table(*piece))
    }

    /// One more copy of `piece`, which must be below [`Availability::count`].
    pub fn add(&mut self, piece: PieceNumber) {
        let copies = self.copies[piece.index()] as usize;
        if self.starts.len() < copies + 2 {
            self.starts.push(self.count());
        }
        self.starts[copies + 1] -= 1;
        self.swap(piece, self.starts[copies + 1]);
        self.copies[piece.index()] += 1;
    }

    /// One copy of `piece` less; it must have one.
    pub fn remove(&mut self, piece: PieceNumber) {
        let copies = self.copies[piece.index()] as usize;
        debug_assert!(copies > 0, "no copy of {piece:?} to remove");
        self.swap(piece, self.starts[copies]);
        self.starts[copies] += 1;
        self.copies[piece.index()] -= 1;
    }

    fn swap(&mut self, piece: PieceNumber, to: u32) {
        let from = self.place[piece.index()];
        let other = self.order[to as usize];
        self.order.swap(from as usize, to as usize);
        self.place[piece.index()] = to;
        self.place[other as usize] = from;
    }

    /// Panics unless order, places and starts agree with the copies.
    pub fn check_invariants(&self) {
        let sorted = self.order.windows(2).all(|w| self.copies[w[0] as usize] <= self.copies[w[1] as usize]);
        assert!(sorted, "pieces out of order");
        for (place, piece) in self.order.iter().enumerate() {
            assert_eq!(self.place[*piece as usize] as usize, place, "piece {piece} misplaced");
        }
        for (copies, start) in self.starts.iter().enumerate() {
            let fewer = self.copies.iter().filter(|c| (**c as usize) < copies).count();
            assert_eq!(*start as usize, fewer, "start of {copies} copies");
        }
    }
}
