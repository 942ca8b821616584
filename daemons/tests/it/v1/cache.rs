//! Contents that v1's dfcache names: imported and exported by v1 daemons and by ours, among each other.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use df_api::base::Code as V1Code;
use df_daemons::digest::{Algorithm, Digest};
use rustix::process::geteuid;
use tempfile::TempDir;

use super::output::{NOBODY, allow, connection_of};
use super::peer::V1Peer;
use super::v1_code;
use super::wire::{
    Caller, DeleteTaskRequest, Empty, ExportTaskRequest, ImportTaskRequest, SchedulerStatTaskRequest, StatTaskRequest,
    Task, UrlMeta,
};
use crate::cache::random;
use crate::cluster::{Cluster, channel};

const MIB: usize = 1 << 20;

/// What v1's dfcache puts on the wire for `-i testid -t testtag`.
fn named() -> (String, Option<UrlMeta>) {
    ("d7y:/testid".to_owned(), Some(UrlMeta { tag: "testtag".to_owned(), ..UrlMeta::default() }))
}

fn task_id(parts: &str) -> String {
    Digest::of(Algorithm::Sha256, parts.as_bytes()).to_string().trim_start_matches("sha256:").to_owned()
}

async fn stat(daemon: &Caller, local_only: bool) -> Result<Empty, tonic::Status> {
    let (cid, url_meta) = named();
    daemon.ask("/dfdaemon.Daemon/StatTask", StatTaskRequest { cid, url_meta, local_only }).await
}

async fn import(daemon: &Caller, path: &Path) -> Result<Empty, tonic::Status> {
    let ((cid, url_meta), path) = (named(), path.to_str().unwrap().to_owned());
    daemon.ask("/dfdaemon.Daemon/ImportTask", ImportTaskRequest { cid, url_meta, path }).await
}

