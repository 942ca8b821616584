//! Every form of every command, what they print, and what they refuse.

use df_api::base::UrlMeta;
use df_api::dfdaemon::{DeleteTaskRequest, ExportTaskRequest, ImportTaskRequest, StatTaskRequest};
use df_api::failure::Code;
use df_api::status::failure_of;
use df_daemons::digest::{Algorithm, Digest};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{MIB, ask, ask_until, command, finish, random, run};
use crate::cluster::{Cluster, Daemon};

#[tokio::test(flavor = "multi_thread")]
async fn every_form_does_what_it_says() {
    let cluster = Cluster::start(0, 2).await;
    let [one, two] = [&cluster.daemons[0], &cluster.daemons[1]];
    let bytes = random(1, 9 * MIB + 5);
    let file = cluster.file("testfile", &bytes);
    ask(one, &format!("import --cid sha256:xxxxxx --tag testtag {file}")).await.exits(0);
    ask(one, &format!("import -i testid {file}")).await.exits(0);
    ask(one, &format!("import -i testid -I {file}")).await.exits(0);
    ask(one, "stat --cid testid --local").await.exits(0);
    ask(two, "stat --cid testid --local").await.exits(10);
    ask(two, "stat -i testid").await.exits(0);
    let (out, export) = (cluster.path("out"), cluster.path("testfile.export"));
    ask(two, &format!("export --cid testid -O {out}")).await.exits(0);
    ask(two, &format!("export -i testid {export}")).await.exits(0);
    assert!(std::fs::read(&out).unwrap() == bytes && std::fs::read(&export).unwrap() == bytes);
    assert!(ask(one, "export -i testid -O -").await.exits(0).stdout == bytes);
    assert!(ask(two, "export -i sha256:xxxxxx -t testtag -O -").await.exits(0).stdout == bytes);
    let listed = String::from_utf8(ask(one, "list").await.exits(0).stdout).unwrap();
    assert!(listed.contains("testid") && listed.contains("testtag") && listed.contains("9.0 MiB"), "{listed}");
    ask(one, "delete -i testid -t testtag").await.exits(10);
    ask(one, "delete -i sha256:xxxxxx -t testtag").await.exits(0);
    ask(one, "delete -i testid --local").await.exits(0);
    // The copy that the export has left is enough.
    ask(one, "stat -i testid").await.exits(0);
    ask(one, "rm -i testid").await.exits(0);
    ask(one, "stat -i testid").await.exits(10);
    ask_until(two, "stat -i testid", 10).await;
    ask(one, "delete -i testid").await.exits(10);
    ask(one, "delete -i testid --if-exists").await.exits(0);
    // Old flags are understood wherever they stand.
    ask(one, "--console --workhome /w stat -i testid -v --logdir /l").await.exits(10);
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_json_for_those_who_ask() {
    let cluster = Cluster::start(0, 2).await;
    let [one, two] = [&cluster.daemons[0], &cluster.daemons[1]];
    let file = cluster.file("f", &random(2, MIB));
    let imported = ask(one, &format!("import -i c -t t {file} --application app --json")).await.exits(0).json();
    assert_eq!(
        (&imported["announced"], &imported["existed"], &imported["bytes"]),
        (&"confirmed".into(), &false.into(), &MIB.into())
    );
    assert_eq!(ask(one, &format!("import -i c -t t {file} --json -q")).await.json()["existed"], true);
    assert_eq!(ask(two, "stat -i c -t t --json").await.json()["local"], false);
    let output = cluster.path("out");
    let exported = ask(two, &format!("export -i c -t t {output} --json --link copy")).await.exits(0).json();
    assert_eq!((&exported["from"]["peers"], &exported["link"]), (&MIB.into(), &"copy".into()));
    assert_eq!(exported["task"], imported["task"]);
    let listed = ask(two, "ls --json --sort size").await.json();
    assert_eq!((&listed["contents"][0]["cid"], &listed["contents"][0]["pinned"]), (&"c".into(), &false.into()));
    assert_eq!(ask(one, "ls --json").await.json()["contents"][0]["application"], "app");
    let absent = ask(one, "stat -i other --json").await.exits(10).json();
    assert_eq!((&absent["ok"], &absent["error"]["code"]), (&false.into(), &"NOT_FOUND".into()));
    let quiet = ask(one, &format!("import -i c -t t {file} -q")).await.exits(0);
    assert!(quiet.stdout.is_empty() && quiet.stderr.is_empty(), "{quiet:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_is_a_digest_is_checked() {
    let cluster = Cluster::start(0, 2).await;
    let bytes = random(3, MIB + 1);
    let file = cluster.file("f", &bytes);
    for algorithm in [Algorithm::Sha256, Algorithm::Blake3] {
        let good = Digest::of(algorithm, &bytes).to_string();
        let imported = ask(&cluster.daemons[0], &format!("import -i {good} {file} --json")).await.exits(0);
        assert_eq!(imported.json()["digest"], good);
        let exported = ask(&cluster.daemons[1], &format!("export -i {good} -O -")).await.exits(0);
        assert!(exported.stdout == bytes);
        let other = Digest::of(algorithm, b"other").to_string();
        ask(&cluster.daemons[0], &format!("import -i {other} {file}")).await.exits(32);
        ask(&cluster.daemons[0], &format!("stat -i {other} -l")).await.exits(10);
        // Who insists gets a name that lies, and nobody else believes it.
        ask(&cluster.daemons[0], &format!("import -i {other} {file} --no-verify")).await.exits(0);
        ask(&cluster.daemons[1], &format!("export -i {other} {}", cluster.path("lie"))).await.exits(32);
        assert!(!std::fs::exists(cluster.path("lie")).unwrap());
    }
    let md5 = Digest::of(Algorithm::Md5, b"other");
    ask(&cluster.daemons[0], &format!("import -i name {file}")).await.exits(0);
    ask(&cluster.daemons[0], &format!("export -i name --digest {md5} {}", cluster.path("x"))).await.exits(32);
    assert!(!std::fs::exists(cluster.path("x")).unwrap());
}

/// Long enough to be hashed and written to the disk while it arrives.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_content_is_checked_as_well() {
    let cluster = Cluster::start(0, 2).await;
    let bytes = random(7, 40 * MIB + 3);
    let file = cluster.file("f", &bytes);
    let (good, bad) = (Digest::of(Algorithm::Sha256, &bytes), Digest::of(Algorithm::Sha256, b"other"));
    ask(&cluster.daemons[0], &format!("import -i {good} {file}")).await.exits(0);
    assert!(ask(&cluster.daemons[1], &format!("export -i {good} -O -")).await.exits(0).stdout == bytes);
    ask(&cluster.daemons[0], &format!("import -i {bad} {file} --no-verify")).await.exits(0);
    ask(&cluster.daemons[1], &format!("export -i {bad} {}", cluster.path("lie"))).await.exits(32);
    assert!(!std::fs::exists(cluster.path("lie")).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_refused_and_odd_input_is_not() {
    let cluster = Cluster::start(0, 1).await;
    let daemon = &cluster.daemons[0];
    let file = cluster.file("f", b"content");
    let table = [
        (&["import", "-i", "x", "/nonexistent/file"][..], 3, "No such file"),
        (&["import", "-i", "x", "/tmp"], 3, "it is a directory"),
        (&["import", "-i", "x", "/dev/zero"], 3, "neither a file nor a pipe"),
        (&["import", "-i", "", &file], 2, "the content id is empty"),
        (&["import", "-i", "a\nb", &file], 2, "not printable"),
        (&["import", "-i", &"x".repeat(4097), &file], 2, "at most 4096"),
        (&["import", "-i", "x"], 2, "no file was given"),
        (&["import", &file], 2, "--cid"),
        (&["import", "-i", "x", &file, "--ttl", "soon"], 2, "soon"),
        (&["import", "-i", "x", &file, "--replicas", "0"], 2, "0"),
        (&["exprot", "-i", "x", "out"], 2, "export"),
        (&["export", "-i", "x", "-O", "/tmp"], 3, "it is a directory"),
        (&["export", "-i", "f", "-O", "/nonexistent/out"], 3, "No such file"),
        (&["export", "-i", "x", "-O", "-", "--json"], 2, "--json=FILE"),
        (&["export", "-i", "absent", "--local", "/tmp/never"], 10, "does not have all of it"),
    ];
    for (arguments, exit, text) in table {
        let ran = run(daemon, arguments).await;
        assert!(ran.exit == Some(exit) && ran.stderr.contains(text), "{arguments:?} {ran:?}");
    }
    for (number, cid) in ["a/b", "..", "/", "größe 大", "-", &"x".repeat(4096)].into_iter().enumerate() {
        let out = cluster.path(&format!("odd{number}"));
        run(daemon, &["import", "--cid", cid, &file]).await.exits(0);
        run(daemon, &["export", "--cid", cid, &out]).await.exits(0);
        assert_eq!(std::fs::read(out).unwrap(), b"content");
    }
    let empty = cluster.file("empty", b"");
    ask(daemon, &format!("import -i empty {empty}")).await.exits(0);
    assert_eq!(ask(daemon, "export -i empty -O -").await.exits(0).stdout, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_on_stdin_is_imported_when_all_of_it_has_come() {
    let cluster = Cluster::start(0, 2).await;
    let bytes = random(4, 3 * MIB + 7);
    for (cid, arguments) in [("a", ["import", "-i", "a", "-"]), ("b", ["import", "-i", "b", "/dev/stdin"])] {
        let mut child = command(&cluster.daemons[0], &arguments).stdin(std::process::Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&bytes).await.unwrap();
        drop(stdin);
        finish(child).await.exits(0);
        assert!(ask(&cluster.daemons[1], &format!("export -i {cid} -O -")).await.exits(0).stdout == bytes);
    }
    let file = cluster.file("f", &bytes);
    ask(&cluster.daemons[0], &format!("import -i c --stream {file}")).await.exits(0);
    assert!(ask(&cluster.daemons[1], "export -i c --stream -O -").await.exits(0).stdout == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_stands_for_one_content() {
    let cluster = Cluster::start(0, 2).await;
    let [one, two] = [cluster.file("1", &random(5, MIB)), cluster.file("2", &random(6, MIB))];
    ask(&cluster.daemons[0], &format!("import -i c {one}")).await.exits(0);
    ask(&cluster.daemons[0], &format!("import -i c {two}")).await.exits(13);
    ask(&cluster.daemons[1], &format!("import -i c {two}")).await.exits(13);
    ask(&cluster.daemons[1], "stat -i c -l").await.exits(10);
    ask(&cluster.daemons[1], &format!("import -i c {one}")).await.exits(0);
    // Another tag, another content.
    ask(&cluster.daemons[1], &format!("import -i c -t other {two}")).await.exits(0);
    // Once deleted, the name is free, on the same node and on others.
    ask(&cluster.daemons[0], "delete -i c").await.exits(0);
    ask(&cluster.daemons[1], &format!("import -i c {two}")).await.exits(0);
    assert!(ask(&cluster.daemons[0], "export -i c -O -").await.exits(0).stdout == random(6, MIB));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_daemon_the_exit_code_says_so() {
    let cluster = Cluster::start(0, 0).await;
    let config = cluster.config("nobody");
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_dfcache"));
    let output = command.args(["stat", "-i", "c", "-e"]).arg(&config.socket).output().await.unwrap();
    assert_eq!(output.status.code(), Some(11));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_exists_survives_unless_told_otherwise() {
    let cluster = Cluster::start(0, 1).await;
    let daemon = &cluster.daemons[0];
    let (file, out) = (cluster.file("f", b"new"), cluster.file("out", b"old"));
    ask(daemon, &format!("import -i c {file}")).await.exits(0);
    ask(daemon, &format!("export -i c {out}")).await.exits(13);
    assert_eq!(std::fs::read(&out).unwrap(), b"old");
    ask(daemon, &format!("export -i c {out} --overwrite")).await.exits(0);
    assert_eq!(std::fs::read(&out).unwrap(), b"new");
    // A symbolic link stays, and leads to the new file.
    let (link, target) = (cluster.path("link"), cluster.path("target"));
    std::os::unix::fs::symlink(&target, &link).unwrap();
    ask(daemon, &format!("export -i c {link}")).await.exits(0);
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(std::fs::read(&target).unwrap(), b"new");
    ask(daemon, "export -i c -O /dev/full").await.exits(9);
}

async fn remote(daemon: &Daemon) -> tonic::transport::Channel {
    let address = daemon.rpc;
    let connector = tower::service_fn(move |_| async move { TcpStream::connect(address).await.map(TokioIo::new) });
    df_api::dial::channel(&address.to_string(), connector).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_from_another_host_may_ask() {
    let cluster = Cluster::start(0, 1).await;
    let channel = remote(&cluster.daemons[0]).await;
    let mut client = df_api::dfdaemon::daemon_client::DaemonClient::new(channel);
    let cid = || "c".to_owned();
    let refused = [
        client.stat_task(StatTaskRequest { cid: cid(), ..Default::default() }).await.err(),
        client
            .import_task(ImportTaskRequest { cid: cid(), path: "/etc/passwd".into(), ..Default::default() })
            .await
            .err(),
        client.export_task(ExportTaskRequest { cid: cid(), output: "/tmp/x".into(), ..Default::default() }).await.err(),
        client.delete_task(DeleteTaskRequest { cid: cid(), ..Default::default() }).await.err(),
        client.export(ExportTaskRequest { cid: cid(), ..Default::default() }).await.err(),
        client.list(df_api::dfdaemon::ListRequest::default()).await.err(),
    ];
    for status in refused {
        assert_eq!(failure_of(&status.expect("refused")).code, Code::Blocked);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_no_command_line_can_give_are_refused_too() {
    let cluster = Cluster::start(0, 1).await;
    let (mut client, path) = (cluster.daemons[0].client(), cluster.file("f", b"content"));
    for cid in ["", "a\0b", "d7y:/a%00b", &"x".repeat(4097)] {
        let request = ImportTaskRequest { cid: cid.to_owned(), path: path.clone(), ..Default::default() };
        assert_eq!(failure_of(&client.import_task(request).await.unwrap_err()).code, Code::Usage, "{cid:.20?}");
    }
    let url_meta = Some(UrlMeta { application: "x".repeat(4097), ..UrlMeta::default() });
    let request = ImportTaskRequest { cid: "c".to_owned(), path, url_meta, ..Default::default() };
    assert_eq!(failure_of(&client.import_task(request).await.unwrap_err()).code, Code::Usage);
    assert!(cluster.daemons[0].stored_files().is_empty());
}
