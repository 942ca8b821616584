//! A process that hangs: its machine and its connections are there, and nothing that it reads or writes gets on
//! until it goes on.
//!
//! Its timers and what it has in memory go on, as they cannot be stopped in a runtime: it is a process whose
//! every call to the network waits, rather than one that was sent SIGSTOP.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use df_daemons::env::net::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// Whether a host's process hangs. Cheap to clone.
#[derive(Clone, Default)]
pub struct Gate(Arc<Door>);

#[derive(Default)]
struct Door {
    is_shut: AtomicBool,
    opened: Notify,
}

impl Gate {
    /// From now on the process hangs, or goes on.
    pub fn set_shut(&self, is_shut: bool) {
        self.0.is_shut.store(is_shut, Ordering::Release);
        if !is_shut {
            self.0.opened.notify_waiters();
        }
    }

    /// Waits until the process goes on.
    pub async fn pass(&self) {
        loop {
            let opened = self.0.opened.notified();
            if !self.0.is_shut.load(Ordering::Acquire) {
                return;
            }
            opened.await;
        }
    }

    fn poll_pass(&self, waiting: &mut Option<BoxFuture<'static, ()>>, cx: &mut Context<'_>) -> Poll<()> {
        if waiting.is_none() && self.0.is_shut.load(Ordering::Acquire) {
            let gate = self.clone();
            *waiting = Some(Box::pin(async move { gate.pass().await }));
        }
        if let Some(pass) = waiting {
            ready!(pass.as_mut().poll(cx));
            *waiting = None;
        }
        Poll::Ready(())
    }
}

/// A connection of a process that may hang.
pub(super) struct Gated<S> {
    inner: S,
    gate: Gate,
    /// Reading and writing wait each by itself: two tasks may do it.
    reading: Option<BoxFuture<'static, ()>>,
    writing: Option<BoxFuture<'static, ()>>,
}

impl<S> Gated<S> {
    /// A connection of the process behind `gate`.
    pub(super) const fn new(inner: S, gate: Gate) -> Self {
        Self { inner, gate, reading: None, writing: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gated<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { inner, gate, reading, .. } = self.get_mut();
        ready!(gate.poll_pass(reading, cx));
        Pin::new(inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gated<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Self { inner, gate, writing, .. } = self.get_mut();
        ready!(gate.poll_pass(writing, cx));
        Pin::new(inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { inner, gate, writing, .. } = self.get_mut();
        ready!(gate.poll_pass(writing, cx));
        Pin::new(inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { inner, gate, writing, .. } = self.get_mut();
        ready!(gate.poll_pass(writing, cx));
        Pin::new(inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn nothing_passes_while_the_process_hangs() {
        let gate = Gate::default();
        let (mut there, here) = tokio::io::duplex(100);
        let mut here = Gated::new(here, gate.clone());
        there.write_all(b"ab").await.unwrap();
        assert_eq!(here.read_u8().await.unwrap(), b'a');
        gate.set_shut(true);
        let mut hung = Box::pin(async { here.read_u8().await.unwrap() });
        tokio::select! { biased;
            _ = &mut hung => panic!("it passed"),
            () = std::future::ready(()) => {}
        }
        gate.set_shut(false);
        assert_eq!(hung.await, b'b');
    }
}
