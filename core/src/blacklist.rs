//! Who is not to be used, for how long, on whose word.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::planted::{Bug, is_planted};
use crate::time::{Duration, Instant};

/// When somebody is listed, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlacklistPolicy {
    /// Accusation points within the window that list somebody.
    pub point_threshold: u32,
    /// Most points one accuser can contribute: 1 makes the threshold a number of distinct accusers.
    pub points_per_accuser_limit: u32,
    /// Whether the accusers must also outnumber those it served well in the last window in which anybody
    /// used it, and half of those before. With it, a minority cannot list somebody who serves the
    /// majority well, nor one whom nobody needed for a while.
    pub needs_majority: bool,
    /// How long accusations count, and how long it takes until vouchers count half while it is used.
    pub window: Duration,
    /// How long the first listing lasts; each further one twice as long.
    pub term: Duration,
    /// The longest listing.
    pub term_limit: Duration,
    /// Most entries kept; the entry that was silent longest goes first, listed ones last.
    pub entry_limit: usize,
}

impl BlacklistPolicy {
    /// A child against its parents: three soft failures or one hard one in a minute.
    pub const LOCAL: Self = Self {
        point_threshold: 3,
        points_per_accuser_limit: 3,
        needs_majority: false,
        window: Duration::from_secs(60),
        term: Duration::from_secs(30),
        term_limit: Duration::from_secs(1800),
        entry_limit: 4096,
    };

    /// The scheduler on behalf of everybody: five distinct accusers in a minute (Dragonfly v1's
    /// threshold), who are more than those who vouched.
    pub const GLOBAL: Self = Self {
        point_threshold: 5,
        points_per_accuser_limit: 1,
        needs_majority: true,
        window: Duration::from_secs(60),
        term: Duration::from_secs(60),
        term_limit: Duration::from_secs(3600),
        entry_limit: 65_536,
    };
}

/// Points of a failure that may have many causes: a refused connection, a piece no longer there.
pub const SOFT_FAILURE: u32 = 1;
/// Points of what is enough for one child to look elsewhere at once: bytes that did not match their
/// digest, a transfer that stood still.
pub const HARD_FAILURE: u32 = 3;

/// Most distinct accusers remembered for one accused; older ones are forgotten first.
const ACCUSER_LIMIT: usize = 256;

/// What is known of one party, on the word of accusers `A`.
///
/// A listing ends by itself (its term); then the party is on *parole*: half the points list it
/// again, for twice the term. Each quiet term lowers the level by one, so everything decays. Nearly
/// everybody is blameless, and then there are only a few words to look at.
#[derive(Clone, Debug)]
pub struct Record<A> {
    vouchers: Vouchers<A>,
    guilt: Option<Box<Guilt<A>>>,
}

#[derive(Clone, Debug)]
struct Guilt<A> {
    accusers: Vec<Accusation<A>>,
    /// Times listed, less one for each quiet term since.
    level: u32,
    listed_until: Option<Instant>,
    touched: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Accusation<A> {
    by: A,
    points: u32,
    at: Instant,
}

/// Successes, not counting one party twice in a row: constant in size, since every good transfer passes here.
///
/// They age by windows in which something is said, not by time: whom nobody used for an hour is as good as
/// it was, and a few who come then with accusations are as few as before.
#[derive(Clone, Copy, Debug)]
struct Vouchers<A> {
    last: Option<A>,
    /// In the present window.
    latest: u32,
    /// In the one before, and half as many as there were when that began.
    older: u32,
    /// When the present window began: with the first word in it.
    since: Instant,
}

impl<A: Copy + Eq> Record<A> {
    /// A blameless record.
    pub const fn new(now: Instant) -> Self {
        Self { vouchers: Vouchers { last: None, latest: 0, older: 0, since: now }, guilt: None }
    }

    /// `by` accuses. True if this lists the party (who was not listed before).
    pub fn accuse(&mut self, now: Instant, by: A, points: u32, policy: &BlacklistPolicy) -> bool {
        self.decay(now, policy);
        self.vouchers.begin(now, policy.window);
        let vouchers = self.vouchers.count();
        self.guilt.get_or_insert_with(|| Box::new(Guilt::new(now))).accuse(now, by, points, vouchers, policy)
    }

