//! What stands over a screen: pages, menus, forms, questions, offers.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::app::{self, App, CommandLine, Confirm, Form, Input, Menu, Mode, Page};
use crate::format;
use crate::model::Mark;
use crate::theme::{Theme, Tone};
use crate::widget::fields;

/// Draws what is open, if anything is.
pub(super) fn draw(app: &App, area: Rect, buffer: &mut Buffer) {
    let theme = app.setup.theme;
    match &app.mode {
        Mode::Browse | Mode::Filter(_) => {}
        Mode::Page(page) => draw_page(app, page, area, buffer),
        Mode::Command(command) => draw_offers(command, area, theme, buffer),
        Mode::Menu(menu) => draw_menu(menu, area, theme, buffer),
        Mode::Form(form) => draw_form(form, area, theme, buffer),
        Mode::Confirm(confirm) => draw_confirm(confirm, area, theme, buffer),
    }
}

/// A line that is written at the foot.
pub(super) fn prompt(sign: &'static str, line: &app::Line, theme: Theme) -> Line<'static> {
    let mut spans = vec![Span::styled(sign, theme.style(Tone::Key))];
    spans.extend(fields::written(line, false, true));
    Line::from(spans)
}

fn draw_page(app: &App, page: &Page, area: Rect, buffer: &mut Buffer) {
    let lines: Vec<Line<'_>> = match &page.lines {
        None => super::help::lines(app),
        Some(lines) => lines.iter().map(|line| Line::raw(format::clean(line))).collect(),
    };
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX);
    let title = format::clean(&page.title);
    // Help has the whole screen: what shines through from below would only be in its way.
    let width = if page.lines.is_none() { area.width } else { fields::width(&lines).max(30) };
    let height = if page.lines.is_none() { area.height } else { height };
    let inside = fields::open(&title, width, height, area, app.setup.theme, buffer);
    let top = page.top.min(lines.len().saturating_sub(usize::from(inside.height)));
    fields::lines(lines, top, inside, buffer);
}

fn draw_menu(menu: &Menu, area: Rect, theme: Theme, buffer: &mut Buffer) {
    let rows = menu.items.len();
    let line = |at: usize| {
        let binding = menu.binding(at)?;
        let key = binding.keys.first().map(|key| key.name()).unwrap_or_default();
        let line = Line::from_iter([
            Span::styled(format!(" {key:<7}"), theme.style(Tone::Key)),
            Span::raw(format!("{:<28}", binding.help)),
        ]);
        Some(if at == menu.at { line.style(theme.style(Tone::Cursor)) } else { line })
    };
    let lines: Vec<Line<'_>> = (0..rows).filter_map(line).collect();
    let title = if menu.title.is_empty() { "actions".to_owned() } else { format::clean(&menu.title) };
    let height = u16::try_from(rows).unwrap_or(u16::MAX);
    let inside = fields::open(&title, fields::width(&lines), height, area, theme, buffer);
    let top = (menu.at + 1).saturating_sub(usize::from(inside.height));
    fields::lines(lines, top, inside, buffer);
}

fn draw_form(form: &Form, area: Rect, theme: Theme, buffer: &mut Buffer) {
    let line = |(at, field): (usize, &app::Field)| {
        let has_cursor = at == form.at;
        let label = if has_cursor { Tone::Key } else { Tone::Plain };
        let mut spans = vec![Span::styled(format!("{:<12} ", field.label), theme.style(label))];
        match &field.input {
            Input::Text(line) => spans.extend(fields::written(line, false, has_cursor)),
            Input::Secret(line) => spans.extend(fields::written(line, true, has_cursor)),
            Input::Choice { options, at } => {
                for (option, name) in options.iter().enumerate() {
                    let (sign, tone) = if option == *at { ("(•) ", Tone::Title) } else { ("( ) ", Tone::Dim) };
                    spans.push(Span::styled(format!("{sign}{name}  "), theme.style(tone)));
                }
            }
        }
        if !field.hint.is_empty() {
            spans.push(Span::styled(format!("  {}", field.hint), theme.style(Tone::Dim)));
        }
        Line::from(spans)
    };
    let mut lines: Vec<Line<'_>> = form.fields.iter().enumerate().map(line).collect();
    lines.push(Line::raw(""));
    lines.push(match &form.error {
        Some(error) => Line::styled(format!("! {}", format::clean(error)), theme.style(Tone::State(Mark::Warn))),
        None => Line::styled("enter: start   tab: next field   esc: leave", theme.style(Tone::Dim)),
    });
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX);
    let title = format::clean(&form.title);
    let inside = fields::open(&title, fields::width(&lines).max(60), height, area, theme, buffer);
    let top = (form.at + 2).saturating_sub(usize::from(inside.height));
    fields::lines(lines, top, inside, buffer);
}

fn draw_confirm(confirm: &Confirm, area: Rect, theme: Theme, buffer: &mut Buffer) {
    let mut lines: Vec<Line<'_>> = confirm.lines.iter().map(|line| Line::raw(format::clean(line))).collect();
    lines.push(Line::raw(""));
    if confirm.expected.is_empty() {
        lines.push(Line::styled("enter: do it   esc: do nothing", theme.style(Tone::Key)));
    } else {
        let name = format::clean(&confirm.expected);
        lines.push(Line::from_iter([
            Span::raw("Type "),
            Span::styled(name, theme.style(Tone::Title)),
            Span::raw(" to do it:"),
        ]));
        let mut spans = vec![Span::raw("> ")];
        spans.extend(fields::written(&confirm.line, false, true));
        lines.push(Line::from(spans));
    }
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX);
    let title = format::clean(&confirm.title);
    let width = fields::width(&lines).max(u16::try_from(title.chars().count() + 2).unwrap_or(40)).max(40);
    let inside = fields::open(&title, width, height, area, theme, buffer);
    fields::lines(lines, 0, inside, buffer);
}

/// Words that could complete what is written, right above it.
fn draw_offers(command: &CommandLine, area: Rect, theme: Theme, buffer: &mut Buffer) {
    if command.offers.len() < 2 {
        return;
    }
    let offer = |(at, word): (usize, &String)| {
        let tone = if command.offered == Some(at) { Tone::Cursor } else { Tone::Plain };
        [Span::styled(format!(" {} ", format::clean(word)), theme.style(tone)), Span::raw(" ")]
    };
    let at = command.offered.unwrap_or_default();
    let line = Line::from_iter(command.offers.iter().enumerate().skip(at.saturating_sub(4)).flat_map(offer));
    let row = Rect { y: area.bottom().saturating_sub(1), height: 1, ..area }.intersection(area);
    ratatui::widgets::Widget::render(ratatui::widgets::Clear, row, buffer);
    fields::lines([line], 0, row, buffer);
}
