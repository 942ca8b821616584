//! The core's own random numbers: seeded, forkable, the same on every machine.

/// xoshiro256++ 1.0 by Blackman and Vigna (public domain, <https://prng.di.unimi.it>), seeded
/// through their splitmix64. Not for secrets.
///
/// Every part of a machine that draws owns a [`fork`](Rng::fork), so that a draw added to one part
/// does not shift what the others draw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// A generator whose whole future is determined by `seed`.
    pub fn new(seed: u64) -> Self {
        let mut mix = seed;
        Self { state: core::array::from_fn(|_| splitmix64(&mut mix)) }
    }

    /// An independent generator for the part called `label`; draws once from this one.
    pub fn fork(&mut self, label: &str) -> Self {
        let name = xxhash_rust::xxh3::xxh3_64(label.as_bytes());
        Self::new(self.next_u64() ^ name)
    }

    /// 64 uniform bits.
    pub fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let out = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (mut c, mut d) = (c ^ a, d ^ b);
        let (b, a) = (b ^ c, a ^ d);
        c ^= self.state[1] << 17;
        d = d.rotate_left(45);
        self.state = [a, b, c, d];
        out
    }

    /// A uniform number below `n`; 0 when `n` is 0. Lemire's multiplication without the rejection
    /// step: the bias is below n / 2^64 and nothing here can observe it.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// A uniform index below `len`; 0 when `len` is 0.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// True with probability `numerator / denominator`.
    pub fn chance(&mut self, numerator: u64, denominator: u64) -> bool {
        self.below(denominator) < numerator
    }

    /// A uniform number of `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        debug_assert!(low <= high);
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// Puts `items` in a uniformly random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
    }
}

fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference outputs of the authors' C code for the state {1, 2, 3, 4}.
    #[test]
    fn matches_the_published_generator() {
        let mut rng = Rng { state: [1, 2, 3, 4] };
        let drawn: [u64; 4] = core::array::from_fn(|_| rng.next_u64());
        assert_eq!(drawn, [41943041, 58720359, 3588806011781223, 3591011842654386]);
    }

    #[test]
    fn forks_differ_by_label_and_repeat_by_seed() {
        let fork = |seed, label| Rng::new(seed).fork(label).next_u64();
        assert_eq!(fork(7, "a"), fork(7, "a"));
        assert_ne!(fork(7, "a"), fork(7, "b"));
        assert_ne!(fork(7, "a"), fork(8, "a"));
    }

    #[test]
    fn draws_stay_in_their_bounds() {
        let mut rng = Rng::new(1);
        assert_eq!(rng.below(0), 0);
        assert!((0..1000).all(|_| rng.below(3) < 3));
        assert!((0..1000).all(|_| (5..=9).contains(&rng.between(5, 9))));
        let mut items: [u32; 20] = core::array::from_fn(|i| i as u32);
        rng.shuffle(&mut items);
        let mut sorted = items;
        sorted.sort_unstable();
        assert_ne!(items, sorted);
        assert_eq!(sorted, core::array::from_fn(|i| i as u32));
    }
}
