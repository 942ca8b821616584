//! dfctl: a cluster from scripts.

use std::process::ExitCode;

fn main() -> ExitCode {
    df_tui::control::main().into()
}