    /// `by` was served well. Takes back `by`'s own accusation.
    pub fn vouch(&mut self, now: Instant, by: A, policy: &BlacklistPolicy) {
        if let Some(guilt) = &mut self.guilt {
            guilt.accusers.retain(|accuser| accuser.by != by);
        }
        self.vouchers.begin(now, policy.window);
        if self.vouchers.last != Some(by) {
            self.vouchers.last = Some(by);
            self.vouchers.latest = self.vouchers.latest.saturating_add(1);
        }
    }

    /// Whether the party is not to be used at `now`.
    pub fn is_listed(&self, now: Instant) -> bool {
        self.listed_until().is_some_and(|until| now < until)
    }

    /// When the present or last listing ends or ended, unless it has been decayed away.
    pub fn listed_until(&self) -> Option<Instant> {
        self.guilt.as_ref()?.listed_until
    }

    /// Whether the party was listed, is no longer, and has not yet behaved for long enough.
    pub fn is_on_parole(&self, now: Instant, policy: &BlacklistPolicy) -> bool {
        let decayed = self.guilt.as_ref().map(|guilt| guilt.decayed(now, policy));
        decayed.is_some_and(|(level, until, _)| level > 0 && until.is_none())
    }

    /// Brings the record up to `now`. True if a listing ended by this.
    pub fn decay(&mut self, now: Instant, policy: &BlacklistPolicy) -> bool {
        let Some(guilt) = &mut self.guilt else { return false };
        guilt.accusers.retain(|accusation| now - accusation.at < policy.window);
        let was_listed = guilt.listed_until.is_some();
        (guilt.level, guilt.listed_until, guilt.touched) = guilt.decayed(now, policy);
        let is_free = was_listed && guilt.listed_until.is_none();
        if guilt.is_blank() {
            self.guilt = None;
        }
        is_free
    }

    /// When there was last something to say against the party.
    fn touched(&self) -> Instant {
        self.guilt.as_ref().map_or(Instant::ZERO, |guilt| guilt.touched)
    }

    fn is_blank(&self) -> bool {
        self.guilt.as_ref().is_none_or(|guilt| guilt.is_blank())
    }
}

impl<A: Copy + Eq> Guilt<A> {
    const fn new(now: Instant) -> Self {
        Self { accusers: Vec::new(), level: 0, listed_until: None, touched: now }
    }

    fn accuse(&mut self, now: Instant, by: A, points: u32, vouchers: u32, policy: &BlacklistPolicy) -> bool {
        if self.listed_until.is_some() {
            return false;
        }
        match self.accusers.iter_mut().find(|known| known.by == by) {
            Some(known) => *known = Accusation { by, points: known.points.saturating_add(points), at: now },
            None => {
                if self.accusers.len() >= ACCUSER_LIMIT {
                    self.accusers.remove(0);
                }
                self.accusers.push(Accusation { by, points, at: now });
            }
        }
        if !self.is_convicted(vouchers, policy) {
            return false;
        }
        let term = policy.term.saturating_mul(1 << self.level.min(31)).min(policy.term_limit);
        self.level += 1;
        self.listed_until = Some(now + term);
        self.accusers.clear();
        true
    }

    fn decayed(&self, now: Instant, policy: &BlacklistPolicy) -> (u32, Option<Instant>, Instant) {
        let (mut level, mut until, mut touched) = (self.level, self.listed_until, self.touched);
        if let Some(end) = until.filter(|end| *end <= now) {
            (until, touched) = (None, end);
        }
        let term = policy.term.max(Duration::from_micros(1));
        while until.is_none() && level > 0 && now - touched >= term {
            level -= 1;
            touched += term;
        }
        (level, until, touched)
    }

    fn is_convicted(&self, vouchers: u32, policy: &BlacklistPolicy) -> bool {
        if is_planted(Bug::BlacklistNeverFires) {
            return false;
        }
        let points: u32 = self.accusers.iter().map(|a| a.points.min(policy.points_per_accuser_limit)).sum();
        let threshold = if self.level > 0 { policy.point_threshold.div_ceil(2) } else { policy.point_threshold };
        points >= threshold && (!policy.needs_majority || self.accusers.len() as u32 > vouchers)
    }

    fn is_blank(&self) -> bool {
        self.level == 0 && self.listed_until.is_none() && self.accusers.is_empty()
    }
}

impl<A> Vouchers<A> {
    const fn count(&self) -> u32 {
        self.older.saturating_add(self.latest)
    }

