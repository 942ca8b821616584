//! What a request's priority lets be done for it.

use df_api::base::UrlMeta;
use df_api::failure::Code;

use super::MIB;
use crate::cluster::{Cluster, Wish};
use crate::manager::until;
use crate::origin::{Content, Origin};

fn of_priority(priority: u32) -> Wish {
    Wish { meta: UrlMeta { priority, ..UrlMeta::default() }, piece_length: 64 << 10, ..Wish::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_priority_says_who_may_ask_the_source() {
    let cluster = Cluster::start(1, 2).await;
    let [_, one, other] = &cluster.daemons[..] else { panic!("a seed and two peers") };
    let origin = Origin::start(Content::random(1, MIB)).await;
    for (priority, code) in [(7, Code::Usage), (1, Code::Blocked), (2, Code::NotFound)] {
        let failure = one.download(&origin.url(), of_priority(priority)).await.unwrap_err();
        assert_eq!(failure.code, code, "{priority}: {failure:?}");
    }
    assert_eq!(origin.stats().body_bytes, 0);
    // By itself, then from the one that has it.
    let tally = one.download(&origin.url(), of_priority(3)).await.unwrap().last.tally.unwrap();
    assert_eq!((tally.origin_bytes, tally.seed_bytes), (MIB as u64, 0));
    let tally = other.download(&origin.url(), of_priority(2)).await.unwrap().last.tally.unwrap();
    assert_eq!((tally.origin_bytes, tally.peer_bytes), (0, MIB as u64));
    // All others have the seed's help.
    let origin = Origin::start(Content::random(2, MIB)).await;
    let tally = one.download(&origin.url(), of_priority(6)).await.unwrap().last.tally.unwrap();
    assert_eq!((tally.origin_bytes, tally.seed_bytes), (0, MIB as u64));
}

/// The first of two callers on one host lets nobody ask the source, or no seed be woken; the second does.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_caller_allows_serves_all_who_wait_on_its_host() {
    let cluster = Cluster::start(1, 1).await;
    let one = &cluster.daemons[1];
    for (seed, second) in [(3, of_priority(3)), (4, Wish { disable_back_source: true, ..of_priority(0) })] {
        let origin = Origin::start(Content::random(seed, MIB)).await;
        let url = origin.url();
        let before = one.stored_files().len();
        let comes = async {
            // The first is open when its files are there.
            until("it is open", || async { (one.stored_files().len() > before).then_some(()) }).await;
            one.download(&url, second).await
        };
        let (waits, comes) = tokio::join!(one.download(&url, of_priority(2)), comes);
        for downloaded in [waits, comes] {
            assert!(downloaded.unwrap().bytes == origin.bytes());
        }
    }
}
