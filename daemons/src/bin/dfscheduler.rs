//! dfscheduler: decides who sends which piece to whom.

use std::process::ExitCode;

use df_daemons::config::SchedulerCommand;
use df_daemons::{launch, scheduler};

fn main() -> ExitCode {
    launch::daemon::<SchedulerCommand, _>(
        "dfscheduler",
        std::env::args_os(),
        |settings| settings.log,
        |env, settings, shutdown| async move {
            let incoming = launch::listen(&env, settings.listen).await?;
            let address = incoming.local_addr().unwrap_or(settings.listen);
            println!("ready listen={address}");
            scheduler::run(env, settings, incoming, shutdown).await
        },
    )
}
