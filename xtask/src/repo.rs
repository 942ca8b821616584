//! The repository as the commands see it: its root, its tracked files, its cargo.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Where `cargo xtask codegen` writes, relative to the root; nobody edits what lies there.
pub(crate) const GENERATED: &str = "daemons/api/src/generated";

/// The folder of the workspace's Cargo.toml.
///
/// Cargo says at run time where the package is. What it said at compile time may be another
/// checkout that builds into the same target folder, for which cargo does not compile again.
///
/// # Errors
/// When cargo did not start this process.
pub(crate) fn root() -> Result<PathBuf> {
    let package = env::var_os("CARGO_MANIFEST_DIR").context("start it as `cargo xtask`")?;
    let root = Path::new(&package).parent().context("the package xtask is in no workspace")?;
    Ok(root.to_path_buf())
}

/// The paths git tracks, relative to the root with `/` between parts, sorted.
///
/// # Errors
/// When git is missing or the root is not in a work tree, and as [`root`].
pub(crate) fn tracked_files() -> Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(root()?)
        .output()
        .context("git does not start: is it installed?")?;
    if !output.status.success() {
        bail!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let mut paths: Vec<String> = String::from_utf8_lossy(&output.stdout)
        .split('\0')
        .filter(|path| !path.is_empty())
        .map(str::to_owned)
        .collect();
    paths.sort();
    // A conflict lists a path once a side.
    paths.dedup();
    Ok(paths)
}

/// The cargo that runs this xtask, ready to be given arguments, in the root.
///
/// `cargo run` describes the package it runs in the environment. Build scripts that watch those
/// variables (ring's does) would run again each time a command is started by hand and then from
/// here, so the inner cargo does not get them.
///
/// # Errors
/// As [`root`].
pub(crate) fn cargo() -> Result<Command> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()?);
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
    }
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::{GENERATED, cargo, root};

    #[test]
    fn the_root_holds_the_workspace_and_the_package_of_the_generated_code() {
        let root = root().expect("cargo runs the tests");
        assert!(root.join("Cargo.lock").is_file());
        let package = GENERATED.strip_suffix("/src/generated").expect("it is in a package's src");
        assert!(root.join(package).join("Cargo.toml").is_file());
    }

    #[test]
    fn an_inner_cargo_does_not_inherit_which_package_the_outer_one_runs() {
        assert!(std::env::var_os("CARGO_PKG_NAME").is_some(), "cargo test sets it");
        let command = cargo().expect("cargo runs the tests");
        let removed: Vec<_> = command.get_envs().filter(|(_, value)| value.is_none()).map(|(name, _)| name).collect();
        assert!(removed.contains(&"CARGO_PKG_NAME".as_ref()));
        assert!(removed.contains(&"CARGO_MANIFEST_DIR".as_ref()));
    }
}
