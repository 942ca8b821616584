//! Panics of tasks that nobody joins: kept, so that they end the run.

use std::sync::Mutex;

use df_daemons::sync::lock;

static LAST: Mutex<Option<String>> = Mutex::new(None);

/// From now on panics are kept instead of being printed.
pub fn keep() {
    std::panic::set_hook(Box::new(|panic| {
        let mut last = lock(&LAST);
        if last.is_none() {
            *last = Some(panic.to_string());
        }
    }));
}

/// The first panic since this was last asked.
pub fn last() -> Option<String> {
    lock(&LAST).take()
}
