//! The end of a daemon that is in the middle of serving: the first SIGTERM waits for it, the second
//! does not.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::MIB;
use crate::cluster::{Cluster, LIMIT, Process};
use crate::origin::{Content, Origin};

/// More than all buffers between two sockets hold, so that an upload nobody reads stands still.
const LEN: usize = 32 * MIB;

/// A daemon in the middle of an upload, and the connection that its first byte came by.
async fn uploading() -> (Cluster, Process, Origin, TcpStream) {
    let mut cluster = Cluster::start(0, 1).await;
    let origin = Origin::start(Content::random(1, LEN)).await;
    let task = cluster.download(0, &origin.url()).await.unwrap().last.task_id;
    let mut stream = TcpStream::connect(cluster.daemons[0].pieces).await.unwrap();
    let request = format!("GET /download/{}/{task} HTTP/1.1\r\nHost: x\r\n\r\n", &task[..3]);
    stream.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'H');
    let process = cluster.daemons[0].take_process();
    (cluster, process, origin, stream)
}

/// Waits until the daemon has heard that it is to stop: it accepts nobody any more.
async fn closed(address: SocketAddr) {
    let closing = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, closing).await.expect("it goes on accepting");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_has_begun_is_finished_before_the_daemon_ends() {
    let (cluster, process, origin, mut stream) = uploading().await;
    process.terminate();
    closed(cluster.daemons[0].pieces).await;
    let mut answer = Vec::new();
    timeout(LIMIT, stream.read_to_end(&mut answer)).await.expect("it hangs").unwrap();
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    assert!(answer[head..] == origin.bytes(), "{} bytes of {LEN}", answer.len() - head);
    assert!(process.wait().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sigterm_ends_the_daemon_at_once() {
    let (cluster, process, _origin, _stream) = uploading().await;
    process.terminate();
    closed(cluster.daemons[0].pieces).await;
    process.terminate();
    // A daemon that drained ends with 0.
    assert_eq!(process.wait().await.code(), Some(143));
}
