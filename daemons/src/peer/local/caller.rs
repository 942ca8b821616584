//! Work done with the rights of a local caller, as the kernel vouches for them: never with more.
//!
//! A daemon that runs as root becomes the caller on a thread of its own: Linux keeps credentials for each
//! thread, and the effective user alone decides what files it may touch (giving up root's capabilities
//! with it). The real and saved user stay root, so that the caller may not signal the daemon meanwhile.

use std::io;

use df_api::failure::{Code, Failure};
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use tokio::sync::{Semaphore, oneshot};

use crate::env::Env;
use crate::env::net::Remote;

/// Threads that act for callers at once.
const THREAD_LIMIT: usize = 32;

static ROOM: Semaphore = Semaphore::const_new(THREAD_LIMIT);

/// A process of this host that has called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Caller {
    uid: u32,
    gid: u32,
}

impl Caller {
    /// Who called over a unix socket.
    ///
    /// # Errors
    /// [`Code::Blocked`] for anybody else, and for callers whose rights this daemon cannot take on.
    pub(super) fn of(remote: Option<Remote>) -> Result<Self, Failure> {
        let Some(Remote::Local { uid, gid }) = remote else {
            return Err(Failure::new(Code::Blocked, "only callers on this host may name a file")
                .hint("use the daemon's unix socket"));
        };
        let own = geteuid();
        if own.is_root() || own.as_raw() == uid {
            return Ok(Self { uid, gid });
        }
        Err(Failure::new(
            Code::Blocked,
            format!("this daemon runs as user {} and cannot write for {uid}", own.as_raw()),
        )
        .hint("ask for the content's descriptor, as dfget does, or use a daemon of your own"))
    }

    /// To whom a file is to be given that is written for this caller: root may name somebody, others only
    /// themselves.
    ///
    /// # Errors
    /// [`Code::Blocked`] if somebody else is named.
    pub(super) fn owner(self, uid: i64, gid: i64) -> Result<Option<(u32, u32)>, Failure> {
        let given = |id: i64, own: u32| if id <= 0 { Some(own) } else { u32::try_from(id).ok() };
        let blocked = || Failure::new(Code::Blocked, format!("user {} may not give files to {uid}:{gid}", self.uid));
        let (uid, gid) = given(uid, self.uid).zip(given(gid, self.gid)).ok_or_else(blocked)?;
        if (uid, gid) == (self.uid, self.gid) {
            return Ok(None);
        }
        if self.uid == 0 { Ok(Some((uid, gid))) } else { Err(blocked()) }
    }

    /// Does something that blocks, with the caller's rights.
    ///
    /// # Errors
    /// Those of `work`; when the rights cannot be taken on.
    pub(super) async fn act<T: Send + 'static>(
        self,
        env: &Env,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        if geteuid().as_raw() == self.uid {
            return env.blocking(work).await;
        }
        let _room = ROOM.acquire().await.map_err(io::Error::other)?;
        let (answer, answered) = oneshot::channel();
        // Not a thread of a pool: what it becomes it stays. Nor is there such a thing in a simulation,
        // where nobody calls over a unix socket.
        std::thread::Builder::new().name("as-caller".to_owned()).spawn(move || {
            let _ = answer.send(self.become_it().and_then(|()| work()));
        })?;
        answered.await.unwrap_or_else(|_| Err(io::Error::other("the work for a caller was cut short")))
    }

    /// Takes on the caller's rights, for the rest of this thread. Of its groups only the primary one is
    /// known, so the others lend no rights.
    fn become_it(self) -> io::Result<()> {
        set_thread_groups(&[])?;
        set_thread_res_gid(None, Gid::from_raw(self.gid), None)?;
        set_thread_res_uid(None, Uid::from_raw(self.uid), None)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_gives_files_away() {
        let (root, user) = (Caller { uid: 0, gid: 0 }, Caller { uid: 1000, gid: 1000 });
        assert_eq!(user.owner(1000, 1000).unwrap(), None);
        assert_eq!(user.owner(0, 0).unwrap(), None, "nobody is named");
        assert_eq!(user.owner(-1, -1).unwrap(), None);
        assert_eq!(root.owner(1000, 1000).unwrap(), Some((1000, 1000)));
        for (uid, gid) in [(1001, 1000), (1000, 27), (i64::MAX, 1000)] {
            assert_eq!(user.owner(uid, gid).unwrap_err().code, Code::Blocked);
        }
    }

    #[test]
    fn callers_from_the_network_have_no_rights() {
        let remote = Remote::Tcp("127.0.0.1:1".parse().unwrap());
        assert_eq!(Caller::of(Some(remote)).unwrap_err().code, Code::Blocked);
        assert_eq!(Caller::of(None).unwrap_err().code, Code::Blocked);
    }
}
