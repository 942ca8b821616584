//! Rules on Rust source: its outline, and what must not stand in it.

use super::lexer::{ends_in_name, line_of, words};
use super::tree::{File, Finding, Rust, Tree};

/// Generated code may be longer.
const LINE_LIMIT: usize = 500;
/// Names that say nothing of what is inside; `mod.rs` hides the name in the folder.
const EMPTY_NAMES: [&str; 5] = ["mod.rs", "utils.rs", "common.rs", "helpers.rs", "types.rs"];

/// Each file begins by saying its job.
pub(super) fn first_line(tree: &Tree) -> Vec<Finding> {
    let says_its_job = |file: &File| {
        let first = file.text.lines().next().unwrap_or_default();
        first.strip_prefix("//!").is_some_and(|rest| rest.chars().any(char::is_alphanumeric))
    };
    let silent = tree.rust_files().filter(|(file, _)| !says_its_job(file));
    silent.map(|(file, _)| file.finding(1, "begin the file with a `//!` sentence that says its job")).collect()
}

/// A file one can read in one go.
pub(super) fn file_length(tree: &Tree) -> Vec<Finding> {
    let counted = tree.rust_files().map(|(file, _)| (file, file.text.lines().count()));
    let long = counted.filter(|(_, count)| *count > LINE_LIMIT);
    let what = |count| format!("{count} lines, the limit is {LINE_LIMIT}; move a part to a file of its own");
    long.map(|(file, count)| file.finding(LINE_LIMIT + 1, what(count))).collect()
}

/// A module is foo.rs with its parts in foo/, and its name says what is inside.
pub(super) fn module_name(tree: &Tree) -> Vec<Finding> {
    let nameless = tree.rust_files().filter(|(file, _)| EMPTY_NAMES.contains(&file.file_name()));
    let what = |name: &str| match name {
        "mod.rs" => "a module is foo.rs, with its parts in foo/; move it there".to_owned(),
        _ => format!("{name} says nothing of what is inside; name the file after its one job"),
    };
    nameless.map(|(file, _)| file.finding(1, what(file.file_name()))).collect()
}

/// No code that waits to be written, and no test that is not run.
pub(super) fn unfinished(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for (file, rust) in tree.rust_files() {
        let code = &rust.parts.code;
        for name in ["todo", "unimplemented", "dbg"] {
            for at in words(code, name).filter(|at| code[at + name.len()..].starts_with('!')) {
                found.push(file.finding(line_of(code, at), format!("{name}!; finish it or take it out")));
            }
        }
        for at in words(code, "ignore").filter(|at| code[..*at].ends_with("#[")) {
            found.push(file.finding(line_of(code, at), "#[ignore]; a test runs, or it goes"));
        }
    }
    found
}

/// A test that sleeps is slow on a fast machine and wrong on a slow one.
pub(super) fn sleep_in_test(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for (file, rust) in tree.rust_files() {
        let code = &rust.parts.code;
        let sleeps = ["sleep", "sleep_until"].into_iter().flat_map(|name| words(code, name).map(move |at| (at, name)));
        for (at, name) in sleeps.filter(|(at, name)| is_real_sleep(code, *at, name)) {
            let line = line_of(code, at);
            if rust.is_test(line) {
                found.push(
                    file.finding(line, format!("{name} in a test; wait for the event itself, or move a virtual clock")),
                );
            }
        }
    }
    found
}

/// Whether the word at `at` is the sleep of std or tokio: by its path, or called by its bare name. A
/// method or a function of our own is none.
fn is_real_sleep(code: &str, at: usize, name: &str) -> bool {
    let (before, after) = (code[..at].trim_end(), code[at + name.len()..].trim_start());
    let is_named = before.ends_with("thread::") || before.ends_with("time::");
    let is_bare = !before.ends_with([':', '.']) && !before.ends_with("fn");
    is_named || is_bare && after.starts_with('(')
}

