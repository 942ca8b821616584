//! Lines of text in a box: forms, questions, menus, pages.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Widget};

use crate::app;
use crate::theme::{Theme, Tone};

/// Clears a box in the middle of an area, draws its frame, and gives its inside.
pub(crate) fn open(title: &str, columns: u16, rows: u16, area: Rect, theme: Theme, buffer: &mut Buffer) -> Rect {
    let (width, height) = (columns.saturating_add(4).min(area.width), rows.saturating_add(2).min(area.height));
    let place = Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    Clear.render(place, buffer);
    let block = Block::bordered().title(Span::styled(format!(" {title} "), theme.style(Tone::Title)));
    let inside = block.inner(place);
    block.render(place, buffer);
    Rect { x: inside.x + 1, width: inside.width.saturating_sub(2), ..inside }
}

/// The spans of a line that is written, with a block for the cursor; of a secret the length alone.
pub(crate) fn written(line: &app::Line, is_secret: bool, has_cursor: bool) -> Vec<Span<'static>> {
    let shown = |text: &str| if is_secret { "*".repeat(text.chars().count()) } else { text.to_owned() };
    let (before, behind) = line.halves();
    if !has_cursor {
        return vec![Span::raw(shown(line.text()))];
    }
    let mut rest = behind.chars();
    let under = rest.next().map_or_else(|| " ".to_owned(), |c| shown(c.encode_utf8(&mut [0; 4])));
    let cursor = Style::new().add_modifier(Modifier::REVERSED);
    vec![Span::raw(shown(before)), Span::styled(under, cursor), Span::raw(shown(rest.as_str()))]
}

/// Draws lines from `top` on, one below the other.
pub(crate) fn lines<'a>(lines: impl IntoIterator<Item = Line<'a>>, top: usize, area: Rect, buffer: &mut Buffer) {
    for (y, line) in (area.y..area.bottom()).zip(lines.into_iter().skip(top)) {
        line.render(Rect { y, height: 1, ..area }, buffer);
    }
}

/// How many columns the widest of some lines takes.
pub(crate) fn width(lines: &[Line<'_>]) -> u16 {
    lines.iter().map(Line::width).max().and_then(|width| u16::try_from(width).ok()).unwrap_or_default()
}
