//! The terminal: keys become events, frames are drawn, and it is left as it was found.

use std::io;
use std::time::Duration;

use crossterm::event::{self, KeyCode, KeyEventKind, KeyModifiers};
use df_api::failure::{Code, Failure};
use ratatui::DefaultTerminal;
use tokio::runtime::Runtime;

use crate::app::{Action, App, Event, Key};
use crate::poller::Poller;
use crate::view;

/// How often the daemon is asked.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// Shows the screen until it is left.
///
/// # Errors
/// When the terminal fails.
pub fn run(runtime: &Runtime, poller: &mut Poller) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::new(Code::LocalIo, "the terminal fails").because(error);
    let mut terminal = ratatui::try_init().map_err(failed)?;
    let ended = show(runtime, poller, &mut terminal);
    ratatui::restore();
    ended.map_err(failed)
}

fn show(runtime: &Runtime, poller: &mut Poller, terminal: &mut DefaultTerminal) -> io::Result<()> {
    let mut app = App::default();
    loop {
        let listed = runtime.block_on(poller.list());
        app.handle(listed.map_or_else(|failure| Event::Failed(failure.message), Event::Listed));
        terminal.draw(|frame| view::draw(&app, frame))?;
        while event::poll(ASK_INTERVAL)? {
            let pressed = key(&event::read()?).and_then(|key| app.handle(Event::Pressed(key)));
            match pressed {
                Some(Action::Quit) => return Ok(()),
                Some(Action::Ask) => break,
                None => {
                    terminal.draw(|frame| view::draw(&app, frame))?;
                }
            }
        }
    }
}

fn key(event: &event::Event) -> Option<Key> {
    let key = event.as_key_event().filter(|key| key.kind != KeyEventKind::Release)?;
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Key::Quit),
        KeyCode::Char('q') | KeyCode::Esc => Some(Key::Quit),
        KeyCode::Char('r') => Some(Key::Refresh),
        KeyCode::Char('j') | KeyCode::Down => Some(Key::Down),
        KeyCode::Char('k') | KeyCode::Up => Some(Key::Up),
        _ => None,
    }
}
