//! Who sent a task to whom, as a matrix: a row for each host, a column for each that sends.

use std::collections::BTreeMap;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

use crate::app::App;
use crate::format;
use crate::list::List;
use crate::model::{Edge, Mark};
use crate::theme::{Theme, Tone};
use crate::topology::Branch;

use super::topology;

/// Width of a host's name, in columns of the screen.
const NAME_WIDTH: usize = 18;

/// Signs for how much, from the least.
const LEVELS: [char; 4] = ['░', '▒', '▓', '█'];

/// Draws the rows of the matrix that are on the screen. Hosts are in the order of the tree, and so are
/// those that send: each has a number, which stands in its own row where its column crosses it.
pub(super) fn matrix(app: &App, area: Rect, buffer: &mut Buffer) {
    let (Some(state), Some(view)) = (app.list_state(List::Tree), &app.snapshot.task) else { return };
    let edges: BTreeMap<(&str, &str), &Edge> =
        view.edges.iter().map(|edge| ((edge.parent.as_str(), edge.child.as_str()), edge)).collect();
    let sends = |branch: &&Branch| view.edges.iter().any(|edge| edge.parent == branch.host);
    let parents: Vec<&str> = app.tree.iter().filter(sends).map(|branch| branch.host.as_str()).collect();
    let most = view.edges.iter().map(|edge| edge.pieces).max().unwrap_or_default();
    for (y, (at, branch)) in (area.y..area.bottom()).zip(app.tree.iter().enumerate().skip(state.top)) {
        let row = Rect { y, height: 1, ..area };
        let mut spans = head(branch, app.setup.theme);
        for (number, parent) in (1..).zip(&parents) {
            let edge = edges.get(&(*parent, branch.host.as_str())).copied();
            spans.push(cell(number, branch.host == *parent, edge, most, app.setup.theme));
        }
        Line::from(spans).render(row, buffer);
        if at == state.cursor {
            buffer.set_style(row, app.setup.theme.style(Tone::Cursor));
        }
    }
}

fn head(branch: &Branch, theme: Theme) -> Vec<Span<'static>> {
    let (sign, mark) = topology::sign(branch);
    let name: String = format::clean(&branch.hostname).chars().take(NAME_WIDTH).collect();
    let done = branch.role.map_or_else(String::new, |_| format::percent(branch.done_per_mille));
    vec![
        Span::styled(format!(" {sign} "), theme.style(Tone::State(mark))),
        Span::styled(format!("{name:<NAME_WIDTH$}"), theme.style(Tone::Title)),
        Span::raw(format!("{done:>7} ")),
    ]
}

fn cell(number: usize, is_own: bool, edge: Option<&Edge>, most: u32, theme: Theme) -> Span<'static> {
    let Some(edge) = edge else {
        return if is_own {
            Span::styled(format!("{number:>4}"), theme.style(Tone::Key))
        } else {
            Span::styled("   ·", theme.style(Tone::Dim))
        };
    };
    let (sign, tone) = match level(edge.pieces, most) {
        _ if edge.state.mark == Mark::Bad => ('✖', Tone::State(Mark::Bad)),
        Some(sign) if edge.transfers > 0 => (sign, Tone::State(Mark::Busy)),
        Some(sign) => (sign, Tone::State(Mark::Idle)),
        // Asked for, and nothing has come yet.
        None => ('>', Tone::State(Mark::Busy)),
    };
    Span::styled(format!("   {sign}"), theme.style(tone))
}

/// How much of the most, in quarters; `None` for nothing.
fn level(pieces: u32, most: u32) -> Option<char> {
    let quarters = (u64::from(pieces) * LEVELS.len() as u64).div_ceil(u64::from(most.max(1)));
    let at = usize::try_from(quarters).ok()?.checked_sub(1)?;
    LEVELS.get(at.min(LEVELS.len() - 1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_a_quarter_of_the_most_begun() {
        let levels: Vec<Option<char>> = [0, 1, 25, 26, 75, 76, 100].iter().map(|pieces| level(*pieces, 100)).collect();
        let expected = [None, Some('░'), Some('░'), Some('▒'), Some('▓'), Some('█'), Some('█')];
        assert_eq!(levels, expected);
        assert_eq!(level(0, 0), None);
    }
}
