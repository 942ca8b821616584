//! Locks for short sections, never held across an await.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a lock that outlives a panic of another holder: what such a lock guards is consistent after
/// every statement, and one failed request must not end the daemon.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
