//! dfdaemon: a node of the swarm.

use std::process::ExitCode;

use df_daemons::config::PeerCommand;
use df_daemons::launch;

fn main() -> ExitCode {
    launch::daemon::<PeerCommand, _>("dfdaemon", std::env::args_os(), |config| config.log, launch::run_peer)
}
