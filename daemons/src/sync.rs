//! Locks: in memory for short sections, never held across an await; on files against other processes.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often a file that is locked is tried, and the pause in between: half a second together.
const FILE_TRIES: u32 = 50;
const FILE_PAUSE: Duration = Duration::from_millis(10);

/// Takes a lock that outlives a panic of another holder: what such a lock guards is consistent after
/// every statement, and one failed request must not end the daemon.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tries to lock a file until it is got, for half a second at most. Blocks. A lock that was just
/// let go of may be held on by a child that another thread is starting, until that child runs its
/// own program; and a process that was told to end takes a moment.
pub(crate) fn await_file<T>(mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    for _ in 1..FILE_TRIES {
        if let Some(got) = attempt() {
            return Some(got);
        }
        std::thread::sleep(FILE_PAUSE);
    }
    attempt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_tried_until_it_is_got_and_not_for_ever() {
        let mut tries = 0;
        let third = await_file(|| {
            tries += 1;
            (tries == 3).then_some(tries)
        });
        assert_eq!((third, tries), (Some(3), 3));
        assert_eq!(await_file(|| None::<()>), None);
    }
}
