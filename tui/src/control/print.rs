//! Answers as tables for people and as JSON for scripts.

use std::io::{self, IsTerminal, Write};

use df_api::failure::{Code, Failure};
use serde_json::{Map, Value, json};

use crate::filter::Filter;
use crate::format;
use crate::list::{List, Row};
use crate::model::Snapshot;

use super::flags::Rows;

/// What is printed when a command has done its work.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Answer {
    /// For people.
    pub(super) text: String,
    /// For scripts: the fields beside `v`, `ok` and `exit`.
    pub(super) json: Map<String, Value>,
    /// A failure that is told of besides: the answer is complete, what it tells is not well.
    pub(super) failure: Option<Failure>,
}

impl Answer {
    /// An answer with one field.
    pub(super) fn new(text: impl Into<String>, name: &str, value: Value) -> Self {
        let json = Map::from_iter([(name.to_owned(), value)]);
        Self { text: text.into(), json, failure: None }
    }

    /// The rows of a list that are wanted.
    ///
    /// # Errors
    /// A column that is not there.
    pub(super) fn rows(list: List, name: &str, snapshot: &Snapshot, wanted: &Rows) -> Result<Self, Failure> {
        let heads = list.heads();
        let filter = Filter::new(&wanted.filter);
        let mut rows = list.rows(snapshot);
        rows.retain(|row| filter.passes(&heads, *row));
        let order = match &wanted.sort {
            None => list.usual_order(),
            Some(by) => {
                let (is_falling, by) = by.strip_prefix('-').map_or((false, by.as_str()), |by| (true, by));
                let known = || heads.iter().map(|head| head.name.to_lowercase()).collect::<Vec<_>>().join(", ");
                let unknown = || Failure::new(Code::Usage, format!("there is no column {by}")).hint(known());
                Some((list.column(by).ok_or_else(unknown)?, is_falling))
            }
        };
        if let Some((column, is_falling)) = order {
            rows.sort_by(|one, other| {
                let order = one.value(column).order(&other.value(column));
                if is_falling { order.reverse() } else { order }
            });
        }
        rows.truncate(wanted.limit.unwrap_or(usize::MAX));
        let json = rows.iter().map(|row| row.json()).collect();
        Ok(Self::new(table(list, &rows, wanted.wide), name, Value::Array(json)))
    }
}

/// A table as wide as what is in it, without a blank at the end of a line.
fn table(list: List, rows: &[&dyn Row], is_wide: bool) -> String {
    let heads = list.heads();
    let columns: Vec<usize> =
        (0..heads.len()).filter(|at| heads.get(*at).is_some_and(|head| is_wide || head.rank < 6)).collect();
    let mut lines: Vec<Vec<String>> = Vec::with_capacity(rows.len() + 1);
    let head = |at: &usize| heads.get(*at).map_or("", |head| head.name).to_owned();
    lines.push(columns.iter().map(head).collect());
    for row in rows {
        lines.push(columns.iter().map(|at| format::clean(&row.value(*at).shown())).collect());
    }
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|it| it.chars().count()).max();
    let widths: Vec<usize> = (0..columns.len()).map(|column| width(column).unwrap_or_default()).collect();
    let mut text = String::new();
    for line in &lines {
        let mut shown = String::new();
        for ((value, width), at) in line.iter().zip(&widths).zip(&columns) {
            let is_number = heads.get(*at).is_some_and(|head| head.is_number);
            let padded = if is_number { format!("{value:>width$}") } else { format!("{value:<width$}") };
            shown.push_str(&padded);
            shown.push_str("  ");
        }
        text.push_str(shown.trim_end());
        text.push('\n');
    }
    text
}

/// All of a row, a field on each line.
pub(super) fn fields(row: &dyn Row, list: List) -> String {
    let heads = list.heads();
    let line = |(at, head): (usize, &crate::list::Head)| {
        let value = row.value(at);
        format!("{:<14} {}\n", head.name.to_lowercase(), format::clean(&value.shown()))
    };
    heads.iter().enumerate().map(line).collect()
}

