//! What may go wrong: daemons that die, schedulers that are away, names that two want at once.

use std::path::Path;

use tokio::io::AsyncWriteExt;

use super::{MIB, ask, ask_until, command, finish, random, until};
use crate::cluster::Cluster;

fn size_of(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|there| there.len()).max().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_killed_in_the_middle_of_an_import_has_nothing_of_it() {
    let mut cluster = Cluster::start(0, 1).await;
    let daemon = &cluster.daemons[0];
    let import = daemon.config.data_dir.join("import");
    let mut child = command(daemon, &["import", "-i", "c", "-"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&random(1, 5 * MIB)).await.unwrap();
    until(|| size_of(&import) >= 2 * MIB as u64).await;
    ask(daemon, "stat -i c").await.exits(10);
    cluster.daemons[0].restart().await;
    drop(stdin);
    finish(child).await.exits(4);
    let daemon = &cluster.daemons[0];
    ask(daemon, "stat -i c").await.exits(10);
    assert!(!import.exists() && daemon.stored_files().is_empty());
    // A content file whose journal never got its place is no content.
    let folder = daemon.config.data_dir.join("content/ab");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(format!("{}.data", "ab".repeat(32))), b"x").unwrap();
    cluster.daemons[0].restart().await;
    ask(&cluster.daemons[0], "stat -i c").await.exits(10);
    assert!(cluster.daemons[0].stored_files().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_leaves_nothing() {
    let cluster = Cluster::start(0, 1).await;
    let daemon = &cluster.daemons[0];
    let import = daemon.config.data_dir.join("import");
    let mut child = command(daemon, &["import", "-i", "c", "-"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(&random(1, 5 * MIB)).await.unwrap();
    until(|| size_of(&import) >= 2 * MIB as u64).await;
    child.kill().await.unwrap();
    until(|| size_of(&import) == 0).await;
    ask(daemon, "stat -i c -l").await.exits(10);
    // Nor does it stand in anybody's way.
    let file = cluster.file("f", b"x");
    ask(daemon, &format!("import -i c {file}")).await.exits(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_announcement_that_is_lost_is_made_again() {
    let mut cluster = Cluster::start(0, 2).await;
    let (bytes, file) = (random(2, MIB), cluster.path("f"));
    std::fs::write(&file, &bytes).unwrap();
    cluster.take_scheduler().kill().await;
    let imported = ask(&cluster.daemons[0], &format!("import -i c {file} --json")).await.exits(12).json();
    assert_eq!((&imported["announced"], &imported["ok"]), (&"pending".into(), &true.into()));
    ask(&cluster.daemons[0], "stat -i c").await.exits(0);
    ask(&cluster.daemons[1], "stat -i c").await.exits(12);
    assert!(ask(&cluster.daemons[0], "export -i c -O -").await.exits(0).stdout == bytes);
    cluster.daemons[0].restart().await;
    cluster.start_scheduler().await;
    ask_until(&cluster.daemons[1], "stat -i c", 0).await;
    assert!(ask(&cluster.daemons[1], "export -i c -O -").await.exits(0).stdout == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_imports_under_one_name_at_once_one_is_refused() {
    let cluster = Cluster::start(0, 3).await;
    let contents = [random(3, MIB), random(4, MIB)];
    let files = [cluster.file("1", &contents[0]), cluster.file("2", &contents[1])];
    let lines = files.map(|file| format!("import -i c {file}"));
    let (one, two) = tokio::join!(ask(&cluster.daemons[0], &lines[0]), ask(&cluster.daemons[1], &lines[1]));
    let winner = match (one.exit, two.exit) {
        (Some(0), Some(13)) => 0,
        (Some(13), Some(0)) => 1,
        _ => panic!("{one:?} {two:?}"),
    };
    for daemon in &cluster.daemons {
        assert!(ask(daemon, "export -i c -O -").await.exits(0).stdout == contents[winner]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_was_away_drops_what_was_deleted() {
    let mut cluster = Cluster::start(0, 3).await;
    let file = cluster.file("f", &random(5, MIB));
    ask(&cluster.daemons[0], &format!("import -i c {file}")).await.exits(0);
    ask(&cluster.daemons[1], &format!("export -i c {}", cluster.path("out"))).await.exits(0);
    cluster.daemons[1].take_process().kill().await;
    ask(&cluster.daemons[2], "delete -i c").await.exits(0);
    ask(&cluster.daemons[0], "stat -i c").await.exits(10);
    let config = cluster.daemons[1].config.clone();
    cluster.daemons[1] = crate::cluster::Daemon::start(config).await;
    ask_until(&cluster.daemons[1], "stat -i c --local", 10).await;
    assert!(cluster.daemons[1].stored_files().is_empty());
    ask(&cluster.daemons[2], "stat -i c").await.exits(10);
    // The name can be used again.
    ask(&cluster.daemons[0], &format!("import -i c {file}")).await.exits(0);
    ask(&cluster.daemons[1], "stat -i c").await.exits(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_was_away_drops_it_though_no_scheduler_remembers() {
    let mut cluster = Cluster::start(0, 3).await;
    let (old, new) = (cluster.file("old", &random(5, MIB)), cluster.file("new", &random(6, MIB)));
    for name in ["gone", "again"] {
        ask(&cluster.daemons[0], &format!("import -i {name} {old}")).await.exits(0);
        ask(&cluster.daemons[1], &format!("export -i {name} {}", cluster.path(name))).await.exits(0);
    }
    cluster.daemons[1].take_process().kill().await;
    for name in ["gone", "again"] {
        ask(&cluster.daemons[2], &format!("delete -i {name}")).await.exits(0);
    }
    ask(&cluster.daemons[2], &format!("import -i again {new}")).await.exits(0);
    // The scheduler forgets everything, and those who have heard of the deletions start anew too.
    cluster.take_scheduler().kill().await;
    cluster.daemons[0].restart().await;
    cluster.daemons[2].restart().await;
    cluster.start_scheduler().await;
    cluster.daemons[0].linked().await;
    cluster.daemons[2].linked().await;
    let config = cluster.daemons[1].config.clone();
    cluster.daemons[1] = crate::cluster::Daemon::start(config).await;
    ask_until(&cluster.daemons[1], "stat -i gone --local", 10).await;
    ask_until(&cluster.daemons[1], "stat -i again --local", 10).await;
    ask(&cluster.daemons[0], "stat -i gone").await.exits(10);
    ask_until(&cluster.daemons[0], "stat -i again", 0).await;
    assert!(ask(&cluster.daemons[1], "export -i again -O -").await.exits(0).stdout == random(6, MIB));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_while_it_is_read_is_not_imported() {
    let cluster = Cluster::start(0, 1).await;
    let daemon = &cluster.daemons[0];
    let file = cluster.file("f", &random(8, 48 * MIB));
    let (stop, path) = (tokio_util::sync::CancellationToken::new(), file.clone());
    let stopped = stop.clone();
    #[allow(clippy::disallowed_methods, reason = "a writer beside the daemon, as another program would be")]
    let writer = tokio::task::spawn_blocking(move || {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        while !stopped.is_cancelled() {
            std::os::unix::fs::FileExt::write_all_at(&file, b"changed", 40 << 20).unwrap();
        }
    });
    let ran = ask(daemon, &format!("import -i c {file}")).await.exits(3);
    assert!(ran.stderr.contains("changed while it was imported"), "{ran:?}");
    stop.cancel();
    writer.await.unwrap();
    ask(daemon, "stat -i c -l").await.exits(10);
    assert!(daemon.stored_files().is_empty());
    ask(daemon, &format!("import -i c {file}")).await.exits(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_to_a_full_disk_leaves_nothing() {
    let cluster = Cluster::start(0, 1).await;
    let daemon = &cluster.daemons[0];
    let file = cluster.file("f", &random(9, 4 * MIB));
    ask(daemon, &format!("import -i c {file}")).await.exits(0);
    let small = cluster.path("small");
    std::fs::create_dir(&small).unwrap();
    let script = r#"mount -t tmpfs -o size=1m tmpfs "$1" && cd "$1" && shift && "$@"; code=$?; ls -A; exit $code"#;
    let on_it = |what: &[&str]| {
        let mut command = tokio::process::Command::new("unshare");
        command.args(["-rm", "sh", "-c", script, "sh", &small]).args(what);
        command.env("DFCACHE_ENDPOINT", &daemon.config.socket);
        command
    };
    if !on_it(&["true"]).output().await.is_ok_and(|probe| probe.status.success()) {
        eprintln!("not shown here: this system lets nobody mount, even in a namespace of their own");
        return;
    }
    let output = on_it(&[env!("CARGO_BIN_EXE_dfcache"), "export", "-i", "c", "out"]).output().await.unwrap();
    assert_eq!((output.status.code(), output.stdout), (Some(9), Vec::new()), "nothing is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_of_what_is_deleted_meanwhile_ends_and_leaves_nothing() {
    let cluster = Cluster::start(0, 2).await;
    let (file, out) = (cluster.file("f", &random(6, 24 * MIB)), cluster.path("out"));
    ask(&cluster.daemons[0], &format!("import -i c {file} --piece-size 1MiB")).await.exits(0);
    let arguments = ["export", "-i", "c", &out, "--rate-limit", "1MiB/s"];
    let child = command(&cluster.daemons[1], &arguments).spawn().unwrap();
    until(|| cluster.daemons[1].stored_files().len() == 2).await;
    ask(&cluster.daemons[0], "delete -i c").await.exits(0);
    let ran = finish(child).await.exits(10);
    assert!(!Path::new(&out).exists(), "{ran:?}");
    ask(&cluster.daemons[1], "stat -i c").await.exits(10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_content_that_somebody_wrote_to_is_no_content_any_more() {
    let cluster = Cluster::start(0, 1).await;
    let daemon = &cluster.daemons[0];
    let file = cluster.file("f", &random(7, MIB));
    ask(daemon, &format!("import -i c {file} --link hard")).await.exits(0);
    ask(daemon, "stat -i c --local").await.exits(0);
    std::fs::write(&file, b"other").unwrap();
    ask(daemon, "stat -i c --local").await.exits(10);
}
