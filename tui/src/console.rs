//! What `dfconsole` is started with, and how it begins.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Parser;
use df_api::failure::{Code, Failure};

use crate::access::Access;
use crate::app::{App, Setup};
use crate::demo::Demo;
use crate::event::Event;
use crate::model::Contact;
use crate::poller::{Daemon, Live, Source};
use crate::screen::Screen;
use crate::theme::Theme;
use crate::{terminal, view};

/// Seconds of a demo that have passed when it is first seen, so that there are curves.
const DEMO_PAST_S: u64 = 60;

/// See what a cluster does and has, and change it
///
/// Shows throughput, tasks, peers, topology, jobs, the blacklist, cached contents and events, live, and
/// lets those who may preheat, set rate limits, isolate and release hosts. Press ? for every key.
#[derive(Parser, Debug)]
#[command(name = "dfconsole", version, after_help = EXAMPLES)]
pub struct Console {
    #[command(flatten)]
    access: Access,
    /// The daemon of this node, for the screen of cached contents
    #[arg(
        short,
        long,
        value_name = "PATH",
        env = "DFCONSOLE_ENDPOINT",
        default_value = "/run/damselfly/dfdaemon.sock"
    )]
    endpoint: PathBuf,
    /// A cluster that is made up, for trying the console
    #[arg(long)]
    demo: bool,
    /// Which demo: the same seed shows the same cluster
    #[arg(long, value_name = "N", default_value_t = 7, requires = "demo")]
    seed: u64,
    /// Hosts of the demo
    #[arg(long, value_name = "N", default_value_t = 64, requires = "demo", value_parser = clap::value_parser!(u16).range(1..=5000))]
    hosts: u16,
    /// Tasks of the demo
    #[arg(long, value_name = "N", default_value_t = 12, requires = "demo", value_parser = clap::value_parser!(u16).range(0..=2000))]
    tasks: u16,
    /// Begin with this screen
    #[arg(long, value_enum, value_name = "SCREEN")]
    screen: Option<Screen>,
    /// Begin with these commands, as written after ':'
    #[arg(long = "command", value_name = "TEXT")]
    commands: Vec<String>,
    /// Change nothing
    #[arg(long)]
    read_only: bool,
    /// Print one screen as text, and end
    #[arg(long)]
    once: bool,
    /// Columns and rows of that screen
    #[arg(long, value_name = "WxH", default_value = "120x40")]
    size: Size,
    /// Print what the screen shows as JSON, and end
    #[arg(long)]
    json: bool,
    /// default (the terminal's own colours), cb (for any kind of colour vision), mono
    #[arg(long, value_name = "NAME", env = "DFCONSOLE_THEME", value_parser = theme)]
    theme: Option<Theme>,
    /// Draw with signs of seven bits; so it is anyway where the locale has no UTF-8
    #[arg(long)]
    ascii: bool,
    /// Leave the mouse to the terminal
    #[arg(long)]
    no_mouse: bool,
}

const EXAMPLES: &str = "Examples:
  dfconsole --demo                              try it, without a cluster
  dfconsole --once --screen tasks --size 120x40
  dfconsole --json --screen peers | jq '.peers[].hostname'
  dfconsole --command 'tasks /nginx rate>10M'";

/// Columns and rows.
#[derive(Clone, Copy, Debug)]
struct Size(u16, u16);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (columns, rows) = text.split_once('x')?;
            Some((columns.parse().ok()?, rows.parse().ok()?))
        };
        let size = read().filter(|(columns, rows)| (1..=1000).contains(columns) && (1..=1000).contains(rows));
        size.map(|(columns, rows)| Self(columns, rows))
            .ok_or_else(|| "a size is such as 120x40, 1000x1000 at most".to_owned())
    }
}

fn theme(name: &str) -> Result<Theme, String> {
    let names = || Theme::ALL.map(Theme::name).join(", ");
    Theme::named(name).ok_or_else(|| format!("themes are {}", names()))
}

/// The environment, as far as it says how to draw.
fn setup(console: &Console, variable: impl Fn(&str) -> Option<OsString>) -> Setup {
    let has_no_color = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(|name| variable(name).filter(|it| !it.is_empty()));
    let locale = locale.map(|locale| locale.to_string_lossy().to_ascii_lowercase());
    let has_utf8 = locale.is_some_and(|locale| locale.contains("utf-8") || locale.contains("utf8"));
    Setup {
        is_read_only: console.read_only,
        // Text that is printed once goes where the caller says; only a terminal has a locale to mind.
        is_ascii: console.ascii || !console.is_once() && !has_utf8,
        theme: if has_no_color { Theme::Mono } else { console.theme.unwrap_or_default() },
    }
}

