//! The machine of a peer as parent: whom it serves, and how many at once.
//!
//! Requests are admitted or refused at once, never queued: a queue would decide too early and book
//! children that then wait. Whoever is refused asks its scheduler, or somebody else.
//!
//! # Invariants
//! - I1: every admitted upload has exactly one lease; a lease ends by release or by itself.
//! - I2: while the host takes itself for the culprit it admits nobody.

use crate::machine::{Machine, Outbox};
use crate::time::{Deadline, Duration, Instant};
use crate::upload_slots::UploadSlots;
pub use crate::upload_slots::{SlotLease, SlotLimits};

/// Names a child's request; chosen by the driver.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UploadRequest(pub u64);

/// Who asks: whatever the driver can vouch for, such as the address of the connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Child(pub u128);

/// What the uploader is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Input {
    /// A child asks for bytes.
    UploadRequested {
        /// Named in the answer.
        request: UploadRequest,
        /// Who asks.
        child: Child,
    },
    /// Bytes of an upload went out.
    UploadProgressed {
        /// The upload.
        lease: SlotLease,
    },
    /// An upload ended, well or not.
    UploadEnded {
        /// The upload.
        lease: SlotLease,
    },
    /// The limits changed.
    LimitsChanged(SlotLimits),
    /// Whether this host may serve at all.
    StandingChanged {
        /// Whether it is sound.
        is_sound: bool,
    },
}

/// What the uploader wants done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// Serve a request.
    Admit {
        /// The request.
        request: UploadRequest,
        /// To be named in all that follows.
        lease: SlotLease,
    },
    /// Turn a request away.
    Refuse {
        /// The request.
        request: UploadRequest,
        /// When it may be worth another try.
        retry_after: Duration,
    },
    /// Cut an upload off: its lease ran out.
    Abort {
        /// The upload.
        lease: SlotLease,
    },
}

/// What a refused child is told to wait.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// See the [module](self).
#[derive(Debug)]
pub struct Uploader {
    slots: UploadSlots<Child>,
    is_sound: bool,
    outbox: Outbox<Output>,
}

impl Uploader {
    /// An uploader that serves nobody yet.
    pub const fn new(limits: SlotLimits) -> Self {
        Self { slots: UploadSlots::new(limits), is_sound: true, outbox: Outbox::new() }
    }

    /// Uploads now.
    pub fn in_use(&self) -> u32 {
        self.slots.in_use()
    }

    /// Load in thousandths of the limit.
    pub fn load_permille(&self) -> u32 {
        self.slots.load_permille()
    }
}

impl Machine for Uploader {
    type Input = Input;
    type Output = Output;

    fn handle_input(&mut self, now: Instant, input: Input) {
        match input {
            Input::UploadRequested { request, child } => {
                let lease = if self.is_sound { self.slots.try_acquire(now, child) } else { None };
                self.outbox.push(match lease {
                    Some(lease) => Output::Admit { request, lease },
                    None => Output::Refuse { request, retry_after: RETRY_AFTER },
                });
            }
            Input::UploadProgressed { lease } => {
                if !self.slots.renew(now, lease) {
                    self.outbox.push(Output::Abort { lease });
                }
            }
            Input::UploadEnded { lease } => drop(self.slots.release(lease)),
            Input::LimitsChanged(limits) => self.slots.set_limits(limits),
            Input::StandingChanged { is_sound } => self.is_sound = is_sound,
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        for lease in self.slots.expire(now) {
            self.outbox.push(Output::Abort { lease });
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outbox.pop()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.slots.next_expiry().map(|at| Deadline::new(at, "upload lease"))
    }

    fn check_invariants(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: SlotLimits = SlotLimits { slot_limit: 1, per_child_limit: 1, lease_term: Duration::from_secs(10) };

    fn ask(uploader: &mut Uploader, request: u64) -> Option<SlotLease> {
        let input = Input::UploadRequested { request: UploadRequest(request), child: Child(request.into()) };
        uploader.handle_input(Instant::ZERO, input);
        match uploader.poll_output() {
            Some(Output::Admit { lease, .. }) => Some(lease),
            Some(Output::Refuse { .. }) => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_full_house_refuses_and_an_end_makes_room() {
        let mut uploader = Uploader::new(LIMITS);
        let lease = ask(&mut uploader, 1).unwrap();
        assert_eq!(ask(&mut uploader, 2), None);
        uploader.handle_input(Instant::ZERO, Input::UploadEnded { lease });
        assert!(ask(&mut uploader, 3).is_some());
    }

    #[test]
    fn a_host_that_doubts_itself_serves_nobody() {
        let mut uploader = Uploader::new(LIMITS);
        uploader.handle_input(Instant::ZERO, Input::StandingChanged { is_sound: false });
        assert_eq!(ask(&mut uploader, 1), None);
        uploader.handle_input(Instant::ZERO, Input::StandingChanged { is_sound: true });
        assert!(ask(&mut uploader, 2).is_some());
    }

    #[test]
    fn a_child_that_vanished_is_cut_off() {
        let mut uploader = Uploader::new(LIMITS);
        let lease = ask(&mut uploader, 1).unwrap();
        let end = uploader.poll_timeout().unwrap().at;
        uploader.handle_timeout(end);
        assert_eq!(uploader.poll_output(), Some(Output::Abort { lease }));
        uploader.handle_input(end, Input::UploadProgressed { lease });
        assert_eq!(uploader.poll_output(), Some(Output::Abort { lease }), "late news end the upload as well");
    }
}
