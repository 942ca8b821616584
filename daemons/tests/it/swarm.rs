//! The main job: a file reaches many nodes, the source is read once; and what may go wrong.

mod drain;
mod faults;
mod full_disk;
mod priorities;
mod recovery;
mod sizes;

use df_api::failure::Code;

use crate::cluster::{Cluster, Wish};
use crate::origin::{Content, Fault, Origin};

const MIB: usize = 1 << 20;

/// Pieces so small that a short test has many.
fn small_pieces() -> Wish {
    Wish { piece_length: 64 << 10, ..Wish::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_reaches_every_peer_and_the_source_is_read_once() {
    let origin = Origin::start(Content::random(1, 9 * MIB + 17)).await;
    let cluster = Cluster::start(1, 4).await;
    for downloaded in cluster.download_all(&origin.url(), &small_pieces()).await {
        let downloaded = downloaded.unwrap();
        assert!(downloaded.bytes == origin.bytes(), "other bytes");
        let tally = downloaded.last.tally.unwrap();
        assert_eq!(tally.origin_bytes, 0, "only the seed asks the source");
        assert_eq!(tally.peer_bytes + tally.seed_bytes, origin.bytes().len() as u64);
    }
    assert_eq!(origin.stats().body_bytes, origin.bytes().len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_seed_the_swarm_elects_one_that_asks_the_source() {
    let origin = Origin::start(Content::random(2, 3 * MIB)).await;
    let cluster = Cluster::start(0, 3).await;
    for downloaded in cluster.download_all(&origin.url(), &small_pieces()).await {
        assert!(downloaded.unwrap().bytes == origin.bytes());
    }
    assert_eq!(origin.stats().body_bytes, origin.bytes().len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_size_arrives_whole() {
    let cluster = Cluster::start(1, 2).await;
    for (seed, len) in [0, 1, 4096, (64 << 10) - 1, 64 << 10, (64 << 10) + 1, 640 << 10].into_iter().enumerate() {
        let origin = Origin::start(Content::random(seed as u64, len)).await;
        for downloaded in cluster.download_all(&origin.url(), &small_pieces()).await {
            assert!(downloaded.unwrap().bytes == origin.bytes(), "{len} bytes");
        }
        // (The answer to a request for a range of nothing has a body that explains it.)
        assert!(len == 0 || origin.stats().body_bytes == len as u64, "{len} bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_without_ranges_or_length_serve_as_well() {
    let cluster = Cluster::start(1, 2).await;
    for fault in [Fault::NoRanges, Fault::IgnoreRange, Fault::Chunked, Fault::UntilClose] {
        let origin = Origin::start(Content::random(3, MIB + 5)).await;
        origin.inject(fault.clone());
        for downloaded in cluster.download_all(&origin.url(), &small_pieces()).await {
            assert!(downloaded.unwrap().bytes == origin.bytes(), "{fault:?}");
        }
        assert_eq!(origin.stats().body_bytes, origin.bytes().len() as u64, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_download_on_the_same_host_reads_nothing_again() {
    let origin = Origin::start(Content::random(4, MIB)).await;
    let cluster = Cluster::start(1, 1).await;
    cluster.download(1, &origin.url()).await.unwrap();
    let (sent, again) = (origin.stats().body_bytes, cluster.download(1, &origin.url()).await.unwrap());
    assert!(again.bytes == origin.bytes());
    assert_eq!(origin.stats().body_bytes, sent);
    assert_eq!(again.last.tally.unwrap().local_bytes, MIB as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_reach_the_source_and_keep_contents_apart() {
    let origin = Origin::start(Content::random(5, MIB)).await;
    let cluster = Cluster::start(1, 2).await;
    let mut wish = Wish::default();
    wish.meta.header.insert("Authorization".to_owned(), "Bearer one".to_owned());
    cluster.daemons[1].download(&origin.url(), wish.clone()).await.unwrap();
    assert!(origin.seen().iter().any(|seen| seen.header("authorization") == Some("Bearer one")));
    wish.meta.header.insert("Authorization".to_owned(), "Bearer two".to_owned());
    cluster.daemons[2].download(&origin.url(), wish).await.unwrap();
    assert_eq!(origin.stats().body_bytes, 2 * MIB as u64, "what one credential got is not given to another");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_is_enforced_on_the_whole() {
    use df_daemons::digest::{Algorithm, Digest};
    let origin = Origin::start(Content::random(6, MIB)).await;
    let cluster = Cluster::start(1, 1).await;
    for algorithm in [Algorithm::Sha256, Algorithm::Md5, Algorithm::Blake3, Algorithm::Sha512] {
        let mut wish = Wish::default();
        wish.meta.digest = Digest::of(algorithm, &origin.bytes()).to_string();
        cluster.daemons[1].download(&origin.url(), wish).await.unwrap();
        let mut wrong = Wish::default();
        wrong.meta.digest = Digest::of(algorithm, b"something else").to_string();
        for _ in 0..2 {
            let failure = cluster.daemons[1].download(&origin.url(), wrong.clone()).await.unwrap_err();
            assert_eq!(failure.code, Code::Digest, "{failure:?}");
        }
    }
    let mut malformed = Wish::default();
    malformed.meta.digest = "sha256:xyz".to_owned();
    let failure = cluster.daemons[1].download(&origin.url(), malformed).await.unwrap_err();
    assert_eq!(failure.code, Code::Usage);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_keeps_a_download_whole() {
    let origin = Origin::start(Content::random(7, 256 << 10)).await;
    let cluster = Cluster::start(1, 1).await;
    let wish = Wish { limit: 4_000_000.0, ..small_pieces() };
    assert!(cluster.daemons[1].download(&origin.url(), wish).await.unwrap().bytes == origin.bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_limits_each_connection_is_read_over_several() {
    let origin = Origin::start(Content::random(8, 96 * MIB)).await;
    origin.inject(Fault::Slow { bytes: 64 << 10, pause: std::time::Duration::from_millis(1) });
    let cluster = Cluster::start(0, 1).await;
    let downloaded = cluster.download(0, &origin.url()).await.unwrap();
    assert!(downloaded.bytes == origin.bytes());
    let stats = origin.stats();
    assert!(stats.connections > 1, "{stats:?}");
    assert_eq!(stats.body_bytes, origin.bytes().len() as u64, "nothing is asked for in vain");
}
