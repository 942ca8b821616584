//! dfcache: data made on this node, cached in the swarm.

use std::process::ExitCode;

use df_daemons::client;

fn main() -> ExitCode {
    // One thread: the daemon does the work.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("dfcache: cannot begin\n  why: {error}");
            return ExitCode::FAILURE;
        }
    };
    let exit = runtime.block_on(client::cache::run(std::env::args_os()));
    // A call that blocks, such as a read of an idle pipe, must not keep us.
    runtime.shutdown_background();
    exit.into()
}
