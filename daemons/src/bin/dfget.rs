//! dfget: downloads files through the swarm.

use std::process::ExitCode;

use df_daemons::client;

fn main() -> ExitCode {
    let arguments = std::env::args_os();
    // What dfget starts in the background is itself; no URL is that word.
    if std::env::args_os().nth(1).is_some_and(|word| word == "daemon") {
        return client::daemon_main(["dfget daemon".into()].into_iter().chain(arguments.skip(2)));
    }
    // One thread: the daemon does the work.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("dfget: cannot begin\n  why: {error}");
            return ExitCode::FAILURE;
        }
    };
    let exit = runtime.block_on(client::run(arguments));
    // A call that blocks, such as a write to a full pipe, must not keep us.
    runtime.shutdown_background();
    exit.into()
}
