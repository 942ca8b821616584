//! How one list is shown: its cursor, order, filter, marks, and the rows that follow from them.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::filter::Filter;
use crate::list::{Head, List, Row, Value};

/// How one list is shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListState {
    /// What rows are shown.
    pub filter: Filter,
    /// The column under the cursor.
    pub column: usize,
    /// The column rows are sorted by, and whether the largest come first.
    pub order: Option<(usize, bool)>,
    /// Rows that are marked, by their keys.
    pub marks: BTreeSet<String>,
    /// The rows shown, as places in the list, in their order.
    pub shown: Vec<usize>,
    /// The row under the cursor, as a place in what is shown.
    pub cursor: usize,
    /// The first row on the screen.
    pub top: usize,
    /// How many rows are on the screen.
    pub height: usize,
    key: Option<String>,
}

impl ListState {
    /// As it is at first.
    pub fn new(list: List) -> Self {
        Self {
            filter: Filter::default(),
            column: 0,
            order: list.usual_order(),
            marks: BTreeSet::new(),
            shown: Vec::new(),
            cursor: 0,
            top: 0,
            height: 1,
            key: None,
        }
    }

    /// Puts the cursor on the row with a key, once it is there.
    pub fn seek(&mut self, key: String) {
        self.key = Some(key);
    }

    /// Moves the cursor; beyond the ends is at the ends.
    pub fn step(&mut self, rows: isize) {
        self.place(self.cursor.saturating_add_signed(rows));
    }

    /// Puts the cursor on a row; beyond the end is at the end.
    pub fn place(&mut self, row: usize) {
        self.cursor = row.min(self.shown.len().saturating_sub(1));
        self.key = None;
    }

    /// Sorts by a column; the same again turns the order. Numbers begin with the largest.
    pub fn sort(&mut self, column: usize, is_number: bool) {
        self.order = match self.order {
            Some((by, is_falling)) if by == column => Some((column, !is_falling)),
            _ => Some((column, is_number)),
        };
    }

    /// Turns the order.
    pub fn invert(&mut self) {
        self.order = Some(self.order.map_or((0, true), |(column, is_falling)| (column, !is_falling)));
    }

    /// Makes the rows shown from all rows, and holds on to the one under the cursor.
    pub fn settle(&mut self, heads: &[Head], rows: &[&dyn Row], height: usize) {
        // The cursor moved: from now on it holds on to the row it is on. At the top it stays at the top.
        if self.key.is_none() && self.cursor > 0 {
            let row = self.shown.get(self.cursor).and_then(|at| rows.get(*at));
            self.key = row.map(|row| row.key().into_owned());
        }
        self.column = self.column.min(heads.len().saturating_sub(1));
        self.shown = (0..rows.len()).collect();
        if !self.filter.is_empty() {
            self.shown.retain(|at| rows.get(*at).is_some_and(|row| self.filter.passes(heads, *row)));
        }
        if let Some((column, is_falling)) = self.order {
            let value = |at: &usize| rows.get(*at).map_or(Value::None, |row| row.value(column));
            let mut keyed: Vec<(Value<'_>, usize)> = self.shown.iter().map(|at| (value(at), *at)).collect();
            keyed.sort_by(|(one, _), (other, _)| {
                let is_missing = matches!(one, Value::None) || matches!(other, Value::None);
                let order = one.order(other);
                if is_falling && !is_missing { order.reverse() } else { order }
            });
            self.shown = keyed.into_iter().map(|(_, at)| at).collect();
        }
        if !self.marks.is_empty() {
            let keys: BTreeSet<Cow<'_, str>> = rows.iter().map(|row| row.key()).collect();
            self.marks.retain(|mark| keys.contains(mark.as_str()));
        }
        let shown = std::mem::take(&mut self.shown);
        let key = |at: usize| shown.get(at).and_then(|at| rows.get(*at)).map_or(Cow::Borrowed(""), |row| row.key());
        self.hold(shown.len(), key, height);
        self.shown = shown;
    }

    /// The same for rows that have an order of their own.
    pub fn settle_on<'a>(&mut self, count: usize, key: impl Fn(usize) -> Cow<'a, str>, height: usize) {
        if self.key.is_none() && self.cursor > 0 {
            self.key = Some(key(self.cursor).into_owned());
        }
        self.shown = (0..count).collect();
        self.hold(count, key, height);
    }

