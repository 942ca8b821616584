//! How a download is going, for people on a terminal, in a log, or for a program.

use std::cell::OnceCell;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use clap::ValueEnum;
use df_api::dfdaemon::{DownResult, Tally};
use df_core::time::Instant;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::{Deserialize, Serialize};

use super::report::{From, Outcome};
use crate::console::one_line;
use crate::units::{Rate, Size, Span};

/// A download that is over sooner shows nothing but its summary.
const FIRST_SHOWN: Duration = Duration::from_secs(1);

/// Plain lines come this often, or...
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// ...when so much more is done, in percent.
const LINE_STEP: u64 = 10;

/// Events for programs are at least so far apart.
const EVENT_INTERVAL: Duration = Duration::from_millis(100);

/// The rate forgets half of what was this long ago.
const RATE_HALF_LIFE: f64 = 2.0;

/// Longest name in a bar, in characters.
const NAME_LIMIT: usize = 30;

/// Cells of a bar.
const BAR_LEN: usize = 20;

/// How full a cell is, up to not quite.
const SHADES: [char; 4] = [' ', '░', '▒', '▓'];

/// How progress is shown.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Show {
    /// A bar on a terminal, plain lines elsewhere
    #[default]
    Auto,
    /// A bar, where there is a terminal
    Bar,
    /// A line every 10 seconds or 10 percent
    Plain,
    /// JSON events, one a line
    Json,
    /// Nothing, not even a summary
    None,
}

/// The progress of all downloads of a command.
pub(super) struct Board {
    show: Show,
    bars: MultiProgress,
}

impl Board {
    /// A board on stderr.
    pub(super) fn new(show: Show) -> Self {
        let show = match show {
            Show::Auto | Show::Bar if io::stderr().is_terminal() => Show::Bar,
            Show::Auto | Show::Bar => Show::Plain,
            other => other,
        };
        let bars = if show == Show::Bar { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { show, bars: MultiProgress::with_draw_target(bars) }
    }

    /// Whether stderr is for a program to read.
    pub(super) fn is_json(&self) -> bool {
        self.show == Show::Json
    }

    /// Shows something else in between.
    pub(super) fn aside(&self, show: impl FnOnce()) {
        self.bars.suspend(show);
    }

    /// A download begins.
    pub(super) fn begin(&self, url: &str, name: &str, now: Instant) -> Meter<'_> {
        if self.is_json() {
            event(&Event::Start { url, output: name });
        }
        let name = one_line(name.rsplit('/').next().unwrap_or(name)).chars().take(NAME_LIMIT).collect();
        Meter {
            board: self,
            url: url.to_owned(),
            name,
            since: now,
            rate: RateMeter::new(now),
            bar: OnceCell::new(),
            last_shown: None,
        }
    }
}

/// The progress of one download.
pub(super) struct Meter<'a> {
    board: &'a Board,
    url: String,
    name: String,
    since: Instant,
    rate: RateMeter,
    bar: OnceCell<ProgressBar>,
    /// When it was shown last, and how many percent there were.
    last_shown: Option<(Instant, u64)>,
}

impl Meter<'_> {
    /// Takes note of how far it is.
    pub(super) fn observe(&mut self, now: Instant, result: &DownResult) {
        let local = result.tally.as_ref().map_or(0, |tally| tally.local_bytes);
        self.rate.observe(now, result.completed_length.saturating_sub(local));
        let state = State::new(result, self.rate.bytes_per_sec as u64);
        match self.board.show {
            Show::Json => {
                let is_due = self.last_shown.is_none_or(|(at, _)| now - at >= EVENT_INTERVAL);
                if is_due {
                    event(&state.event(&self.url));
                    self.last_shown = Some((now, 0));
                }
            }
            Show::Bar if now - self.since >= FIRST_SHOWN => self.draw(&state),
            Show::Plain if now - self.since >= FIRST_SHOWN => {
                let percent = state.percent().unwrap_or(0);
                let (at, shown) = self.last_shown.unwrap_or((self.since, 0));
                if now - at >= LINE_INTERVAL || percent >= shown + LINE_STEP {
                    line(&format!("{} {}", self.name, state.line()));
                    self.last_shown = Some((now, percent));
                }
            }
            _ => {}
        }
    }

    fn draw(&self, state: &State) {
        let bar = self.bar.get_or_init(|| {
            let style = ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
            self.board.bars.add(ProgressBar::no_length()).with_style(style)
        });
        // One call draws one frame.
        bar.set_message(format!("{}  {}", self.name, state.frame()));
    }

    /// It is over, and somebody else says how it ended.
    pub(super) fn close(self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }

    /// The download is over.
    pub(super) fn end(self, outcome: &Outcome) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
        match self.board.show {
            Show::Json => event(&Event::End { result: outcome }),
            Show::None => {}
            _ => {
                if let Some(summary) = outcome.summary() {
                    self.board.aside(|| line(&format!("{}: {summary}", self.name)));
                }
            }
        }
    }
}

/// What is shown of a moment.
struct State {
    done: u64,
    total: Option<u64>,
    bytes_per_sec: u64,
    parents: usize,
    from: From,
}

impl State {
    fn new(result: &DownResult, bytes_per_sec: u64) -> Self {
        let none = Tally::default();
        let tally = result.tally.as_ref().unwrap_or(&none);
        let parents = tally.parents.len();
        let total = result.content_length;
        Self { done: result.completed_length, total, bytes_per_sec, parents, from: From::new(tally) }
    }

    fn percent(&self) -> Option<u64> {
        let total = self.total.filter(|total| *total > 0)?;
        u64::try_from(u128::from(self.done.min(total)) * 100 / u128::from(total)).ok()
    }

