//! One task closely: what it is, its pieces on one host, their copies, its rate.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

use super::framed;
use crate::app::App;
use crate::format;
use crate::model::{Cell, TaskView};
use crate::theme::{self, Series, Tone};
use crate::widget::{curve, strip};

fn view(app: &App) -> Option<&TaskView> {
    app.snapshot.task.as_ref()
}

/// One line about the task.
pub(super) fn head(app: &App, area: Rect, buffer: &mut Buffer) {
    let Some(view) = view(app) else {
        Line::raw(" no task is looked at").render(area, buffer);
        return;
    };
    let (theme, task) = (app.setup.theme, &view.task);
    let mut spans = vec![
        Span::styled(format!(" {} ", task.id.get(..8).unwrap_or(&task.id)), theme.style(Tone::Title)),
        Span::styled(
            format!("{} {}  ", theme::sign(task.state.mark), task.state.word),
            theme.style(Tone::State(task.state.mark)),
        ),
    ];
    let size = task.content_length.map_or_else(|| "?".to_owned(), format::size);
    spans.push(Span::raw(format!(
        "{size}  {} pieces × {}  {} peers  {} done",
        task.total_pieces,
        format::size(task.piece_length),
        task.peers,
        format::percent(task.done_per_mille),
    )));
    if !task.tag.is_empty() {
        spans.push(Span::raw(format!("  tag {}", format::clean(&task.tag))));
    }
    spans.push(Span::styled(format!("  {}", format::clean(&task.url)), theme.style(Tone::Dim)));
    Line::from(spans).render(area, buffer);
}

/// What the host that is looked at has.
pub(super) fn piece_map(app: &App, area: Rect, buffer: &mut Buffer) {
    let Some(view) = view(app) else { return };
    let theme = app.setup.theme;
    let held = view.peer(&view.host).map_or(0, |peer| peer.held_pieces);
    let title = vec![
        Span::styled(format!(" pieces of {} ", format::clean(&view.hostname)), theme.style(Tone::Title)),
        Span::raw(format!("{held}/{} ", view.task.total_pieces)),
        Span::styled("█ have ▒ partly ░ asked · none ! bad ", theme.style(Tone::Dim)),
    ];
    let mut below = Vec::new();
    if !view.rarest.is_empty() {
        let rare = view.rarest.iter().take(5).map(|(piece, copies)| format!("#{piece} ({copies})"));
        below.push(Span::raw(format!(" rarest {} ", rare.collect::<Vec<_>>().join("  "))));
    }
    if view.cells.contains(&Cell::Bad) {
        below.push(Span::styled("! some came and were refused ", theme.style(Tone::State(crate::model::Mark::Bad))));
    }
    let inside = framed(app, title, below, area, buffer);
    strip::pieces(&view.cells, inside, theme, buffer);
}

/// How many hosts have each piece.
pub(super) fn copies(app: &App, area: Rect, buffer: &mut Buffer) {
    let Some(view) = view(app) else { return };
    let theme = app.setup.theme;
    let most = view.copies.iter().copied().max().unwrap_or_default();
    let least = view.copies.iter().copied().min().unwrap_or_default();
    let title = vec![
        Span::styled(" copies of each piece ", theme.style(Tone::Title)),
        Span::raw(format!("{least} to {most} ")),
        Span::styled("× nobody has it ", theme.style(Tone::Dim)),
    ];
    let inside = framed(app, title, Vec::new(), area, buffer);
    strip::copies(&view.copies, inside, theme, buffer);
}

/// What all its peers receive.
pub(super) fn rate(app: &App, area: Rect, buffer: &mut Buffer) {
    let theme = app.setup.theme;
    let now = view(app).map_or(0, |view| view.task.rate_bytes_per_sec);
    let style = theme.style(Tone::Series(Series::Download));
    let title =
        vec![Span::styled(" rate ", theme.style(Tone::Title)), Span::styled(format!("{} ", format::rate(now)), style)];
    let below = vec![Span::raw(format!(" {} ", app.window.name()))];
    let inside = framed(app, title, below, area, buffer);
    let values = app.task_history.columns(Series::Download, app.window, usize::from(inside.width));
    curve::draw(&values, inside, style, buffer);
}