    fn hold<'a>(&mut self, count: usize, key: impl Fn(usize) -> Cow<'a, str>, height: usize) {
        let wanted = self.key.as_deref();
        if let Some(wanted) = wanted.filter(|wanted| key(self.cursor) != *wanted)
            && let Some(at) = (0..count).find(|at| key(*at) == wanted)
        {
            self.cursor = at;
        }
        self.cursor = self.cursor.min(count.saturating_sub(1));
        self.height = height.max(1);
        // As little as it takes to have the cursor on the screen.
        self.top = self.top.min(self.cursor).max((self.cursor + 1).saturating_sub(self.height));
        self.top = self.top.min(count.saturating_sub(self.height));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Task;

    fn settled(state: &mut ListState, tasks: &[(&str, u64)], height: usize) -> Vec<String> {
        let tasks: Vec<Task> = tasks
            .iter()
            .map(|(id, rate)| Task { id: (*id).to_owned(), rate_bytes_per_sec: *rate, ..Task::default() })
            .collect();
        let rows: Vec<&dyn Row> = tasks.iter().map(|task| task as &dyn Row).collect();
        state.settle(&List::Tasks.heads(), &rows, height);
        state.shown.iter().map(|at| tasks[*at].id.clone()).collect()
    }

    #[test]
    fn the_cursor_stays_on_its_row_when_the_order_changes() {
        let mut state = ListState::new(List::Tasks);
        assert_eq!(settled(&mut state, &[("a", 1), ("b", 2), ("c", 3)], 9), ["c", "b", "a"]);
        state.step(1);
        settled(&mut state, &[("a", 1), ("b", 2), ("c", 3)], 9);
        assert_eq!(settled(&mut state, &[("a", 5), ("b", 2), ("c", 3)], 9), ["a", "c", "b"]);
        assert_eq!(state.cursor, 2);
        settled(&mut state, &[("a", 5)], 9);
        assert_eq!(state.cursor, 0);
        settled(&mut state, &[], 9);
        assert_eq!((state.cursor, state.top), (0, 0));
    }

    #[test]
    fn the_cursor_at_the_top_stays_there() {
        let mut state = ListState::new(List::Tasks);
        settled(&mut state, &[("a", 2), ("b", 1)], 9);
        settled(&mut state, &[("a", 2), ("b", 3)], 9);
        assert_eq!(state.cursor, 0);
        state.step(1);
        settled(&mut state, &[("a", 2), ("b", 3)], 9);
        state.place(0);
        settled(&mut state, &[("a", 4), ("b", 3)], 9);
        assert_eq!(state.cursor, 0);
    }

    #[test]
    fn the_screen_moves_as_little_as_it_takes() {
        let mut state = ListState::new(List::Tasks);
        let tasks: Vec<(String, u64)> = (0..10).map(|n| (n.to_string(), 10 - n)).collect();
        let tasks: Vec<(&str, u64)> = tasks.iter().map(|(id, rate)| (id.as_str(), *rate)).collect();
        settled(&mut state, &tasks, 3);
        let mut tops = Vec::new();
        for step in [1, 1, 1, -1, -1, -1, 99] {
            state.step(step);
            settled(&mut state, &tasks, 3);
            tops.push(state.top);
        }
        assert_eq!(tops, [0, 0, 1, 1, 1, 0, 7]);
    }

    #[test]
    fn sorting_again_turns_the_order_and_what_is_missing_stays_last() {
        let mut state = ListState::new(List::Tasks);
        let left = List::Tasks.column("left").unwrap();
        state.sort(left, true);
        assert_eq!(state.order, Some((left, true)));
        state.sort(left, true);
        assert_eq!(state.order, Some((left, false)));
        state.sort(0, false);
        assert_eq!(settled(&mut state, &[("b", 0), ("a", 0)], 3), ["a", "b"]);
    }

    #[test]
    fn marks_go_with_their_rows() {
        let mut state = ListState::new(List::Tasks);
        state.marks = BTreeSet::from(["a".to_owned(), "gone".to_owned()]);
        settled(&mut state, &[("a", 0)], 3);
        assert_eq!(state.marks.len(), 1);
    }
}