impl Console {
    const fn is_once(&self) -> bool {
        self.once || self.json
    }

    fn source(&self) -> Result<Source, Failure> {
        if self.demo {
            return Ok(Source::Demo(Box::new(Demo::new(self.seed, self.hosts.into(), self.tasks.into()))));
        }
        let daemon = Daemon::new(self.endpoint.clone())?;
        Ok(Source::Live(Box::new(Live::new(self.access.manager()?, Some(daemon), self.access.cluster.clone()))))
    }

    async fn run(&self) -> Result<(), Failure> {
        let mut source = self.source()?;
        let mut app = App::new(setup(self, |name| std::env::var_os(name)));
        if self.is_once() {
            app.handle(Event::Resized(self.size.0, self.size.1));
        }
        if let Some(screen) = self.screen {
            app.open(screen);
        }
        for _ in 0..if self.demo { DEMO_PAST_S } else { 0 } {
            source.step();
            app.handle(Event::Seen(Box::new(source.look(&app.interest()).await)));
        }
        if self.is_once() || !self.commands.is_empty() {
            app.handle(Event::Seen(Box::new(source.look(&app.interest()).await)));
            for command in &self.commands {
                app.run_command(command).map_err(|why| Failure::new(Code::Usage, why))?;
                app.handle(Event::Seen(Box::new(source.look(&app.interest()).await)));
            }
        }
        if !self.is_once() {
            return terminal::run(app, source, !self.no_mouse).await;
        }
        if self.json {
            println!("{}", view::json(&app));
        } else {
            print!("{}", view::text(&app));
        }
        answered(&app, &source)
    }
}

/// Whether whoever the screen is of answered: what is printed without is nothing to rely on.
fn answered(app: &App, source: &Source) -> Result<(), Failure> {
    let contact = if app.screen == Screen::Cache { &app.snapshot.daemon } else { &app.snapshot.manager };
    match (contact, source.failure()) {
        (Contact::Live, _) => Ok(()),
        (Contact::Lost(why), _) if app.screen == Screen::Cache => {
            Err(Failure::new(Code::DaemonDown, "nothing is known of this node").because(why))
        }
        (_, Some(failure)) => Err(failure.clone()),
        _ => Err(Failure::new(Code::DaemonDown, "nobody answers")),
    }
}

/// Runs the console as the command line says, and gives the exit code.
pub fn main() -> u8 {
    let console = Console::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(Code::Internal, "cannot begin").because(error));
    match runtime.and_then(|runtime| runtime.block_on(console.run())) {
        Ok(()) => 0,
        Err(failure) => {
            eprintln!("dfconsole: {failure}");
            if let Some(hint) = &failure.hint {
                eprintln!("  hint: {hint}");
            }
            failure.code.exit()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set_up(arguments: &[&str], environment: &[(&str, &str)]) -> Setup {
        let console = Console::parse_from(["dfconsole"].iter().chain(arguments));
        let variable = |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        setup(&console, variable)
    }

    #[test]
    fn no_color_wins_and_an_empty_one_is_none() {
        let themed = |environment| set_up(&["--theme", "cb"], environment).theme;
        assert_eq!(themed(&[("NO_COLOR", "1")]), Theme::Mono);
        assert_eq!(themed(&[("NO_COLOR", "")]), Theme::ColourBlind);
    }

    #[test]
    fn seven_bits_are_used_where_the_locale_has_no_more() {
        assert!(set_up(&[], &[]).is_ascii);
        assert!(set_up(&[], &[("LANG", "C")]).is_ascii);
        assert!(set_up(&[], &[("LANG", "de_DE.UTF-8"), ("LC_ALL", "POSIX")]).is_ascii);
        assert!(!set_up(&[], &[("LANG", "de_DE.UTF-8")]).is_ascii);
        assert!(!set_up(&["--once"], &[]).is_ascii);
        assert!(set_up(&["--once", "--ascii"], &[]).is_ascii);
    }

    #[test]
    fn sizes_are_read_and_bounded() {
        assert!("120x40".parse::<Size>().is_ok());
        for text in ["", "x", "120", "0x1", "1001x1", "-1x4", "120x40x2"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
