//! dfmanager: keeps clusters, what holds in them, users and preheats.

use std::process::ExitCode;

use df_daemons::config::ManagerCommand;
use df_daemons::launch;

fn main() -> ExitCode {
    launch::daemon::<ManagerCommand, _>("dfmanager", std::env::args_os(), |settings| settings.log, launch::run_manager)
}
