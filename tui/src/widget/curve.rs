//! A curve of the recent past.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use crate::theme::LEVELS;

/// Draws values, the latest at the right, the most as high as the area; what is more than nothing can
/// be seen.
pub(crate) fn draw(values: &[u64], area: Rect, style: Style, buffer: &mut Buffer) {
    let columns = usize::from(area.width);
    let shown = values.get(values.len().saturating_sub(columns)..).unwrap_or(values);
    let most = shown.iter().copied().max().unwrap_or_default();
    if most == 0 {
        return;
    }
    let steps = LEVELS.len() as u64 - 1;
    let full = u64::from(area.height) * steps;
    let left = columns - shown.len();
    for (x, value) in (area.x..area.right()).skip(left).zip(shown) {
        let height = u64::try_from((u128::from(*value) * u128::from(full)).div_ceil(u128::from(most))).unwrap_or(full);
        for (below, y) in (area.y..area.bottom()).rev().enumerate() {
            let level = height.saturating_sub(below as u64 * steps).min(steps);
            let sign = usize::try_from(level).ok().and_then(|level| LEVELS.get(level)).copied().unwrap_or(' ');
            if sign != ' '
                && let Some(cell) = buffer.cell_mut((x, y))
            {
                cell.set_char(sign).set_style(style);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(values: &[u64], width: u16, height: u16) -> Vec<String> {
        let area = Rect::new(0, 0, width, height);
        let mut buffer = Buffer::empty(area);
        draw(values, area, Style::new(), &mut buffer);
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol().to_owned()).collect();
        (0..height).map(row).collect()
    }

    #[test]
    fn the_latest_is_at_the_right_and_the_most_at_the_top() {
        assert_eq!(drawn(&[9, 0, 1, 8, 16], 6, 2), [" ▁   █", " █ ▁██"]);
    }

    #[test]
    fn what_is_too_much_for_the_width_is_left_out_at_the_left() {
        assert_eq!(drawn(&[16, 1, 8], 2, 1), ["▁█"]);
        assert_eq!(drawn(&[0, 0], 2, 1), ["  "]);
        assert_eq!(drawn(&[u64::MAX, 1], 2, 1), ["█▁"]);
        assert_eq!(drawn(&[1], 0, 0), Vec::<String>::new());
    }
}
