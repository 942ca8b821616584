//! The tools that ask the daemon of this host. dfget downloads, and starts a daemon where there is none;
//! dfcache imports and exports.
//!
//! The daemon does the work; what is left is to ask it, to take over the descriptor of the content,
//! and to let the output appear when it is whole. Unlike the daemons it acts on the user's own
//! files, so it uses them directly.

pub mod cache;
mod daemon;
mod delivery;
mod embedded;
mod flags;
mod job;
mod output;
mod progress;
mod report;
mod session;
mod start;
mod ticket;
mod transfer;

use std::ffi::OsString;
use std::io::{self, Write};

use clap::CommandFactory;
use df_api::failure::{Code, Failure};

use crate::config::{self, Surroundings};
use crate::console::{Color, Console, Stop};
use flags::GetCommand;
use report::Outcome;
use session::{JsonTo, Session};

pub use embedded::daemon_main;
pub use ticket::{MAGIC, TICKET_LEN, redeem};

const TOOL: &str = "dfget";

/// How a download ends that does not succeed.
#[derive(Clone, Debug)]
enum Ending {
    Failed(Failure),
    Stopped(Stop),
}

impl From<Failure> for Ending {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Runs a command line and gives the exit code. The runtime may have one thread; it is to be shut
/// down without waiting for blocking calls.
pub async fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let around = Surroundings::look();
    let mut console = Console::new(TOOL, Color::Auto, false);
    let refused = |console: Console, failure: Failure| {
        console.fail(&failure);
        failure.code.exit()
    };
    let (command, loaded) = match config::load::<GetCommand>(arguments, &around) {
        Ok(loaded) => loaded,
        Err(failure) => return refused(console, failure),
    };
    console = Console::new(TOOL, loaded.settings.color, command.report.quiet);
    if let Some(shell) = command.report.completions {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut GetCommand::command(), TOOL, &mut script);
        return print(&String::from_utf8_lossy(&script));
    }
    match loaded.answer(&command.config) {
        Ok(Some(answer)) => return print(&answer),
        Ok(None) => {}
        Err(failure) => return refused(console, failure),
    }
    let json = match command.report.json.as_deref().map(JsonTo::open).transpose() {
        Ok(json) => json,
        Err(failure) => return refused(console, failure),
    };
    let session = job::jobs(&command, &loaded.settings).and_then(|jobs| {
        Session::new(&command, &loaded.settings, &around, console, json.as_ref()).map(|session| (session, jobs))
    });
    match session {
        Ok((session, jobs)) => session.run(&jobs).await,
        Err(failure) => {
            let url = command.what.url.as_ref().or(command.what.url_flag.as_ref());
            if let Some(json) = &json {
                json.write(&Outcome::failed(url.map_or("", String::as_str), &failure.clone().into()));
            }
            refused(console, failure)
        }
    }
}

/// Writes to stdout: the exit code.
fn print(text: &str) -> u8 {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => 0,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Stop::PipeClosed.exit(),
        Err(_) => Code::LocalIo.exit(),
    }
}
