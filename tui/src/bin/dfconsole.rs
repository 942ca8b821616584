//! dfconsole: the cluster on a terminal.

use std::process::ExitCode;

fn main() -> ExitCode {
    df_tui::console::main().into()
}