async fn export(daemon: &Caller, output: &Path, owner: u32) -> Result<Empty, tonic::Status> {
    let (cid, url_meta) = named();
    let request = ExportTaskRequest {
        cid,
        url_meta,
        output: output.to_str().unwrap().to_owned(),
        timeout: 60_000_000_000,
        callsystem: "dfcache".to_owned(),
        uid: owner.into(),
        gid: owner.into(),
        ..ExportTaskRequest::default()
    };
    daemon.ask("/dfdaemon.Daemon/ExportTask", request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_v1_dfcache_works_at_our_daemons_socket() {
    let (cluster, folder) = (Cluster::start(0, 2).await, TempDir::new().unwrap());
    let daemon = |who: usize| Caller(channel(&cluster.daemons[who].config.socket));
    let (one, two, own) = (daemon(0), daemon(1), geteuid().as_raw());
    let (file, output) = (folder.path().join("file"), folder.path().join("out"));
    let bytes = random(1, 5 * MIB + 1);
    std::fs::write(&file, &bytes).unwrap();
    one.ask::<_, Empty>("/dfdaemon.Daemon/CheckHealth", Empty {}).await.unwrap();
    assert_eq!(v1_code(&stat(&one, false).await.unwrap_err()), V1Code::PeerTaskNotFound as i32);
    import(&one, &file).await.unwrap();
    stat(&one, true).await.unwrap();
    assert_eq!(v1_code(&stat(&two, true).await.unwrap_err()), V1Code::PeerTaskNotFound as i32);
    stat(&two, false).await.unwrap();
    std::fs::write(&output, "what was there").unwrap();
    export(&two, &output, own).await.unwrap();
    assert!(std::fs::read(&output).unwrap() == bytes);
    // By our own dfcache it has the name that was given to v1's.
    let mut client = cluster.daemons[0].client();
    let listed = client.list(df_api::dfdaemon::ListRequest::default()).await.unwrap().into_inner().message().await;
    let entry = listed.unwrap().unwrap().entries.remove(0);
    assert_eq!((entry.cid.as_str(), entry.tag.as_str()), ("testid", "testtag"));
    let (cid, url_meta) = named();
    let delete = DeleteTaskRequest { cid, url_meta };
    one.ask::<_, Empty>("/dfdaemon.Daemon/DeleteTask", delete).await.unwrap();
    for daemon in [&one, &two] {
        assert_eq!(v1_code(&stat(daemon, false).await.unwrap_err()), V1Code::PeerTaskNotFound as i32);
    }
    assert_eq!(v1_code(&export(&two, &output, own).await.unwrap_err()), V1Code::PeerTaskNotFound as i32);
    assert!(std::fs::read(&output).unwrap() == bytes, "what was there stays");
}

/// Needs a daemon that runs as root, and so a test that does.
#[tokio::test(flavor = "multi_thread")]
async fn files_a_v1_dfcache_names_are_read_and_written_with_its_rights() {
    if !geteuid().is_root() {
        return;
    }
    let (cluster, folder) = (Cluster::start(0, 1).await, TempDir::new().unwrap());
    let socket = &cluster.daemons[0].config.socket;
    allow(socket.parent().unwrap(), 0o755);
    allow(folder.path(), 0o755);
    let (secret, own) = (folder.path().join("secret"), folder.path().join("own"));
    std::fs::write(&secret, "root's").unwrap();
    allow(&secret, 0o600);
    std::fs::create_dir(&own).unwrap();
    std::os::unix::fs::chown(&own, Some(NOBODY), Some(NOBODY)).unwrap();
    let nobody = || async { Caller(connection_of(NOBODY, socket).await) };
    assert_eq!(v1_code(&import(&nobody().await, &secret).await.unwrap_err()), V1Code::ClientError as i32);
    let file = own.join("file");
    std::fs::write(&file, "nobody's").unwrap();
    import(&nobody().await, &file).await.unwrap();
    for elsewhere in ["/proc/self/fd/0", "/dev/zero", "relative", "/proc/self/root/etc/hostname"] {
        import(&nobody().await, Path::new(elsewhere)).await.unwrap_err();
    }
    export(&nobody().await, &secret, NOBODY).await.unwrap_err();
    export(&nobody().await, &folder.path().join("beside"), NOBODY).await.unwrap_err();
    export(&nobody().await, &own.join("out"), 0).await.map(drop).unwrap();
    let written = std::fs::metadata(own.join("out")).unwrap();
    assert_eq!((written.uid(), written.len()), (NOBODY, 8), "nobody named is the caller");
    assert_eq!(export(&nobody().await, &own.join("x"), 1).await.unwrap_err().code(), tonic::Code::PermissionDenied);
    assert_eq!(std::fs::read(&secret).unwrap(), b"root's");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_v1_daemon_imported_is_exported_by_another() {
    let cluster = Cluster::start(0, 1).await;
    let bytes = random(2, 9 * MIB + 3);
    let mut holder = V1Peer::start(cluster.scheduler_address, "d7y:/testid", "holder").await;
    let scheduler = holder.scheduler.clone();
    let known = || {
        let asked = SchedulerStatTaskRequest { task_id: task_id("d7y:/testid") };
        scheduler.ask::<_, Task>("/scheduler.Scheduler/StatTask", asked)
    };
    assert_eq!(v1_code(&known().await.unwrap_err()), V1Code::PeerTaskNotFound as i32);
    holder.import(&bytes).await.unwrap();
    let task = known().await.unwrap();
    assert_eq!((task.state.as_str(), task.has_available_peer, task.peer_count), ("Succeeded", true, 1));
    let mut other = V1Peer::start(cluster.scheduler_address, "d7y:/testid", "other").await;
    assert!(other.download().await.unwrap() == bytes);
    assert_eq!(other.got.get(&holder.peer_id), Some(&(bytes.len() as u64)));
    // Ours takes nothing that only MD5s vouch for, and says so.
    let status = stat_ours(&cluster, "testid").await.unwrap_err();
    assert_eq!(v1_code(&status), V1Code::PeerTaskNotFound as i32);
}

async fn stat_ours(cluster: &Cluster, cid: &str) -> Result<Empty, tonic::Status> {
    let request = StatTaskRequest { cid: cid.to_owned(), url_meta: None, local_only: false };
    Caller(channel(&cluster.daemons[0].config.socket)).ask("/dfdaemon.Daemon/StatTask", request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_our_daemon_imported_is_exported_by_a_v1_daemon_and_the_other_way_round() {
    let (cluster, folder) = (Cluster::start(0, 2).await, TempDir::new().unwrap());
    let (bytes, file) = (random(3, 9 * MIB), folder.path().join("file"));
    std::fs::write(&file, &bytes).unwrap();
    let ours = Caller(channel(&cluster.daemons[0].config.socket));
    let path = file.to_str().unwrap().to_owned();
    let request = ImportTaskRequest { cid: "a name".to_owned(), path, url_meta: None };
    ours.ask::<_, Empty>("/dfdaemon.Daemon/ImportTask", request).await.unwrap();
    let mut v1 = V1Peer::start(cluster.scheduler_address, "d7y:/a+name", "v1").await;
    let asked = SchedulerStatTaskRequest { task_id: task_id("d7y:/a+name") };
    let task: Task = v1.scheduler.ask("/scheduler.Scheduler/StatTask", asked).await.unwrap();
    assert_eq!((task.state.as_str(), task.has_available_peer), ("Succeeded", true));
    assert_eq!((task.content_length, task.total_piece_count), (bytes.len() as i64, 3));
    assert!(v1.download().await.unwrap() == bytes);
    // The pieces' digests are known here: so ours takes them from the v1 daemon too.
    let mut cluster = cluster;
    cluster.daemons[0].take_process().kill().await;
    let output = folder.path().join("out");
    let request = ExportTaskRequest {
        cid: "a name".to_owned(),
        output: output.to_str().unwrap().to_owned(),
        ..ExportTaskRequest::default()
    };
    let other = Caller(channel(&cluster.daemons[1].config.socket));
    other.ask::<_, Empty>("/dfdaemon.Daemon/ExportTask", request).await.unwrap();
    assert!(std::fs::read(&output).unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_announcement_that_makes_no_sense_is_refused() {
    let cluster = Cluster::start(0, 0).await;
    let mut source = V1Peer::start(cluster.scheduler_address, "http://127.0.0.1:1/f", "source").await;
    assert_eq!(v1_code(&source.import(b"x").await.unwrap_err()), V1Code::BadRequest as i32);
    let mut nameless = V1Peer::start(cluster.scheduler_address, "d7y:/c", "nameless").await;
    nameless.host.down_port = 0;
    assert_eq!(v1_code(&nameless.import(b"x").await.unwrap_err()), V1Code::BadRequest as i32);
    let mut partial = V1Peer::start(cluster.scheduler_address, "d7y:/c", "partial").await;
    partial.import(&[]).await.expect("an empty content has all its pieces");
}