/// What comes from outside must not stop a daemon.
pub(super) fn panic(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for (file, rust) in tree.rust_files().filter(|(file, _)| is_production(file)) {
        let code = &rust.parts.code;
        for call in [".unwrap()", ".expect("] {
            for line in code.match_indices(call).map(|(at, _)| line_of(code, at)).filter(|line| !rust.is_test(*line)) {
                let name = call.trim_matches(['.', '(', ')']);
                found.push(file.finding(line, format!("{name} can panic; pass the error on, or handle the case")));
            }
        }
    }
    found
}

fn is_production(file: &File) -> bool {
    file.is_in("daemons/src") || file.is_in("daemons/api/src")
}

/// An unbiased `select!` draws random numbers, which no simulation can replay.
pub(super) fn biased_select(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    let is_simulated = |file: &File| ["core", "daemons", "sim"].iter().any(|folder| file.is_in(folder));
    for (file, Rust { parts, .. }) in tree.rust_files().filter(|(file, _)| is_simulated(file)) {
        let code = &parts.code;
        for at in words(code, "select") {
            let Some(arguments) = code[at + "select".len()..].strip_prefix('!') else { continue };
            let body = arguments.trim_start().trim_start_matches(['{', '(', '[']).trim_start();
            let is_biased = body.strip_prefix("biased").is_some_and(|rest| rest.trim_start().starts_with(';'));
            if !is_biased {
                found.push(file.finding(line_of(code, at), "select! in random order; begin it with `biased;`"));
            }
        }
    }
    found
}

/// The core cannot reach a clock, a socket or a thread that it cannot name.
pub(super) fn no_std(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for (file, rust) in tree.rust_files().filter(|(file, _)| file.is_in("core/src")) {
        let code = &rust.parts.code;
        if file.path == "core/src/lib.rs" && !code.lines().any(|line| line.trim() == "#![no_std]") {
            found.push(file.finding(1, "the core is pure; put `#![no_std]` after its documentation"));
        }
        for at in words(code, "std").filter(|at| ends_in_crate(&code[..*at])) {
            let line = line_of(code, at);
            if !rust.is_test(line) {
                found.push(file.finding(line, "the core is pure; use core and alloc in place of std"));
            }
        }
    }
    found
}

/// Whether `before` ends in `extern crate`.
fn ends_in_crate(before: &str) -> bool {
    let rest = before.trim_end().strip_suffix("crate").map(str::trim_end);
    rest.and_then(|rest| rest.strip_suffix("extern")).is_some_and(|rest| !ends_in_name(rest))
}

#[cfg(test)]
mod tests {
    use super::super::tree::{Finding, Tree};
    use super::{biased_select, file_length, first_line, module_name, no_std, panic, sleep_in_test, unfinished};

