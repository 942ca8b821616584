//! A disk that fills up: the download fails and says why, the daemon lives, and works again when
//! there is room.

use df_api::failure::Code;
use tokio::process::Command;

use super::{MIB, small_pieces};
use crate::cluster::inside::{Inside, RoomyDisk};
use crate::cluster::{Cluster, Daemon};
use crate::origin::{Content, Origin};

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_in_mid_download_costs_the_download_alone() {
    let cluster = Cluster::start(1, 0).await;
    let disk = RoomyDisk::new(u64::MAX);
    let inside = Inside::start(cluster.config("tight"), disk.clone()).await;
    let other = Origin::start(Content::random(1, MIB)).await;
    inside.daemon.download(&other.url(), small_pieces()).await.unwrap();
    // No file can be created; the journal's head does not fit; a piece does not; most do.
    for (seed, room) in [0, 1, 2, 10, 100, 1000, 40_000, 100_000, 700_000].into_iter().enumerate() {
        let origin = Origin::start(Content::random(seed as u64, MIB)).await;
        disk.give(room);
        let failure = inside.daemon.download(&origin.url(), small_pieces()).await.unwrap_err();
        assert_eq!(failure.code, Code::NoSpace, "room for {room} bytes: {failure:?}");
        // What is there is still handed out.
        let again = inside.daemon.download(&other.url(), small_pieces()).await.unwrap();
        assert!(again.bytes == other.bytes());

        disk.give(u64::MAX);
        let downloaded = inside.daemon.download(&origin.url(), small_pieces()).await.unwrap();
        assert!(downloaded.bytes == origin.bytes(), "after room for {room} bytes");
        assert_eq!(origin.stats().body_bytes, MIB as u64, "the source is not asked twice by the seed");
    }
    inside.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_whose_disk_is_full_does_not_keep_others_from_the_content() {
    let cluster = Cluster::start(0, 1).await;
    let mut config = cluster.config("seed");
    config.seed_peer.enable = true;
    let disk = RoomyDisk::new(u64::MAX);
    let seed = Inside::start(config, disk.clone()).await;
    disk.give(300_000);
    let origin = Origin::start(Content::random(1, MIB)).await;
    let downloaded = cluster.daemons[0].download(&origin.url(), small_pieces()).await.unwrap();
    assert!(downloaded.bytes == origin.bytes());
    seed.stop().await.unwrap();
}

/// A program that runs the rest of its arguments where its first one is a file system of 16 MiB.
const ON_A_SMALL_DISK: &str = r#"mount -t tmpfs -o size=16m,mode=0700 tmpfs "$1" && shift && exec "$@""#;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_file_system_fails_the_download_and_not_the_daemon() {
    let cluster = Cluster::start(1, 0).await;
    let config = cluster.config("small");
    std::fs::create_dir(&config.data_dir).unwrap();
    let prefix = |dir: &str| ["unshare", "-rm", "sh", "-c", ON_A_SMALL_DISK, "sh", dir].map(str::to_owned);
    let dir = config.data_dir.to_str().unwrap();
    let probe = prefix(dir);
    if !Command::new(&probe[0]).args(&probe[1..]).arg("true").status().await.is_ok_and(|status| status.success()) {
        eprintln!("not shown here: this system lets nobody mount, even in a namespace of their own");
        return;
    }
    let daemon = Daemon::start_under(&prefix(dir), config).await;
    for round in 0..3 {
        // Said before anything is fetched; and found out when the index or a journal must grow.
        let large = Origin::start(Content::random(round, 20 * MIB)).await;
        let failure = daemon.download(&large.url(), small_pieces()).await.unwrap_err();
        assert_eq!(failure.code, Code::NoSpace, "{failure:?}");
        let filler = daemon.root().join("filler");
        fill(&filler);
        let small = Origin::start(Content::random(round + 10, MIB)).await;
        let failure = daemon.download(&small.url(), small_pieces()).await.unwrap_err();
        assert_eq!(failure.code, Code::NoSpace, "{failure:?}");
        std::fs::remove_file(&filler).unwrap();
        assert!(daemon.download(&small.url(), small_pieces()).await.unwrap().bytes == small.bytes());
    }
}

/// Writes to a file until not one byte more fits.
fn fill(path: &std::path::Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(path).unwrap();
    for len in [64 << 10, 1] {
        while file.write_all(&vec![1; len]).is_ok() {}
    }
}
