//! A list with heads, rows, a cursor and marks.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};

use crate::app::{App, ListState};
use crate::format;
use crate::layout::{self, Column};
use crate::list::{List, Row, Value};
use crate::theme::{Theme, Tone};

/// Draws a list; `is_active` when it has the cursor.
pub(crate) fn draw(app: &App, list: List, area: Rect, is_active: bool, buffer: &mut Buffer) {
    let Some(state) = app.list_state(list) else { return };
    let theme = app.setup.theme;
    let heads = list.heads();
    let columns = layout::columns(&heads, area.width, app.is_wide);
    let mut y = area.y;
    if layout::has_heads(list) && y < area.bottom() {
        for column in &columns {
            draw_head(column, state, area, is_active, theme, buffer);
        }
        y += 1;
    }
    let rows = list.rows(&app.snapshot);
    for (at, place) in state.shown.iter().enumerate().skip(state.top) {
        let Some(row) = rows.get(*place).filter(|_| y < area.bottom()) else { return };
        let has_cursor = is_active && at == state.cursor;
        let is_marked = !state.marks.is_empty() && state.marks.contains(row.key().as_ref());
        draw_row(*row, &columns, Rect { y, height: 1, ..area }, is_marked, theme, buffer);
        if has_cursor {
            // Seen without reversed colours too: in a text, on paper.
            buffer.set_stringn(area.x, y, if is_marked { "»" } else { ">" }, 1, Style::new());
            buffer.set_style(Rect { y, height: 1, ..area }, theme.style(Tone::Cursor));
        }
        y += 1;
    }
}

fn draw_head(column: &Column, state: &ListState, area: Rect, is_active: bool, theme: Theme, buffer: &mut Buffer) {
    let arrow = match state.order {
        Some((by, true)) if by == column.index => "▼",
        Some((by, false)) if by == column.index => "▲",
        _ => "",
    };
    let width = usize::from(column.width);
    let name = format!("{}{arrow}", column.head.name);
    let text = if column.head.is_number { format!("{name:>width$}") } else { name };
    let mut style = theme.style(Tone::Title);
    if is_active && state.column == column.index {
        style = style.add_modifier(Modifier::UNDERLINED);
    }
    buffer.set_stringn(area.x + column.x, area.y, text, width, style);
}

fn draw_row(row: &dyn Row, columns: &[Column], area: Rect, is_marked: bool, theme: Theme, buffer: &mut Buffer) {
    if is_marked {
        buffer.set_stringn(area.x, area.y, "*", usize::from(area.width), theme.style(Tone::Key));
    }
    for column in columns {
        let value = row.value(column.index);
        let shown = value.shown();
        let width = usize::from(column.width);
        let is_cut = shown.chars().count() > width;
        let style = style(&value, theme);
        let (x, y) = (area.x + column.x, area.y);
        if column.head.is_number && !is_cut {
            buffer.set_stringn(x, y, format!("{shown:>width$}"), width, style);
        } else {
            // Clean first: what is left out by the buffer must not shift what is drawn behind it.
            let clean = format::clean(&shown);
            let (end, _) = buffer.set_stringn(x, y, clean, width, style);
            if is_cut && width > 1 && end > x {
                buffer.set_stringn(x + column.width - 1, y, "…", 1, style);
            }
        }
    }
}

fn style(value: &Value<'_>, theme: Theme) -> Style {
    match value {
        Value::State(state) => theme.style(Tone::State(state.mark)),
        Value::None | Value::Rate(0) => theme.style(Tone::Dim),
        _ => Style::new(),
    }
}
