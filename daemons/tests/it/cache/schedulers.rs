//! Many schedulers: each task has one, and when that is lost, the next.

use std::net::SocketAddr;

use df_daemons::config::HostPort;
use futures_util::future::join_all;

use super::{MIB, ask, ask_until, command, finish, random, until};
use crate::cluster::{Cluster, Process};

const CONTENTS: u64 = 13;

/// Three schedulers and daemons that know them all.
async fn cluster(daemons: usize) -> (Cluster, Vec<(Process, SocketAddr)>) {
    let schedulers = join_all((0..3).map(|_| Cluster::another_scheduler(None))).await;
    let addresses: Vec<_> = schedulers.iter().map(|(_, address)| address.to_string().parse().unwrap()).collect();
    let cluster = Cluster::start_with(0, daemons, |config| config.scheduler.addresses = addresses.clone()).await;
    (cluster, schedulers)
}

async fn import_all(cluster: &Cluster, len: usize) {
    for number in 0..CONTENTS {
        let file = cluster.file(&format!("f{number}"), &random(number, len));
        ask(&cluster.daemons[0], &format!("import -i c{number} {file} --piece-size 64KiB")).await.exits(0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_scheduler_costs_none_of_fifty_downloads() {
    let (cluster, mut schedulers) = cluster(5).await;
    import_all(&cluster, MIB).await;
    let exports = cluster.daemons[1..]
        .iter()
        .enumerate()
        .flat_map(|(who, daemon)| (0..CONTENTS).map(move |number| (who, number, daemon)));
    let running: Vec<_> = exports
        .map(|(who, number, daemon)| {
            let (cid, out) = (format!("c{number}"), cluster.path(&format!("out-{who}-{number}")));
            let arguments = ["export", "-i", &cid, &out, "--rate-limit", "600KiB/s"];
            (command(daemon, &arguments).spawn().unwrap(), number, out)
        })
        .collect();
    assert_eq!(running.len(), 52);
    until(|| cluster.daemons[1..].iter().all(|daemon| daemon.stored_files().len() >= 20)).await;
    let (lost, _) = schedulers.remove(0);
    lost.kill().await;
    let ended =
        join_all(running.into_iter().map(|(child, number, out)| async move { (finish(child).await, number, out) }));
    for (ran, number, out) in ended.await {
        ran.exits(0);
        assert!(std::fs::read(out).unwrap() == random(number, MIB));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tasks_of_a_lost_scheduler_move_to_the_next_and_back() {
    let (cluster, mut schedulers) = cluster(2).await;
    import_all(&cluster, 1000).await;
    let all_known = || async {
        for number in 0..CONTENTS {
            ask_until(&cluster.daemons[1], &format!("stat -i c{number}"), 0).await;
        }
    };
    all_known().await;
    // Two are lost, so that everything has to be at the third.
    let (first, second) = (schedulers.remove(0), schedulers.remove(0));
    first.0.kill().await;
    second.0.kill().await;
    all_known().await;
    // They come back knowing nothing, and the third goes: all is told to them.
    let _first = Cluster::another_scheduler(Some(first.1)).await;
    let _second = Cluster::another_scheduler(Some(second.1)).await;
    schedulers.remove(0).0.kill().await;
    all_known().await;
    assert_eq!(ask(&cluster.daemons[1], "export -i c3 -O -").await.exits(0).stdout, random(3, 1000));
}

#[tokio::test(flavor = "multi_thread")]
async fn schedulers_that_disagree_lose_nothing() {
    let (mut cluster, schedulers) = cluster(2).await;
    let files = [cluster.file("1", b"one"), cluster.file("2", b"two")];
    // Each daemon sees another scheduler than the other: both may use the name.
    let addresses: Vec<HostPort> = schedulers.iter().map(|(_, address)| address.to_string().parse().unwrap()).collect();
    for who in 0..2 {
        cluster.daemons[who].config.scheduler.addresses = vec![addresses[who].clone()];
        cluster.daemons[who].restart().await;
        ask(&cluster.daemons[who], &format!("import -i c {}", files[who])).await.exits(0);
    }
    // Together again, one of the two is refused, and neither has lost what was imported.
    for who in 0..2 {
        cluster.daemons[who].config.scheduler.addresses.clone_from(&addresses);
        cluster.daemons[who].restart().await;
    }
    for (daemon, content) in cluster.daemons.iter().zip(["one", "two"]) {
        assert_eq!(ask(daemon, "export -i c -O -").await.exits(0).stdout, content.as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_scheduler_what_is_here_is_exported() {
    let cluster = Cluster::start_with(0, 1, |config| config.scheduler.addresses.clear()).await;
    let file = cluster.file("f", b"content");
    let imported = ask(&cluster.daemons[0], &format!("import -i c {file} --json")).await.exits(0).json();
    assert_eq!(imported["announced"], "nowhere");
    assert_eq!(ask(&cluster.daemons[0], "export -i c -O -").await.exits(0).stdout, b"content");
    ask(&cluster.daemons[0], "stat -i other").await.exits(10);
    ask(&cluster.daemons[0], "delete -i c").await.exits(0);
}
