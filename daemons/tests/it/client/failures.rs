//! What is left, said and returned when it does not go well.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixListener;
use std::process::Child;

use df_api::failure::{Code, Failure};
use rustix::process::{Pid, Signal, kill_process};

use super::fake::{FakeDaemon, Step, bytes};
use super::{LEN, ask, dfget, fake, names, run, success};

fn kill(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(child.id() as i32).unwrap(), signal).unwrap();
}

/// Reads events until one says that the download goes on.
fn wait_for_progress(child: &mut Child) -> impl BufRead + use<> {
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("\"event\":\"progress\"") {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended");
    }
    stderr
}

#[test]
fn what_the_source_answered_is_told_in_full() {
    let failure = Failure::new(Code::OriginStatus, "the source answered 404 Not Found")
        .because("GET http://origin/f")
        .hint("check the URL")
        .http_status(404);
    // At once, or after a message.
    for steps in [vec![Step::Fail(failure.clone())], vec![Step::TellLittle, Step::Fail(failure)]] {
        let fake = fake(&steps);
        let (exit, stdout, stderr) = run(ask(&fake, &["--json", "http://origin/f"]));
        assert_eq!(exit, Some(8));
        let expected = r#"{"v":1,"ok":false,"url":"http://origin/f","exit":8,"error":{"code":"ORIGIN_STATUS","http":404,"message":"the source answered 404 Not Found: GET http://origin/f","hint":"check the URL","retryable":false}}"#;
        assert_eq!(stdout, format!("{expected}\n"));
        let lines = "dfget: the source answered 404 Not Found\n  why: GET http://origin/f\n  hint: check the URL\n";
        assert_eq!(stderr, lines);
        assert!(names(&fake.path("")).is_empty());
    }
}

#[test]
fn an_old_file_survives_every_failure() {
    let digest = Failure::new(Code::Digest, "the content has another digest");
    let table = [
        (vec![Step::Tell, Step::Store(LEN), Step::Tell, Step::Fail(digest)], 32, "another digest"),
        (vec![Step::Tell, Step::Store(1 << 20), Step::Tell, Step::Vanish], 4, "the daemon went away"),
        (vec![Step::Tell, Step::Store(1 << 20), Step::Tell], 7, "ended the download without finishing it"),
    ];
    for (steps, code, message) in table {
        for link in ["copy", "hard"] {
            let fake = fake(&steps);
            fs::write(fake.path("f"), "old").unwrap();
            let (exit, stdout, stderr) = run(ask(&fake, &["--link", link, "http://origin/f"]));
            assert_eq!((exit, stdout.as_str()), (Some(code), ""), "{stderr}");
            assert!(stderr.contains(message), "{stderr}");
            assert_eq!(fs::read(fake.path("f")).unwrap(), b"old");
            assert_eq!(names(&fake.path("")), [".f.dfpart", "f"]);
            // The same command goes on.
            fake.script("/f", &success());
            let (exit, stdout, stderr) = run(ask(&fake, &["--link", link, "--json", "http://origin/f"]));
            assert_eq!(exit, Some(0), "{stderr}");
            assert!(stdout.contains("\"resumed\":true"), "{stdout}");
            assert!(fs::read(fake.path("f")).unwrap() == bytes(LEN));
            assert_eq!(names(&fake.path("")), ["f"]);
        }
    }
}

#[test]
fn a_signal_keeps_what_there_is_and_tells_the_daemon() {
    for (signal, code, word) in [(Signal::INT, 130, "interrupted"), (Signal::TERM, 143, "terminated")] {
        let fake = fake(&[Step::Tell, Step::Store(1 << 20), Step::Tell, Step::Hang]);
        let mut child = ask(&fake, &["--progress=json", "--json", "http://origin/f"]).spawn().unwrap();
        let mut stderr = wait_for_progress(&mut child);
        kill(&child, signal);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        assert_eq!(names(&fake.path("")), [".f.dfpart"]);
        let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&result["exit"], &result["error"]["message"]), (&code.into(), &word.into()));
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).unwrap();
        assert!(rest.contains("\"event\":\"end\""), "{rest}");
        fake.wait_for_cancel();
    }
}

#[test]
fn a_signal_says_how_to_go_on() {
    let fake = fake(&[Step::Tell, Step::Store(1 << 20), Step::Tell, Step::Hang]);
    let mut child = ask(&fake, &["-O", "-", "http://origin/f"]).spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    kill(&child, Signal::INT);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr, "dfget: interrupted\n  hint: resume with the same command\n");
}

