//! Where things stand on the screen: pure geometry, for drawing and for the mouse alike.

use ratatui::layout::{Constraint, Layout, Rect};

use crate::app::{App, Mode};
use crate::keymap::{Context, KEYMAP};
use crate::list::{Head, List};
use crate::screen::Screen;

/// The smallest screen on which anything can be told.
pub const LEAST: (u16, u16) = (40, 10);

/// How much fits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// Nothing.
    TooSmall,
    /// Plain counters, and lists without frames.
    Small,
    /// One pane at a time.
    OnePane,
    /// All panes of a screen.
    Full,
}

/// The shape of a screen of this size.
pub const fn shape(size: (u16, u16)) -> Shape {
    match size {
        (columns, rows) if columns < LEAST.0 || rows < LEAST.1 => Shape::TooSmall,
        (columns, rows) if columns < 60 || rows < 16 => Shape::Small,
        (columns, rows) if columns < 80 || rows < 24 => Shape::OnePane,
        _ => Shape::Full,
    }
}

/// The parts of every screen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Who, where, when, how fresh.
    pub head: Rect,
    /// The tabs.
    pub tabs: Rect,
    /// The screen itself.
    pub body: Rect,
    /// Keys, notices, what is written.
    pub foot: Rect,
}

/// The parts of a screen of this size.
pub fn frame(size: (u16, u16)) -> Frame {
    let area = Rect::new(0, 0, size.0, size.1);
    let rows = [Constraint::Length(1), Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)];
    let [head, tabs, body, foot] = Layout::vertical(rows).areas(area);
    Frame { head, tabs, body, foot }
}

/// One pane of a screen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pane {
    /// A list.
    List(List),
    /// Curves of what flows.
    Curves,
    /// Parts of the cluster, and how many are well.
    Health,
    /// All that as numbers.
    Counters,
    /// What a task is.
    TaskHead,
    /// Its pieces on one host.
    PieceMap,
    /// Copies of its pieces.
    Copies,
    /// What its peers receive.
    TaskRate,
    /// Shares of the hash ring.
    Ring,
}

/// The panes of the screen that is shown, and where they are.
pub fn panes(app: &App) -> Vec<(Pane, Rect)> {
    let body = frame(app.size).body;
    let list = app.list();
    let shape = shape(app.size);
    if shape == Shape::TooSmall {
        return Vec::new();
    }
    if app.is_expanded {
        return vec![(Pane::List(list), body)];
    }
    match (app.screen, shape) {
        (Screen::Overview, Shape::Small) => vec![(Pane::Counters, body)],
        (_, Shape::Small) => vec![(Pane::List(list), body)],
        (Screen::Overview, Shape::OnePane) => stacked(body, &[(Pane::Curves, 5)], list),
        (Screen::Task, Shape::OnePane) => stacked(body, &[(Pane::TaskHead, 1), (Pane::PieceMap, 4)], list),
        (Screen::Task, _) => task(body),
        (_, Shape::OnePane) => vec![(Pane::List(list), body)],
        (Screen::Overview, _) => overview(body),
        (Screen::Cluster, _) => {
            let [members, below] = Layout::vertical([Constraint::Fill(3), Constraint::Fill(2)]).areas(body);
            let [clusters, ring] = Layout::horizontal([Constraint::Fill(2), Constraint::Fill(1)]).areas(below);
            vec![(Pane::List(List::Members), members), (Pane::List(List::Clusters), clusters), (Pane::Ring, ring)]
        }
        (Screen::Jobs, _) => halves(body, List::Jobs, List::Parts),
        (Screen::Blacklist, _) => halves(body, List::Isolated, List::Blocks),
        (Screen::Admin, _) => {
            let [above, below] = Layout::vertical([Constraint::Fill(1), Constraint::Fill(1)]).areas(body);
            let left_and_right = Layout::horizontal([Constraint::Fill(2), Constraint::Fill(3)]);
            let [users, tokens] = left_and_right.areas(above);
            let [settings, audit] = left_and_right.areas(below);
            vec![
                (Pane::List(List::Users), users),
                (Pane::List(List::Tokens), tokens),
                (Pane::List(List::Settings), settings),
                (Pane::List(List::Audit), audit),
            ]
        }
        _ => vec![(Pane::List(list), body)],
    }
}

fn stacked(body: Rect, above: &[(Pane, u16)], list: List) -> Vec<(Pane, Rect)> {
    let mut rest = body;
    let mut panes = Vec::new();
    for (pane, height) in above {
        let [top, bottom] = Layout::vertical([Constraint::Length(*height), Constraint::Min(0)]).areas(rest);
        panes.push((*pane, top));
        rest = bottom;
    }
    panes.push((Pane::List(list), rest));
    panes
}

