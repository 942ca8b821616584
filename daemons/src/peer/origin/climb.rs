//! How many connections to a source are worth having: one more is tried, and kept while it pays.

/// One more connection has to bring the whole this many per cent more.
const GAIN_PERCENT: u64 = 20;

/// What to do after a look at the rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Go on as it is.
    Stay,
    /// Open one more connection.
    Add,
    /// Close one.
    Retire,
}

/// A hill climber over the number of connections. It is told how many bytes came in each of a row of
/// equal windows of time, and settles for good once a connection more brought nothing.
///
/// A source that is far away, or gives each connection a share, is faster over several; a link
/// that one connection fills is not, and several would only make each piece come more slowly.
#[derive(Debug)]
pub(super) struct Climb {
    lanes: u32,
    lane_limit: u32,
    /// Bytes of the best window with one lane fewer, and of the best since. A window with less says nothing
    /// against a connection: pauses come of many things.
    before: Option<u64>,
    best: u64,
    /// Whether a window has passed in which the newest connection may have been speeding up.
    is_warm: bool,
    is_settled: bool,
}

impl Climb {
    /// A climber that begins with one connection.
    pub(super) const fn new(lane_limit: u32) -> Self {
        Self { lanes: 1, lane_limit, before: None, best: 0, is_warm: false, is_settled: lane_limit <= 1 }
    }

    /// Whether no window need be watched any more.
    pub(super) const fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// How many connections there should be now.
    pub(super) const fn lanes(&self) -> u32 {
        self.lanes
    }

    /// Takes note of the bytes of one window. After a change two are watched: in the first the new
    /// connection is speeding up.
    pub(super) fn window_passed(&mut self, bytes: u64) -> Step {
        if self.is_settled {
            return Step::Stay;
        }
        self.best = self.best.max(bytes);
        if !self.is_warm {
            self.is_warm = true;
            return Step::Stay;
        }
        let best = std::mem::take(&mut self.best);
        if best == 0 {
            self.is_warm = false;
            return Step::Stay; // A source from which nothing comes says nothing of connections.
        }
        let gains =
            self.before.is_none_or(|before| best.saturating_mul(100) >= before.saturating_mul(100 + GAIN_PERCENT));
        if !gains {
            self.is_settled = true;
            self.lanes -= 1;
            return Step::Retire;
        }
        if self.lanes >= self.lane_limit {
            self.is_settled = true;
            return Step::Stay;
        }
        self.before = Some(best);
        self.is_warm = false;
        self.lanes += 1;
        Step::Add
    }

    /// There is nothing left for one more connection.
    pub(super) fn ran_out(&mut self) {
        self.is_settled = true;
        self.lanes = self.lanes.saturating_sub(1).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::{Climb, Step};

    /// The steps taken when `rate(lanes)` bytes come in a window.
    fn climb(lane_limit: u32, rate: impl Fn(u32) -> u64) -> (u32, Vec<Step>) {
        let mut climb = Climb::new(lane_limit);
        let mut steps = Vec::new();
        while !climb.is_settled() {
            steps.push(climb.window_passed(rate(climb.lanes())));
            assert!(steps.len() < 100, "it settles");
        }
        (climb.lanes(), steps)
    }

    #[test]
    fn a_link_that_one_connection_fills_gets_one() {
        let (lanes, steps) = climb(8, |_| 1000);
        assert_eq!(lanes, 1);
        assert_eq!(steps, [Step::Stay, Step::Add, Step::Stay, Step::Retire]);
    }

    #[test]
    fn a_source_that_limits_each_connection_gets_as_many_as_are_allowed() {
        assert_eq!(climb(4, |lanes| u64::from(lanes) * 1000).0, 4);
    }

    #[test]
    fn it_stops_where_more_brings_nothing() {
        assert_eq!(climb(8, |lanes| u64::from(lanes.min(3)) * 1000).0, 3);
    }

    #[test]
    fn a_pause_before_a_connection_is_tried_does_not_speak_for_it() {
        let mut climb = Climb::new(4);
        let steps = [1500, 1200, 1450, 1480].map(|bytes| climb.window_passed(bytes));
        assert_eq!(steps, [Step::Stay, Step::Add, Step::Stay, Step::Retire]);
        assert_eq!(climb.lanes(), 1);
    }

    #[test]
    fn a_pause_after_a_connection_was_added_does_not_speak_against_it() {
        let mut climb = Climb::new(4);
        let steps = [1000, 1000, 2000, 700].map(|bytes| climb.window_passed(bytes));
        assert_eq!(steps, [Step::Stay, Step::Add, Step::Stay, Step::Add]);
    }

    #[test]
    fn while_nothing_comes_nothing_is_tried_or_given_up() {
        let mut climb = Climb::new(4);
        let steps = [0, 0, 0, 0, 1500, 1500, 0, 0, 1500, 1500].map(|bytes| climb.window_passed(bytes));
        let mut expected = [Step::Stay; 10];
        (expected[5], expected[9]) = (Step::Add, Step::Retire);
        assert_eq!((steps, climb.lanes()), (expected, 1));
    }

    #[test]
    fn with_a_limit_of_one_nothing_is_tried() {
        assert!(Climb::new(1).is_settled());
        assert_eq!(Climb::new(1).window_passed(5), Step::Stay);
    }
}
