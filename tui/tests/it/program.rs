//! The program itself: what it prints, and what it does at a terminal, driven by tmux.

use std::process::{Command, Output, Stdio};

use crate::tmux::Tmux;

const CONSOLE: &str = env!("CARGO_BIN_EXE_dfconsole");

fn console(arguments: &[&str]) -> Output {
    let mut command = Command::new(CONSOLE);
    command.args(arguments).env_clear().stdin(Stdio::null());
    command.output().expect("it runs")
}

fn printed(arguments: &[&str]) -> String {
    let output = console(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn one_screen_is_printed_and_the_same_seed_prints_the_same() {
    let arguments = ["--demo", "--seed", "3", "--once", "--screen", "tasks", "--size", "100x20"];
    let screen = printed(&arguments);
    assert_eq!(screen.lines().count(), 20);
    assert!(screen.lines().all(|line| line.chars().count() <= 100) && !screen.contains('\u{1b}'), "{screen}");
    assert!(screen.contains("model.bin"), "{screen}");
    assert_eq!(printed(&arguments), screen);
    assert_ne!(printed(&["--demo", "--seed", "4", "--once", "--screen", "tasks", "--size", "100x20"]), screen);
    assert!(printed(&["--demo", "--once", "--ascii"]).is_ascii());
}

#[test]
fn what_a_screen_shows_is_printed_as_json() {
    let json = |arguments: &[&str]| -> serde_json::Value { serde_json::from_str(&printed(arguments)).expect("JSON") };
    let tasks = json(&["--demo", "--json", "--screen", "tasks", "--command", "filter state=failed"]);
    assert_eq!(tasks["v"], 1);
    let rows = tasks["tasks"].as_array().expect("a list");
    assert!(!rows.is_empty() && rows.iter().all(|row| row["state"]["word"] == "failed"), "{tasks}");
    let task = json(&["--demo", "--json", "--command", "task model.bin"]);
    assert!(task["task"]["copies"].as_array().is_some_and(|copies| !copies.is_empty()), "{task}");
    let overview = json(&["--demo", "--json"]);
    assert!(overview["traffic"]["download_bytes_per_sec"].as_u64() > Some(0), "{overview}");
}

#[test]
fn mistakes_end_with_the_codes_of_all_tools() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("none.sock");
    let socket = socket.to_str().expect("text");
    // Port 1 is nobody's.
    let nobody = ["--once", "--endpoint", socket, "--manager", "127.0.0.1:1"];
    for (arguments, exit) in [
        (&["--sceen", "tasks"][..], 2),
        (&["--seed", "3"], 2),
        (&["--demo", "--once", "--size", "0x0"], 2),
        (&["--demo", "--once", "--command", "fly"], 2),
        (&nobody, 11),
        (&["--once", "--manager", "no address"], 2),
    ] {
        let output = console(arguments);
        assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(!output.stderr.is_empty());
    }
    let shown = String::from_utf8(console(&nobody).stdout).expect("text");
    assert!(shown.contains("✖ no manager"), "{shown}");
}

#[test]
fn the_console_is_driven_at_a_terminal_and_leaves_it_as_it_was() {
    let Some(tmux) = Tmux::new() else { return };
    tmux.begin();
    tmux.write(&format!("{CONSOLE} --demo; echo ended $?"));
    tmux.press(&["Enter"]);
    let screen = tmux.wait_for("busiest tasks");
    assert!(screen.contains("1 Overview │ 2 Tasks") && screen.contains("✔ live"), "{screen}");
    tmux.press(&["2"]);
    tmux.wait_for("NAME");
    tmux.write("/model");
    tmux.press(&["Enter"]);
    tmux.wait_for("tasks 1/12 /model");
    tmux.press(&["Enter"]);
    tmux.wait_for("copies of each piece");
    tmux.run(&["resize-window", "-t", "it", "-x", "70", "-y", "20"]);
    tmux.wait("a narrow screen", |screen| {
        screen.lines().next().is_some_and(|head| head.chars().count() <= 70)
            && !screen.contains("copies of each piece")
            && screen.contains("pieces of")
    });
    tmux.run(&["resize-window", "-t", "it", "-x", "30", "-y", "8"]);
    tmux.wait_for("dfconsole needs 40x10");
    tmux.run(&["resize-window", "-t", "it", "-x", "120", "-y", "40"]);
    tmux.wait_for("copies of each piece");
    tmux.press(&["?"]);
    tmux.wait_for("Keys on every screen");
    tmux.press(&["Escape"]);
    tmux.wait("no help", |screen| !screen.contains("Keys on every screen"));
    tmux.press(&["C-c"]);
    let left = tmux.wait_for("ended 0");
    assert!(!left.contains("Overview"), "{left}");
    tmux.write("echo still here");
    tmux.press(&["Enter"]);
    tmux.wait("an echo", |screen| screen.contains("\nstill here"));
}

#[test]
fn the_last_screen_stays_when_asked_to() {
    let Some(tmux) = Tmux::new() else { return };
    tmux.begin();
    tmux.write(&format!("{CONSOLE} --demo --screen jobs; echo ended $?"));
    tmux.press(&["Enter"]);
    tmux.wait_for("preheating");
    tmux.press(&["Q"]);
    let left = tmux.wait_for("ended 0");
    assert!(left.contains("preheating"), "{left}");
}

#[test]
fn it_goes_to_the_background_and_comes_back() {
    let Some(tmux) = Tmux::new() else { return };
    tmux.begin();
    // A shell with job control.
    tmux.write("set -m");
    tmux.press(&["Enter"]);
    tmux.write(&format!("{CONSOLE} --demo"));
    tmux.press(&["Enter"]);
    tmux.wait_for("busiest tasks");
    tmux.press(&["C-z"]);
    let shell = tmux.wait("the shell", |screen| screen.contains("topped") && !screen.contains("busiest tasks"));
    assert!(shell.contains("ready>"), "{shell}");
    tmux.write("fg");
    tmux.press(&["Enter"]);
    tmux.wait_for("busiest tasks");
    tmux.press(&["q"]);
    tmux.wait("the shell", |screen| !screen.contains("busiest tasks"));
}

/// Not a test of its own: what [`a_panic_leaves_a_terminal_one_can_read_and_type_in`] runs.
#[test]
fn panics_at_the_terminal_when_told_to() {
    if std::env::var_os("DFCONSOLE_TEST_PANIC").is_none() {
        return;
    }
    let _hold = df_tui::terminal::Hold::take(true).expect("a terminal");
    panic!("it panicked on purpose");
}

#[test]
fn a_panic_leaves_a_terminal_one_can_read_and_type_in() {
    let Some(tmux) = Tmux::new() else { return };
    let own = std::env::current_exe().expect("this test");
    tmux.begin();
    let test = "program::panics_at_the_terminal_when_told_to";
    tmux.write(&format!("DFCONSOLE_TEST_PANIC=1 {} --exact {test} --nocapture; echo ended", own.display()));
    tmux.press(&["Enter"]);
    let left = tmux.wait("the end", |screen| screen.contains("\nended"));
    assert!(left.contains("it panicked on purpose"), "{left}");
    tmux.write("echo still here");
    tmux.press(&["Enter"]);
    tmux.wait("an echo", |screen| screen.contains("\nstill here"));
}
