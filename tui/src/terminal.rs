//! The terminal: what is pressed becomes events, frames are drawn, and it is left as it was found: on
//! the way out, in the background, and after a panic.

use std::io::{self, Stdout, Write};
use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crossterm::cursor;
use crossterm::event::{
    DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture, EventStream,
};
use crossterm::terminal::{self, EnterAlternateScreen, LeaveAlternateScreen};
use df_api::failure::{Code, Failure};
use futures_util::StreamExt;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use rustix::process::{Signal, getpid, kill_process};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::app::{Action, App};
use crate::event::Event;
use crate::poller::{Source, Wish};
use crate::view;

/// How often news are asked for.
const NEWS_INTERVAL: Duration = Duration::from_secs(1);

/// How far frames are apart at least.
const FRAME_INTERVAL: Duration = Duration::from_millis(100);

/// Wishes and news that may wait.
const QUEUE_LIMIT: usize = 64;

/// Our hold on the terminal; let go of when dropped.
pub struct Hold {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    has_mouse: bool,
}

impl Hold {
    /// Takes it, with the mouse or without.
    ///
    /// # Errors
    /// When there is no terminal.
    pub fn take(has_mouse: bool) -> io::Result<Self> {
        restore_on_panic();
        enter(has_mouse)?;
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout()));
        let terminal = terminal.inspect_err(|_| leave())?;
        Ok(Self { terminal, has_mouse })
    }

    fn draw(&mut self, app: &App) -> io::Result<()> {
        self.terminal.draw(|frame| view::draw(app, frame)).map(|_| ())
    }

    /// Takes the terminal again after somebody else had it.
    fn retake(&mut self) -> io::Result<()> {
        enter(self.has_mouse)?;
        let (columns, rows) = terminal::size()?;
        // Not `clear`: it would ask the terminal where the cursor is, and the answer would be taken for
        // keys.
        self.terminal.resize(Rect::new(0, 0, columns, rows))
    }

    /// Stops this process until it is continued, the terminal left to the shell meanwhile.
    fn suspend(&mut self) -> io::Result<()> {
        leave();
        kill_process(getpid(), Signal::STOP)?;
        self.retake()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        leave();
    }
}

/// Whether the terminal is ours now. To leave it twice would put the cursor where it was before, upon
/// what was written since.
static IS_HELD: AtomicBool = AtomicBool::new(false);

fn enter(has_mouse: bool) -> io::Result<()> {
    terminal::enable_raw_mode()?;
    IS_HELD.store(true, Ordering::SeqCst);
    crossterm::execute!(io::stdout(), EnterAlternateScreen, EnableBracketedPaste, cursor::Hide)?;
    if has_mouse {
        crossterm::execute!(io::stdout(), EnableMouseCapture)?;
    }
    Ok(())
}

/// Best effort: there is nobody left to tell.
fn leave() {
    if !IS_HELD.swap(false, Ordering::SeqCst) {
        return;
    }
    let _ = crossterm::execute!(
        io::stdout(),
        DisableMouseCapture,
        DisableBracketedPaste,
        LeaveAlternateScreen,
        cursor::Show
    );
    let _ = terminal::disable_raw_mode();
}

/// Makes a panic leave the terminal first, so that its message can be read.
fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let told = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            leave();
            told(info);
        }));
    });
}

fn failed(error: io::Error) -> Failure {
    Failure::new(Code::LocalIo, "the terminal fails").because(error)
}

/// Shows the console until it is left.
///
/// # Errors
/// When the terminal fails.
pub async fn run(mut app: App, source: Source, has_mouse: bool) -> Result<(), Failure> {
    let mut screen = Hold::take(has_mouse).map_err(failed)?;
    let (wishes, wished) = mpsc::channel(QUEUE_LIMIT);
    let (told, news) = mpsc::channel(QUEUE_LIMIT);
    let asking = tokio::spawn(source.serve(wished, told));
    let ended = show(&mut app, &mut screen, &wishes, news).await;
    asking.abort();
    drop(screen);
    if ended.map_err(failed)? {
        let mut out = io::stdout().lock();
        out.write_all(view::text(&app).as_bytes()).map_err(failed)?;
    }
    Ok(())
}

/// Says whether the last screen is to stay.
async fn show(
    app: &mut App,
    screen: &mut Hold,
    wishes: &mpsc::Sender<Wish>,
    mut news: mpsc::Receiver<Event>,
) -> io::Result<bool> {
    let mut pressed = EventStream::new();
    let mut seconds = interval(NEWS_INTERVAL);
    let mut frames = interval(FRAME_INTERVAL);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
    frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stopped = signal(SignalKind::from_raw(Signal::TSTP.as_raw()))?;
    let mut continued = signal(SignalKind::from_raw(Signal::CONT.as_raw()))?;
    let mut ended = signal(SignalKind::terminate())?;
    let mut hung_up = signal(SignalKind::hangup())?;
    app.handle(resized()?);
    let mut is_stale = true;
    loop {
        let event = tokio::select! { biased;
            _ = ended.recv() => return Ok(false),
            _ = hung_up.recv() => return Ok(false),
            _ = stopped.recv() => {
                screen.suspend()?;
                Some(resized()?)
            }
            // Whoever stopped us otherwise may have used the terminal.
            _ = continued.recv() => {
                screen.retake()?;
                Some(resized()?)
            }
            read = pressed.next() => match read {
                Some(event) => Event::of(&event?),
                // Nobody can press anything any more.
                None => return Ok(false),
            },
            _ = frames.tick(), if is_stale => {
                screen.draw(app)?;
                is_stale = false;
                continue;
            }
            told = news.recv() => told,
            _ = seconds.tick() => {
                // Full: the source is slow, and has enough to do.
                let _ = wishes.try_send(Wish::News(app.interest()));
                Some(Event::Ticked(u64::try_from(NEWS_INTERVAL.as_millis()).unwrap_or_default()))
            }
        };
        let Some(event) = event else { continue };
        is_stale = true;
        match app.handle(event) {
            None => {}
            Some(Action::Quit { keeps }) => return Ok(keeps),
            Some(Action::Suspend) => {
                screen.suspend()?;
                app.handle(resized()?);
            }
            Some(Action::Ask) => {
                let _ = wishes.try_send(Wish::Look(app.interest()));
            }
            Some(Action::Order(requests)) => {
                let asked = wishes.try_send(Wish::Order(requests));
                if asked.is_err() {
                    let failure = Failure::new(Code::Busy, "too much is asked for already");
                    app.handle(Event::Failed(failure));
                }
            }
            Some(Action::Copy(text)) => copy(&text)?,
        }
    }
}

fn resized() -> io::Result<Event> {
    terminal::size().map(|(columns, rows)| Event::Resized(columns, rows))
}

/// Puts a text on the clipboard of whoever sits at the terminal (OSC 52), over ssh too.
fn copy(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    write!(out, "\u{1b}]52;c;{}\u{7}", STANDARD.encode(text))?;
    out.flush()
}
