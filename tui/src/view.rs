//! Draws the state; changes nothing.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Widget};

use crate::app::{App, Mode};
use crate::format;
use crate::keymap;
use crate::layout::{self, LEAST, Pane, Shape};
use crate::list::List;
use crate::model::{Contact, Mark};
use crate::theme::{self, Tone};

mod help;
mod overlay;
mod overview;
mod print;
mod task;
mod matrix;
mod topology;

pub use print::{json, text};

/// Draws the whole screen onto a frame.
pub fn draw(app: &App, frame: &mut Frame<'_>) {
    let area = frame.area();
    draw_into(app, area, frame.buffer_mut());
}

/// Draws the whole screen onto a buffer, in the columns and rows that the app knows of.
pub fn draw_into(app: &App, area: Rect, buffer: &mut Buffer) {
    let mine = Rect::new(0, 0, app.size.0, app.size.1).intersection(area);
    if mine.as_size() != (app.size.0, app.size.1).into() {
        // The terminal shrank a moment ago; the event that says so is on its way.
        return;
    }
    if layout::shape(app.size) == Shape::TooSmall {
        Line::raw(format!("dfconsole needs {}x{}", LEAST.0, LEAST.1)).render(mine, buffer);
        return;
    }
    let frame = layout::frame(app.size);
    head(app, frame.head, buffer);
    tabs(app, frame.tabs, buffer);
    for (pane, area) in layout::panes(app) {
        draw_pane(app, pane, area, buffer);
    }
    foot(app, frame.foot, buffer);
    overlay::draw(app, frame.body, buffer);
    if app.setup.is_ascii {
        seven_bits(buffer);
    }
}

/// Puts a stand-in for every sign outside seven bits.
fn seven_bits(buffer: &mut Buffer) {
    for cell in &mut buffer.content {
        if !cell.symbol().is_ascii() {
            let sign = cell.symbol().chars().next().map_or(' ', theme::stand_in);
            cell.set_char(sign);
        }
    }
}

fn state(app: &App, mark: Mark, word: &str) -> Span<'static> {
    Span::styled(format!("{} {word}", theme::sign(mark)), app.setup.theme.style(Tone::State(mark)))
}

fn head(app: &App, area: Rect, buffer: &mut Buffer) {
    let theme = app.setup.theme;
    let snapshot = &app.snapshot;
    let mut spans = vec![Span::styled(" dfconsole", theme.style(Tone::Title)), Span::raw("  ")];
    spans.push(freshness(app));
    if let Some(ms) = app.frozen_ms() {
        spans.push(Span::raw("  "));
        spans.push(state(app, Mark::Warn, &format!("frozen {}", format::span(ms / 1000))));
    }
    if !snapshot.cluster.is_empty() {
        spans.push(Span::raw(format!("  cluster {}", snapshot.cluster)));
    }
    if !snapshot.user.is_empty() {
        let may = if app.is_read_only() { "read-only" } else { "rw" };
        spans.push(Span::raw(format!("  user {} ({may})", snapshot.user)));
    } else if app.setup.is_read_only {
        spans.push(Span::raw("  read-only"));
    }
    let time = Span::styled(format!("  {}", format::date(snapshot.taken_at)), theme.style(Tone::Dim));
    let has_room = spans.iter().map(Span::width).sum::<usize>() + time.width() < usize::from(area.width);
    if snapshot.taken_at > 0 && has_room {
        spans.push(time);
    }
    let left = Line::from(spans);
    let used = left.width();
    left.render(area, buffer);
    let right = "[?] help  [:] command ";
    if used + right.len() + 1 < usize::from(area.width) {
        let width = u16::try_from(right.len()).unwrap_or_default();
        buffer.set_stringn(area.right() - width, area.y, right, right.len(), theme.style(Tone::Dim));
    }
}

