//! A terminal that a test sits at: a tmux server of its own.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long real processes may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until there is an answer; `or` says what there is instead when patience ends.
#[expect(clippy::disallowed_methods, reason = "real processes take real time")]
pub(crate) fn until<T>(ask: impl Fn() -> Option<T>, or: impl Fn() -> String) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "{}", or());
        std::thread::yield_now();
    }
}

/// A tmux server of our own, ended when dropped.
pub(crate) struct Tmux {
    folder: TempDir,
}

impl Tmux {
    /// `None`, with the reason printed, where there is no tmux.
    pub(crate) fn new() -> Option<Self> {
        let version = Command::new("tmux").arg("-V").stdin(Stdio::null()).output();
        match version {
            Ok(output) if output.status.success() => Some(Self { folder: tempfile::tempdir().expect("a folder") }),
            _ => {
                println!("skipped: there is no tmux to drive the console with");
                None
            }
        }
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.folder.path().join("tmux.sock")).arg("-f").arg("/dev/null").args(arguments);
        command.env("LANG", "C.UTF-8").env("LC_ALL", "C.UTF-8").env_remove("TMUX").stdin(Stdio::null());
        let output = command.output().expect("tmux runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A shell of 120 columns and 40 rows.
    pub(crate) fn begin(&self) {
        let shell = "env -i PATH=\"$PATH\" TERM=screen-256color LC_ALL=C.UTF-8 PS1='ready> ' sh";
        self.run(&["-u", "new-session", "-d", "-s", "it", "-x", "120", "-y", "40", shell]);
        self.wait_for("ready>");
    }

    pub(crate) fn press(&self, keys: &[&str]) {
        self.run(&[&["send-keys", "-t", "it"], keys].concat());
    }

    pub(crate) fn write(&self, text: &str) {
        self.run(&["send-keys", "-t", "it", "-l", text]);
    }

    pub(crate) fn screen(&self) -> String {
        self.run(&["capture-pane", "-p", "-t", "it"])
    }

    /// Waits until the screen is as wanted.
    pub(crate) fn wait(&self, what: &str, is_there: impl Fn(&str) -> bool) -> String {
        let seen = || Some(self.screen()).filter(|screen| is_there(screen));
        until(seen, || format!("{what} did not come; there is:\n{}", self.screen()))
    }

    pub(crate) fn wait_for(&self, text: &str) -> String {
        self.wait(text, |screen| screen.contains(text))
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.folder.path().join("tmux.sock")).arg("kill-server");
        let _ = command.stdin(Stdio::null()).stderr(Stdio::null()).status();
    }
}
