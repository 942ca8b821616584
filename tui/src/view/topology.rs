//! Who gets a task from whom, as a tree.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

use crate::app::App;
use crate::format;
use crate::list::List;
use crate::model::{Mark, Role};
use crate::theme::{self, Theme, Tone};
use crate::topology::Branch;

/// Draws the lines of the tree that are on the screen.
pub(super) fn tree(app: &App, area: Rect, buffer: &mut Buffer) {
    let Some(state) = app.list_state(List::Tree) else { return };
    for (y, (at, branch)) in (area.y..area.bottom()).zip(app.tree.iter().enumerate().skip(state.top)) {
        let row = Rect { y, height: 1, ..area };
        line(branch, app.setup.theme).render(row, buffer);
        if at == state.cursor {
            buffer.set_style(row, app.setup.theme.style(Tone::Cursor));
        }
    }
}

/// What a host is and how it is, as one sign.
pub(super) fn sign(branch: &Branch) -> (char, Mark) {
    match branch.role {
        None => ('○', Mark::Idle),
        _ if branch.is_broken() => ('✖', Mark::Bad),
        Some(Role::Seed) => ('◆', Mark::Busy),
        Some(_) if branch.done_per_mille >= 1000 => ('●', Mark::Good),
        Some(_) => ('●', Mark::Busy),
    }
}

fn line(branch: &Branch, theme: Theme) -> Line<'static> {
    let (sign, mark) = sign(branch);
    let mut spans = vec![
        Span::styled(format!(" {}", branch.rails), theme.style(Tone::Dim)),
        Span::styled(format!("{sign} "), theme.style(Tone::State(mark))),
        Span::styled(format::clean(&branch.hostname), theme.style(Tone::Title)),
    ];
    if !branch.idc.is_empty() {
        spans.push(Span::styled(format!(" {}", format::clean(&branch.idc)), theme.style(Tone::Dim)));
    }
    if branch.role.is_some() {
        spans.push(Span::raw(format!("  {}", format::percent(branch.done_per_mille))));
    }
    if branch.rate_bytes_per_sec > 0 {
        let rate = format::rate(branch.rate_bytes_per_sec);
        spans.push(if branch.is_slow {
            Span::styled(format!("  ~ slow {rate}"), theme.style(Tone::State(Mark::Warn)))
        } else {
            Span::raw(format!("  {rate}"))
        });
    }
    if branch.children > 0 {
        spans.push(Span::raw(format!("  serves {}", branch.children)));
    }
    for state in [&branch.edge, &branch.state].into_iter().filter(|state| state.mark == Mark::Bad) {
        let text = format!("  {} {}", theme::sign(state.mark), format::clean(&state.word));
        spans.push(Span::styled(text, theme.style(Tone::State(state.mark))));
    }
    if branch.folded > 0 {
        spans.push(Span::styled(format!("  [+] {} more", branch.folded), theme.style(Tone::Key)));
    }
    Line::from(spans)
}
