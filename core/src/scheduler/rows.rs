//! Which pieces each member has and which are on their way to it, as bits.

use alloc::vec::Vec;

use super::swarm::Row;
use super::table::LINE;
use crate::piece::PieceNumber;
use crate::prefetch::prefetch;

/// Words of 64 pieces in a cache line.
const LINE_WORDS: usize = LINE / 8;

/// Two sets of pieces for each row: what it has, and what is on its way to it. A row begins where a cache
/// line does, or shares one with others: looking at the row of up to 256 pieces reads one line.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// Rows in use.
    len: usize,
    /// Words of one set.
    words: usize,
    /// Words from one row to the next.
    stride: usize,
    bits: Vec<u64>,
    /// Where the first row begins in `bits`: at the first border of a line.
    start: usize,
}

impl Rows {
    /// One more row, in which nothing is set.
    pub(super) fn push(&mut self) {
        let len = self.len + 1;
        if self.start + len * self.stride > self.bits.len() {
            self.move_to(2 * len, self.words);
        }
        self.len = len;
    }

    /// Makes room for `count` pieces in each set.
    pub(super) fn widen(&mut self, count: u32) {
        let words = count.div_ceil(64) as usize;
        if words > self.words {
            self.move_to(self.len, words);
        }
    }

    /// Moves everything to where there is room for so many rows and words.
    fn move_to(&mut self, rows: usize, words: usize) {
        let stride = match 2 * words {
            few @ ..=LINE_WORDS => few.next_power_of_two(),
            many => many.next_multiple_of(LINE_WORDS),
        };
        let mut bits = alloc::vec![0; rows * stride + LINE_WORDS];
        let start = bits.as_ptr().align_offset(LINE).min(LINE_WORDS);
        for row in 0..self.len {
            let to = start + row * stride;
            bits[to..to + self.words].copy_from_slice(self.held(row as Row));
            bits[to + words..to + words + self.words].copy_from_slice(self.coming(row as Row));
        }
        (self.words, self.stride, self.bits, self.start) = (words, stride, bits, start);
    }

    /// Where a row begins.
    const fn at(&self, row: Row) -> usize {
        self.start + row as usize * self.stride
    }

    pub(super) fn held(&self, row: Row) -> &[u64] {
        &self.bits[self.at(row)..][..self.words]
    }

    pub(super) fn coming(&self, row: Row) -> &[u64] {
        &self.bits[self.at(row) + self.words..][..self.words]
    }

    /// Puts a piece into one of the sets of a row, or takes it out.
    pub(super) fn flip(&mut self, row: Row, piece: PieceNumber, is_coming: bool) {
        let set = self.at(row) + if is_coming { self.words } else { 0 };
        self.bits[set + piece.index() / 64] ^= 1 << (piece.get() % 64);
    }

    /// Has a row fetched.
    pub(super) fn prefetch(&self, row: Row) {
        self.bits[self.at(row)..][..2 * self.words].iter().step_by(LINE_WORDS).for_each(prefetch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::piece::PiecePlan;
    use crate::piece::set::bits;

    #[test]
    fn rows_keep_their_bits_when_there_are_more_of_them_or_wider_ones() {
        let plan = PiecePlan::with_piece_len(1000, 1).unwrap();
        let piece = |number: u32| plan.number(number).unwrap();
        let mut rows = Rows::default();
        (0..3).for_each(|_| rows.push());
        let mut count = 0;
        for (row, wider) in [2, 70, 256, 300, 1000].into_iter().enumerate() {
            rows.widen(wider);
            rows.flip(row as Row, piece(wider - 1), false);
            rows.flip(row as Row, piece(wider - 2), true);
            rows.push();
            count = row as Row;
        }
        for (row, wider) in [2, 70, 256, 300, 1000].into_iter().enumerate() {
            let set = |words: &[u64]| bits(words.iter().copied()).collect::<Vec<_>>();
            assert_eq!(set(rows.held(row as Row)), [piece(wider - 1)]);
            assert_eq!(set(rows.coming(row as Row)), [piece(wider - 2)]);
            let first = rows.held(row as Row).as_ptr() as usize;
            assert_eq!(first % LINE, 0, "row {row} does not begin with a line");
        }
        let last = [rows.held(count + 1), rows.coming(count + 2)];
        assert!(last.into_iter().flatten().all(|word| *word == 0));
    }
}