fn freshness(app: &App) -> Span<'static> {
    let seconds = app.news_age_ms / 1000;
    match (&app.snapshot.manager, &app.snapshot.daemon) {
        (Contact::Live, _) if app.news_age_ms > 5000 => {
            state(app, Mark::Warn, &format!("{} old", format::span(seconds)))
        }
        (Contact::Live, _) => state(app, Mark::Good, "live"),
        (Contact::Lost(_), _) => state(app, Mark::Bad, "no manager"),
        (_, Contact::Live) => state(app, Mark::Good, "this node alone"),
        (_, Contact::Lost(_)) => state(app, Mark::Bad, "no daemon"),
        _ => state(app, Mark::Idle, "asking"),
    }
}

fn tabs(app: &App, area: Rect, buffer: &mut Buffer) {
    let theme = app.setup.theme;
    for (screen, x, width) in layout::tabs(app.size) {
        let digit = screen.digit().unwrap_or(' ');
        let text = if width > 1 { format!("{digit} {}", screen.title()) } else { digit.to_string() };
        let tone = if screen == app.screen { Tone::Open } else { Tone::Plain };
        buffer.set_stringn(area.x + x, area.y, text, usize::from(width), theme.style(tone));
        if width > 1 && screen.digit() != Some('0') {
            buffer.set_stringn(area.x + x + width + 1, area.y, "│", 1, theme.style(Tone::Dim));
        }
    }
    // A screen without a tab of its own, and one that is told by its digit alone.
    let end = layout::tabs(app.size).last().map_or(0, |(_, x, width)| x + width);
    let is_named = layout::tabs(app.size).iter().any(|(screen, _, width)| *screen == app.screen && *width > 1);
    if !is_named {
        let text = format!("  {}", app.screen.title());
        let room = usize::from(area.width.saturating_sub(end));
        buffer.set_stringn(area.x + end, area.y, text, room, theme.style(Tone::Title));
    }
}

fn draw_pane(app: &App, pane: Pane, area: Rect, buffer: &mut Buffer) {
    match pane {
        Pane::List(list) => draw_list(app, list, area, buffer),
        Pane::Curves => overview::curves(app, area, buffer),
        Pane::Health => overview::health(app, area, buffer),
        Pane::Counters => overview::counters(app, area, buffer),
        Pane::TaskHead => task::head(app, area, buffer),
        Pane::PieceMap => task::piece_map(app, area, buffer),
        Pane::Copies => task::copies(app, area, buffer),
        Pane::TaskRate => task::rate(app, area, buffer),
        Pane::Ring => overview::ring(app, area, buffer),
    }
}

/// Draws a frame with a title, where frames are drawn, and gives its inside.
fn framed(app: &App, title: Vec<Span<'static>>, below: Vec<Span<'static>>, area: Rect, buffer: &mut Buffer) -> Rect {
    let inside = layout::inside(area, app.size);
    if inside != area {
        let mut block = Block::bordered().border_style(app.setup.theme.style(Tone::Dim)).title(Line::from(title));
        if !below.is_empty() {
            block = block.title_bottom(Line::from(below));
        }
        block.render(area, buffer);
    }
    inside
}

fn draw_list(app: &App, list: List, area: Rect, buffer: &mut Buffer) {
    let theme = app.setup.theme;
    let Some(shown) = app.list_state(list) else { return };
    let is_active = app.list() == list;
    let tone = if is_active && app.screen.lists().len() > 1 { Tone::Open } else { Tone::Title };
    let mut title = vec![Span::styled(format!(" {} ", list_title(app, list)), theme.style(tone))];
    let all = if list == List::Tree { app.tree.len() } else { list.rows(&app.snapshot).len() };
    let mut count = if shown.shown.len() == all { format!("{all} ") } else { format!("{}/{all} ", shown.shown.len()) };
    if !shown.marks.is_empty() {
        count.push_str(&format!("({} marked) ", shown.marks.len()));
    }
    title.push(Span::raw(count));
    if !shown.filter.is_empty() {
        title.push(Span::styled(format!("/{} ", shown.filter.text()), theme.style(Tone::Key)));
    }
    let inside = framed(app, title, Vec::new(), area, buffer);
    if shown.shown.is_empty() {
        let why = Line::styled(why_empty(app, list), theme.style(Tone::Dim));
        let y = inside.y + u16::from(layout::has_heads(list)).min(inside.height.saturating_sub(1));
        why.render(
            Rect { x: inside.x + 2, y, width: inside.width.saturating_sub(2), height: 1 }.intersection(inside),
            buffer,
        );
    }
    if list == List::Tree && app.is_matrix {
        matrix::matrix(app, inside, buffer);
    } else if list == List::Tree {
        topology::tree(app, inside, buffer);
    } else {
        crate::widget::table::draw(app, list, inside, is_active, buffer);
    }
}

