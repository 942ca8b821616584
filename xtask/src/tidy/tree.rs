//! What the rules look at: the tracked text files, with Rust source taken apart once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;

use anyhow::{Context, Result};

use super::lexer::{self, Parts};
use crate::repo;

/// Something a rule objects to. `what` says how to fix it too.
#[derive(Debug, PartialEq)]
pub(super) struct Finding {
    pub(super) path: String,
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) what: String,
}

/// One text file.
pub(super) struct File {
    /// Relative to the root, `/` between parts.
    pub(super) path: String,
    pub(super) text: String,
    /// Written by `cargo xtask codegen`: its looks are nobody's concern.
    pub(super) is_generated: bool,
    /// Of a .rs file: code and comments apart, and which lines are tests.
    pub(super) rust: Option<Rust>,
}

/// A Rust file taken apart; all parts have the byte offsets and the lines of the text.
pub(super) struct Rust {
    pub(super) parts: Parts,
    test_lines: Vec<bool>,
}

impl Rust {
    /// Whether `line`, from 1, is compiled only for tests.
    pub(super) fn is_test(&self, line: usize) -> bool {
        line.checked_sub(1).and_then(|index| self.test_lines.get(index)).copied().unwrap_or(false)
    }
}

impl File {
    pub(super) fn finding(&self, line: usize, what: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line, what: what.into() }
    }

    pub(super) fn is_in(&self, folder: &str) -> bool {
        self.path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
    }

    pub(super) fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// Lines with their numbers from 1.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }
}

/// The tracked text files of the repository, by path.
pub(super) struct Tree {
    pub(super) files: Vec<File>,
    /// Every tracked path, text or not, and every folder that holds one.
    pub(super) paths: BTreeSet<String>,
}

impl Tree {
    /// Reads what git tracks. A tracked file that is deleted but not yet staged is passed over, and
    /// so is what is not text.
    ///
    /// # Errors
    /// When git does not answer or a file cannot be read.
    pub(super) fn tracked() -> Result<Tree> {
        let root = repo::root()?;
        let mut contents = BTreeMap::new();
        for path in repo::tracked_files()? {
            match fs::read(root.join(&path)) {
                Ok(bytes) => contents.insert(path, bytes),
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::IsADirectory) => continue,
                Err(error) => return Err(error).with_context(|| format!("cannot read {path}")),
            };
        }
        Ok(Tree::from_bytes(contents))
    }

    /// A tree made up for a test.
    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Tree {
        Tree::from_bytes(files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect())
    }

    fn from_bytes(contents: BTreeMap<String, Vec<u8>>) -> Tree {
        let mut paths = BTreeSet::new();
        for path in contents.keys() {
            paths.extend(path.match_indices('/').map(|(end, _)| path[..end].to_owned()));
            paths.insert(path.clone());
        }
        let is_text = |bytes: &[u8]| !bytes.contains(&0);
        let texts = contents.into_iter().filter(|(_, bytes)| is_text(bytes));
        let mut files: Vec<File> = texts
            .filter_map(|(path, bytes)| String::from_utf8(bytes).ok().map(|text| (path, text)))
            .map(|(path, text)| {
                let is_generated = path.starts_with(repo::GENERATED) && path[repo::GENERATED.len()..].starts_with('/');
                let rust = (path.ends_with(".rs") && !is_generated).then(|| take_apart(&path, &text));
                File { path, text, is_generated, rust }
            })
            .collect();
        mark_test_modules(&mut files);
        Tree { files, paths }
    }

    /// The Rust files people write.
    pub(super) fn rust_files(&self) -> impl Iterator<Item = (&File, &Rust)> {
        self.files.iter().filter_map(|file| file.rust.as_ref().map(|rust| (file, rust)))
    }
}

fn take_apart(path: &str, text: &str) -> Rust {
    let parts = lexer::take_apart(text);
    let is_test_file = path.starts_with("tests/") || path.contains("/tests/");
    let test_lines = if is_test_file { vec![true; text.lines().count()] } else { lexer::test_lines(&parts.code) };
    Rust { parts, test_lines }
}

/// `#[cfg(test)] mod name;` makes a test of another file.
fn mark_test_modules(files: &mut [File]) {
    let declared: BTreeSet<String> = files
        .iter()
        .filter_map(|file| file.rust.as_ref().map(|rust| (file, rust)))
        .flat_map(|(file, rust)| {
            let stem = file.path.strip_suffix(".rs").unwrap_or(&file.path);
            let folder = match stem.rsplit_once('/') {
                Some((folder, "lib" | "main")) => folder,
                _ => stem,
            };
            let names = lexer::test_modules(&rust.parts.code).into_iter();
            names.map(move |name| format!("{folder}/{name}.rs")).collect::<Vec<_>>()
        })
        .collect();
    for file in files.iter_mut().filter(|file| declared.contains(&file.path)) {
        if let Some(rust) = &mut file.rust {
            rust.test_lines.fill(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Rust, Tree};

    fn rust<'a>(tree: &'a Tree, path: &str) -> &'a Rust {
        tree.rust_files().find(|(file, _)| file.path == path).map(|(_, rust)| rust).expect("in the tree")
    }

    #[test]
    fn a_file_is_a_test_under_tests_or_when_its_module_is_declared_so() {
        let tree = Tree::of(&[
            ("a/src/lib.rs", "//! A.\n#[cfg(test)]\nmod town;\nmod shop;\n"),
            ("a/src/town.rs", "//! T.\n"),
            ("a/src/shop.rs", "//! S.\n#[cfg(test)]\nmod till;\n"),
            ("a/src/shop/till.rs", "//! T.\n"),
            ("a/tests/it/main.rs", "//! M.\n"),
        ]);
        assert!(rust(&tree, "a/src/town.rs").is_test(1));
        assert!(rust(&tree, "a/src/shop/till.rs").is_test(1));
        assert!(rust(&tree, "a/tests/it/main.rs").is_test(1));
        assert!(!rust(&tree, "a/src/shop.rs").is_test(1));
    }

    #[test]
    fn generated_and_binary_files_are_not_taken_for_rust_people_write() {
        let tree = Tree::of(&[
            ("daemons/api/src/generated/base.rs", "// made\n"),
            ("daemons/api/src/generated.rs", "//! Made.\n"),
            ("daemons/api/src/generated/descriptor.bin", "\0\n"),
        ]);
        let rust: Vec<&str> = tree.rust_files().map(|(file, _)| file.path.as_str()).collect();
        assert_eq!(rust, ["daemons/api/src/generated.rs"]);
        assert_eq!(tree.files.len(), 2);
        assert!(tree.paths.contains("daemons/api/src/generated/descriptor.bin"));
        assert!(tree.paths.contains("daemons/api"));
    }
}
