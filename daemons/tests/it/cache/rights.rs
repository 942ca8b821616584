//! Callers that are not the daemon's user: their files stay theirs, and nobody else's are touched.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use super::{Ran, ask, command, finish, random};
use crate::cluster::Cluster;

const NOBODY: u32 = 65_534;

async fn ask_as_nobody(cluster: &Cluster, line: &str) -> Ran {
    let arguments: Vec<&str> = line.split(' ').collect();
    let mut command = command(&cluster.daemons[0], &arguments);
    finish(command.uid(NOBODY).gid(NOBODY).current_dir("/").spawn().unwrap()).await
}

/// Only root can be two users at once: anybody else sees nothing here.
#[tokio::test(flavor = "multi_thread")]
async fn another_user_imports_and_exports_with_its_own_rights() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let cluster = Cluster::start(0, 1).await;
    std::fs::set_permissions(cluster.dir(), Permissions::from_mode(0o755)).unwrap();
    let home = cluster.path("home");
    std::fs::create_dir(&home).unwrap();
    chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();
    let (bytes, secret) = (random(1, 100_000), cluster.file("secret", b"root's"));
    std::fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
    let own = cluster.file("home/own", &bytes);
    std::fs::set_permissions(&own, Permissions::from_mode(0o600)).unwrap();
    chown(&own, Some(NOBODY), Some(NOBODY)).unwrap();

    ask_as_nobody(&cluster, &format!("import -i secret {secret}")).await.exits(3);
    ask_as_nobody(&cluster, &format!("import -i c {own}")).await.exits(0);
    ask_as_nobody(&cluster, "stat -i c").await.exits(0);
    let out = cluster.path("home/out");
    ask_as_nobody(&cluster, &format!("export -i c {out}")).await.exits(0);
    let there = std::fs::metadata(&out).unwrap();
    assert!(std::fs::read(&out).unwrap() == bytes && (there.uid(), there.nlink()) == (NOBODY, 1));
    // What root wrote there, and where only root may write, stays as it is.
    ask_as_nobody(&cluster, &format!("export -i c {secret} --overwrite")).await.exits(3);
    ask_as_nobody(&cluster, &format!("export -i c {}", cluster.path("beside"))).await.exits(3);
    assert_eq!(std::fs::read(&secret).unwrap(), b"root's");
    ask(&cluster.daemons[0], &format!("export -i c {}", cluster.path("roots"))).await.exits(0);
    assert_eq!(std::fs::metadata(cluster.path("roots")).unwrap().uid(), 0);
}