    /// Something is said: if the window is over, another one begins.
    fn begin(&mut self, now: Instant, window: Duration) {
        if now - self.since >= window {
            self.older = (self.older / 2).saturating_add(self.latest);
            (self.latest, self.since) = (0, now);
        }
    }
}

/// Records of many parties `K`, as many as the policy allows to keep.
#[derive(Clone, Debug)]
pub struct Blacklist<A, K> {
    policy: BlacklistPolicy,
    records: BTreeMap<K, Record<A>>,
}

impl<A: Copy + Eq, K: Copy + Ord> Blacklist<A, K> {
    /// Nobody is listed.
    pub const fn new(policy: BlacklistPolicy) -> Self {
        Self { policy, records: BTreeMap::new() }
    }

    /// `by` accuses `whom`. True if this lists `whom` (who was not listed before).
    pub fn accuse(&mut self, now: Instant, by: A, whom: K, points: u32) -> bool {
        if self.records.len() >= self.policy.entry_limit && !self.records.contains_key(&whom) {
            let oldest = self.records.iter().min_by_key(|(_, r)| (r.listed_until().is_some(), r.touched()));
            if let Some(oldest) = oldest.map(|(whom, _)| *whom) {
                self.records.remove(&oldest);
            }
        }
        self.records.entry(whom).or_insert_with(|| Record::new(now)).accuse(now, by, points, &self.policy)
    }

    /// `by` was served well by `whom`; of no interest while nobody accused `whom`.
    pub fn vouch(&mut self, now: Instant, by: A, whom: K) {
        if let Some(record) = self.records.get_mut(&whom) {
            record.vouch(now, by, &self.policy);
        }
    }

    /// Whether `whom` is not to be used at `now`.
    pub fn is_listed(&self, now: Instant, whom: K) -> bool {
        self.records.get(&whom).is_some_and(|record| record.is_listed(now))
    }

    /// Whether `whom` is on parole at `now`.
    pub fn is_on_parole(&self, now: Instant, whom: K) -> bool {
        self.records.get(&whom).is_some_and(|record| record.is_on_parole(now, &self.policy))
    }

    /// Those listed at `now`, with the end of their listing.
    pub fn listed(&self, now: Instant) -> impl Iterator<Item = (K, Instant)> + '_ {
        self.records
            .iter()
            .filter(move |(_, record)| record.is_listed(now))
            .filter_map(|(whom, record)| Some((*whom, record.listed_until()?)))
    }

    /// Forgets everything about `whom`: an operator's release, or a new incarnation.
    pub fn pardon(&mut self, whom: K) {
        self.records.remove(&whom);
    }

    /// Forgets everything about those who satisfy `is_gone`.
    pub fn forget(&mut self, is_gone: impl Fn(K) -> bool) {
        self.records.retain(|whom, _| !is_gone(*whom));
    }

    /// When the next listing ends.
    pub fn next_release(&self) -> Option<Instant> {
        self.records.values().filter_map(Record::listed_until).min()
    }

    /// Ends what has run its term and forgets what has decayed. Answers who is free again.
    pub fn expire(&mut self, now: Instant) -> Vec<K> {
        let policy = self.policy;
        let mut released = Vec::new();
        self.records.retain(|whom, record| {
            if record.decay(now, &policy) {
                released.push(*whom);
            }
            !record.is_blank()
        });
        released
    }

