//! Takes Rust source apart far enough for the rules: code, comments, and what is only for tests.
//!
//! It knows comments, strings and characters, and matches brackets. It is no parser: what a macro
//! makes of its tokens stays unknown.

use std::ops::Range;

/// A source with all but one kind of thing blanked out; offsets and line ends are the source's.
pub(super) struct Parts {
    /// Neither comments nor what stands in string and character literals.
    pub(super) code: String,
    /// Comments alone.
    pub(super) comments: String,
}

/// Splits `text`; an unclosed comment or literal reaches to the end.
pub(super) fn take_apart(text: &str) -> Parts {
    let (mut comments, mut literals) = (Vec::new(), Vec::new());
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let length = if let Some(length) = comment_length(rest) {
            comments.push(at..at + length);
            length
        } else if let Some(length) = literal_length(rest, &text[..at]) {
            literals.push(at..at + length);
            length
        } else {
            rest.chars().next().map_or(1, char::len_utf8)
        };
        at += length;
    }
    let in_comments = |at: usize| is_inside(&comments, at);
    Parts {
        code: blank(text, |at| in_comments(at) || is_inside(&literals, at)),
        comments: blank(text, |at| !in_comments(at)),
    }
}

fn is_inside(ranges: &[Range<usize>], at: usize) -> bool {
    let after = ranges.partition_point(|range| range.end <= at);
    ranges.get(after).is_some_and(|range| range.contains(&at))
}

fn blank(text: &str, is_blank: impl Fn(usize) -> bool) -> String {
    let mut kept = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        if c == '\n' || !is_blank(at) {
            kept.push(c);
        } else {
            kept.extend(std::iter::repeat_n(' ', c.len_utf8()));
        }
    }
    kept
}

/// The length of the comment `rest` begins with, without the line end.
fn comment_length(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with("/*") {
        return None;
    }
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        let two = rest.as_bytes().get(at..at + 2).unwrap_or_default();
        match two {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return Some(at);
        }
    }
    Some(rest.len())
}

/// The length of the string or character literal `rest` begins with; `before` decides whether an
/// `r` begins a raw string or ends a name.
fn literal_length(rest: &str, before: &str) -> Option<usize> {
    match rest.as_bytes().first()? {
        b'"' => Some(escaped_length(rest, '"')),
        b'\'' => {
            let mut following = rest.char_indices().skip(1);
            let (_, first) = following.next()?;
            let (second_at, second) = following.next()?;
            // Else it is a lifetime or a label.
            match (first, second) {
                ('\\', _) => Some(escaped_length(rest, '\'')),
                (_, '\'') => Some(second_at + 1),
                _ => None,
            }
        }
        b'r' if !ends_in_name(before.strip_suffix(['b', 'c']).unwrap_or(before)) => {
            let hashes = rest[1..].bytes().take_while(|byte| *byte == b'#').count();
            let body = rest[1 + hashes..].strip_prefix('"')?;
            let end = format!("\"{}", "#".repeat(hashes));
            let length = body.find(&end).map_or(body.len(), |at| at + end.len());
            Some(1 + hashes + 1 + length)
        }
        _ => None,
    }
}

/// The length of a literal with escapes, from its opening to its closing `quote`.
fn escaped_length(rest: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Whether `before` ends in a character of a name, so that what follows goes on with it.
pub(super) fn ends_in_name(before: &str) -> bool {
    before.chars().next_back().is_some_and(is_name_char)
}

/// Where `name` stands as a whole word in `code`.
pub(super) fn words<'a>(code: &'a str, name: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(name).map(|(at, _)| at).filter(move |at| {
        let goes_on = code[at + name.len()..].chars().next().is_some_and(is_name_char);
        !goes_on && !ends_in_name(&code[..*at])
    })
}

fn is_name_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The line, from 1, on which the byte `at` is.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// For each line of blanked `code`, whether it is compiled only for tests.
pub(super) fn test_lines(code: &str) -> Vec<bool> {
    let mut lines = vec![false; code.lines().count()];
    if test_attributes(code, "#![cfg(").next().is_some() {
        lines.fill(true);
    }
    for attribute in test_attributes(code, "#[cfg(") {
        let end = item_end(code, attribute.end);
        let (first, last) = (line_of(code, attribute.start) - 1, line_of(code, end));
        let last = last.min(lines.len());
        lines[first..last].fill(true);
    }
    lines
}

