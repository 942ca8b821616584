//! dfconsole: what this node has, on a terminal.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use df_api::failure::{Code, Failure};
use df_tui::app::{App, Event};
use df_tui::poller::Poller;
use df_tui::{terminal, view};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

/// Show the contents cached on this node
#[derive(Parser)]
#[command(name = "dfconsole", version)]
struct Console {
    /// The daemon's unix socket
    #[arg(
        short,
        long,
        value_name = "PATH",
        env = "DFCONSOLE_ENDPOINT",
        default_value = "/run/damselfly/dfdaemon.sock"
    )]
    endpoint: PathBuf,
    /// Print the screen once, as text, and exit
    #[arg(long)]
    once: bool,
}

fn main() -> ExitCode {
    let console = Console::parse();
    match show(&console) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("dfconsole: {failure}");
            ExitCode::from(failure.code.exit())
        }
    }
}

fn show(console: &Console) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(Code::Internal, "cannot begin").because(error))?;
    let _within = runtime.enter();
    let mut poller = Poller::new(console.endpoint.clone())?;
    if !console.once {
        return terminal::run(&runtime, &mut poller);
    }
    let mut app = App::default();
    app.handle(Event::Listed(runtime.block_on(poller.list())?));
    let height = u16::try_from(app.entries.len()).unwrap_or(u16::MAX).saturating_add(3).min(1000);
    let mut screen = Terminal::new(TestBackend::new(100, height)).unwrap_or_else(|never| match never {});
    screen.draw(|frame| view::draw(&app, frame)).unwrap_or_else(|never| match never {});
    println!("{}", screen.backend());
    Ok(())
}
