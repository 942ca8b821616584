//! Dragonfly v1 on the wire: its peers among ours, its clients at our socket; and what they may not do.

mod cache;
mod output;
mod parent;
mod peer;
mod wire;

use df_api::base::{Code as V1Code, GrpcDfError, RichStatus, SizeScope};
use df_api::dfdaemon::DownRequest;
use df_api::dfdaemon::daemon_client::DaemonClient;
use prost::Message;
use tonic::Status;

use crate::cluster::Cluster;
use crate::origin::{Content, Fault, Origin};
use peer::{V1Peer, channel, shelf, soon};
use wire::PeerPacket;

const MIB: usize = 1 << 20;

/// The code a v1 client finds in a failed call.
fn v1_code(status: &Status) -> i32 {
    let rich = RichStatus::decode(status.details()).unwrap();
    let detail = rich.details.iter().find(|detail| detail.type_url.ends_with("/base.GrpcDfError")).unwrap();
    GrpcDfError::decode(&detail.value[..]).unwrap().code
}

/// The next packet with parents or a code, of a peer that has a stream open.
async fn packet(reports: &mut peer::Reports) -> PeerPacket {
    soon(reports.packets.message()).await.expect("a packet").expect("a packet")
}

#[tokio::test(flavor = "multi_thread")]
async fn two_v1_peers_one_of_ours_and_a_seed_share_one_reading_of_the_source() {
    let origin = Origin::start(Content::random(1, 9 * MIB + 17)).await;
    let cluster = Cluster::start(1, 1).await;
    let mut one = V1Peer::start(cluster.scheduler_address, &origin.url(), "one").await;
    let mut two = V1Peer::start(cluster.scheduler_address, &origin.url(), "two").await;
    let url = origin.url();
    let (one_got, two_got, ours) = tokio::join!(one.download(), two.download(), cluster.download(1, &url));
    assert!(one_got.unwrap() == origin.bytes() && two_got.unwrap() == origin.bytes());
    assert!(ours.unwrap().bytes == origin.bytes());
    assert_eq!(origin.stats().body_bytes, origin.bytes().len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_ours_one_v1_peer_asks_the_source_and_the_others_ask_it() {
    let origin = Origin::start(Content::random(2, 5 * MIB)).await;
    let cluster = Cluster::start(0, 0).await;
    let mut peers = Vec::new();
    for name in ["a", "b", "c"] {
        peers.push(V1Peer::start(cluster.scheduler_address, &origin.url(), name).await);
    }
    for got in futures_util::future::join_all(peers.iter_mut().map(V1Peer::download)).await {
        assert!(got.unwrap() == origin.bytes());
    }
    assert_eq!(origin.stats().body_bytes, origin.bytes().len() as u64);
    assert_eq!(peers.iter().filter(|peer| peer.got.contains_key("source")).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_v1_peer_downloads_from_one_of_ours_that_has_the_content_already() {
    let origin = Origin::start(Content::random(3, 9 * MIB)).await;
    let cluster = Cluster::start(0, 1).await;
    cluster.download(0, &origin.url()).await.unwrap();
    let read = origin.stats().body_bytes;
    let mut v1 = V1Peer::start(cluster.scheduler_address, &origin.url(), "late").await;
    assert!(v1.download().await.unwrap() == origin.bytes());
    assert_eq!(origin.stats().body_bytes, read);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_content_comes_with_the_answer() {
    let origin = Origin::start(Content::random(4, 0)).await;
    let cluster = Cluster::start(1, 1).await;
    cluster.download(1, &origin.url()).await.unwrap();
    let mut v1 = V1Peer::start(cluster.scheduler_address, &origin.url(), "empty").await;
    assert_eq!(v1.register().await.unwrap().size_scope(), SizeScope::Tiny);
    assert_eq!(v1.download().await, Ok(Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn ours_takes_nothing_on_a_v1_peers_word_and_good_pieces_from_it() {
    let origin = Origin::start(Content::random(5, 9 * MIB)).await;
    let mut cluster = Cluster::start(0, 2).await;
    let mut v1 = V1Peer::start(cluster.scheduler_address, &origin.url(), "first").await;
    v1.download().await.unwrap();
    // Nobody but it has the content, and nobody can tell whether it is the right one.
    assert!(cluster.download(0, &origin.url()).await.unwrap().bytes == origin.bytes());
    assert_eq!(origin.stats().body_bytes, 2 * origin.bytes().len() as u64);
    assert_eq!(shelf(&v1.shelf).sent_bytes, 0);
    // Now the digests are known, and the v1 peer is a parent like any other: here the only one left.
    cluster.daemons[0].take_process().kill().await;
    assert!(cluster.download(1, &origin.url()).await.unwrap().bytes == origin.bytes());
    assert_eq!(origin.stats().body_bytes, 2 * origin.bytes().len() as u64);
    assert_eq!(shelf(&v1.shelf).sent_bytes, origin.bytes().len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_v1_parent_that_sends_wrong_bytes_harms_nobody() {
    let origin = Origin::start(Content::random(6, 17 * MIB)).await;
    let cluster = Cluster::start(1, 2).await;
    cluster.download(1, &origin.url()).await.unwrap();
    let mut liar = V1Peer::start(cluster.scheduler_address, &origin.url(), "liar").await;
    assert!(liar.download().await.unwrap() == origin.bytes());
    shelf(&liar.shelf).is_liar = true;
    assert!(cluster.download(2, &origin.url()).await.unwrap().bytes == origin.bytes());
    let mut child = V1Peer::start(cluster.scheduler_address, &origin.url(), "child").await;
    assert!(child.download().await.unwrap() == origin.bytes());
    assert_eq!(child.got.get(&liar.peer_id), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_v1_peer_that_claims_what_it_does_not_have_is_found_out() {
    let origin = Origin::start(Content::random(7, 9 * MIB)).await;
    let cluster = Cluster::start(1, 2).await;
    cluster.download(1, &origin.url()).await.unwrap();
    let mut boaster = V1Peer::start(cluster.scheduler_address, &origin.url(), "boaster").await;
    boaster.register().await.unwrap();
    let reports = boaster.open().await.unwrap();
    for piece in [0, 1, 2, 3, 1 << 20, i32::MAX, -7] {
        boaster.claim(&reports, piece).await;
    }
    assert!(cluster.download(2, &origin.url()).await.unwrap().bytes == origin.bytes());
    let mut child = V1Peer::start(cluster.scheduler_address, &origin.url(), "child").await;
    assert!(child.download().await.unwrap() == origin.bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_v1_peer_whose_stream_breaks_is_offered_to_nobody_any_more() {
    let origin = Origin::start(Content::random(8, MIB)).await;
    let cluster = Cluster::start(0, 0).await;
    let mut gone = V1Peer::start(cluster.scheduler_address, &origin.url(), "gone").await;
    gone.register().await.unwrap();
    let mut reports = gone.open().await.unwrap();
    assert_eq!(packet(&mut reports).await.code(), V1Code::SchedNeedBackSource);
    gone.claim(&reports, 0).await;
    let mut child = V1Peer::start(cluster.scheduler_address, &origin.url(), "child").await;
    child.register().await.unwrap();
    let mut waiting = child.open().await.unwrap();
    assert_eq!(packet(&mut waiting).await.main_peer.unwrap().peer_id, gone.peer_id);
    drop(reports);
    assert_eq!(packet(&mut waiting).await.code(), V1Code::SchedNeedBackSource, "it was the only one");
    let status = gone.open().await.map(|_| ()).unwrap_err();
    assert_eq!(v1_code(&status), V1Code::SchedPeerNotFound as i32);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_v1_peer_that_leaves_its_task_is_no_parent_any_more() {
    let origin = Origin::start(Content::random(9, MIB)).await;
    let cluster = Cluster::start(0, 0).await;
    let mut first = V1Peer::start(cluster.scheduler_address, &origin.url(), "first").await;
    first.download().await.unwrap();
    let mut second = V1Peer::start(cluster.scheduler_address, &origin.url(), "second").await;
    assert!(second.download().await.unwrap() == origin.bytes());
    assert_eq!(second.got.get(&first.peer_id), Some(&(MIB as u64)));
    first.leave().await.unwrap();
    second.leave().await.unwrap();
    second.leave().await.expect("leaving twice is as good as once");
    let mut third = V1Peer::start(cluster.scheduler_address, &origin.url(), "third").await;
    third.download().await.unwrap();
    assert_eq!(third.got.get("source"), Some(&(MIB as u64)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_fails_is_reported_to_v1_peers_in_their_words() {
    let origin = Origin::start(Content::random(10, MIB)).await;
    origin.inject(Fault::Status(404));
    let cluster = Cluster::start(1, 0).await;
    let mut v1 = V1Peer::start(cluster.scheduler_address, &origin.url(), "unlucky").await;
    assert_eq!(v1.download().await, Err(V1Code::CdnTaskRegistryFail));
}

#[tokio::test(flavor = "multi_thread")]
async fn cached_data_nobody_has_is_not_found() {
    let cluster = Cluster::start(0, 0).await;
    let mut v1 = V1Peer::start(cluster.scheduler_address, "d7y:/nothing", "cache").await;
    assert_eq!(v1.download().await, Err(V1Code::PeerTaskNotFound));
}

/// CVE-2026-54637: a peer that names somebody else's address must not make the scheduler, or others, go
/// there.
#[tokio::test(flavor = "multi_thread")]
async fn the_scheduler_dials_nobody_and_sends_nobody_to_an_address_a_peer_only_claims() {
    let origin = Origin::start(Content::random(11, 100)).await;
    let cluster = Cluster::start(0, 0).await;
    let mut tiny = V1Peer::start(cluster.scheduler_address, &origin.url(), "tiny").await;
    tiny.host.ip = "192.0.2.1".to_owned();
    tiny.download().await.unwrap();
    let mut child = V1Peer::start(cluster.scheduler_address, &origin.url(), "child").await;
    let registered = child.register().await.unwrap();
    assert_eq!((registered.size_scope(), registered.piece_content), (SizeScope::Normal, None));
    let mut reports = child.open().await.unwrap();
    let offered = packet(&mut reports).await.main_peer.unwrap();
    assert_eq!((offered.ip.as_str(), offered.peer_id), ("127.0.0.1", tiny.peer_id.clone()));
    assert_eq!(shelf(&tiny.shelf).connections, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_v1_calls_are_refused_with_a_code() {
    let cluster = Cluster::start(0, 0).await;
    let mut v1 = V1Peer::start(cluster.scheduler_address, "http://127.0.0.1:1/f", "peer").await;
    let unknown = v1.open().await.map(|_| ()).unwrap_err();
    assert_eq!(v1_code(&unknown), V1Code::SchedPeerNotFound as i32);
    for (task_id, peer_id, port) in [("../../x", "peer", 1), ("", "a b", 1), ("", "a/../b", 1), ("", "peer", 0)] {
        (v1.task_id, v1.peer_id, v1.host.down_port) = (task_id.to_owned(), peer_id.to_owned(), port);
        let status = v1.register().await.unwrap_err();
        assert_eq!(v1_code(&status), V1Code::BadRequest as i32, "{task_id} {peer_id} {port}");
    }
}

/// What a v1 child asks on the piece port: its own task id, and the name its scheduler told it.
#[tokio::test(flavor = "multi_thread")]
async fn pieces_are_found_by_the_name_a_v1_child_was_told() {
    let origin = Origin::start(Content::random(13, MIB)).await;
    let cluster = Cluster::start(0, 1).await;
    let name = cluster.download(0, &origin.url()).await.unwrap().last.peer_id;
    let (address, foreign) = (cluster.daemons[0].pieces.to_string(), "ab".repeat(32));
    let ask = async |path: String| soon(peer::fetch(&address, &path, "Range: bytes=10-19\r\n")).await;
    let found = ask(format!("/download/aba/{foreign}?peerId={name}")).await.unwrap();
    assert_eq!(found, origin.bytes()[10..20]);
    for (path, status) in [
        (format!("/download/aba/{foreign}?peerId={}", "0".repeat(32)), "404"),
        (format!("/download/aba/{foreign}?peerId=../../etc"), "404"),
        (format!("/download/aba/{foreign}"), "404"),
        (format!("/download/xyz/{foreign}?peerId={name}"), "400"),
        (format!("/download/aba/../x?peerId={name}"), "404"),
    ] {
        let refused = ask(path.clone()).await.unwrap_err();
        assert!(refused.starts_with(&format!("http/1.1 {status}")), "{path}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn downloads_to_a_path_are_refused_over_tcp() {
    let origin = Origin::start(Content::random(12, 100)).await;
    let cluster = Cluster::start(0, 1).await;
    let output = cluster.daemons[0].config.data_dir.with_file_name("written");
    let request =
        DownRequest { url: origin.url(), output: output.to_str().unwrap().to_owned(), ..DownRequest::default() };
    let mut remote = DaemonClient::new(channel(&cluster.daemons[0].rpc.to_string()));
    let status = soon(remote.download(request)).await.map(|_| ()).unwrap_err();
    assert_eq!(status.code(), tonic::Code::PermissionDenied);
    assert!(!output.exists() && origin.stats().requests == 0);
}