/// Prints how a command ended, and gives the exit code.
pub(super) fn end(ended: Result<Answer, Failure>, is_json: bool) -> u8 {
    let failure = match &ended {
        Ok(answer) => answer.failure.as_ref(),
        Err(failure) => Some(failure),
    };
    let exit = failure.map_or(0, |failure| failure.code.exit());
    if let Some(failure) = failure {
        complain(failure);
    }
    let written = if is_json {
        let fields = ended.as_ref().map(|answer| answer.json.clone()).unwrap_or_default();
        write(&format!("{}\n", object(fields, failure)))
    } else {
        let text = ended.as_ref().map(|answer| answer.text.as_str()).unwrap_or_default();
        write(if text.is_empty() || text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") }.as_str())
    };
    match written {
        // Whoever read went away, as head does: that is no failure of ours, but it is an end.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => 141,
        Err(_) if exit == 0 => Code::LocalIo.exit(),
        _ => exit,
    }
}

pub(super) fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn object(mut fields: Map<String, Value>, failure: Option<&Failure>) -> Value {
    fields.insert("v".to_owned(), json!(1));
    fields.insert("ok".to_owned(), json!(failure.is_none()));
    fields.insert("exit".to_owned(), json!(failure.map_or(0, |failure| failure.code.exit())));
    let error = failure.map(|failure| {
        json!({
            "code": failure.code.name(),
            "message": failure.to_string(),
            "hint": failure.hint,
            "retryable": failure.code.is_retryable(),
        })
    });
    fields.insert("error".to_owned(), json!(error));
    Value::Object(fields)
}

/// What failed, why, and what to do, a line each, on stderr.
fn complain(failure: &Failure) {
    let is_coloured = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
    let (bad, plain) = if is_coloured { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    let mut lines = format!("{bad}dfctl:{plain} {}\n", format::clean(&failure.message));
    for (label, text) in [("why", &failure.cause), ("hint", &failure.hint)] {
        if let Some(text) = text {
            lines.push_str(&format!("  {label}: {}\n", format::clean(text)));
        }
    }
    // Nobody is left to tell.
    let _ = io::stderr().lock().write_all(lines.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Host;

    #[test]
    fn a_table_is_as_wide_as_what_is_in_it() {
        let hosts = ["a", "long-name\u{1b}"].map(|name| Host { hostname: name.to_owned(), ..Host::default() });
        let snapshot = Snapshot { hosts: hosts.into(), ..Snapshot::default() };
        let answer = Answer::rows(List::Hosts, "hosts", &snapshot, &Rows::default()).unwrap();
        let lines: Vec<&str> = answer.text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("HOST        ROLE"), "{lines:?}");
        assert!(lines[2].starts_with("long-name\u{fffd}  peer"), "{lines:?}");
        assert!(lines.iter().all(|line| line.trim_end() == *line));
        assert_eq!(answer.json["hosts"].as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn rows_are_filtered_sorted_and_cut() {
        let hosts = [("b", 1), ("a", 3), ("c", 2)].map(|(name, tasks)| Host {
            hostname: name.to_owned(),
            tasks,
            ..Host::default()
        });
        let snapshot = Snapshot { hosts: hosts.into(), ..Snapshot::default() };
        let names = |wanted: Rows| {
            let answer = Answer::rows(List::Hosts, "hosts", &snapshot, &wanted).unwrap();
            let rows = answer.json["hosts"].as_array().unwrap().clone();
            rows.iter().map(|row| row["hostname"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(Rows { sort: Some("-tasks".to_owned()), limit: Some(2), ..Rows::default() }), ["a", "c"]);
        assert_eq!(names(Rows { filter: "tasks<3".to_owned(), ..Rows::default() }), ["b", "c"]);
        let wrong = Rows { sort: Some("colour".to_owned()), ..Rows::default() };
        assert_eq!(Answer::rows(List::Hosts, "hosts", &snapshot, &wrong).unwrap_err().code, Code::Usage);
    }
}
