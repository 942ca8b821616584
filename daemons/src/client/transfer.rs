//! A content on its way from the daemon to an output.

use std::cell::Cell;
use std::fs::File;
use std::path::PathBuf;

use df_api::dfdaemon::DownResult;
use df_api::failure::{Code, Failure};

use super::Ending;
use super::daemon::{Daemon, Progress};
use super::delivery::{Delivered, Delivery, Link};
use super::output::{Output, local};
use super::progress::Meter;
use crate::digest::{Algorithm, Digest};
use crate::env::Env;

/// One download between its request and its last message.
pub(super) struct Transfer<'a> {
    env: &'a Env,
    daemon: &'a Daemon,
    /// Outputs that were begun and are not whole.
    unfinished: &'a Cell<usize>,
    link: Link,
    state: State,
    /// Whether the content needs no waiting for the disk.
    is_durable: bool,
    /// Whether it is worth going on with if it does not come to its end now.
    is_kept: bool,
}

/// What has become of the output.
enum State {
    /// The content is not there yet.
    Waiting(Output),
    /// It is being filled.
    Writing(Delivery),
    /// A call that had it failed.
    Gone,
}

impl<'a> Transfer<'a> {
    /// A download that will go to `output`.
    pub(super) fn new(
        env: &'a Env,
        daemon: &'a Daemon,
        unfinished: &'a Cell<usize>,
        output: Output,
        link: Link,
    ) -> Self {
        Self { env, daemon, unfinished, link, state: State::Waiting(output), is_durable: false, is_kept: false }
    }

    /// Follows a download to its end: its last message. The output then has been begun.
    pub(super) async fn run(&mut self, mut progress: Progress, meter: &mut Meter<'_>) -> Result<DownResult, Ending> {
        loop {
            let result = progress.next().await?;
            let is_empty = result.done && result.content_length == Some(0);
            if !result.ticket.is_empty() || is_empty {
                self.begin(&result).await?;
            }
            self.keep(&result);
            self.advance(result.contiguous_length).await?;
            meter.observe(self.env.clock.now(), &result);
            self.is_durable = result.is_durable;
            match self.state {
                _ if !result.done => {}
                State::Writing(_) => return Ok(result),
                State::Waiting(_) | State::Gone => {
                    let what = "the daemon finished the download without handing out the content";
                    return Err(Failure::new(Code::Protocol, what).into());
                }
            }
        }
    }

    /// Takes over the content, once.
    async fn begin(&mut self, result: &DownResult) -> Result<(), Ending> {
        let output = match std::mem::replace(&mut self.state, State::Gone) {
            State::Waiting(output) => output,
            other => {
                self.state = other;
                return Ok(());
            }
        };
        let (content, link) = match result.ticket.is_empty() {
            true => (File::open("/dev/null").map_err(|error| local("read nothing", &error))?, Link::Copy),
            false => (self.daemon.redeem(&result.ticket).await?, self.link),
        };
        let len = result.content_length;
        let seen_at = PathBuf::from(&result.content_path);
        let begin = move || Delivery::begin(output, content, &seen_at, link, len);
        let delivery = self.env.blocking(begin).await?;
        self.state = State::Writing(delivery);
        Ok(())
    }

    /// From the first verified byte on there is something to go on with.
    fn keep(&mut self, result: &DownResult) {
        if let State::Writing(delivery) = &mut self.state
            && !self.is_kept
            && result.completed_length > 0
        {
            self.is_kept = delivery.keep();
            self.unfinished.set(self.unfinished.get() + usize::from(self.is_kept));
        }
    }

    /// Delivers what is verified.
    async fn advance(&mut self, end: u64) -> Result<(), Ending> {
        match std::mem::replace(&mut self.state, State::Gone) {
            State::Writing(mut delivery) if delivery.is_due(end) => {
                let advanced = self.env.blocking(move || delivery.advance(end).map(|()| delivery)).await?;
                self.state = State::Writing(advanced);
            }
            other => self.state = other,
        }
        Ok(())
    }

    /// The digest of the content, read back.
    pub(super) async fn digest(&mut self, algorithm: Algorithm, len: u64) -> Result<Option<Digest>, Failure> {
        let State::Writing(delivery) = std::mem::replace(&mut self.state, State::Gone) else { return Ok(None) };
        let hashing = move || delivery.digest(algorithm, len).map(|digest| (delivery, digest));
        let (delivery, digest) = self.env.blocking(hashing).await?;
        self.state = State::Writing(delivery);
        Ok(Some(digest))
    }

    /// Lets the output of `len` bytes appear: how it was delivered, `None` for a stream.
    pub(super) async fn finish(self, len: u64) -> Result<Option<Delivered>, Ending> {
        let State::Writing(delivery) = self.state else { return Ok(None) };
        let (is_private, is_durable) = (self.daemon.is_private, self.is_durable);
        let link = self.env.blocking(move || delivery.finish(len, is_private, is_durable)).await?;
        self.unfinished.set(self.unfinished.get().saturating_sub(usize::from(self.is_kept)));
        Ok(link)
    }
}
