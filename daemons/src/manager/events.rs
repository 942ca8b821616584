//! What happened, lately: a ring of events that watchers follow.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use df_api::manager::{Event, Severity};
use tokio::sync::watch;

use super::convert::Times;
use crate::env::Env;
use crate::sync::lock;

/// Events remembered.
const EVENT_LIMIT: usize = 4096;

/// Longest text of an event, in bytes.
const TEXT_LIMIT: usize = 512;

/// The events. Cheap to clone.
#[derive(Clone)]
pub(super) struct Events(Arc<Inner>);

struct Inner {
    env: Env,
    ring: Mutex<Ring>,
    latest: watch::Sender<u64>,
}

#[derive(Default)]
struct Ring {
    events: VecDeque<Event>,
    last: u64,
}

impl Events {
    pub(super) fn new(env: Env) -> Self {
        Self(Arc::new(Inner { env, ring: Mutex::default(), latest: watch::Sender::new(0) }))
    }

    /// Something happened here.
    pub(super) fn note(&self, severity: Severity, kind: &str, text: String) {
        self.add(Event { severity: severity.into(), kind: kind.to_owned(), text, ..Event::default() });
    }

    /// Something happened; where no time is said, now.
    pub(super) fn add(&self, mut event: Event) {
        if event.at_ms == 0 {
            event.at_ms = Times::of(&self.0.env).now_ms();
        }
        // One line, whoever wrote it.
        event.text = event.text.chars().filter(|c| !c.is_control()).take(TEXT_LIMIT).collect();
        event.kind = event.kind.chars().filter(char::is_ascii_graphic).take(64).collect();
        let mut ring = lock(&self.0.ring);
        ring.last += 1;
        event.sequence = ring.last;
        if ring.events.len() >= EVENT_LIMIT {
            ring.events.pop_front();
        }
        ring.events.push_back(event);
        self.0.latest.send_replace(ring.last);
    }

    /// The number of the latest, as it grows.
    pub(super) fn follow(&self) -> watch::Receiver<u64> {
        self.0.latest.subscribe()
    }

    /// The number of the first of the latest `backlog`.
    pub(super) fn backlog(&self, backlog: u64) -> u64 {
        (lock(&self.0.ring).last + 1).saturating_sub(backlog).max(1)
    }

    /// Events from a number on, at most `limit`; the next number to ask for; and how many are lost.
    pub(super) fn since(&self, from: u64, limit: usize) -> (Vec<Event>, u64, u64) {
        let ring = lock(&self.0.ring);
        let first = ring.events.front().map_or(ring.last + 1, |event| event.sequence);
        let lost = first.saturating_sub(from);
        let start = from.max(first);
        let skipped = usize::try_from(start - first).unwrap_or(usize::MAX);
        let events: Vec<Event> = ring.events.iter().skip(skipped).take(limit).cloned().collect();
        let next = events.last().map_or(start, |event| event.sequence + 1);
        (events, next, lost)
    }
}
