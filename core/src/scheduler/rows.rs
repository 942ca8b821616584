//! Which pieces each member has and which are on their way to it, as bits.

use alloc::vec::Vec;

use super::swarm::Row;
use crate::piece::PieceNumber;

/// Bytes of a cache line, and how many words of 64 pieces fit into one.
const LINE: usize = 64;
const LINE_WORDS: usize = 8;

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
        self.len += 1;
        if self.start + self.len * self.stride > self.bits.len() {
            self.move_to(2 * self.len, self.words);
        }
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
        for row in 0..self.len.min(self.rows_filled()) {
            let to = start + row * stride;
            bits[to..to + self.words].copy_from_slice(self.held(row as Row));
            bits[to + words..to + words + self.words].copy_from_slice(self.coming(row as Row));
        }
        (self.words, self.stride, self.bits, self.start) = (words, stride, bits, start);
    }

    /// Rows that there is memory for.
    fn rows_filled(&self) -> usize {
        (self.bits.len() - self.start).checked_div(self.stride).unwrap_or(0)
    }

    pub(super) fn held(&self, row: Row) -> &[u64] {
        let at = self.start + row as usize * self.stride;
        &self.bits[at..at + self.words]
    }

    pub(super) fn coming(&self, row: Row) -> &[u64] {
        let at = self.start + row as usize * self.stride + self.words;
        &self.bits[at..at + self.words]
    }

    /// Puts a piece into one of the sets of a row, or takes it out.
    pub(super) fn flip(&mut self, row: Row, piece: PieceNumber, is_coming: bool) {
        let set = if is_coming { self.words } else { 0 };
        self.bits[self.start + row as usize * self.stride + set + piece.index() / 64] ^= 1 << (piece.get() % 64);
    }

    /// Reads a row without using it.
    pub(super) fn touched(&self, row: Row) -> u64 {
        let at = self.start + row as usize * self.stride;
        self.bits[at..at + 2 * self.words].iter().step_by(LINE_WORDS).fold(0, |all, word| all ^ word)
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
