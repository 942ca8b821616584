//! A dfdaemon inside the test, for what no process can be made to meet: a disk that fills when it is
//! told to, a clock that is moved.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use df_api::failure::Failure;
use df_daemons::config::PeerConfig;
use df_daemons::env::Env;
use df_daemons::env::disk::{Disk, DiskFile, OpenMode, RealDisk, Space};
use df_daemons::{launch, peer};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Daemon, LIMIT};

/// A daemon that runs in the test's own process.
pub(crate) struct Inside {
    pub(crate) daemon: Daemon,
    shutdown: CancellationToken,
    ended: JoinHandle<Result<(), Failure>>,
}

impl Inside {
    /// Starts a daemon on a disk.
    pub(crate) async fn start(mut config: PeerConfig, disk: RoomyDisk) -> Self {
        let (env, shutdown) = (env(disk), CancellationToken::new());
        let incoming = launch::open_peer(&env, &mut config).await.unwrap();
        let [rpc, pieces] = [&incoming.rpc, &incoming.pieces].map(|listener| listener.local_addr().unwrap());
        let daemon = Daemon { process: None, config: config.clone(), pieces, rpc };
        let ended = tokio::spawn(peer::run(env, config, incoming, shutdown.clone()));
        Self { daemon, shutdown, ended }
    }

    /// Stops it as a signal would, and waits for its end.
    pub(crate) async fn stop(self) -> Result<(), Failure> {
        self.shutdown.cancel();
        timeout(LIMIT, self.ended).await.expect("it goes on").unwrap()
    }
}

/// The real world but for its disk.
pub(crate) fn env(disk: RoomyDisk) -> Env {
    let mut env = Env::real(Some(Handle::current())).unwrap();
    env.disk = Arc::new(disk);
    env
}

/// The kernel's disk, with as much room as it is given. It cannot reserve, as some file systems
/// cannot, and believes that it is empty: so it is in the middle of a download that it fills.
#[derive(Clone)]
pub(crate) struct RoomyDisk(Arc<AtomicU64>);

impl RoomyDisk {
    /// A disk on which so many bytes can be written.
    pub(crate) fn new(bytes: u64) -> Self {
        Self(Arc::new(AtomicU64::new(bytes)))
    }

    /// From now on so many bytes can be written.
    pub(crate) fn give(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Relaxed);
    }

    fn take(&self, bytes: usize) -> io::Result<()> {
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| room.checked_sub(bytes as u64));
        taken.map(drop).map_err(|_| io::ErrorKind::StorageFull.into())
    }
}

impl Disk for RoomyDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        if !path.exists() {
            self.take(1)?;
        }
        Ok(Arc::new(RoomyFile { file: RealDisk.open(path, mode)?, disk: self.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_dir(path)
    }

    fn space(&self, _: &Path) -> io::Result<Space> {
        Ok(Space { total: 1 << 50, free: 1 << 50 })
    }

    fn check_private(&self, path: &Path) -> io::Result<()> {
        RealDisk.check_private(path)
    }

    fn boot_id(&self) -> [u8; 16] {
        RealDisk.boot_id()
    }
}

struct RoomyFile {
    file: Arc<dyn DiskFile>,
    disk: RoomyDisk,
}

impl DiskFile for RoomyFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.disk.take(buf.len())?;
        self.file.write_all_at(buf, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn reserve(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn modified_ns(&self) -> io::Result<u64> {
        self.file.modified_ns()
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_fd()
    }
}
