//! The downloader's invariants, checked after each step when debug assertions are on.

use super::Downloader;
use super::in_flight::{IN_FLIGHT_LIMIT, Stage};

impl Downloader {
    /// Panics with the number of the invariant that does not hold.
    pub(super) fn check(&self) {
        for (fetch, task) in &self.fetches {
            let session = self.sessions.get(task);
            let is_known = session.is_some_and(|session| {
                session.source.as_ref().is_some_and(|source| source.fetch == *fetch)
                    || session.in_flight.iter().any(|f| f.fetch == *fetch && f.stage == Stage::Arriving)
            });
            assert!(is_known, "I1: {fetch:?} belongs to nothing");
        }
        for session in self.sessions.values() {
            assert!(session.in_flight.len() <= IN_FLIGHT_LIMIT, "I2: {} transfers", session.in_flight.len());
            for (at, flight) in session.in_flight.iter().enumerate() {
                assert!(!session.held.contains(flight.piece), "I3: {:?} is here already", flight.piece);
                let rest = &session.in_flight[at + 1..];
                assert!(rest.iter().all(|other| other.piece != flight.piece), "I3: {:?} twice", flight.piece);
                let is_arriving = flight.stage == Stage::Arriving;
                assert_eq!(self.fetches.contains_key(&flight.fetch), is_arriving, "I1: {flight:?}");
            }
            assert!(!session.is_complete(), "I4: a complete session is over");
        }
    }
}
