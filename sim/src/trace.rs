//! The trace of a run, as a hash: two runs with the same hash did the same things in the same order.

/// A running hash of what happened. Not for secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace(u64);

impl Trace {
    /// The trace of a run in which nothing has happened yet.
    pub const fn new() -> Self {
        Self(0x243F_6A88_85A3_08D3)
    }

    /// At `now_us`, `what` (a number for the kind of event) happened to `whom`, with `detail`.
    pub const fn note(&mut self, now_us: u64, what: u32, whom: u32, detail: u64) {
        self.mix(now_us);
        self.mix((what as u64) << 32 | whom as u64);
        self.mix(detail);
    }

    /// The finaliser of splitmix64 over the running value: each bit in changes half the bits out.
    const fn mix(&mut self, value: u64) {
        let mut z = self.0 ^ value.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        self.0 = z ^ (z >> 27);
    }

    /// The hash so far.
    pub const fn hash(self) -> u64 {
        self.0
    }
}

impl Default for Trace {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::Trace;

    #[test]
    fn order_and_every_part_count() {
        let of = |notes: &[(u64, u32, u32, u64)]| {
            let mut trace = Trace::new();
            notes.iter().for_each(|(now, what, whom, detail)| trace.note(*now, *what, *whom, *detail));
            trace.hash()
        };
        let all = [(1, 2, 3, 4), (2, 2, 3, 4), (1, 3, 3, 4), (1, 2, 4, 4), (1, 2, 3, 5)];
        for (at, one) in all.iter().enumerate() {
            assert!(all[at + 1..].iter().all(|other| of(&[*one]) != of(&[*other])));
        }
        assert_ne!(of(&[all[0], all[1]]), of(&[all[1], all[0]]));
        assert_eq!(of(&all), of(&all));
    }
}
