//! `Daemon.Download` with an output: files written for v1 clients, with the caller's rights and no others.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};

use df_api::base::{Code as V1Code, UrlMeta};
use df_api::dfdaemon::daemon_client::DaemonClient;
use df_api::dfdaemon::{DownRequest, DownResult};
use df_daemons::digest::{Algorithm, Digest};
use hyper_util::rt::TokioIo;
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_thread_res_gid, set_thread_res_uid};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tonic::Status;
use tonic::transport::Channel;

use super::peer::soon;
use super::v1_code;
use crate::cluster::Cluster;
use crate::origin::{Content, Fault, Origin};

const MIB: usize = 1 << 20;

/// A user that owns nothing here.
pub(crate) const NOBODY: u32 = 65_534;

fn request(url: &str, output: &Path) -> DownRequest {
    DownRequest { url: url.to_owned(), output: output.to_str().unwrap().to_owned(), ..DownRequest::default() }
}

fn ranged(url: &str, output: &Path, range: &str) -> DownRequest {
    let url_meta = Some(UrlMeta { range: range.to_owned(), ..UrlMeta::default() });
    DownRequest { url_meta, ..request(url, output) }
}

/// Downloads to the end; the last message.
async fn download(mut client: DaemonClient<Channel>, request: DownRequest) -> Result<DownResult, Status> {
    soon(async {
        let mut results = client.download(request).await?.into_inner();
        let mut last = None;
        while let Some(result) = results.message().await? {
            last = Some(result);
        }
        Ok(last.expect("a result"))
    })
    .await
}