#[test]
fn a_daemon_that_does_not_hand_out_the_content_is_at_fault() {
    let table = [
        (Step::Ticket(Vec::new(), true), "the daemon finished the download without handing out the content"),
        (Step::Ticket(vec![1; 15], false), "its ticket has 15 bytes, not 16"),
        (Step::Ticket(vec![1; 16], false), "there is no such ticket"),
    ];
    for (step, why) in table {
        let fake = fake(&[Step::TellLittle, step]);
        let (exit, _, stderr) = run(ask(&fake, &["http://origin/f"]));
        assert_eq!(exit, Some(7));
        assert!(stderr.contains(why), "{stderr}");
        assert!(names(&fake.path("")).is_empty());
    }
}

#[test]
fn less_than_was_promised_is_noticed() {
    let fake = FakeDaemon::start(&bytes(1000));
    // The file in the store is made as long as the content, then told to be longer.
    fake.script("/f", &[Step::Tell, Step::Store(1000), Step::Truncate(999), Step::Done(Default::default())]);
    for link in ["copy", "auto"] {
        let (exit, _, stderr) = run(ask(&fake, &["--link", link, "http://origin/f"]));
        assert_eq!(exit, Some(7), "{stderr}");
        assert!(stderr.contains("shorter than it said"), "{stderr}");
        assert_eq!(names(&fake.path("")), [".f.dfpart"]);
    }
}

#[test]
fn what_is_wrong_with_the_output_is_known_before_the_download() {
    let fake = fake(&success());
    fs::create_dir(fake.path("d")).unwrap();
    fs::write(fake.path("there"), "old").unwrap();
    fs::hard_link(fake.path("there"), fake.path(".trap.dfpart")).unwrap();
    let table = [
        (&["-O", "d"][..], 3, "cannot write to d", "it is a directory"),
        (&["-O", "d/"], 3, "cannot write to d/", "it is a directory"),
        (&["-O", "none/f"], 3, "cannot create none/f", "create the directory first"),
        (&["-O", "there/f"], 3, "cannot write to there/f", "Not a directory"),
        (&["-O", "sock"], 3, "cannot write to sock", "neither a file"),
        (&["-O", "trap"], 3, "cannot create trap", "is in the way"),
        (&["-O", "there", "--no-clobber"], 13, "there exists", "--overwrite"),
        (&["-O", ".."], 3, "cannot write to ..", "it is a directory"),
    ];
    for (arguments, code, what, more) in table {
        let (exit, _, stderr) = run(ask(&fake, &[arguments, &["http://origin/f"]].concat()));
        assert_eq!(exit, Some(code), "{stderr}");
        assert!(stderr.contains(what) && stderr.contains(more), "{stderr}");
    }
    assert_eq!(fs::read(fake.path("there")).unwrap(), b"old");
    assert!(fake.requests().is_empty());
    // The later of two such flags counts.
    assert_eq!(run(ask(&fake, &["-O", "there", "--no-clobber", "--overwrite", "http://origin/f"])).0, Some(0));
}

#[test]
fn two_downloads_do_not_write_one_file() {
    let fake = fake(&[Step::Tell, Step::Hang]);
    let mut child = ask(&fake, &["--progress=json", "http://origin/f"]).spawn().unwrap();
    let _stderr = wait_for_progress(&mut child);
    let (exit, _, stderr) = run(ask(&fake, &["http://origin/f"]));
    assert!(exit == Some(15) && stderr.contains("another download is writing f"), "{stderr}");
    kill(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

#[test]
fn time_is_up_for_the_slow() {
    let fake = fake(&[Step::Tell, Step::Store(1 << 20), Step::Tell, Step::Hang]);
    let (exit, stdout, stderr) = run(ask(&fake, &["--timeout", "100ms", "--json", "http://origin/f"]));
    assert_eq!(exit, Some(28));
    assert!(stdout.contains("\"retryable\":true") && stderr.contains("not done within 100ms"), "{stdout}{stderr}");
}

#[test]
fn a_daemon_that_is_required_and_absent_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let stale = folder.path().join("stale");
    drop(UnixListener::bind(&stale).unwrap());
    for socket in [folder.path().join("none"), stale] {
        let mut command = dfget(&["--require-daemon", "-e", socket.to_str().unwrap(), "--json", "http://origin/f"]);
        command.current_dir(folder.path());
        let (exit, stdout, stderr) = run(command);
        assert_eq!(exit, Some(11));
        assert!(stdout.contains("\"code\":\"DAEMON_DOWN\""), "{stdout}");
        assert!(stderr.starts_with("dfget: no daemon listens at ") && stderr.lines().count() == 2, "{stderr}");
        assert!(!names(folder.path()).iter().any(|name| name.contains('f') && name != "stale"));
    }
}
