//! What every command-line tool shares: how it fails on a terminal, when it is in colour, and what a
//! signal does.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use df_api::failure::Failure;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Longest line that is shown of a text from elsewhere, in characters.
const LINE_LIMIT: usize = 2000;

/// Whether output is in colour.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set; anywhere if `CLICOLOR_FORCE` is.
    #[default]
    Auto,
    /// Anywhere.
    Always,
    /// Nowhere.
    Never,
}

impl Color {
    /// Decides for one stream. `variable` looks into the environment; an empty variable is as none
    /// (no-color.org).
    fn is_on(self, is_terminal: bool, variable: impl Fn(&str) -> Option<OsString>) -> bool {
        let is_set = |name| variable(name).is_some_and(|value| !value.is_empty());
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto if is_set("NO_COLOR") => false,
            Self::Auto if is_set("CLICOLOR_FORCE") && variable("CLICOLOR_FORCE") != Some("0".into()) => true,
            Self::Auto => is_terminal && variable("TERM") != Some("dumb".into()),
        }
    }
}

/// The standard error of a tool, where everything goes but data and results.
#[derive(Clone, Copy, Debug)]
pub struct Console {
    tool: &'static str,
    is_colored: bool,
    is_quiet: bool,
}

impl Console {
    /// The console of a tool. A quiet one shows failures alone.
    pub fn new(tool: &'static str, color: Color, is_quiet: bool) -> Self {
        let is_colored = color.is_on(io::stderr().is_terminal(), |name| std::env::var_os(name));
        Self { tool, is_colored, is_quiet }
    }

    /// Shows a failure: what, why and what to do, a line each.
    pub fn fail(&self, failure: &Failure) {
        // Nobody is left to tell when the standard error is gone; the same below.
        let _ = io::stderr().lock().write_all(self.failure_lines(failure).as_bytes());
    }

    /// Shows a line, unless it is to be quiet.
    pub fn note(&self, line: &str) {
        if !self.is_quiet {
            let _ = writeln!(io::stderr().lock(), "{}: {}", self.tool, one_line(line));
        }
    }

    fn failure_lines(&self, failure: &Failure) -> String {
        let (bad, dim, plain) = if self.is_colored { ("\x1b[1;31m", "\x1b[2m", "\x1b[0m") } else { ("", "", "") };
        let mut lines = format!("{bad}{}:{plain} {}\n", self.tool, one_line(&failure.message));
        for (label, text) in [("why", &failure.cause), ("hint", &failure.hint)] {
            if let Some(text) = text {
                lines.push_str(&format!("  {dim}{label}:{plain} {}\n", one_line(text)));
            }
        }
        lines
    }
}

/// A text from anywhere as one line that moves no cursor and is not endless.
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LINE_LIMIT).collect()
}

/// Why a tool ends early without having failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// ^C.
    Interrupted,
    /// SIGTERM.
    Terminated,
    /// Nobody reads its output any more.
    PipeClosed,
}

impl Stop {
    /// The exit code, as a shell shows the signal: 128 and its number.
    pub const fn exit(self) -> u8 {
        match self {
            Self::Interrupted => 130,
            Self::PipeClosed => 141,
            Self::Terminated => 143,
        }
    }

    /// In a word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Interrupted => "interrupted",
            Self::Terminated => "terminated",
            Self::PipeClosed => "the reader of the output went away",
        }
    }
}

/// The signals by which people and systems end a program. From now on they do not by themselves.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Starts listening.
    ///
    /// # Errors
    /// When the system refuses a handler.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> Stop {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => Stop::Interrupted,
            _ = self.terminate.recv() => Stop::Terminated,
        }
    }

    /// Ends the process with the next one: whoever asks twice does not want to wait.
    pub async fn exit_on_next(mut self) {
        let stop = self.next().await;
        std::process::exit(stop.exit().into());
    }
}

#[cfg(test)]
mod tests {
    use df_api::failure::Code;

    use super::*;

    #[test]
    fn colour_is_for_terminals_and_for_those_who_ask() {
        type Row = (Color, bool, &'static [(&'static str, &'static str)], bool);
        let table: [Row; 11] = [
            (Color::Auto, true, &[], true),
            (Color::Auto, false, &[], false),
            (Color::Auto, true, &[("NO_COLOR", "1")], false),
            (Color::Auto, true, &[("NO_COLOR", "")], true),
            (Color::Auto, false, &[("CLICOLOR_FORCE", "1")], true),
            (Color::Auto, false, &[("CLICOLOR_FORCE", "0")], false),
            (Color::Auto, false, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
            (Color::Auto, true, &[("TERM", "dumb")], false),
            (Color::Always, false, &[("NO_COLOR", "1")], true),
            (Color::Never, true, &[("CLICOLOR_FORCE", "1")], false),
            (Color::Never, true, &[], false),
        ];
        for (color, is_terminal, variables, expected) in table {
            let variable =
                |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
            assert_eq!(color.is_on(is_terminal, variable), expected, "{color:?} {is_terminal} {variables:?}");
        }
    }

    #[test]
    fn a_failure_is_one_to_three_lines_that_move_no_cursor() {
        let console = |is_colored| Console { tool: "dfget", is_colored, is_quiet: true };
        let bare = Failure::new(Code::Network, "no");
        assert_eq!(console(false).failure_lines(&bare), "dfget: no\n");
        let full = bare.clone().because("it\n\x1b[2Jbroke").hint("mend it");
        assert_eq!(console(false).failure_lines(&full), "dfget: no\n  why: it  [2Jbroke\n  hint: mend it\n");
        let colored = console(true).failure_lines(&full);
        assert_eq!((colored.lines().count(), colored.matches("\x1b[0m").count()), (3, 3));
        let long = Failure::new(Code::Network, "x".repeat(LINE_LIMIT * 2));
        assert_eq!(console(false).failure_lines(&long).len(), "dfget: \n".len() + LINE_LIMIT);
    }
}