fn list_title(app: &App, list: List) -> String {
    let view = app.snapshot.task.as_ref();
    match (list, view) {
        (List::Parents, Some(view)) => format!("parents of {}", format::clean(&view.hostname)),
        (List::Parts, _) => match &app.snapshot.job {
            Some(job) => format!("parts of job {}", format::clean(&job.id)),
            None => "parts".to_owned(),
        },
        (List::Tree, Some(view)) if app.is_matrix => {
            let name = format::clean(view.task.name());
            format!("who sent {name} to whom: from the number's host to the row's, █ most ▓ ▒ ░ least ✖ failed")
        }
        (List::Tree, Some(view)) => format!("topology of {}", format::clean(view.task.name())),
        _ => list.title().to_owned(),
    }
}

/// A pane without rows says why.
fn why_empty(app: &App, list: List) -> String {
    let snapshot = &app.snapshot;
    let contact = if list == List::Contents { &snapshot.daemon } else { &snapshot.manager };
    let source = if list == List::Contents { "the daemon" } else { "the manager" };
    let is_filtered = app.list_state(list).is_some_and(|state| !state.filter.is_empty());
    match contact {
        Contact::Unknown => format!("asking {source}"),
        Contact::Lost(why) => format!("{source} does not answer: {why}"),
        Contact::Unused(why) => why.clone(),
        Contact::Live if is_filtered => "nothing passes the filter; esc clears it".to_owned(),
        Contact::Live => match list {
            List::Tree | List::Parents | List::TaskPeers if snapshot.task.is_none() => {
                "no task is looked at: open one on the screen of tasks".to_owned()
            }
            List::Isolated => "nobody: every host is used".to_owned(),
            List::Attention => format!("{} nothing needs it", theme::sign(Mark::Good)),
            List::Blocks => "nothing is forbidden; a adds a rule".to_owned(),
            List::Jobs => "none yet; P preheats".to_owned(),
            List::Users | List::Audit if app.is_read_only() => "your token may not see this".to_owned(),
            _ => "none".to_owned(),
        },
    }
}

fn foot(app: &App, area: Rect, buffer: &mut Buffer) {
    let theme = app.setup.theme;
    let line = match (&app.mode, &app.notice) {
        (Mode::Filter(line), _) => overlay::prompt("/", line, theme),
        (Mode::Command(command), _) => overlay::prompt(":", &command.line, theme),
        (_, Some(notice)) => Line::from(state(app, notice.mark, &format::clean(&notice.text))),
        _ => {
            let context = app.mode.context();
            let bindings: Vec<_> = match &app.mode {
                Mode::Browse => keymap::named(app.list()).filter(|it| !it.is_change || !app.is_read_only()).collect(),
                _ => keymap::KEYMAP.iter().filter(|it| it.context == context).collect(),
            };
            let mut line = Line::default();
            for binding in bindings {
                let key = binding.keys.first().map(|key| key.name()).unwrap_or_default();
                let (key, does) = (format!(" {key}"), format!(" {} ", binding.help));
                // Half a word would be worse than none; all of them are in help.
                if line.width() + key.chars().count() + does.chars().count() > usize::from(area.width) + 1 {
                    break;
                }
                line.push_span(Span::styled(key, theme.style(Tone::Key)));
                line.push_span(Span::raw(does));
            }
            line
        }
    };
    line.render(area, buffer);
}
