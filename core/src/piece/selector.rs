//! Which piece to take next: rarest first, then nearest, then by lot.

use super::availability::Availability;
use super::plan::PieceNumber;
use super::set::bits;

/// In which order a receiver wants pieces.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Order {
    /// Rarest first over the whole swarm: spreads fastest.
    #[default]
    RarestFirst,
    /// For a reader that consumes in order: the first piece inside a window of this many pieces
    /// after the contiguous prefix, rarest first beyond it.
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
}

impl Selector {
    /// Chooses among the pieces whose bits are set in `candidates` (64 a word); `None` if there
    /// are none. Work is linear in the candidates.
    pub fn choose(&self, availability: &Availability, candidates: impl Iterator<Item = u64>) -> Option<PieceNumber> {
        bits(candidates).min_by_key(|piece| self.key(availability, *piece))
    }

    fn key(&self, availability: &Availability, piece: PieceNumber) -> (u32, u32, u32, bool) {
        if let Order::InOrder { from, window } = self.order
            && (from..from.saturating_add(window)).contains(&piece.get())
        {
            return (0, piece.get(), 0, false);
        }
        let ahead = piece.get() >= self.near;
        (1, availability.copies(piece), piece.get().abs_diff(self.near), ahead == self.coin)
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
        Selector { near, coin, order }.choose(&availability, [candidates].into_iter()).map(PieceNumber::get)
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
    }
}
