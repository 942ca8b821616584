//! The markers that let a rule give way in one place, and what is wrong with a marker itself.

use super::tree::{Finding, Tree};

/// The name under which a bad marker is reported.
pub(super) const RULE: &str = "allow";

const OPENING: &str = "tidy: allow(";
/// What a line begins with when it holds nothing but a comment, in the languages we write.
const COMMENT_SIGNS: [&str; 3] = ["//", "#", "<!--"];

/// One marker.
pub(super) struct Allowance {
    path: String,
    line: usize,
    rule: String,
    has_reason: bool,
    /// It stands on a line of its own, so it speaks of the next line as well.
    is_above: bool,
    is_used: bool,
}

/// Every marker in the tree. In Rust only comments are read, so a string may look like one; a rule
/// name is of lower-case letters and hyphens, so a text can describe the marker.
pub(super) fn in_tree(tree: &Tree) -> Vec<Allowance> {
    let mut found = Vec::new();
    for file in tree.files.iter().filter(|file| !file.is_generated) {
        let searched = file.rust.as_ref().map_or(&file.text, |rust| &rust.parts.comments);
        for (line, text) in (1..).zip(searched.lines()) {
            let Some((before, marker)) = text.split_once(OPENING) else { continue };
            let Some((rule, reason)) = marker.split_once(')') else { continue };
            if !rule.chars().all(|c| c.is_ascii_lowercase() || c == '-') {
                continue;
            }
            let has_code_before = file.text.lines().nth(line - 1).is_none_or(|whole| {
                let start = whole.trim_start();
                !COMMENT_SIGNS.iter().any(|sign| start.starts_with(sign)) && !before.trim().is_empty()
            });
            found.push(Allowance {
                path: file.path.clone(),
                line,
                rule: rule.to_owned(),
                has_reason: reason.trim_end_matches("-->").trim_end_matches("*/").chars().any(char::is_alphanumeric),
                is_above: !has_code_before,
                is_used: false,
            });
        }
    }
    found
}

/// Whether a marker silences `finding` of `rule`; the marker then counts as used.
pub(super) fn cover(allowances: &mut [Allowance], rule: &str, finding: &Finding) -> bool {
    let mut is_covered = false;
    for allowance in allowances.iter_mut() {
        let is_near = allowance.line == finding.line || allowance.is_above && allowance.line + 1 == finding.line;
        if is_near && allowance.rule == rule && allowance.path == finding.path {
            allowance.is_used = true;
            is_covered = true;
        }
    }
    is_covered
}

/// What is wrong with the markers themselves, once every rule has run.
pub(super) fn faults(allowances: &[Allowance], rules: &[&str]) -> Vec<Finding> {
    let fault = |allowance: &Allowance| {
        let rule = &allowance.rule;
        let what = if !rules.contains(&rule.as_str()) {
            format!("there is no rule `{rule}`; see `cargo xtask tidy --help`")
        } else if !allowance.has_reason {
            format!("allows {rule} without a reason; write why after the parenthesis")
        } else if !allowance.is_used {
            format!("allows {rule}, which finds nothing here; remove the marker")
        } else {
            return None;
        };
        Some(Finding { path: allowance.path.clone(), line: allowance.line, what })
    };
    allowances.iter().filter_map(fault).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tree::{Finding, Tree};
    use super::{cover, faults, in_tree};

    fn finding(line: usize) -> Finding {
        Finding { path: "a.rs".to_owned(), line, what: "bad".to_owned() }
    }

    #[test]
    fn a_marker_above_speaks_of_the_next_line_and_one_behind_code_only_of_its_own() {
        let text = "// tidy: allow(panic) cannot fail\na();\nb(); // tidy: allow(panic) cannot fail\nc();\n";
        let mut allowances = in_tree(&Tree::of(&[("a.rs", text)]));
        let covered: Vec<bool> = (1..=4).map(|line| cover(&mut allowances, "panic", &finding(line))).collect();
        assert_eq!(covered, [true, true, true, false]);
        assert!(!cover(&mut allowances, "unfinished", &finding(2)));
        assert_eq!(faults(&allowances, &["panic"]), []);
    }

    #[test]
    fn a_marker_needs_a_known_rule_a_reason_and_something_to_allow() {
        let text = "// tidy: allow(panic)\n// tidy: allow(painc) a slip\n// tidy: allow(panic) of no use\n";
        let mut allowances = in_tree(&Tree::of(&[("a.rs", text)]));
        assert!(cover(&mut allowances, "panic", &finding(1)));
        let lines: Vec<(usize, String)> =
            faults(&allowances, &["panic"]).into_iter().map(|it| (it.line, it.what)).collect();
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[0].0 == 1 && lines[0].1.contains("without a reason"), "{lines:?}");
        assert!(lines[1].0 == 2 && lines[1].1.contains("no rule `painc`"), "{lines:?}");
        assert!(lines[2].0 == 3 && lines[2].1.contains("finds nothing"), "{lines:?}");
    }

    #[test]
    fn other_languages_have_markers_and_strings_and_descriptions_are_none() {
        let tree = Tree::of(&[
            ("a.rs", "f(\"// tidy: allow(panic) no\");\n/// `tidy: allow(RULE) reason`\n"),
            ("b.toml", "# tidy: allow(arrow) because\n"),
            ("c.md", "<!-- tidy: allow(link) -->\n"),
        ]);
        let found: Vec<(String, bool)> = in_tree(&tree).into_iter().map(|it| (it.path, it.has_reason)).collect();
        assert_eq!(found, [("b.toml".to_owned(), true), ("c.md".to_owned(), false)]);
    }
}
