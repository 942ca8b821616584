//! Bugs that can be planted in the daemons, to see that they are found.

use anyhow::{Result, bail};

/// The names of all bugs.
///
/// # Errors
/// If this program was built without them.
pub fn names() -> Result<Vec<&'static str>> {
    bail!("this simulator was built without planted bugs: run it as cargo xtask sim --planted");
}

/// Plants one for as long as this process runs.
///
/// # Errors
/// For an unknown name, and if this program was built without them.
pub fn plant(_name: &str) -> Result<()> {
    names().map(drop)
}
