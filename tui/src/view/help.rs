//! The help page, drawn from the tables of keys and commands.

use ratatui::text::{Line, Span};

use crate::app::{App, COMMANDS};
use crate::keymap::{Context, KEYMAP};
use crate::theme::Tone;

/// Every key and every command. Those that mean nothing on the list with the cursor are dim.
pub(super) fn lines(app: &App) -> Vec<Line<'static>> {
    let theme = app.setup.theme;
    let list = app.list();
    let mut lines = Vec::new();
    for context in Context::ALL {
        lines.push(Line::styled(format!("Keys {}", context.title()), theme.style(Tone::Title)));
        for binding in KEYMAP.iter().filter(|binding| binding.context == context) {
            let is_on = binding.is_on(list) && !(binding.is_change && app.is_read_only());
            let why = match (binding.is_change && app.is_read_only(), binding.is_on(list)) {
                (true, _) => "  (off: read-only)",
                (_, false) => "  (not here)",
                _ => "",
            };
            let key = if is_on { Tone::Key } else { Tone::Dim };
            lines.push(Line::from_iter([
                Span::styled(format!("  {:<16} ", binding.key_names()), theme.style(key)),
                Span::raw(format!("{}{why}", binding.help)),
            ]));
        }
        lines.push(Line::raw(""));
    }
    lines.push(Line::styled("Commands", theme.style(Tone::Title)));
    for verb in COMMANDS {
        let words = format!("  :{} {}", verb.word, verb.arguments);
        lines.push(Line::from_iter([
            Span::styled(format!("{words:<42} "), theme.style(Tone::Key)),
            Span::raw(verb.help),
        ]));
    }
    lines.push(Line::from_iter([
        Span::styled(format!("{:<42} ", "  :SCREEN [/FILTER]"), theme.style(Tone::Key)),
        Span::raw("open a screen by its name"),
    ]));
    lines.push(Line::raw("A filter: words, !word, field=begin, field~part, field>10M, done<50, seen>1m"));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::Setup;

    #[test]
    fn help_is_as_long_as_the_layout_thinks() {
        assert_eq!(lines(&App::new(Setup::default())).len(), crate::layout::help_length());
    }
}
