//! What flowed: one sample for each second, as far back as the longest window.

use std::collections::VecDeque;

use crate::model::Traffic;
use crate::theme::Series;

/// The longest window, in seconds.
const SAMPLE_LIMIT: usize = 3600;

/// How far back curves reach.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Window {
    /// One minute.
    #[default]
    Minute,
    /// Five minutes.
    FiveMinutes,
    /// One hour.
    Hour,
}

impl Window {
    /// In seconds.
    pub const fn seconds(self) -> usize {
        match self {
            Self::Minute => 60,
            Self::FiveMinutes => 300,
            Self::Hour => SAMPLE_LIMIT,
        }
    }

    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Minute => "1m",
            Self::FiveMinutes => "5m",
            Self::Hour => "1h",
        }
    }

    /// The next longer one.
    pub const fn longer(self) -> Self {
        match self {
            Self::Minute => Self::FiveMinutes,
            _ => Self::Hour,
        }
    }

    /// The next shorter one.
    pub const fn shorter(self) -> Self {
        match self {
            Self::Hour => Self::FiveMinutes,
            _ => Self::Minute,
        }
    }
}

/// Samples of one second each, the latest last.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct History {
    samples: VecDeque<[u64; 3]>,
    peaks: [u64; 3],
    last_at: Option<u64>,
}

const fn index(series: Series) -> usize {
    match series {
        Series::Download => 0,
        Series::Upload => 1,
        Series::Source => 2,
    }
}

impl History {
    /// Takes note of what flows at `at`, in seconds. Seconds nobody saw are as the one before them;
    /// an instant that is not later than the last is the last, seen better.
    pub fn note(&mut self, at: u64, traffic: &Traffic) {
        let sample = [traffic.download_bytes_per_sec, traffic.upload_bytes_per_sec, traffic.source_bytes_per_sec];
        self.push(at, sample);
    }

    /// Takes note of one rate alone: of one task, say.
    pub fn note_one(&mut self, at: u64, bytes_per_sec: u64) {
        self.push(at, [bytes_per_sec, 0, 0]);
    }

    fn push(&mut self, at: u64, sample: [u64; 3]) {
        let missed = self.last_at.map_or(0, |last| at.saturating_sub(last).saturating_sub(1));
        let is_new = self.last_at.is_none_or(|last| at > last);
        if !is_new {
            self.samples.pop_back();
        }
        if let Some(last) = self.samples.back().copied() {
            (0..missed.min(SAMPLE_LIMIT as u64)).for_each(|_| self.samples.push_back(last));
        }
        self.samples.push_back(sample);
        let excess = self.samples.len().saturating_sub(SAMPLE_LIMIT);
        self.samples.drain(..excess);
        self.last_at = Some(self.last_at.unwrap_or_default().max(at));
        for (peak, now) in self.peaks.iter_mut().zip(sample) {
            *peak = (*peak).max(now);
        }
    }

    /// The most that was seen, since the last reset.
    pub fn peak(&self, series: Series) -> u64 {
        self.peaks.get(index(series)).copied().unwrap_or_default()
    }

    /// The window in `columns` columns, the latest last; each is the most of its time. Columns from
    /// before the first sample are left out.
    pub fn columns(&self, series: Series, window: Window, columns: usize) -> Vec<u64> {
        let seconds = window.seconds();
        let first = self.samples.len().saturating_sub(seconds);
        let of = |sample: &[u64; 3]| sample.get(index(series)).copied().unwrap_or_default();
        let samples: Vec<u64> = self.samples.iter().skip(first).map(of).collect();
        let have = (samples.len() * columns).div_ceil(seconds.max(1));
        let column = |back: usize| {
            let end = samples.len().saturating_sub(back * seconds / columns.max(1));
            let begin = samples.len().saturating_sub(((back + 1) * seconds).div_ceil(columns.max(1)));
            samples.get(begin..end.max(begin + 1).min(samples.len())).and_then(|part| part.iter().max()).copied()
        };
        (0..have).rev().filter_map(column).collect()
    }

    /// Forgets all of it.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flowing(rate: u64) -> Traffic {
        Traffic { download_bytes_per_sec: rate, ..Traffic::default() }
    }

    #[test]
    fn the_latest_is_last_and_peaks_are_kept() {
        let mut history = History::default();
        (1..=120).for_each(|second| history.note(second, &flowing(second)));
        let columns = history.columns(Series::Download, Window::Minute, 6);
        assert_eq!(columns, [70, 80, 90, 100, 110, 120]);
        assert_eq!(history.columns(Series::Download, Window::Minute, 120).len(), 120);
        history.note(121, &flowing(0));
        assert_eq!((history.peak(Series::Download), history.peak(Series::Source)), (120, 0));
    }

    #[test]
    fn a_gap_is_as_before_and_the_same_second_counts_once() {
        let mut history = History::default();
        history.note(10, &flowing(1));
        history.note(10, &flowing(2));
        history.note(14, &flowing(3));
        assert_eq!(history.columns(Series::Download, Window::Minute, 60), [2, 2, 2, 2, 3]);
        history.note(u64::MAX, &flowing(4));
        assert_eq!(history.samples.len(), SAMPLE_LIMIT);
    }

    #[test]
    fn no_width_is_too_narrow() {
        let mut history = History::default();
        assert!(history.columns(Series::Download, Window::Hour, 10).is_empty());
        history.note(1, &flowing(1));
        assert!(history.columns(Series::Download, Window::Hour, 0).is_empty());
        assert_eq!(history.columns(Series::Download, Window::Hour, 10), [1]);
    }
}