    /// Records kept, listed or not.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether nothing is remembered about anybody.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Instant {
        Instant::from_micros(secs * 1_000_000)
    }

    fn local() -> Blacklist<(), u8> {
        Blacklist::new(BlacklistPolicy::LOCAL)
    }

    /// Accused 9 of the tests that concern everybody.
    struct Global(Record<u32>);

    impl Global {
        const fn new() -> Self {
            Self(Record::new(Instant::ZERO))
        }
        fn accuse(&mut self, now: Instant, by: u32, points: u32) -> bool {
            self.0.accuse(now, by, points, &BlacklistPolicy::GLOBAL)
        }
        fn vouch(&mut self, now: Instant, by: u32) {
            self.0.vouch(now, by, &BlacklistPolicy::GLOBAL);
        }
    }

    #[test]
    fn one_hard_or_three_soft_failures_list_locally() {
        let mut list = local();
        assert!(list.accuse(secs(0), (), 1, HARD_FAILURE));
        assert!(list.is_listed(secs(29), 1) && !list.is_listed(secs(30), 1));
        for (second, lists) in [(0, false), (1, false), (2, true)] {
            assert_eq!(list.accuse(secs(second), (), 2, SOFT_FAILURE), lists);
        }
    }

    #[test]
    fn a_success_takes_the_soft_failures_back() {
        let mut list = local();
        list.accuse(secs(0), (), 1, 2);
        list.vouch(secs(1), (), 1);
        assert!(!list.accuse(secs(2), (), 1, SOFT_FAILURE));
    }

    #[test]
    fn one_liar_lists_nobody_globally() {
        let mut list = Global::new();
        assert!((0..1000).all(|second| !list.accuse(secs(second), 1, HARD_FAILURE)));
    }

    #[test]
    fn five_distinct_accusers_in_a_window_list_globally() {
        let mut list = Global::new();
        assert!((0..4).all(|accuser| !list.accuse(secs(0), accuser, SOFT_FAILURE)));
        assert!(!list.accuse(secs(61), 4, SOFT_FAILURE), "the first four are too old");
        assert!((5..8).all(|accuser| !list.accuse(secs(62), accuser, SOFT_FAILURE)));
        assert!(list.accuse(secs(62), 8, SOFT_FAILURE));
    }

    #[test]
    fn a_colluding_minority_cannot_list_who_serves_the_majority() {
        let mut list = Global::new();
        (100..120).for_each(|happy| list.vouch(secs(0), happy));
        assert!((0..20).all(|accuser| !list.accuse(secs(1), accuser, HARD_FAILURE)));
        assert!(list.accuse(secs(1), 20, HARD_FAILURE), "a majority can");
    }

    #[test]
    fn whom_nobody_used_for_long_is_not_listed_by_the_few_who_come_first() {
        let mut list = Global::new();
        (100..120).for_each(|happy| list.vouch(secs(0), happy));
        assert!((0..20).all(|accuser| !list.accuse(secs(8 * 60), accuser, HARD_FAILURE)));
        assert!(list.accuse(secs(8 * 60), 20, HARD_FAILURE), "a majority can");
    }

    #[test]
    fn who_served_many_and_then_serves_nobody_well_is_listed_within_minutes() {
        let mut list = Global::new();
        (100..1100).for_each(|happy| list.vouch(secs(0), happy));
        let listed = (1..).find(|minute| (0..5).any(|accuser| list.accuse(secs(minute * 60), accuser, HARD_FAILURE)));
        assert_eq!(listed, Some(9));
    }

    #[test]
    fn listings_double_on_parole_and_decay_when_quiet() {
        let mut list = local();
        assert!(list.accuse(secs(0), (), 1, HARD_FAILURE));
        assert!(!list.is_on_parole(secs(29), 1) && list.is_on_parole(secs(31), 1));
        assert!(list.accuse(secs(31), (), 1, 2), "half the points are enough on parole");
        assert_eq!(list.next_release(), Some(secs(91)));
        assert!(list.is_on_parole(secs(91), 1));
        assert!(!list.is_on_parole(secs(91 + 60), 1), "two quiet terms");
        assert_eq!(list.expire(secs(91 + 60)), [1]);
        assert!(list.is_empty());
    }

    #[test]
    fn the_number_of_entries_is_bounded_and_listed_ones_stay_longest() {
        let mut list: Blacklist<(), u32> = Blacklist::new(BlacklistPolicy { entry_limit: 3, ..BlacklistPolicy::LOCAL });
        list.accuse(secs(0), (), 0, HARD_FAILURE);
        assert!((1..10).all(|whom| !list.accuse(secs(1), (), whom, SOFT_FAILURE)));
        assert_eq!(list.len(), 3);
        assert!(list.is_listed(secs(1), 0));
        assert_eq!(list.listed(secs(1)).count(), 1);
    }

    #[test]
    fn a_pardon_forgets_everything() {
        let mut list = local();
        list.accuse(secs(0), (), 1, HARD_FAILURE);
        list.pardon(1);
        assert!(!list.is_listed(secs(0), 1) && list.next_release().is_none());
    }
}
