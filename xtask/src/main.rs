//! `cargo xtask`: everything this repository automates, one command a file.
//!
//! A new command is a new file with one type that implements [`Task`], and one line in
//! [`COMMANDS`]. It runs `cargo` and `git`, reads and writes files of the repository, and depends on
//! no other package of the workspace, so that it builds when they do not.

use std::process::ExitCode;

use anyhow::Result;
use clap::{ArgMatches, Command, Parser};

mod bench;
mod ci;
mod codegen;
mod demo;
mod dfcache_table;
mod repo;
mod sim;
mod tidy;

/// Every command, in the order `--help` lists them.
const COMMANDS: &[Entry] = &[
    Entry::of::<bench::Bench>(),
    Entry::of::<ci::Ci>(),
    Entry::of::<codegen::Codegen>(),
    Entry::of::<demo::Demo>(),
    Entry::of::<dfcache_table::DfcacheTable>(),
    Entry::of::<sim::Sim>(),
    Entry::of::<tidy::Tidy>(),
];

/// A command: its flags are its fields, its name and help are those of its clap `Command`.
trait Task: Parser {
    /// Does the work. An error is printed and ends the process with exit code 1.
    fn run(self) -> Result<()>;
}

/// A [`Task`] with its type forgotten, so that a table can hold it.
struct Entry {
    define: fn() -> Command,
    run: fn(&ArgMatches) -> Result<()>,
}

impl Entry {
    const fn of<T: Task>() -> Entry {
        Entry { define: T::command, run: |matches| T::from_arg_matches(matches)?.run() }
    }
}

fn command_line() -> Command {
    Command::new("xtask")
        .bin_name("cargo xtask")
        .about("Automates the work on this repository")
        .after_help("What must pass before a change is merged: cargo xtask ci")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(COMMANDS.iter().map(|entry| (entry.define)()))
}

fn main() -> ExitCode {
    let matches = command_line().get_matches();
    let Some((name, matches)) = matches.subcommand() else { return ExitCode::FAILURE };
    let Some(entry) = COMMANDS.iter().find(|entry| (entry.define)().get_name() == name) else {
        return ExitCode::FAILURE;
    };
    match (entry.run)(matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::command_line;

    #[test]
    fn every_command_is_well_formed_and_says_what_it_is_for() {
        let mut line = command_line();
        line.build();
        line.clone().debug_assert();
        for command in line.get_subcommands().filter(|command| command.get_name() != "help") {
            assert!(command.get_about().is_some(), "{} has no one-line help", command.get_name());
            assert!(command.get_long_about().is_some(), "{} has no long help", command.get_name());
        }
    }
}
