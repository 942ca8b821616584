//! dfctl as scripts call it, over a made-up cluster.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn control(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dfctl"));
    command.args(arguments).env_clear().stdin(Stdio::null()).output().expect("it runs")
}

/// The one object on stdout, and the exit code.
fn json(arguments: &[&str]) -> (Value, i32) {
    let output = control(&[arguments, &["--json"]].concat());
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(text.lines().count(), 1, "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    (serde_json::from_str(&text).expect("JSON"), output.status.code().expect("an exit"))
}

#[test]
fn every_list_is_one_object_with_its_rows() {
    for (arguments, name) in [
        (&["task", "ls"][..], "tasks"),
        (&["host", "ls"], "hosts"),
        (&["host", "isolated"], "blacklist"),
        (&["job", "ls"], "jobs"),
        (&["block", "ls"], "block_rules"),
        (&["cluster", "ls"], "clusters"),
        (&["cluster", "members"], "members"),
        (&["user", "ls"], "users"),
        (&["token", "ls"], "tokens"),
        (&["audit"], "audit"),
        (&["doctor"], "findings"),
    ] {
        let (object, exit) = json(&[&["--demo"], arguments].concat());
        assert_eq!((&object["v"], &object["ok"], exit), (&Value::from(1), &Value::from(true), 0), "{arguments:?}");
        assert!(object[name].as_array().is_some_and(|rows| !rows.is_empty()), "{arguments:?}: {object}");
        let table = control(&[&["--demo"], arguments].concat());
        assert!(table.status.success() && table.stdout.len() > 20 && table.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn one_row_is_shown_in_full_by_name() {
    let (object, _) = json(&["--demo", "task", "show", "model.bin"]);
    assert_eq!(object["task"]["task"]["url"], "https://origin.example/models/model.bin");
    let (object, _) = json(&["--demo", "host", "show", "seed-1"]);
    assert_eq!(object["host"]["role"], "seed");
    let (object, _) = json(&["--demo", "task", "who", "model.bin"]);
    assert!(object["peers"].as_array().is_some_and(|peers| peers.len() > 10));
    let (object, _) = json(&["--demo", "job", "show", "88"]);
    assert_eq!(object["job"]["parts"].as_array().map(Vec::len), Some(7));
    let (object, _) = json(&["--demo", "limit", "get"]);
    assert_eq!(object["policy"]["peer"]["upload_bytes_per_sec"], 1 << 30);
}

#[test]
fn changes_are_carried_out() {
    for arguments in [
        &["task", "rm", "model.bin", "--yes"][..],
        &["host", "isolate", "h0012", "--for", "1h", "--reason", "disk fails"],
        &["host", "release", "h0007"],
        &["job", "cancel", "88"],
        &["block", "add", "tag", "nightly", "--both"],
        &["block", "rm", "1"],
        &["limit", "set", "upload=200M", "source=none"],
        &["limit", "set", "task=1M", "--host", "h0012"],
        &["preheat", "image", "registry.example/app:v81", "--scope", "all_peers", "--percentage", "30"],
        &["token", "create", "ci", "--scope", "view", "--for", "7d"],
        &["token", "revoke", "3"],
        &["user", "role", "dashboard", "operator"],
        &["user", "disable", "dashboard"],
        &["cluster", "forget", "100"],
    ] {
        let (object, exit) = json(&[&["--demo"], arguments].concat());
        assert_eq!((exit, &object["ok"]), (0, &Value::from(true)), "{arguments:?}: {object}");
    }
}

#[test]
fn mistakes_and_misses_have_their_own_codes() {
    for (arguments, exit) in [
        (&["--demo", "task", "show", "no-such"][..], 10),
        (&["--demo", "host", "isolate", "h00"], 10),
        (&["--demo", "job", "cancel", "999"], 10),
        (&["--demo", "task", "rm", "model.bin"], 2),
        (&["--demo", "task", "ls", "--sort", "colour"], 2),
        (&["--manager", "127.0.0.1:1", "task", "ls"], 11),
        (&["--manager", "127.0.0.1:1", "doctor", "--endpoint", "/nonexistent/df.sock"], 11),
        (&["--manager", "127.0.0.1:1", "--token-file", "/nonexistent/token", "whoami"], 3),
    ] {
        let (object, code) = json(arguments);
        assert_eq!((code, object["exit"].as_i64()), (exit, Some(i64::from(exit))), "{arguments:?}: {object}");
        assert!(object["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{arguments:?}: {object}");
        let told = control(arguments);
        assert!(told.stderr.starts_with(b"dfctl: "), "{arguments:?}");
    }
    for arguments in [&["tusk", "ls"][..], &["limit", "set", "upload=fast"], &["preheat", "image"], &[]] {
        assert_eq!(control(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_password_is_never_an_argument() {
    let help = control(&["user", "add", "--help"]);
    let text = String::from_utf8(help.stdout).expect("text");
    assert!(text.contains("--password-file") && !text.contains("--password "), "{text}");
}

#[test]
fn shells_and_readers_of_manuals_are_served() {
    for shell in ["bash", "zsh", "fish"] {
        let script = control(&["completions", shell]);
        let text = String::from_utf8(script.stdout).expect("text");
        assert!(script.status.success() && text.contains("preheat"), "{shell}: {text}");
    }
    assert_eq!(control(&["completions", "tea"]).status.code(), Some(2));
    let page = String::from_utf8(control(&["man"]).stdout).expect("text");
    assert!(page.starts_with(".ie") && page.contains("dfctl\\-preheat(1)"), "{page}");
    let folder = tempfile::tempdir().expect("a folder");
    let pages = folder.path().join("man1");
    assert!(control(&["man", pages.to_str().expect("text")]).status.success());
    for page in ["dfctl.1", "dfctl-preheat.1", "dfctl-job-ls.1"] {
        assert!(pages.join(page).is_file(), "{page}");
    }
}
