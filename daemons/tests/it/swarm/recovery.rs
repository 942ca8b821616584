//! Daemons and schedulers that die and come back.

use df_api::failure::Code;
use tokio::process::Command;

use super::{MIB, small_pieces};
use crate::cluster::{Cluster, Wish};
use crate::origin::{Content, Fault, Origin};

/// Slow enough that something can happen in the middle.
fn slowly() -> Wish {
    Wish { limit: 2_000_000.0, ..small_pieces() }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_scheduler_a_daemon_asks_the_source() {
    let mut cluster = Cluster::start(0, 1).await;
    cluster.take_scheduler().kill().await;
    let origin = Origin::start(Content::random(1, MIB)).await;
    assert!(cluster.download(0, &origin.url()).await.unwrap().bytes == origin.bytes());
    let wish = Wish { disable_back_source: true, ..Wish::default() };
    let other = Origin::start(Content::random(2, MIB)).await;
    let failure = cluster.daemons[0].download(&other.url(), wish).await.unwrap_err();
    assert_eq!(failure.code, Code::NoScheduler);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduler_killed_in_mid_download_costs_only_time() {
    let mut cluster = Cluster::start(1, 3).await;
    let origin = Origin::start(Content::random(3, 2 * MIB)).await;
    let url = origin.url();
    let scheduler = cluster.take_scheduler();
    let killing = async {
        while origin.stats().body_bytes < MIB as u64 {
            tokio::task::yield_now().await;
        }
        scheduler.kill().await;
    };
    let wish = slowly();
    let (downloaded, ()) = tokio::join!(cluster.download_all(&url, &wish), killing);
    downloaded.into_iter().for_each(|downloaded| assert!(downloaded.unwrap().bytes == origin.bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_scheduler_learns_what_everybody_has() {
    let mut cluster = Cluster::start(1, 2).await;
    let origin = Origin::start(Content::random(4, MIB)).await;
    cluster.daemons[1].download(&origin.url(), small_pieces()).await.unwrap();
    cluster.take_scheduler().kill().await;
    cluster.start_scheduler().await;
    let wish = Wish { disable_back_source: true, ..small_pieces() };
    let downloaded = cluster.daemons[2].download(&origin.url(), wish).await.unwrap();
    assert!(downloaded.bytes == origin.bytes());
    assert_eq!(origin.stats().body_bytes, MIB as u64, "the source is not asked again");
}

/// After a restart of the scheduler nobody knows what the content is but the one that has it, whose word
/// on itself is not enough: whoever may not ask the source is told so, and does not wait.
#[tokio::test(flavor = "multi_thread")]
async fn what_only_one_peer_vouches_for_is_refused_soon_where_the_source_may_not_be_asked() {
    let mut cluster = Cluster::start(0, 3).await;
    let origin = Origin::start(Content::random(7, MIB)).await;
    cluster.download(0, &origin.url()).await.unwrap();
    cluster.take_scheduler().kill().await;
    cluster.start_scheduler().await;
    let wish = Wish { disable_back_source: true, ..Wish::default() };
    let failure = cluster.daemons[1].download(&origin.url(), wish.clone()).await.unwrap_err();
    assert_eq!(failure.code, Code::NotFound, "{failure:?}");
    // The source settles it, for the other one too.
    assert!(cluster.download(2, &origin.url()).await.unwrap().bytes == origin.bytes());
    assert!(cluster.daemons[1].download(&origin.url(), wish).await.unwrap().bytes == origin.bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_was_killed_serves_what_it_had() {
    let mut cluster = Cluster::start(0, 2).await;
    let origin = Origin::start(Content::random(5, MIB)).await;
    cluster.daemons[0].download(&origin.url(), small_pieces()).await.unwrap();
    cluster.daemons[0].restart().await;
    let wish = Wish { disable_back_source: true, ..small_pieces() };
    let downloaded = cluster.daemons[1].download(&origin.url(), wish).await.unwrap();
    assert!(downloaded.bytes == origin.bytes());
    assert_eq!(origin.stats().body_bytes, MIB as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_download_goes_on_where_it_was() {
    let mut cluster = Cluster::start(0, 1).await;
    let origin = Origin::start(Content::random(6, 2 * MIB)).await;
    let url = origin.url();
    let daemon = cluster.daemons.remove(0);
    origin.inject_once(Fault::StallAt(MIB / 2));
    let mut progress = daemon.client().download(small_pieces().request(&url)).await.unwrap().into_inner();
    while progress.message().await.unwrap().unwrap().completed_length < MIB as u64 / 4 {}
    drop(progress);
    assert!(daemon.download(&url, small_pieces()).await.unwrap().bytes == origin.bytes());
    let ranges: Vec<String> = origin.seen().iter().filter_map(|seen| seen.header("range").map(str::to_owned)).collect();
    assert!(ranges.len() == 2 && ranges[0].starts_with("bytes=0-") && !ranges[1].starts_with("bytes=0-"), "{ranges:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_on_a_directory_is_refused() {
    let cluster = Cluster::start(0, 1).await;
    let config = &cluster.daemons[0].config;
    let second = Command::new(env!("CARGO_BIN_EXE_dfdaemon"))
        .args(["--ip", "127.0.0.1", "--rpc-port", "0", "--piece-port", "0", "--data-dir"])
        .arg(&config.data_dir)
        .arg("--socket")
        .arg(cluster.config("other").socket)
        .output()
        .await
        .unwrap();
    assert_eq!(second.status.code(), Some(i32::from(Code::Exists.exit())));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another daemon uses"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_daemons_in_good_order() {
    let mut cluster = Cluster::start(0, 1).await;
    let origin = Origin::start(Content::random(8, 10)).await;
    cluster.download(0, &origin.url()).await.unwrap();
    assert!(cluster.daemons[0].take_process().stop().await.success());
    assert!(!cluster.daemons[0].config.socket.exists());
    assert!(cluster.take_scheduler().stop().await.success());
}
