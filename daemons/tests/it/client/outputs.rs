//! Where the bytes go when all is well.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::fake::{FakeDaemon, Step, bytes};
use super::{LEN, ask, fake, names, run, success, tally};

#[test]
fn a_file_appears_when_it_is_whole_however_it_is_delivered() {
    for (link, expected) in [("copy", &["copy"][..]), ("hard", &["hard"]), ("auto", &["hard", "reflink"])] {
        let fake = fake(&success());
        let (exit, stdout, stderr) = run(ask(&fake, &["--link", link, "--json", "http://origin/f"]));
        assert_eq!(exit, Some(0), "{stderr}");
        assert!(fs::read(fake.path("f")).unwrap() == bytes(LEN), "{link}");
        assert_eq!(names(&fake.path("")), ["f"]);

        let result: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        assert!(expected.contains(&result["link"].as_str().unwrap()), "{stdout}");
        let is_same = fs::metadata(fake.path("f")).unwrap().ino() == fs::metadata(fake.store()).unwrap().ino();
        assert_eq!(is_same, result["link"] == "hard");
        assert_eq!(stdout.lines().count(), 1);
        assert_eq!((&result["ok"], &result["task"], &result["bytes"]), (&true.into(), &"7a5c".into(), &LEN.into()));
        assert_eq!((&result["from"]["peers"], &result["from"]["origin"]), (&(2 << 20).into(), &(1 << 20).into()));
        assert_eq!((&result["pieces"]["reused"], &result["resumed"]), (&1.into(), &false.into()));
        assert!(stderr.starts_with("f: 3.0 MiB in ") && stderr.ends_with("p2p 67% origin 33%\n"), "{stderr:?}");
        assert_eq!(stderr.lines().count(), 1);
    }
}

#[test]
fn the_daemon_is_told_what_was_asked_for() {
    let fake = fake(&success());
    let digest = "sha256:15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225";
    let arguments = [
        "-q",
        "-O",
        "out",
        "--digest",
        digest,
        "-H",
        "X-Key: v",
        "--tag",
        "t",
        "--application",
        "a",
        "--filter",
        "s",
        "--piece-size",
        "1MiB",
        "--notbs",
        "-P",
        "3",
        "-k",
        "--rate-limit",
        "10MB/s",
        "--timeout",
        "1h",
        "http://origin/f",
    ];
    assert_eq!(run(ask(&fake, &arguments)), (Some(0), String::new(), String::new()));
    let request = fake.requests().remove(0);
    let meta = request.url_meta.clone().unwrap();
    assert_eq!((meta.digest.as_str(), &*meta.tag, &*meta.application, &*meta.filter), (digest, "t", "a", "s"));
    assert_eq!(meta.header.get("x-key").map(String::as_str), Some("v"));
    assert_eq!((request.limit, request.piece_length, meta.priority), (10e6, 1 << 20, 3));
    assert!(request.disable_back_source && request.insecure && request.deliver_descriptor && !request.in_order);
    assert!(request.output.is_empty() && (3_590_000..=3_600_000).contains(&request.timeout), "{}", request.timeout);
}

#[test]
fn stdout_gets_the_bytes_in_order_and_nothing_else() {
    let fake = fake(&success());
    let mut command = ask(&fake, &["-O", "-", "--json=result.json", "http://origin/f"]);
    let output = command.output().unwrap();
    assert!(output.status.success() && output.stdout == bytes(LEN));
    assert!(fake.requests()[0].in_order);
    let result: serde_json::Value = serde_json::from_slice(&fs::read(fake.path("result.json")).unwrap()).unwrap();
    assert_eq!((&result["output"], &result["link"]), (&"-".into(), &serde_json::Value::Null));
    // The other way to both is refused.
    let (exit, stdout, stderr) = run(ask(&fake, &["-O", "/dev/stdout", "--json", "http://origin/f"]));
    assert!(exit == Some(2) && stderr.contains("--json=FILE"), "{stderr}");
    assert!(stdout.contains("\"code\":\"USAGE\""), "{stdout}");
}

#[test]
fn a_device_is_written_to_as_it_is() {
    let fake = fake(&success());
    let (exit, _, stderr) = run(ask(&fake, &["-O", "/dev/null", "http://origin/f"]));
    assert_eq!(exit, Some(0), "{stderr}");
    assert!(fs::symlink_metadata("/dev/null").unwrap().rdev() != 0);
    assert_eq!(run(ask(&fake, &["-O", "/dev/full", "http://origin/f"])).0, Some(9));
}

#[test]
fn a_closed_pipe_ends_it_as_the_signal_would() {
    let fake = fake(&success());
    let mut child = ask(&fake, &["-O", "-", "http://origin/f"]).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0]).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(141), &b""[..]));
}

#[test]
fn a_pipe_that_does_not_block_gets_all() {
    let fake = fake(&success());
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::NONBLOCK).unwrap();
    let mut child = ask(&fake, &["-q", "-O", "-", "http://origin/f"]).stdout(writer).spawn().unwrap();
    let mut got = Vec::new();
    fs::File::from(reader).read_to_end(&mut got).unwrap();
    assert!(child.wait().unwrap().success() && got == bytes(LEN));
}

