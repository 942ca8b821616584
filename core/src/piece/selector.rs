//! Which piece to take next: rarest first, then nearest, then by lot.

use super::availability::Availability;
use super::plan::PieceNumber;
use super::set::bits;

/// So many candidates are looked at one by one: to find the first of them among all pieces, from the
/// rarest on, is then more work.
const FEW: u32 = 128;

/// In which order a receiver wants pieces.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Order {
    /// Rarest first over the whole swarm: spreads fastest.
    #[default]
    RarestFirst,
    /// For a reader that consumes in order: the first common piece inside a window of this many pieces
    /// after the contiguous prefix, else the rarest.
    InOrder {
        /// First piece the reader still lacks.
        from: u32,
        /// Window length in pieces.
        window: u32,
    },
}

/// The rule by which one piece is chosen among candidates.
///
/// Fewest copies first; among equally rare pieces the one nearest to `near` (the piece now being
/// downloaded, so that disk access is nearly sequential); between two at equal distance `coin`
/// decides. Dragonfly v1 had the same three keys but drew inside its comparator, which is no
/// ordering; here the draw is an argument.
#[derive(Clone, Copy, Debug)]
pub struct Selector {
    /// The piece now being downloaded, or else the first.
    pub near: u32,
    /// Breaks the tie between two equally rare, equally near pieces.
    pub coin: bool,
    /// The receiver's order.
    pub order: Order,
    /// Copies from which on a piece is common. Readers that take one as soon as they can get it keep it from
    /// spreading, and all wait longer in the end.
    pub common: u32,
}

impl Selector {
    /// Chooses among the candidates, given as words of 64 bits as in a set of pieces; `None` if there
    /// are none. A candidate that nobody has or expects is no candidate. The work is the number of
    /// candidates where they are few; else that of rarer pieces that are none, and of those exactly
    /// as rare.
    pub fn choose(&self, availability: &Availability, candidates: &[u64]) -> Option<PieceNumber> {
        let is_candidate = |piece: PieceNumber| {
            candidates.get(piece.index() / 64).is_some_and(|word| word >> (piece.get() % 64) & 1 == 1)
        };
        if let Order::InOrder { from, window } = self.order {
            let end = from.saturating_add(window).min(availability.count());
            let is_common = |piece: &PieceNumber| availability.copies(*piece) >= self.common;
            let mut window = (from..end).map(PieceNumber::from_table);
            let first = window.find(|piece| is_candidate(*piece) && is_common(piece));
            if first.is_some() {
                return first;
            }
        }
        let count: u32 = candidates.iter().map(|word| word.count_ones()).sum();
        if count <= FEW {
            let ranked = bits(candidates.iter().copied()).map(|piece| (availability.copies(piece), piece));
            let existing = ranked.filter(|(copies, _)| *copies > 0);
            return existing.min_by_key(|(copies, piece)| (*copies, self.key(*piece))).map(|(_, piece)| piece);
        }
        let mut existing = availability.existing().filter(|piece| is_candidate(*piece));
        let first = existing.next()?;
        let copies = availability.copies(first);
        let equals = existing.take_while(|piece| availability.copies(*piece) == copies);
        core::iter::once(first).chain(equals).min_by_key(|piece| self.key(*piece))
    }

    fn key(&self, piece: PieceNumber) -> (u32, bool) {
        (piece.get().abs_diff(self.near), (piece.get() >= self.near) == self.coin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::piece::PiecePlan;

    fn choose(copies: &[u32], candidates: u64, near: u32, coin: bool, order: Order) -> Option<u32> {
        let plan = PiecePlan::with_piece_len(copies.len() as u64, 1).unwrap();
        let mut availability = Availability::new(copies.len() as u32);
        for (piece, copies) in plan.pieces().zip(copies) {
            (0..*copies).for_each(|_| availability.add(piece));
        }
        availability.check_invariants();
        Selector { near, coin, order, common: 3 }.choose(&availability, &[candidates]).map(PieceNumber::get)
    }

    #[test]
    fn rarest_then_nearest_then_coin() {
        let rarest = Order::RarestFirst;
        assert_eq!(choose(&[3, 2, 1, 2], 0b1111, 0, true, rarest), Some(2));
        assert_eq!(choose(&[3, 2, 1, 2], 0b1011, 3, true, rarest), Some(3));
        assert_eq!(choose(&[1, 1, 1, 1, 1], 0b11011, 2, true, rarest), Some(1));
        assert_eq!(choose(&[1, 1, 1, 1, 1], 0b11011, 2, false, rarest), Some(3));
        assert_eq!(choose(&[1, 1], 0, 0, true, rarest), None);
    }

    #[test]
    fn a_reader_in_order_gets_its_window_first() {
        let order = Order::InOrder { from: 1, window: 2 };
        assert_eq!(choose(&[9, 9, 9, 1], 0b1100, 0, true, order), Some(2));
        assert_eq!(choose(&[9, 9, 9, 1], 0b1001, 0, true, order), Some(3));
        assert_eq!(choose(&[9, 2, 9, 1], 0b1110, 0, true, order), Some(2), "the first is not common");
        assert_eq!(choose(&[9, 2, 2, 1], 0b1110, 0, true, order), Some(3), "none is");
    }
}