fn halves(body: Rect, one: List, other: List) -> Vec<(Pane, Rect)> {
    let [above, below] = Layout::vertical([Constraint::Fill(1), Constraint::Fill(1)]).areas(body);
    vec![(Pane::List(one), above), (Pane::List(other), below)]
}

fn overview(body: Rect) -> Vec<(Pane, Rect)> {
    let curves = (body.height / 3).clamp(6, 14);
    let [above, below] = Layout::vertical([Constraint::Length(curves), Constraint::Min(0)]).areas(body);
    let [health, busiest, attention] = if body.width >= 110 {
        Layout::horizontal([Constraint::Length(28), Constraint::Fill(5), Constraint::Fill(3)]).areas(below)
    } else {
        // Side by side they would have no room for names.
        let [row, attention] = Layout::vertical([Constraint::Fill(3), Constraint::Fill(2)]).areas(below);
        let [health, busiest] = Layout::horizontal([Constraint::Length(26), Constraint::Min(0)]).areas(row);
        [health, busiest, attention]
    };
    vec![
        (Pane::Curves, above),
        (Pane::Health, health),
        (Pane::List(List::Busiest), busiest),
        (Pane::List(List::Attention), attention),
    ]
}

fn task(body: Rect) -> Vec<(Pane, Rect)> {
    // A large screen has room to see more of the map.
    let map = if body.height >= 40 { 7 } else { 4 };
    let rows = [Constraint::Length(1), Constraint::Length(map), Constraint::Length(3), Constraint::Min(0)];
    let [head, pieces, copies, below] = Layout::vertical(rows).areas(body);
    let [left, right] = Layout::horizontal([Constraint::Fill(3), Constraint::Fill(2)]).areas(below);
    let [rate, peers] = Layout::vertical([Constraint::Length(5), Constraint::Min(0)]).areas(right);
    vec![
        (Pane::TaskHead, head),
        (Pane::PieceMap, pieces),
        (Pane::Copies, copies),
        (Pane::List(List::Parents), left),
        (Pane::TaskRate, rate),
        (Pane::List(List::TaskPeers), peers),
    ]
}

/// Inside a pane's frame; small screens have none.
pub fn inside(area: Rect, size: (u16, u16)) -> Rect {
    if shape(size) == Shape::Small { area } else { area.inner(ratatui::layout::Margin::new(1, 1)) }
}

/// Whether heads of columns stand over a list.
pub const fn has_heads(list: List) -> bool {
    !matches!(list, List::Tree | List::Attention)
}

/// How many rows of each list on the screen are seen.
pub fn list_heights(app: &App) -> Vec<(List, usize)> {
    let of = |(pane, area): (Pane, Rect)| match pane {
        Pane::List(list) => {
            let height = inside(area, app.size).height.saturating_sub(u16::from(has_heads(list)));
            Some((list, usize::from(height)))
        }
        _ => None,
    };
    panes(app).into_iter().filter_map(of).collect()
}

/// A column of a list on the screen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Column {
    /// Which of the list's.
    pub index: usize,
    /// What stands over it.
    pub head: Head,
    /// Its first cell, from the left of the pane's inside.
    pub x: u16,
    /// Its cells.
    pub width: u16,
}

/// The columns that fit into a width: those of the lowest rank, in the list's order, the growing ones
/// as wide as it goes. One column is always there.
pub fn columns(heads: &[Head], width: u16, is_wide: bool) -> Vec<Column> {
    let mut order: Vec<usize> =
        (0..heads.len()).filter(|at| heads.get(*at).is_some_and(|head| is_wide || head.rank < 9)).collect();
    order.sort_by_key(|at| heads.get(*at).map_or(u8::MAX, |head| head.rank));
    let mut kept: Vec<usize> = Vec::new();
    // Two cells before each row tell the cursor and marks.
    let mut used = 2_u16;
    for at in order {
        let Some(head) = heads.get(at) else { continue };
        let wanted = head.width.saturating_add(1);
        if kept.is_empty() || used.saturating_add(wanted) <= width {
            used = used.saturating_add(wanted);
            kept.push(at);
        }
    }
    kept.sort_unstable();
    let growing = kept.iter().filter(|at| heads.get(**at).is_some_and(|head| head.grows)).count();
    let spare = width.saturating_sub(used).checked_div(u16::try_from(growing).unwrap_or(1)).unwrap_or_default();
    let mut x = 2_u16;
    let mut placed = Vec::new();
    for index in kept {
        let Some(head) = heads.get(index).copied() else { continue };
        let wanted = if head.grows { head.width.saturating_add(spare) } else { head.width };
        let width = wanted.min(width.saturating_sub(x));
        placed.push(Column { index, head, x, width });
        x = x.saturating_add(width).saturating_add(1);
    }
    placed
}

