//! docs/console.md shows what the programs print: screens are taken anew with `UPDATE_DOCS` set, and
//! compared without.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a command prints, as a line of the document gives it.
fn printed(line: &str) -> String {
    let words = words(line);
    let (program, arguments) = words.split_first().expect("a program");
    let binary = match program.as_str() {
        "dfconsole" => env!("CARGO_BIN_EXE_dfconsole"),
        "dfctl" => env!("CARGO_BIN_EXE_dfctl"),
        other => panic!("{other} is none of ours"),
    };
    let output = Command::new(binary).args(arguments).env_clear().stdin(Stdio::null()).output().expect("it runs");
    assert!(output.stdout.len() > 10, "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Words as a shell would split them, quotes included.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    for c in line.chars() {
        match c {
            '\'' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(String::new()),
            c => words.last_mut().expect("one at least").push(c),
        }
    }
    words
}

/// The document with what every command in it prints now.
fn renewed(document: &str) -> String {
    let mut renewed = String::new();
    let mut is_old = false;
    for line in document.lines() {
        if line.starts_with("```") {
            is_old = false;
        }
        if !is_old {
            renewed.push_str(line);
            renewed.push('\n');
        }
        if let Some(command) = line.strip_prefix("$ ") {
            let text = printed(command);
            let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
            renewed.push_str(lines.join("\n").trim_end());
            renewed.push('\n');
            is_old = true;
        }
    }
    renewed
}

#[test]
fn the_document_shows_what_the_programs_print() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/console.md");
    let document = fs::read_to_string(&path).expect("the document");
    let renewed = renewed(&document);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, renewed).expect("written");
    } else {
        assert!(document == renewed, "take the screens anew: UPDATE_DOCS=1 cargo test -p df-tui --test it document");
    }
}
