//! How much is kept, how long, and on how many nodes.

use df_daemons::units::Size;
use tokio::time::timeout;

use super::{MIB, ask, ask_until, random};
use crate::cluster::{Cluster, LIMIT};

#[tokio::test(flavor = "multi_thread")]
async fn copies_make_room_for_newer_ones_and_imports_for_nobody() {
    let cluster = Cluster::start_with(0, 2, |config| {
        config.store.quota = Some(Size::new(5 * MIB as u64));
    })
    .await;
    let [one, two] = [&cluster.daemons[0], &cluster.daemons[1]];
    let files: Vec<String> = (0..3).map(|n| cluster.file(&n.to_string(), &random(n, 2 * MIB))).collect();
    ask(one, &format!("import -i a {}", files[0])).await.exits(0);
    ask(one, &format!("import -i b {}", files[1])).await.exits(0);
    ask(one, &format!("import -i c {}", files[2])).await.exits(9);
    ask(one, "stat -i a -l").await.exits(0);
    for cid in ["a", "b"] {
        assert!(!ask(two, &format!("export -i {cid} -O -")).await.exits(0).stdout.is_empty());
    }
    ask(two, &format!("import -i c {}", files[2])).await.exits(0);
    // One of the copies had to go: both were last used about now.
    let left = [ask(two, "stat -i a -l").await.exit, ask(two, "stat -i b -l").await.exit];
    assert!(left == [Some(0), Some(10)] || left == [Some(10), Some(0)], "{left:?}");
    ask(two, "stat -i c -l").await.exits(0);
    assert!(ask(one, "export -i c -O -").await.exit == Some(9), "both of its own are imports");
    ask(two, "export -i a -O -").await.exits(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_content_goes_when_its_time_is_up() {
    let cluster = Cluster::start(0, 2).await;
    let file = cluster.file("f", b"x");
    ask(&cluster.daemons[0], &format!("import -i c {file} --ttl 1s")).await.exits(0);
    ask_until(&cluster.daemons[0], "stat -i c -l", 10).await;
    ask_until(&cluster.daemons[1], "stat -i c", 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_nodes_hold_it_as_were_asked_for() {
    let cluster = Cluster::start(0, 3).await;
    let file = cluster.file("f", &random(1, MIB));
    ask(&cluster.daemons[0], &format!("import -i c {file} --replicas 2")).await.exits(0);
    let holders = async || {
        let asked = cluster.daemons.iter().map(|daemon| ask(daemon, "stat -i c --local"));
        futures_util::future::join_all(asked).await.iter().filter(|ran| ran.exit == Some(0)).count()
    };
    let two = async { while holders().await != 2 {} };
    timeout(LIMIT, two).await.expect("nobody else takes a whole copy");
    // The copy serves when the import is gone.
    ask(&cluster.daemons[0], "delete -i c --local").await.exits(0);
    for daemon in &cluster.daemons {
        ask_until(daemon, "stat -i c", 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_imported_survives_a_restart() {
    let mut cluster = Cluster::start(0, 1).await;
    let bytes = random(1, MIB);
    let file = cluster.file("f", &bytes);
    ask(&cluster.daemons[0], &format!("import -i c -t t {file}")).await.exits(0);
    cluster.daemons[0].restart().await;
    let listed = ask(&cluster.daemons[0], "list -t t --json").await.json();
    assert_eq!((&listed["contents"][0]["cid"], &listed["contents"][0]["pinned"]), (&"c".into(), &true.into()));
    assert!(ask(&cluster.daemons[0], "export -i c -t t -O -").await.exits(0).stdout == bytes);
}