    /// The lines on which `rule` objects to `text` as the file `path`.
    fn lines(rule: fn(&Tree) -> Vec<Finding>, path: &str, text: &str) -> Vec<usize> {
        rule(&Tree::of(&[(path, text)])).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn first_line_is_a_sentence_on_the_files_job() {
        assert_eq!(lines(first_line, "a.rs", "//! Does a.\n"), [0_usize; 0]);
        assert_eq!(lines(first_line, "daemons/api/src/generated/a.rs", "// made\n"), [0_usize; 0]);
        for bad in ["", "\n//! Late.\n", "// Does a.\n", "//!\n//! Late.\n", "use b;\n"] {
            assert_eq!(lines(first_line, "a.rs", bad), [1], "{bad:?}");
        }
    }

    #[test]
    fn file_length_is_five_hundred_lines_at_most() {
        assert_eq!(lines(file_length, "a.rs", &"x\n".repeat(500)), [0_usize; 0]);
        assert_eq!(lines(file_length, "a.rs", &"x\n".repeat(501)), [501]);
        assert_eq!(lines(file_length, "daemons/api/src/generated/a.rs", &"x\n".repeat(501)), [0_usize; 0]);
        assert_eq!(lines(file_length, "a.md", &"x\n".repeat(501)), [0_usize; 0]);
    }

    #[test]
    fn module_name_is_not_one_that_says_nothing() {
        assert_eq!(lines(module_name, "a/src/mode.rs", ""), [0_usize; 0]);
        for bad in ["a/src/b/mod.rs", "utils.rs", "a/common.rs", "a/helpers.rs", "a/types.rs"] {
            assert_eq!(lines(module_name, bad, ""), [1], "{bad}");
        }
    }

    #[test]
    fn unfinished_is_code_and_not_talk_of_it() {
        let good = "// todo!() and #[ignore]\nf(\"dbg!\"); mytodo!(); x.ignore(); #[ignored]\n";
        assert_eq!(lines(unfinished, "a.rs", good), [0_usize; 0]);
        for bad in ["todo!()", "unimplemented!(\"x\")", "dbg!(x)", "#[ignore]", "#[ignore = \"slow\"]", "std::todo!()"]
        {
            assert_eq!(lines(unfinished, "a.rs", &format!("f();\n{bad}\n")), [2], "{bad}");
        }
    }

    #[test]
    fn sleep_in_test_is_found_in_tests_and_only_there() {
        let good = "fn f() { tokio::time::sleep(x); }\n#[cfg(test)]\nmod t { fn g() { clock.sleep(x); net::sleep(x); } fn sleep() {} }\n";
        assert_eq!(lines(sleep_in_test, "a/src/b.rs", good), [0_usize; 0]);
        assert_eq!(lines(sleep_in_test, "a/src/b.rs", "#[cfg(test)]\nmod t {\n    f(thread::sleep(x));\n}\n"), [3]);
        for bad in [
            "std::thread::sleep(x)",
            "tokio::time::sleep(x).await",
            "time::sleep_until(x)",
            "use std::thread::sleep;",
            "{ sleep(x) }",
        ] {
            assert_eq!(lines(sleep_in_test, "a/tests/it/b.rs", bad), [1], "{bad}");
        }
    }

    #[test]
    fn panic_is_for_tests_and_for_other_packages() {
        let good = "x.unwrap_or(1); x.expect_err(2); // x.unwrap()\n#[cfg(test)]\nmod t { fn g() { x.unwrap().expect(\"y\"); } }\n";
        assert_eq!(lines(panic, "daemons/src/a.rs", good), [0_usize; 0]);
        let bad = "fn f() {\n    x.unwrap();\n    x\n        .expect(\"y\");\n}\n";
        assert_eq!(lines(panic, "daemons/src/a.rs", bad), [2, 4]);
        assert_eq!(lines(panic, "daemons/api/src/a.rs", bad), [2, 4]);
        for elsewhere in ["sim/src/a.rs", "daemons/tests/it/a.rs", "daemons/src_other/a.rs"] {
            assert_eq!(lines(panic, elsewhere, bad), [0_usize; 0], "{elsewhere}");
        }
    }

    #[test]
    fn biased_select_has_biased_as_its_first_token() {
        let good =
            "tokio::select! {\n    // in order\n    biased;\n    x = y => {}\n}\nselect_all!(x); // select! { }\n";
        assert_eq!(lines(biased_select, "daemons/src/a.rs", good), [0_usize; 0]);
        for bad in ["tokio::select! { x = y => {} }", "select! { biased_input = y => {} }", "select!(x = y => {})"] {
            assert_eq!(lines(biased_select, "core/src/a.rs", bad), [1], "{bad}");
            assert_eq!(lines(biased_select, "tui/src/a.rs", bad), [0_usize; 0], "{bad}");
        }
    }

    #[test]
    fn no_std_is_what_the_core_says_of_itself() {
        assert_eq!(
            lines(no_std, "core/src/lib.rs", "//! C.\n#![no_std]\n#[cfg(test)]\nextern crate std;\n"),
            [0_usize; 0]
        );
        assert_eq!(lines(no_std, "core/src/lib.rs", "//! C. #![no_std]\nextern crate alloc;\n"), [1]);
        assert_eq!(lines(no_std, "core/src/a.rs", "//! C.\nextern crate std;\n"), [2]);
        assert_eq!(lines(no_std, "daemons/src/lib.rs", "//! D.\n"), [0_usize; 0]);
    }
}
