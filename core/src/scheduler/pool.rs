//! Sets of members from which a few are drawn.

use alloc::vec::Vec;

use super::swarm::Row;
use crate::rng::Rng;

/// A set of rows from which one can be drawn, all in constant time.
#[derive(Debug, Default)]
pub(super) struct Pool {
    rows: Vec<Row>,
    /// Where each row stands in `rows`, plus one; 0 if it is not in the pool.
    place: Vec<u32>,
}

impl Pool {
    pub(super) fn grow(&mut self, rows: usize) {
        self.place.resize(rows, 0);
    }

    pub(super) fn contains(&self, row: Row) -> bool {
        self.place.get(row as usize).is_some_and(|place| *place > 0)
    }

    /// Puts a row in; false if it was.
    pub(super) fn insert(&mut self, row: Row) -> bool {
        let is_new = !self.contains(row);
        if is_new {
            self.rows.push(row);
            self.place[row as usize] = self.rows.len() as u32;
        }
        is_new
    }

    pub(super) fn remove(&mut self, row: Row) {
        if self.contains(row) {
            let at = self.place[row as usize] as usize - 1;
            self.rows.swap_remove(at);
            self.place[row as usize] = 0;
            if let Some(moved) = self.rows.get(at) {
                self.place[*moved as usize] = at as u32 + 1;
            }
        }
    }

    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Fills `sample` with rows of the pool and their ranks: all of them up to `all_limit`, else `size`
    /// drawn at random (possibly the same twice). Their order is drawn, or begins at a drawn place.
    pub(super) fn sample(&self, rng: &mut Rng, limits: SampleLimits, ranks: &[u32], sample: &mut Vec<(u32, Row)>) {
        sample.clear();
        let ranked = |row: &Row| (ranks[*row as usize], *row);
        let first = rng.index(self.rows.len());
        if self.rows.len() <= limits.scan {
            sample.extend(self.rows[first..].iter().chain(&self.rows[..first]).map(ranked));
        } else {
            sample.extend((0..limits.draw).map(|_| ranked(&self.rows[rng.index(self.rows.len())])));
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

    #[test]
    fn a_pool_finds_what_was_put_in_and_nothing_else() {
        let mut pool = Pool::default();
        pool.grow(4);
        assert!([0, 1, 3].into_iter().all(|row| pool.insert(row)));
        assert!(!pool.insert(1));
        pool.remove(0);
        pool.remove(0);
        assert_eq!((pool.rows().len(), pool.contains(0), pool.contains(3)), (2, false, true));
        pool.remove(3);
        assert_eq!(pool.rows(), [1]);
    }
}