/// What a directory has besides `known`.
fn leftovers(folder: &Path, known: &[&str]) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| !known.iter().any(|name| path.ends_with(name))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_written_whole_under_its_name() {
    let origin = Origin::start(Content::random(20, 5 * MIB + 3)).await;
    let (cluster, folder) = (Cluster::start(1, 1).await, TempDir::new().unwrap());
    let output = folder.path().join("file");
    std::fs::write(&output, "what was there").unwrap();
    let mut wanted = request(&origin.url(), &output);
    wanted.url_meta =
        Some(UrlMeta { digest: Digest::of(Algorithm::Md5, &origin.bytes()).to_string(), ..UrlMeta::default() });
    let last = download(cluster.daemons[1].client(), wanted).await.unwrap();
    assert!(last.done && last.completed_length == origin.bytes().len() as u64);
    assert!(std::fs::read(&output).unwrap() == origin.bytes());
    assert_eq!(std::fs::metadata(&output).unwrap().permissions().mode() & 0o7777, 0o644);
    assert_eq!(leftovers(folder.path(), &["file"]), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_are_written_alone_or_at_their_offset() {
    let origin = Origin::start(Content::random(21, 9 * MIB)).await;
    let (cluster, folder) = (Cluster::start(1, 1).await, TempDir::new().unwrap());
    let (alone, whole) = (folder.path().join("alone"), folder.path().join("whole"));
    let client = || cluster.daemons[1].client();
    let last = download(client(), ranged(&origin.url(), &alone, "100-299")).await.unwrap();
    assert_eq!(last.completed_length, 200);
    assert!(std::fs::read(&alone).unwrap() == origin.bytes()[100..300]);
    for range in ["5000000-", "0-4999999"] {
        let kept = DownRequest { keep_original_offset: true, ..ranged(&origin.url(), &whole, range) };
        download(client(), kept).await.unwrap();
    }
    assert!(std::fs::read(&whole).unwrap() == origin.bytes());
    let beyond = download(client(), ranged(&origin.url(), &alone, "99999999-")).await.unwrap_err();
    assert_eq!(v1_code(&beyond), V1Code::BadRequest as i32);
    assert_eq!(origin.stats().body_bytes, origin.bytes().len() as u64, "the whole was read once for all of them");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_leaves_nothing_behind_and_says_so_in_v1s_words() {
    let origin = Origin::start(Content::random(22, MIB)).await;
    let (cluster, folder) = (Cluster::start(1, 1).await, TempDir::new().unwrap());
    let (output, client) = (folder.path().join("file"), || cluster.daemons[1].client());
    let mut lying = request(&origin.url(), &output);
    lying.url_meta =
        Some(UrlMeta { digest: Digest::of(Algorithm::Sha256, b"other").to_string(), ..UrlMeta::default() });
    let status = download(client(), lying).await.unwrap_err();
    assert_eq!(v1_code(&status), V1Code::ClientPieceDownloadFail as i32);
    origin.inject(Fault::Status(404));
    let status = download(client(), request(&origin.at("/gone"), &output)).await.unwrap_err();
    assert_eq!(v1_code(&status), V1Code::ClientBackSourceError as i32);
    let alone = DownRequest { disable_back_source: true, ..request(&origin.at("/gone2"), &output) };
    let alone_cluster = Cluster::start(0, 1).await;
    let status = download(alone_cluster.daemons[0].client(), alone).await.unwrap_err();
    assert_eq!(v1_code(&status), V1Code::PeerTaskNotFound as i32);
    assert_eq!(leftovers(folder.path(), &[]), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_link_device_folder_or_relative_path_is_written_through() {
    let origin = Origin::start(Content::random(23, 1000)).await;
    let (cluster, folder) = (Cluster::start(1, 1).await, TempDir::new().unwrap());
    let precious = folder.path().join("precious");
    std::fs::write(&precious, "precious").unwrap();
    let link = folder.path().join("link");
    symlink(&precious, &link).unwrap();
    let fifo = folder.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let inside = format!("{}/", folder.path().display());
    let dots = format!("{}/x/..", folder.path().display());
    let magic = format!("/proc/{}/cwd/file", std::process::id());
    for bad in [
        link.to_str().unwrap(),
        fifo.to_str().unwrap(),
        folder.path().to_str().unwrap(),
        &inside,
        &dots,
        "relative",
        "../../relative",
        "/no/such/folder/file",
        &magic,
        "/dev/null",
        "/proc/self/fd/0",
    ] {
        for keep_original_offset in [false, true] {
            let asked = DownRequest { keep_original_offset, ..ranged(&origin.url(), Path::new(bad), "0-9") };
            let status = download(cluster.daemons[1].client(), asked).await.unwrap_err();
            assert!([V1Code::BadRequest as i32, V1Code::ClientError as i32].contains(&v1_code(&status)), "{bad}");
        }
    }
    assert_eq!(std::fs::read(&precious).unwrap(), b"precious");
    assert_eq!(leftovers(folder.path(), &["precious", "link", "fifo"]), Vec::<PathBuf>::new());
}

async fn client_of(uid: u32, socket: &Path) -> DaemonClient<Channel> {
    DaemonClient::new(connection_of(uid, socket).await)
}

/// A connection that is another user's. The kernel takes the credentials of who connects.
pub(crate) async fn connection_of(uid: u32, socket: &Path) -> Channel {
    let (answer, answered) = tokio::sync::oneshot::channel();
    let socket = socket.to_owned();
    #[allow(clippy::disallowed_methods, reason = "credentials belong to a thread")]
    std::thread::spawn(move || {
        set_thread_res_gid(None, Gid::from_raw(uid), None).unwrap();
        set_thread_res_uid(None, Uid::from_raw(uid), None).unwrap();
        let _ = answer.send(StdUnixStream::connect(socket).unwrap());
    });
    let stream = answered.await.unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut stream = Some(UnixStream::from_std(stream).unwrap());
    let connector = tower::service_fn(move |_| {
        let stream = stream.take().map(TokioIo::new);
        async move { stream.ok_or_else(|| std::io::Error::other("one connection only")) }
    });
    df_api::dial::channel("daemon", connector).unwrap()
}

pub(crate) fn allow(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Needs a daemon that runs as root, and so a test that does; without, there is nobody else to act for.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_written_with_the_callers_rights_whatever_the_daemon_runs_as() {
    if !geteuid().is_root() {
        return;
    }
    let origin = Origin::start(Content::random(24, MIB)).await;
    let (cluster, folder) = (Cluster::start(1, 1).await, TempDir::new().unwrap());
    let socket = &cluster.daemons[1].config.socket;
    allow(socket.parent().unwrap(), 0o755);
    allow(folder.path(), 0o755);
    let (own, closed) = (folder.path().join("own"), folder.path().join("closed"));
    for path in [&own, &closed] {
        std::fs::create_dir(path).unwrap();
        allow(path, 0o755);
    }
    std::os::unix::fs::chown(&own, Some(NOBODY), Some(NOBODY)).unwrap();
    let (mine, theirs) = (own.join("file"), closed.join("file"));
    let claims = DownRequest { uid: NOBODY.into(), gid: NOBODY.into(), ..request(&origin.url(), &mine) };
    download(client_of(NOBODY, socket).await, claims).await.unwrap();
    let written = std::fs::metadata(&mine).unwrap();
    assert_eq!((written.uid(), written.gid(), written.len()), (NOBODY, NOBODY, MIB as u64));
    // Where it may not write, the daemon does not write for it; nor over what is another's, nor as another.
    std::fs::write(&theirs, "root's").unwrap();
    let status = download(client_of(NOBODY, socket).await, request(&origin.url(), &theirs)).await.unwrap_err();
    assert_eq!(v1_code(&status), V1Code::ClientError as i32);
    let kept = DownRequest { keep_original_offset: true, ..ranged(&origin.url(), &theirs, "0-3") };
    download(client_of(NOBODY, socket).await, kept).await.unwrap_err();
    let as_root = DownRequest { uid: 1, gid: 1, ..request(&origin.url(), &own.join("other")) };
    let status = download(client_of(NOBODY, socket).await, as_root).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::PermissionDenied);
    assert_eq!(std::fs::read(&theirs).unwrap(), b"root's");
    assert_eq!(leftovers(&own, &["file"]), Vec::<PathBuf>::new());
    // Root may give its file away.
    let given = DownRequest { uid: 1, gid: 2, ..request(&origin.url(), &closed.join("given")) };
    download(cluster.daemons[1].client(), given).await.unwrap();
    let given = std::fs::metadata(closed.join("given")).unwrap();
    assert_eq!((given.uid(), given.gid()), (1, 2));
}
