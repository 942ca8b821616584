//! Contents at the edges: of the plan, of what fits in 32 bits, of what the source says.

use std::sync::Arc;

use df_api::failure::Code;
use df_api::task::TaskRequest;
use df_core::id::PieceDigest;
use df_core::piece::PiecePlan;
use df_daemons::config::PeerConfig;
use df_daemons::peer::store::{Room, Store, StoredTask};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::small_pieces;
use crate::cluster::inside::{Inside, RoomyDisk, env};
use crate::cluster::{Cluster, Daemon, LIMIT, Wish};
use crate::origin::{Content, Fault, Origin};

const PIECE: usize = 64 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn every_size_arrives_whole_from_a_source_that_does_not_say_it() {
    let cluster = Cluster::start(1, 2).await;
    for (seed, len) in [0, 1, PIECE - 1, PIECE, PIECE + 1, 10 * PIECE].into_iter().enumerate() {
        for fault in [Fault::Chunked, Fault::UntilClose] {
            let origin = Origin::start(Content::random(seed as u64, len)).await;
            origin.inject(fault.clone());
            for downloaded in cluster.download_all(&origin.url(), &small_pieces()).await {
                assert!(downloaded.unwrap().bytes == origin.bytes(), "{len} bytes, {fault:?}");
            }
            // (The answer to a request for a range of nothing has a body that explains it.)
            assert!(len == 0 || origin.stats().body_bytes == len as u64, "{len} bytes, {fault:?}");
        }
    }
}

const GIB: u64 = 1 << 30;

/// A content whose last two pieces begin at 4 GiB.
const HUGE_PLAN: (u64, u64) = (4 * GIB + (4 << 20) + 17, 4 << 20);

/// Puts a content of zeros into a daemon's store, as far as before 4 GiB; and what lies behind that,
/// if it is to be there.
fn plant(config: &PeerConfig, url: &str, behind: Option<&[u8]>) -> Arc<StoredTask> {
    let env = env(RoomyDisk::new(u64::MAX));
    let room = Room::new(None, 0);
    let store = Store::open(env.clone(), &config.data_dir, room, env.index_opener()).unwrap();
    let task = TaskRequest::new(url, Default::default(), HUGE_PLAN.1).unwrap();
    let stored = store.task_or_new(&task.id(), &(&task).into()).unwrap();
    let plan = PiecePlan::with_piece_len(HUGE_PLAN.0, HUGE_PLAN.1).unwrap();
    store.set_plan(&stored, plan).unwrap();
    let zeros = PieceDigest::from_bytes(*blake3::hash(&vec![0; HUGE_PLAN.1 as usize]).as_bytes());
    for piece in plan.pieces() {
        let (range, mut writer) = (plan.range(piece), stored.begin(piece).unwrap());
        if range.start < 4 * GIB {
            // The file is sparse: its zeros need not be written.
            stored.keep(piece, zeros).unwrap();
        } else if let Some(behind) = behind {
            let at = (range.start - 4 * GIB) as usize;
            writer.write(&behind[at..at + range.len as usize]).unwrap();
            let digest = writer.finish().unwrap();
            stored.keep(piece, digest).unwrap();
        }
    }
    stored
}

/// Bytes of a task from a daemon's piece port.
async fn bytes_of(daemon: &Daemon, task: &str, first: u64, last: u64) -> Vec<u8> {
    let mut stream = TcpStream::connect(daemon.pieces).await.unwrap();
    let request = format!(
        "GET /download/{}/{task} HTTP/1.1\r\nConnection: close\r\nRange: bytes={first}-{last}\r\n\r\n",
        &task[..3]
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(LIMIT, stream.read_to_end(&mut answer)).await.expect("it hangs").unwrap();
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    let text = String::from_utf8_lossy(&answer[..head]);
    assert!(text.starts_with("HTTP/1.1 206 "), "{text}");
    assert!(text.contains(&format!("Content-Range: bytes {first}-{last}/{}\r\n", HUGE_PLAN.0)), "{text}");
    answer.split_off(head)
}

#[tokio::test(flavor = "multi_thread")]
async fn tob_19_pieces_beyond_four_gib_are_stored_served_and_fetched() {
    let cluster = Cluster::start(0, 0).await;
    let (url, behind) = ("http://127.0.0.1:1/huge", Content::random(1, (4 << 20) + 17).bytes);
    // One peer's word for a digest is not enough; that of two is.
    let configs = ["one", "other", "child"].map(|name| cluster.config(name));
    let task = plant(&configs[0], url, Some(&behind)).id().to_string();
    plant(&configs[1], url, Some(&behind));
    plant(&configs[2], url, None);
    let [one, other, child] = configs.map(|config| Inside::start(config, RoomyDisk::new(u64::MAX)));
    let (one, other, child) = tokio::join!(one, other, child);

    let wish = Wish { piece_length: HUGE_PLAN.1, disable_back_source: true, ..Wish::default() };
    let download = async {
        loop {
            match Daemon::download_by(child.daemon.client(), url.to_owned(), wish.clone()).await {
                // The parent may not have told the scheduler yet what it has.
                Err(failure) if failure.code == Code::NotFound => {}
                ended => break ended,
            }
        }
    };
    let last = timeout(LIMIT, download).await.expect("the download hangs").unwrap().unwrap();
    assert_eq!((last.done, last.content_length, last.task_id), (true, Some(HUGE_PLAN.0), task.clone()));
    let tally = last.tally.unwrap();
    assert_eq!((tally.local_bytes, tally.peer_bytes), (4 * GIB, behind.len() as u64));

    for daemon in [&one.daemon, &child.daemon] {
        // Across the border, the first behind it, the last of all.
        let across = bytes_of(daemon, &task, 4 * GIB - 5, 4 * GIB + 4).await;
        assert_eq!(across, [&[0; 5], &behind[..5]].concat());
        assert!(bytes_of(daemon, &task, 4 * GIB, HUGE_PLAN.0 - 1).await == behind);
        assert_eq!(bytes_of(daemon, &task, HUGE_PLAN.0 - 1, HUGE_PLAN.0 - 1).await, behind[behind.len() - 1..]);
    }
    for inside in [one, other, child] {
        inside.stop().await.unwrap();
    }
}