/// The columns of a list as it is shown now.
pub fn columns_of(app: &App, list: List) -> Vec<Column> {
    let area = panes(app).into_iter().find(|(pane, _)| *pane == Pane::List(list)).map(|(_, area)| area);
    area.map_or_else(Vec::new, |area| columns(&list.heads(), inside(area, app.size).width, app.is_wide))
}

/// The tabs and their first cells and widths.
pub fn tabs(size: (u16, u16)) -> Vec<(Screen, u16, u16)> {
    let width = |screen: &Screen| u16::try_from(screen.title().len()).unwrap_or_default();
    let full: u16 = Screen::TABS.iter().map(|screen| width(screen) + 5).sum();
    let mut x = 1;
    let mut placed = Vec::new();
    for screen in Screen::TABS {
        // With words if they all fit, else the digits alone.
        let cells = if full <= size.0 { width(&screen) + 2 } else { 1 };
        placed.push((screen, x, cells));
        x += cells + if full <= size.0 { 3 } else { 2 };
    }
    placed
}

/// What stands at a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hit {
    /// A tab.
    Tab(Screen),
    /// Something of a list.
    List {
        /// Which list.
        list: List,
        /// What of it.
        part: Part,
    },
}

/// A part of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// The head of a column.
    Head(usize),
    /// A row, as a place in what is shown.
    Row(usize),
    /// Its frame, or nothing.
    Elsewhere,
}

/// What stands at a column and a row of the screen.
pub fn hit(app: &App, column: u16, row: u16) -> Option<Hit> {
    if app.mode != Mode::Browse {
        return None;
    }
    let frame = frame(app.size);
    if row == frame.tabs.y && shape(app.size) != Shape::TooSmall {
        let found = tabs(app.size).into_iter().find(|(_, x, width)| (*x..x.saturating_add(*width)).contains(&column));
        return found.map(|(screen, ..)| Hit::Tab(screen));
    }
    let found = panes(app).into_iter().find(|(_, area)| area.contains((column, row).into()));
    let Some((Pane::List(list), area)) = found else { return None };
    let inner = inside(area, app.size);
    let below = row.checked_sub(inner.y);
    let state = app.list_state(list)?;
    let part = match below {
        Some(0) if has_heads(list) => {
            let x = column.saturating_sub(inner.x);
            let columns = columns(&list.heads(), inner.width, app.is_wide);
            let head = columns.into_iter().find(|head| (head.x..head.x.saturating_add(head.width)).contains(&x));
            head.map_or(Part::Elsewhere, |head| Part::Head(head.index))
        }
        Some(below) if row < inner.bottom() => {
            let at = state.top + usize::from(below) - usize::from(has_heads(list));
            if at < state.shown.len() { Part::Row(at) } else { Part::Elsewhere }
        }
        _ => Part::Elsewhere,
    };
    Some(Hit::List { list, part })
}

/// How many lines help has.
pub fn help_length() -> usize {
    let titles = Context::ALL.len() * 2;
    KEYMAP.len() + titles + crate::app::COMMANDS.len() + 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_goes_by_rank_and_the_rest_keeps_its_order() {
        let heads = List::Tasks.heads();
        let names = |width| columns(&heads, width, false).iter().map(|column| column.head.name).collect::<Vec<_>>();
        assert_eq!(names(42), ["TASK", "DONE", "RATE", "NAME"]);
        assert_eq!(names(0), ["TASK"]);
        let wide = columns(&heads, 300, true);
        assert_eq!(wide.len(), heads.len());
        assert!(wide.windows(2).all(|pair| pair[0].x + pair[0].width < pair[1].x));
        assert!(wide.last().is_some_and(|last| last.x + last.width <= 300));
    }

    #[test]
    fn columns_stay_inside_any_width() {
        for list in List::ALL {
            for width in 0..200 {
                for column in columns(&list.heads(), width, true) {
                    assert!(column.x + column.width <= width.max(2), "{list:?} {width}");
                }
            }
        }
    }

    #[test]
    fn tabs_fit_on_the_smallest_screen() {
        for width in LEAST.0..200 {
            let (_, x, cells) = tabs((width, 24)).pop().expect("ten tabs");
            assert!(x + cells <= width, "{width}");
        }
    }
}