/// The names of the modules in other files that are only for tests: `#[cfg(test)] mod name;`.
pub(super) fn test_modules(code: &str) -> Vec<String> {
    let items = test_attributes(code, "#[cfg(").map(|attribute| &code[attribute.end..item_end(code, attribute.end)]);
    let declared = items.filter_map(|item| {
        let words: Vec<&str> = item.split_whitespace().collect();
        let place = words.iter().position(|word| *word == "mod")?;
        words.get(place + 1)?.strip_suffix(';')
    });
    declared.map(str::to_owned).collect()
}

/// The `cfg` attributes that begin with `opening` and ask for `test`.
fn test_attributes<'a>(code: &'a str, opening: &'a str) -> impl Iterator<Item = Range<usize>> + 'a {
    code.match_indices(opening).filter_map(move |(start, _)| {
        let condition = start + opening.len();
        let end = start + code[start..].find(']')? + 1;
        let asked = &code[condition..end];
        let is_for_tests = words(asked, "test").next().is_some() && words(asked, "not").next().is_none();
        is_for_tests.then_some(start..end)
    })
}

/// Where the item, statement or field that begins at `start` ends: after its `;`, its `,` or its
/// body in braces, or before the brace that closes what it is in.
fn item_end(code: &str, start: usize) -> usize {
    let (mut depth, mut previous) = (0_usize, ' ');
    for (at, c) in code[start..].char_indices() {
        let end = start + at + 1;
        let is_arrow = c == '>' && matches!(previous, '-' | '=');
        match c {
            '(' | '[' | '<' => depth += 1,
            '{' => return closing_brace(code, end),
            ')' | ']' | '>' if !is_arrow => depth = depth.saturating_sub(1),
            '}' => return end - 1,
            ';' | ',' if depth == 0 => return end,
            _ => {}
        }
        previous = c;
    }
    code.len()
}

fn closing_brace(code: &str, start: usize) -> usize {
    let mut depth = 1_usize;
    for (at, byte) in code.bytes().enumerate().skip(start) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::{take_apart, test_lines, test_modules, words};

    #[test]
    fn comments_and_literals_are_blanked_and_lines_and_offsets_stay() {
        let cases = [
            ("a // todo!\nb", "a         \nb"),
            ("a /* x /* y */ z */ b", "a                   b"),
            ("a \"x \\\" y\" b", "a          b"),
            ("a r#\"x \" y\"# b", "a            b"),
            ("a br\"\\\" b", "a b     b"),
            ("for r in x", "for r in x"),
            ("r#type = 1", "r#type = 1"),
            ("a '\"' b", "a     b"),
            ("a '\\'' b", "a      b"),
            ("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)"),
            ("a \"é\" b", "a      b"),
            ("a \"open", "a      "),
        ];
        for (text, code) in cases {
            assert_eq!(take_apart(text).code, code, "{text}");
        }
    }

    #[test]
    fn comments_are_kept_apart_from_code_and_from_strings_that_look_like_them() {
        let parts = take_apart("a(\"// no\"); // yes\n/* and */ b");
        assert_eq!(parts.comments, "            // yes\n/* and */  ");
    }

    #[test]
    fn words_are_found_whole() {
        assert_eq!(words("select! preselect! select_all! xselect select", "select").collect::<Vec<_>>(), [0, 39]);
    }

    #[test]
    fn test_lines_are_those_of_items_behind_cfg_test() {
        let code = "fn a() {}\n\
            #[cfg(test)]\n\
            fn b<T, U>(x: [u8; 2]) -> T {\n\
              if x { y }\n\
            }\n\
            fn c() {}\n\
            struct S {\n\
              #[cfg(all(test, unix))] d: u32,\n\
              e: u32,\n\
            }\n\
            #[cfg(not(test))]\n\
            fn f() {}\n";
        let tests: Vec<usize> = (1..).zip(test_lines(code)).filter(|(_, is_test)| *is_test).map(|(n, _)| n).collect();
        assert_eq!(tests, [2, 3, 4, 5, 8]);
        assert_eq!(test_lines("#![cfg(test)]\nfn a() {}\n"), [true, true]);
    }

    #[test]
    fn only_modules_in_other_files_are_test_modules() {
        let code =
            "#[cfg(test)]\nmod town;\n#[cfg(test)]\npub(crate) mod road;\n#[cfg(test)]\nmod tests { }\nmod shop;\n";
        assert_eq!(test_modules(code), ["town", "road"]);
    }
}
