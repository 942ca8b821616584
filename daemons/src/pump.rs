//! One task that owns one machine: facts in by a bounded inbox, effects out to a driver.

use df_core::machine::Machine;
use df_core::time::{Deadline, Instant};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio_util::sync::CancellationToken;

use crate::env::watch::Seen;
use crate::env::{Clock, Env};

/// Inputs that may wait for a machine. Whoever sends one more waits.
const INBOX_LIMIT: usize = 4096;

/// Inputs handled before the driver is asked to send what it has gathered.
const BATCH_LIMIT: usize = 256;

/// Carries out what a machine wants. Neither call may wait: work that takes time is spawned and
/// ends by sending exactly one input.
pub trait Driver<M: Machine>: Send + 'static {
    /// Carries out one effect.
    fn act(&mut self, machine: &M, output: M::Output);

    /// The machine has nothing more to say for now: what was gathered can go out together.
    fn settled(&mut self, machine: &M);
}

/// Where a machine's inputs are sent. Cheap to clone.
pub struct Inbox<I>(mpsc::Sender<I>);

impl<I> Clone for Inbox<I> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<I> Inbox<I> {
    /// Tells the machine something, waiting for room. A machine that has stopped hears nothing.
    pub async fn tell(&self, input: I) {
        let _ = self.0.send(input).await;
    }

    /// Tells the machine something from code that cannot wait; false if the inbox is full or the
    /// machine has stopped.
    pub fn try_tell(&self, input: I) -> bool {
        self.0.try_send(input).is_ok()
    }

    /// Tells the machine something from code that cannot wait and has to be heard: if the inbox is full, as soon as
    /// there is room.
    pub fn tell_soon(&self, input: I)
    where
        I: Send + 'static,
    {
        if let Err(TrySendError::Full(input)) = self.0.try_send(input) {
            let inbox = self.clone();
            tokio::spawn(async move { inbox.tell(input).await });
        }
    }
}

/// The receiving end, until the machine is started.
pub struct Mail<I>(mpsc::Receiver<I>);

/// An inbox and its receiving end: made first, so that a driver can hold the inbox of its own
/// machine.
pub fn inbox<I>() -> (Inbox<I>, Mail<I>) {
    let (sender, receiver) = mpsc::channel(INBOX_LIMIT);
    (Inbox(sender), Mail(receiver))
}

/// Runs a machine until `shutdown` or until nobody is left who could tell it anything.
pub async fn run<M, D>(env: Env, mut machine: M, mut driver: D, mut mail: Mail<M::Input>, shutdown: CancellationToken)
where
    M: Machine + Seen + Send,
    M::Input: Seen + Send,
    M::Output: Seen,
    D: Driver<M>,
{
    let mut checks = Checks { clock: env.clock.clone(), next: Instant::ZERO };
    loop {
        drain(&env, &mut machine, &mut driver, &mut checks);
        driver.settled(&machine);
        if let Some(watch) = &env.watch {
            watch.settled(&machine);
        }
        let deadline = machine.poll_timeout();
        tokio::select! { biased;
            () = shutdown.cancelled() => return,
            () = sleep_until(&env.clock, deadline) => machine.handle_timeout(env.clock.now()),
            input = mail.0.recv() => {
                let Some(input) = input else { return };
                hear(&env, &mut machine, input);
                for _ in 1..BATCH_LIMIT {
                    drain(&env, &mut machine, &mut driver, &mut checks);
                    let Ok(input) = mail.0.try_recv() else { break };
                    hear(&env, &mut machine, input);
                }
            }
        }
    }
}

fn hear<M: Machine>(env: &Env, machine: &mut M, input: M::Input)
where
    M::Input: Seen,
{
    tracing::trace!(?input, "told");
    if let Some(watch) = &env.watch {
        watch.told(&input);
    }
    machine.handle_input(env.clock.now(), input);
}

/// When a machine's invariants are checked: after each step as long as that takes no time, as in a
/// simulation, whose clock stands still; else so that at most half of the time goes into it, for a check
/// looks at everything the machine knows.
struct Checks {
    clock: Clock,
    next: Instant,
}

impl Checks {
    fn check<M: Machine>(&mut self, machine: &M) {
        let begun = self.clock.now();
        if cfg!(debug_assertions) && begun >= self.next {
            machine.check_invariants();
            let ended = self.clock.now();
            self.next = ended + (ended - begun);
        }
    }
}

fn drain<M: Machine + Seen, D: Driver<M>>(env: &Env, machine: &mut M, driver: &mut D, checks: &mut Checks)
where
    M::Output: Seen,
{
    checks.check(machine);
    while let Some(output) = machine.poll_output() {
        tracing::trace!(?output, "wants");
        if let Some(watch) = &env.watch {
            watch.wants(machine, &output);
        }
        driver.act(machine, output);
    }
}

async fn sleep_until(clock: &Clock, deadline: Option<Deadline>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(clock.at(deadline.at)).await,
        None => std::future::pending().await,
    }
}
