//! What is wrong in a configuration, said so that it can be put right: place, key, value, what is
//! allowed, and what was probably meant.

use std::path::Path;

use df_api::failure::{Code, Failure};

/// A mistake in a file.
pub(super) fn in_file(path: &Path, error: &yaml_serde::Error) -> Failure {
    let place = match error.location() {
        Some(location) => format!("{}, line {}", path.display(), location.line()),
        None => path.display().to_string(),
    };
    let text = bare(error);
    match Unknown::read(&text) {
        Some(unknown) => unknown.failure(&place),
        None => Failure::new(Code::Usage, format!("{place}: {text}")),
    }
}

/// A mistake in the whole, with the origin of the value that has it.
pub(super) fn in_value(error: &yaml_serde::Error, origin: impl Fn(&str) -> String) -> Failure {
    let text = bare(error);
    // `key[1]: what is wrong`
    let key = text.split([':', '[']).next().unwrap_or_default();
    Failure::new(Code::Usage, format!("{}: {text}", origin(key)))
}

/// An error's text without the place, which is told in words of our own.
fn bare(error: &yaml_serde::Error) -> String {
    let text = error.to_string();
    match (error.location(), text.rfind(" at line ")) {
        (Some(_), Some(place)) => text[..place].to_owned(),
        _ => text,
    }
}

/// A key that nothing has, as serde tells it: ``seed_peer: unknown field `enabel`, expected `enable` ``.
struct Unknown<'a> {
    section: &'a str,
    key: &'a str,
    known: Vec<&'a str>,
}

impl<'a> Unknown<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let (before, names) = text.split_once("unknown field `")?;
        let mut quoted = names.split('`').step_by(2);
        let key = quoted.next()?;
        let section = before.strip_suffix(": ").unwrap_or(before);
        // The path may or may not end in the key itself.
        let section = section.strip_suffix(key).map_or(section, |parent| parent.trim_end_matches('.'));
        Some(Self { section, key, known: quoted.collect() })
    }

    fn failure(&self, place: &str) -> Failure {
        let full = |key: &str| if self.section.is_empty() { key.to_owned() } else { format!("{}.{key}", self.section) };
        let failure = Failure::new(Code::Usage, format!("{place}: unknown key `{}`", full(self.key)));
        match nearest(self.key, &self.known) {
            Some(meant) => failure.hint(format!("did you mean `{}`?", full(meant))),
            None => failure.hint(format!("known here: {}", self.known.join(", "))),
        }
    }
}

/// The known word that a mistyped one is nearest to, if it is near at all.
fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let near = |other: &str| distance(word, other) <= (word.len().max(other.len()) / 3).max(1);
    known.iter().copied().filter(|other| near(other)).min_by_key(|other| distance(word, other))
}

/// How many letters have to be added, left out, changed or swapped with their neighbour (optimal
/// string alignment; Damerau, "A technique for computer detection and correction of spelling
/// errors", 1964).
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut rows = vec![vec![0; other.len() + 1]; one.len() + 1];
    for i in 0..=one.len() {
        for j in 0..=other.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let changed = rows[i - 1][j - 1] + usize::from(one[i - 1] != other[j - 1]);
                let mut best = changed.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                    best = best.min(rows[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_the_slips() {
        for (one, other, slips) in
            [("", "", 0), ("", "abc", 3), ("data_dir", "dta_dir", 1), ("prot", "port", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!((distance(one, other), distance(other, one)), (slips, slips), "{one} {other}");
        }
    }

    #[test]
    fn only_a_near_word_is_offered() {
        let known = ["data_dir", "socket", "rpc", "pieces"];
        for (word, meant) in [("datadir", Some("data_dir")), ("piece", Some("pieces")), ("rcp", Some("rpc"))] {
            assert_eq!(nearest(word, &known), meant);
        }
        assert_eq!(nearest("proxy", &known), None);
    }
}
