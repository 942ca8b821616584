//! The rule on Markdown links: one that points into the repository points at something.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::{Finding, Tree};

/// Files and headings that links name exist. Links to the world are not followed.
pub(super) fn links(tree: &Tree) -> Vec<Finding> {
    let documents = tree.files.iter().filter(|file| file.path.ends_with(".md"));
    let pages: BTreeMap<&str, Page> = documents.map(|file| (file.path.as_str(), Page::read(&file.text))).collect();
    let mut found = Vec::new();
    for file in tree.files.iter().filter(|file| pages.contains_key(file.path.as_str())) {
        for (line, target) in &pages[file.path.as_str()].targets {
            if let Some(what) = objection(tree, &pages, &file.path, target) {
                found.push(file.finding(*line, what));
            }
        }
    }
    found
}

/// What is wrong with the link to `target` in the document `from`.
fn objection(tree: &Tree, pages: &BTreeMap<&str, Page>, from: &str, target: &str) -> Option<String> {
    let scheme = target.split(['/', '#']).next().unwrap_or_default();
    if scheme.contains(':') || target.starts_with("//") {
        return None;
    }
    let (path, heading) = target.split_once('#').map_or((target, None), |(path, heading)| (path, Some(heading)));
    if path.starts_with('/') {
        return Some(format!("{target} begins at the root of nothing; write it relative to this file"));
    }
    let resolved = if path.is_empty() { Some(from.to_owned()) } else { resolve(from, path) };
    let Some(resolved) = resolved.filter(|path| path.is_empty() || tree.paths.contains(path)) else {
        return Some(format!("{target} is not a tracked file or folder; mend the link"));
    };
    let (heading, page) = (heading?, pages.get(resolved.as_str())?);
    let is_missing = !page.anchors.contains(heading);
    is_missing.then(|| format!("{resolved} has no heading #{heading}; mend the link"))
}

/// `path` as seen from the folder of `from`, without `.` and `..`; the root is the empty path, and
/// `None` is outside.
fn resolve(from: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// What a document points at, and what of it can be pointed at.
#[derive(Default)]
struct Page {
    targets: Vec<(usize, String)>,
    anchors: BTreeSet<String>,
}

impl Page {
    fn read(text: &str) -> Page {
        let mut page = Page::default();
        let mut fence = None;
        for (line, content) in (1..).zip(text.lines()) {
            let start = content.trim_start();
            let sign = ["```", "~~~"].into_iter().find(|sign| start.starts_with(sign));
            match (fence, sign) {
                (None, Some(_)) => fence = sign,
                (Some(open), Some(close)) if open == close => fence = None,
                (None, None) => page.line(line, content),
                _ => {}
            }
        }
        page
    }

    fn line(&mut self, line: usize, content: &str) {
        let heading = content.trim_start_matches('#');
        if heading.len() < content.len() && heading.starts_with(' ') {
            self.add_heading(heading.trim());
        }
        let prose = without_code(content);
        for (at, _) in prose.match_indices("](") {
            let rest = prose[at + 2..].trim_start();
            let target = match rest.strip_prefix('<') {
                Some(bracketed) => bracketed.split('>').next(),
                None => rest.split([')', ' ']).next(),
            };
            self.targets.extend(target.map(|target| (line, target.to_owned())));
        }
        let definition = prose.trim_start().strip_prefix('[').and_then(|rest| rest.split_once("]:"));
        let target = definition.filter(|(label, _)| !label.contains(']') && !label.starts_with('^'));
        let target = target.and_then(|(_, rest)| rest.split_whitespace().next());
        self.targets.extend(target.map(|target| (line, target.to_owned())));
    }

    /// The anchor is made the way GitHub makes it: lower case, hyphens for spaces, no punctuation,
    /// and a number on the second of a name.
    fn add_heading(&mut self, heading: &str) {
        let letters = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let slug: String = letters.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect();
        let numbered = (1..).map(|number| format!("{slug}-{number}"));
        let free = std::iter::once(slug.clone()).chain(numbered).find(|anchor| !self.anchors.contains(anchor));
        self.anchors.extend(free);
    }
}

/// `line` with what stands in backticks blanked.
fn without_code(line: &str) -> String {
    let mut is_code = false;
    let blanked = line.chars().map(|c| {
        is_code ^= c == '`';
        if is_code { ' ' } else { c }
    });
    blanked.collect()
}

#[cfg(test)]
mod tests {
    use super::super::tree::Tree;
    use super::links;

    /// The lines of docs/a.md whose links fail, in a small repository.
    fn lines(text: &str) -> Vec<usize> {
        let other = "# The house\n## Ports & names\n## Ports & names\n";
        let tree = Tree::of(&[("docs/a.md", text), ("README.md", other), ("core/src/lib.rs", "//! C.\n")]);
        links(&tree).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn links_to_tracked_files_folders_headings_and_the_world_pass() {
        let good = "# Own\n[a](../README.md) ![b](../core/src/lib.rs) [c](../core/) [d](#own) [e](..)\n\
            [f](../README.md#ports--names) [g](../README.md#ports--names-1) [h](https://a.example/b) [i](mailto:a@b.example)\n\
            `[j](gone.md)` [k](<../README.md> \"title\")\n[l]: ../README.md\n[^1]: gone as a note\n\
            ```md\n[m](gone.md)\n~~~\n[n](gone.md)\n```\n[o](../core/src/lib.rs#L1)\n";
        assert_eq!(lines(good), [0_usize; 0]);
    }

    #[test]
    fn links_to_nothing_fail() {
        for bad in [
            "[a](gone.md)",
            "![a](../gone.png)",
            "[a](#gone)",
            "[a](../README.md#gone)",
            "[a](../../out.md)",
            "[a](/README.md)",
            "[a]: gone.md",
        ] {
            assert_eq!(lines(&format!("# Own\n\nsee\n{bad}\n")), [4], "{bad}");
        }
        assert_eq!(lines("[a](gone.md) and [b](lost.md)\n"), [1, 1]);
    }
}
