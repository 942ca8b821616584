//! Draws the state; changes nothing.

use df_api::dfdaemon::ListEntry;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::Stylize;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Row, Table, TableState};

use crate::app::{App, KEYS};

/// Draws the whole screen.
pub fn draw(app: &App, frame: &mut Frame<'_>) {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(1), Constraint::Length(1)]).areas(frame.area());
    frame.render_widget(Line::from(title(app)).bold(), head);
    let widths = [
        Constraint::Fill(3),
        Constraint::Fill(1),
        Constraint::Length(10),
        Constraint::Length(12),
        Constraint::Length(6),
    ];
    let table = Table::new(app.entries.iter().map(row), widths)
        .header(Row::new(["CID", "TAG", "SIZE", "STATE", "KEPT"]).underlined())
        .row_highlight_style(ratatui::style::Style::new().reversed());
    let mut state = TableState::new().with_selected((!app.entries.is_empty()).then_some(app.selected));
    frame.render_stateful_widget(table, body, &mut state);
    let keys = KEYS.iter().flat_map(|(key, does)| [Span::from(*key).bold(), Span::from(format!(" {does}  "))]);
    frame.render_widget(Line::from_iter(keys), foot);
}

/// State is a glyph and a word.
fn title(app: &App) -> String {
    let bytes: u64 = app.entries.iter().map(|entry| entry.stored_length).sum();
    match (&app.failure, app.is_known) {
        (Some(why), _) => format!("dfconsole  ✖ no answer: {why}"),
        (None, false) => "dfconsole  · asking the daemon".to_owned(),
        (None, true) => format!("dfconsole  ● live  {} contents, {}", app.entries.len(), size(bytes)),
    }
}

fn row(entry: &ListEntry) -> Row<'static> {
    let state = match entry.content_length {
        _ if entry.is_complete => "✔ whole".to_owned(),
        Some(len) if len > 0 => format!("▒ {} %", entry.stored_length.saturating_mul(100) / len),
        _ => "░ begun".to_owned(),
    };
    let kept = if entry.is_pinned { "pinned" } else { "" };
    let len = entry.content_length.map_or_else(|| "?".to_owned(), size);
    Row::new([entry.cid.clone(), entry.tag.clone(), len, state, kept.to_owned()])
}

/// Bytes as people write them.
fn size(bytes: u64) -> String {
    let mut scaled = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if scaled < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{scaled:.1} {unit}") };
        }
        scaled /= 1024.0;
    }
    format!("{scaled:.1} TiB")
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::app::Event;

    fn screen(app: &App, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(app, frame)).unwrap();
        terminal.backend().to_string()
    }

    fn some() -> App {
        let mut app = App::default();
        let whole = ListEntry {
            cid: "model".to_owned(),
            content_length: Some(3 << 20),
            stored_length: 3 << 20,
            is_complete: true,
            is_pinned: true,
            ..ListEntry::default()
        };
        let half = ListEntry {
            cid: "x\u{1b}[31m".to_owned(),
            content_length: Some(2048),
            stored_length: 1024,
            ..ListEntry::default()
        };
        app.handle(Event::Listed(vec![whole, half]));
        app
    }

    #[test]
    fn contents_are_shown_with_their_state() {
        let screen = screen(&some(), 70, 6);
        assert!(screen.contains("● live  2 contents, 3.0 MiB"), "{screen}");
        assert!(screen.contains("3.0 MiB") && screen.contains("✔ whole") && screen.contains("pinned"), "{screen}");
        assert!(screen.contains("▒ 50 %"), "{screen}");
    }

    #[test]
    fn no_name_reaches_the_terminal_as_a_command() {
        assert!(!screen(&some(), 70, 6).contains('\u{1b}'));
    }

    #[test]
    fn no_size_is_too_small() {
        for (width, height) in [(1, 1), (3, 2), (40, 10), (300, 100)] {
            screen(&some(), width, height);
        }
    }

    #[test]
    fn sizes_have_the_unit_that_fits() {
        assert_eq!([0, 1023, 1024, 3 << 40].map(size), ["0 B", "1023 B", "1.0 KiB", "3.0 TiB"]);
    }
}