    /// With a bar: ` 63% ▕████████████▌       ▏ 1.2/1.9 GiB  412 MiB/s  eta 1.8s  peers 7  p2p 91% origin 9%`.
    fn frame(&self) -> String {
        let Some(percent) = self.percent() else { return self.details() };
        let shades = percent as usize * BAR_LEN * SHADES.len() / 100;
        let (full, part) = (shades / SHADES.len(), shades % SHADES.len());
        let mut bar: String = "█".repeat(full);
        bar.extend(SHADES.get(part).filter(|_| part > 0));
        format!("{percent:>3}% ▕{bar:BAR_LEN$}▏ {}", self.details())
    }

    /// Without: `63% 1.2/1.9 GiB  412 MiB/s  eta 1.8s  peers 7  p2p 91% origin 9%`.
    fn line(&self) -> String {
        let percent = self.percent().map(|percent| format!("{percent}% ")).unwrap_or_default();
        format!("{percent}{}", self.details())
    }

    fn details(&self) -> String {
        let done = Size::new(self.done);
        let mut parts = vec![self.total.map_or_else(|| done.for_people(), |total| done.of_whole(Size::new(total)))];
        if let Some(rate) = Rate::new(self.bytes_per_sec) {
            parts.push(rate.for_people());
            if let Some(total) = self.total.filter(|total| *total > self.done) {
                let secs = (total - self.done) as f64 / self.bytes_per_sec as f64;
                let eta = Duration::try_from_secs_f64(secs).unwrap_or(Duration::MAX);
                parts.push(format!("eta {}", Span::new(eta).for_people()));
            }
        }
        if self.parents > 0 {
            parts.push(format!("peers {}", self.parents));
        }
        parts.extend(self.from.shares());
        parts.join("  ")
    }

    fn event<'a>(&'a self, url: &'a str) -> Event<'a> {
        let Self { done, total, bytes_per_sec, ref from, .. } = *self;
        Event::Progress { url, bytes: done, total, bps: bytes_per_sec, from }
    }
}

/// A moving average of the rate, from the first byte on.
struct RateMeter {
    at: Instant,
    bytes: u64,
    bytes_per_sec: f64,
}

impl RateMeter {
    fn new(now: Instant) -> Self {
        Self { at: now, bytes: 0, bytes_per_sec: 0.0 }
    }

    fn observe(&mut self, now: Instant, bytes: u64) {
        if bytes == 0 {
            self.at = now;
        }
        let secs = (now - self.at).as_secs_f64();
        // Shorter intervals say more about the moment of a message than about the rate.
        if secs < 0.1 {
            return;
        }
        let current = bytes.saturating_sub(self.bytes) as f64 / secs;
        let kept = if self.bytes == 0 { 0.0 } else { 0.5f64.powf(secs / RATE_HALF_LIFE) };
        self.bytes_per_sec = self.bytes_per_sec * kept + current * (1.0 - kept);
        (self.at, self.bytes) = (now, bytes);
    }
}

/// What a program is told.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event<'a> {
    Start { url: &'a str, output: &'a str },
    Progress { url: &'a str, bytes: u64, total: Option<u64>, bps: u64, from: &'a From },
    End { result: &'a Outcome },
}

fn event(event: &Event<'_>) {
    line(&serde_json::to_string(event).unwrap_or_default());
}

/// Nobody is left to tell when the standard error is gone.
fn line(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(done: u64, total: Option<u64>, tally: Tally) -> DownResult {
        DownResult { completed_length: done, content_length: total, tally: Some(tally), ..DownResult::default() }
    }

    #[test]
    fn a_line_says_how_far_how_fast_how_long_and_from_whom() {
        let tally = Tally { peer_bytes: 80, seed_bytes: 11, origin_bytes: 9, ..Tally::default() };
        let tally = Tally { parents: vec![Default::default(); 7], ..tally };
        let state = State::new(&result(1_288_490_189, Some(2_040_109_466), tally), 432_013_312);
        assert_eq!(state.line(), "63% 1.2/1.9 GiB  412 MiB/s  eta 1.7s  peers 7  p2p 91% origin 9%");
        let unknown = State::new(&result(1024, None, Tally::default()), 0);
        assert_eq!(unknown.line(), "1.0 KiB");
        let empty = State::new(&result(0, Some(0), Tally::default()), 0);
        assert_eq!(empty.line(), "0/0 B");
    }

    #[test]
    fn the_rate_follows_what_comes_and_not_what_was_there() {
        let at = |millis| Instant::ZERO + Duration::from_millis(millis);
        let mut meter = RateMeter::new(at(0));
        for (millis, bytes, rate) in [(9000, 0, 0), (10_000, 1000, 1000), (10_001, 900_000, 1000)] {
            meter.observe(at(millis), bytes);
            assert_eq!(meter.bytes_per_sec as u64, rate);
        }
        for second in 11..50 {
            meter.observe(at(second * 1000), 1000 + (second - 10) * 5000);
        }
        assert_eq!(meter.bytes_per_sec.round() as u64, 5000);
    }

    #[test]
    fn a_bar_fills_by_quarters_of_a_cell() {
        let bar = |done| State::new(&result(done, Some(100), Tally::default()), 0).frame();
        assert_eq!(bar(0), "  0% ▕                    ▏ 0/100 B");
        assert_eq!(bar(63), " 63% ▕████████████▒       ▏ 63/100 B");
        assert_eq!(bar(99), " 99% ▕███████████████████▓▏ 99/100 B");
        assert_eq!(bar(100), "100% ▕████████████████████▏ 100/100 B");
    }
}
