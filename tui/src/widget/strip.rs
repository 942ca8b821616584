//! A strip of cells: pieces of a task, or copies of them, squeezed or stretched into rows.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use crate::model::{Cell, Mark};
use crate::theme::{LEVELS, Theme, Tone};

/// The values that share one cell of the screen, when `count` values are laid out on `cells` cells.
fn share(at: usize, count: usize, cells: usize) -> std::ops::Range<usize> {
    let begin = at * count / cells.max(1);
    let end = ((at + 1) * count).div_ceil(cells.max(1));
    begin..end.max(begin + 1).min(count)
}

/// How a strip lies on an area: so many cells, each as wide as `stretch` cells of the screen. Few values
/// share one row between them, many are squeezed into all rows.
fn lay(area: Rect, count: usize) -> (usize, usize) {
    let width = usize::from(area.width);
    let room = width * usize::from(area.height);
    (count.min(room), width.checked_div(count).unwrap_or_default().max(1))
}

fn put(area: Rect, at: usize, stretch: usize, sign: char, style: Style, buffer: &mut Buffer) {
    let width = usize::from(area.width).max(1);
    for place in at * stretch..(at + 1) * stretch {
        let (Ok(x), Ok(y)) = (u16::try_from(place % width), u16::try_from(place / width)) else { return };
        if y < area.height
            && let Some(cell) = buffer.cell_mut((area.x + x, area.y + y))
        {
            cell.set_char(sign).set_style(style);
        }
    }
}

/// Draws what a host has of each piece. Where several share a cell, trouble is shown first, then what
/// is on its way.
pub(crate) fn pieces(cells: &[Cell], area: Rect, theme: Theme, buffer: &mut Buffer) {
    let (room, stretch) = lay(area, cells.len());
    for at in 0..room {
        let part = cells.get(share(at, cells.len(), room)).unwrap_or_default();
        let has = |wanted: Cell| part.contains(&wanted);
        let (sign, tone) = if has(Cell::Bad) {
            ('!', Tone::State(Mark::Bad))
        } else if has(Cell::Asked) {
            ('░', Tone::State(Mark::Busy))
        } else if part.iter().all(|cell| *cell == Cell::Have) {
            ('█', Tone::State(Mark::Good))
        } else if has(Cell::Have) || has(Cell::Partly) {
            ('▒', Tone::State(Mark::Good))
        } else {
            ('·', Tone::Dim)
        };
        put(area, at, stretch, sign, theme.style(tone), buffer);
    }
}

/// Draws how many hosts have each piece; where several share a cell, the rarest counts. A piece that
/// nobody has is a cross.
pub(crate) fn copies(copies: &[u32], area: Rect, theme: Theme, buffer: &mut Buffer) {
    let most = copies.iter().copied().max().unwrap_or_default();
    let steps = LEVELS.len() - 1;
    let (room, stretch) = lay(area, copies.len());
    for at in 0..room {
        let part = copies.get(share(at, copies.len(), room)).unwrap_or_default();
        let least = part.iter().copied().min().unwrap_or_default();
        let level = usize::try_from(u64::from(least) * steps as u64 / u64::from(most.max(1))).unwrap_or(steps);
        let (sign, tone) = match least {
            0 => ('×', Tone::State(Mark::Bad)),
            1 => (LEVELS.get(level.max(1)).copied().unwrap_or(' '), Tone::State(Mark::Warn)),
            _ => (LEVELS.get(level.max(1)).copied().unwrap_or(' '), Tone::Plain),
        };
        put(area, at, stretch, sign, theme.style(tone), buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(draw: impl Fn(Rect, &mut Buffer), width: u16) -> String {
        let area = Rect::new(0, 0, width, 1);
        let mut buffer = Buffer::empty(area);
        draw(area, &mut buffer);
        (0..width).map(|x| buffer[(x, 0)].symbol().to_owned()).collect()
    }

    #[test]
    fn each_piece_has_its_sign_and_trouble_is_seen_first() {
        use Cell::{Asked, Bad, Have, None, Partly};
        let drawn = |cells: &[Cell], width| row(|area, buffer| pieces(cells, area, Theme::Mono, buffer), width);
        assert_eq!(drawn(&[Have, Partly, Asked, None, Bad], 7), "█▒░·!  ");
        assert_eq!(drawn(&[Have, Have, Have, None, None, Asked, Have, Bad], 4), "█▒░!");
        assert_eq!(drawn(&[], 2), "  ");
        assert_eq!(drawn(&[Have, None], 5), "██·· ");
    }

    #[test]
    fn copies_are_as_high_as_they_are_many() {
        let drawn = |values: &[u32], width| row(|area, buffer| copies(values, area, Theme::Mono, buffer), width);
        assert_eq!(drawn(&[8, 4, 1, 0], 4), "█▄▁×");
        assert_eq!(drawn(&[8, 1, 8, 8], 2), "▁█");
    }

    #[test]
    fn every_value_is_in_some_cell() {
        for count in 1..40 {
            for cells in 1..=count {
                let covered: usize = (0..cells).map(|at| share(at, count, cells).end).max().unwrap_or_default();
                assert_eq!((share(0, count, cells).start, covered), (0, count));
            }
        }
    }
}
