//! What is usual in a swarm: how fast its transfers are, and how far its members have got.

/// Both are smoothed over so many.
const SMOOTHED_OVER: u32 = 64;

/// Who has so many pieces less than is usual is behind.
const BEHIND: u32 = 2;

/// What is usual in a swarm.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usual {
    rate: u32,
    /// In pieces, times [`SMOOTHED_OVER`].
    progress: u32,
}

impl Usual {
    /// What a transfer brings, in bytes a millisecond; 0 while unknown.
    pub(super) const fn rate(&self) -> u32 {
        self.rate
    }

    /// A transfer has ended that was expected to bring `rate` bytes a millisecond.
    pub(super) const fn note_rate(&mut self, rate: u32) {
        let (old, over) = (self.rate as u64, SMOOTHED_OVER as u64);
        self.rate = if old == 0 { rate } else { ((old * (over - 1) + rate as u64) / over) as u32 };
    }

    /// A member of a swarm of `count` pieces has got one, and has or expects so many now. Answers whether it is
    /// behind and the end is no more than `last` pieces away.
    ///
    /// Who has fallen behind, because its transfers happened to be slow, does not catch up while it gets one
    /// piece at a time like all others, and all wait for it in the end. Then it may take two at once: if its
    /// link is wide enough it is done sooner. If not it is done no later, and parents that send to it half as
    /// fast have not much else to do any more.
    pub(super) const fn is_behind(&mut self, progress: u32, count: u32, last: u32) -> bool {
        let (old, now) = (self.progress as u64, progress as u64 * SMOOTHED_OVER as u64);
        let usual = if old == 0 { now } else { old - old / SMOOTHED_OVER as u64 + progress as u64 };
        self.progress = if usual > u32::MAX as u64 { u32::MAX } else { usual as u32 };
        let usual = self.progress / SMOOTHED_OVER;
        last > 0 && count <= usual.saturating_add(last) && progress + BEHIND <= usual
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_two_pieces_less_than_others_is_behind_once_the_end_is_near() {
        let (mut usual, count, last) = (Usual::default(), 100, 16);
        for progress in BEHIND + 1..=count {
            (0..SMOOTHED_OVER * 4).for_each(|_| assert!(!usual.is_behind(progress, count, last)));
            // What is asked lowers what is usual a little.
            let (mut slow, mut never) = (usual, usual);
            let is_near = progress - 1 + last >= count;
            assert_eq!(slow.is_behind(progress - BEHIND - 1, count, last), is_near, "{progress}");
            assert!(!usual.is_behind(progress - 1, count, last), "{progress}");
            assert!(!never.is_behind(progress - BEHIND - 1, count, 0), "{progress}");
        }
    }

    #[test]
    fn one_slow_transfer_changes_little() {
        let mut usual = Usual::default();
        (0..100).for_each(|_| usual.note_rate(6400));
        usual.note_rate(0);
        assert_eq!(usual.rate(), 6300);
    }
}