#[test]
fn a_name_may_be_as_long_as_the_file_system_has_it() {
    let fake = fake(&success());
    let name = "n".repeat(255);
    let (exit, _, stderr) = run(ask(&fake, &["-O", &name, "http://origin/f"]));
    assert_eq!(exit, Some(0), "{stderr}");
    assert_eq!(names(&fake.path("")), [name]);
}

#[test]
fn an_old_file_is_replaced_and_a_copy_keeps_its_permissions() {
    let fake = fake(&success());
    fs::write(fake.path("f"), "old").unwrap();
    fs::set_permissions(fake.path("f"), fs::Permissions::from_mode(0o440)).unwrap();
    let (exit, _, stderr) = run(ask(&fake, &["--link=copy", "http://origin/f"]));
    assert_eq!(exit, Some(0), "{stderr}");
    let there = fs::metadata(fake.path("f")).unwrap();
    assert_eq!((there.len(), there.mode() & 0o777), (LEN as u64, 0o440));
    // A hard link over a file that is the same file already.
    for _ in 0..2 {
        fake.script("/f", &[Step::Tell, Step::Store(LEN), Step::Done(tally())]);
        assert_eq!(run(ask(&fake, &["--link=hard", "http://origin/f"])).0, Some(0));
        assert_eq!(names(&fake.path("")), ["f"]);
    }
}

#[test]
fn a_symbolic_link_stays_and_its_target_is_replaced() {
    let fake = fake(&success());
    fs::create_dir(fake.path("d")).unwrap();
    fs::write(fake.path("d/old"), "old").unwrap();
    for (link, target) in [("one", "d/old"), ("two", "d/new")] {
        symlink(target, fake.path(link)).unwrap();
        let (exit, _, stderr) = run(ask(&fake, &["-O", link, "http://origin/f"]));
        assert_eq!(exit, Some(0), "{stderr}");
        assert!(fs::symlink_metadata(fake.path(link)).unwrap().is_symlink());
        assert_eq!(fs::symlink_metadata(fake.path(target)).unwrap().len(), LEN as u64);
    }
    assert_eq!(names(&fake.path("d")), ["new", "old"]);
}

#[test]
fn empty_content_needs_no_descriptor() {
    let fake = FakeDaemon::start(b"");
    fake.script("/f", &[Step::Ticket(Vec::new(), true)]);
    for link in ["auto", "hard", "reflink", "copy"] {
        let (exit, _, stderr) = run(ask(&fake, &["--link", link, "http://origin/f"]));
        assert_eq!(exit, Some(0), "{stderr}");
        assert_eq!(fs::read(fake.path("f")).unwrap(), b"");
        assert_eq!(names(&fake.path("")), ["f"]);
    }
}

#[test]
fn those_who_sent_it_are_named_when_asked() {
    let fake = fake(&success());
    let (_, stdout, stderr) = run(ask(&fake, &["--explain", "http://origin/f"]));
    assert!(stdout.is_empty() && stderr.contains("67%  peer 10.0.0.9:65002, 2 pieces\n"), "{stderr}");
    assert!(stderr.contains("33%  the source\n"), "{stderr}");
}

#[test]
fn events_are_json_and_nothing_else() {
    let fake = fake(&success());
    let (exit, stdout, stderr) = run(ask(&fake, &["--progress=json", "http://origin/f"]));
    assert_eq!((exit, stdout.as_str()), (Some(0), ""));
    let events: Vec<serde_json::Value> = stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events[0]["event"], "start");
    assert!(events.iter().any(|event| event["event"] == "progress" && event["url"] == "http://origin/f"));
    let last = events.last().unwrap();
    assert_eq!((&last["event"], &last["result"]["ok"]), (&"end".into(), &true.into()));
}

#[test]
fn a_list_downloads_all_it_can_and_fails_as_its_first_failure() {
    let fake = fake(&success());
    let failure = df_api::failure::Failure::new(df_api::failure::Code::Auth, "no").http_status(401);
    fake.script("/g", &[Step::Fail(failure)]).script("/h", &[Step::Ticket(vec![1], false)]);
    let list = "http://origin/f one\nhttp://origin/g\nhttp://origin/h\n";
    fs::write(fake.path("list"), list).unwrap();
    let (exit, stdout, stderr) = run(ask(&fake, &["--input-file", "list", "--json", "-j", "2"]));
    assert_eq!(exit, Some(6), "{stderr}");
    let mut results: Vec<serde_json::Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    results.sort_by_key(|result| result["url"].as_str().map(str::to_owned));
    let exits: Vec<_> = results.iter().map(|result| result["exit"].as_u64()).collect();
    assert_eq!(exits, [Some(0), Some(6), Some(7)]);
    assert_eq!(names(&fake.path("")), ["list", "one"]);
    assert!(stderr.contains("dfget: g: no\n"), "{stderr}");
}
