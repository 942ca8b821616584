//! Filters: words that a row must or must not have, and comparisons with its columns.

use crate::format;
use crate::list::{Head, Row, Value};

/// What rows are shown.
///
/// Words are looked for in all columns, in any case; all terms must hold. `!` before a term turns it.
/// `field=text` holds when the field begins with the text, `field~text` when it has it somewhere;
/// `< <= > >= !=` compare numbers with units (`rate>10M`, `done<50`, `seen>1m`) and else texts. A
/// field that the list has not is a word like any other.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Filter {
    text: String,
    terms: Vec<Term>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Term {
    is_turned: bool,
    /// All of it, in lower case.
    word: String,
    comparison: Option<Comparison>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Comparison {
    field: String,
    operator: Operator,
    value: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Operator {
    Begins,
    Differs,
    Has,
    Less,
    LessOrSame,
    More,
    MoreOrSame,
}

/// Longer ones first: `<=` is not `<` and a `=`.
const OPERATORS: [(&str, Operator); 7] = [
    ("<=", Operator::LessOrSame),
    (">=", Operator::MoreOrSame),
    ("!=", Operator::Differs),
    ("=", Operator::Begins),
    ("~", Operator::Has),
    ("<", Operator::Less),
    (">", Operator::More),
];

impl Filter {
    /// The filter of a text; a blank one lets everything pass.
    pub fn new(text: &str) -> Self {
        let terms = text.to_lowercase().split_whitespace().filter_map(Term::new).collect();
        Self { text: text.trim().to_owned(), terms }
    }

    /// What it was made of.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether everything passes.
    pub const fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether a row passes.
    pub fn passes(&self, heads: &[Head], row: &dyn Row) -> bool {
        self.terms.iter().all(|term| term.holds(heads, row) != term.is_turned)
    }
}

impl Term {
    fn new(text: &str) -> Option<Self> {
        let (is_turned, word) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
        let found = OPERATORS.iter().filter_map(|(sign, operator)| Some((word.find(sign)?, *sign, *operator)));
        let first = found.min_by_key(|(at, sign, _)| (*at, usize::MAX - sign.len()));
        let comparison = first.and_then(|(at, sign, operator)| {
            let (field, value) = (word.get(..at)?, word.get(at + sign.len()..)?);
            let (field, value) = (field.to_owned(), value.to_owned());
            (!field.is_empty()).then_some(Comparison { field, operator, value })
        });
        // A lone `!` is somebody about to write more.
        (!word.is_empty()).then(|| Self { is_turned, word: word.to_owned(), comparison })
    }

    fn holds(&self, heads: &[Head], row: &dyn Row) -> bool {
        let compared = self.comparison.as_ref().and_then(|comparison| {
            let column = heads.iter().position(|head| head.name.eq_ignore_ascii_case(&comparison.field))?;
            Some(comparison.holds(&row.value(column)))
        });
        compared.unwrap_or_else(|| (0..row.width()).any(|column| has(&row.value(column), &self.word)))
    }
}

fn has(value: &Value<'_>, word: &str) -> bool {
    match value.word() {
        Some(text) => text.to_lowercase().contains(word),
        // Numbers are compared, not searched: "12" is no reason to show 0.12 s.
        None => matches!(value, Value::Count(_)) && value.shown() == word,
    }
}

impl Comparison {
    fn holds(&self, value: &Value<'_>) -> bool {
        // A comparison that is still being written hides nothing.
        if self.value.is_empty() {
            return true;
        }
        let wanted = match value {
            Value::Size(_) | Value::Rate(_) => format::parse_size(&self.value).map(|bytes| bytes as f64),
            Value::Span(_) => format::parse_span(&self.value).map(|seconds| seconds as f64),
            Value::Count(_) | Value::Share(_) => self.value.trim_end_matches('%').parse().ok(),
            _ => None,
        };
        if let (Some(number), Some(wanted)) = (value.number(), wanted) {
            return match self.operator {
                Operator::Less => number < wanted,
                Operator::LessOrSame => number <= wanted,
                Operator::More => number > wanted,
                Operator::MoreOrSame => number >= wanted,
                Operator::Begins | Operator::Has => (number - wanted).abs() < f64::EPSILON,
                Operator::Differs => (number - wanted).abs() >= f64::EPSILON,
            };
        }
        if *value == Value::None {
            return self.operator == Operator::Differs;
        }
        let text = value.word().map_or_else(|| value.shown().to_lowercase(), str::to_lowercase);
        match self.operator {
            Operator::Begins => text.starts_with(&self.value),
            Operator::Differs => !text.starts_with(&self.value),
            Operator::Has => text.contains(&self.value),
            Operator::Less => text < self.value,
            Operator::LessOrSame => text <= self.value,
            Operator::More => text > self.value,
            Operator::MoreOrSame => text >= self.value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list::List;
    use crate::model::{Mark, State, Task};

    fn passes(filter: &str) -> bool {
        let task = Task {
            id: "9f3c".to_owned(),
            url: "https://h/Nginx.tar".to_owned(),
            state: State::new(Mark::Busy, "running"),
            rate_bytes_per_sec: 20 << 20,
            done_per_mille: 635,
            left_s: Some(90),
            peers: 12,
            ..Task::default()
        };
        Filter::new(filter).passes(&List::Tasks.heads(), &task)
    }

    #[test]
    fn words_are_looked_for_in_all_columns_and_all_must_be_there() {
        for filter in ["", "  ", "nginx", "RUN", "9f3c nginx", "!redis", "12", "!"] {
            assert!(passes(filter), "{filter}");
        }
        for filter in ["redis", "nginx redis", "!nginx", "nginx !run", "13"] {
            assert!(!passes(filter), "{filter}");
        }
    }

    #[test]
    fn fields_are_compared_in_their_units() {
        for filter in [
            "rate>10M",
            "rate>=20MiB/s",
            "rate<1g",
            "state=run",
            "STATE!=idle",
            "done>63%",
            "done<63.6",
            "left>1m",
            "left<=90s",
            "peers=12",
            "peers!=13",
            "name~.tar",
            "!peers>12",
            "tag!=x",
            "rate>",
        ] {
            assert!(passes(filter), "{filter}");
        }
        for filter in ["rate>20M", "state=idle", "state!=run", "left>90s", "peers=1", "tag=x", "name=tar", "!rate>1"] {
            assert!(!passes(filter), "{filter}");
        }
    }

    #[test]
    fn a_field_the_list_has_not_is_a_word() {
        assert!(!passes("colour=red"));
        assert!(passes("!colour=red"));
    }
}
