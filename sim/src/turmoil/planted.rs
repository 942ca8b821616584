//! Bugs that can be planted in the daemons, to see that they are found.

use anyhow::{Context, Result, bail};
use df_core::planted::Bug;

/// The names of all bugs.
///
/// # Errors
/// If this program was built without them.
pub fn names() -> Result<Vec<&'static str>> {
    if !cfg!(feature = "planted") {
        bail!("this simulator was built without bugs; cargo xtask sim builds it with them when it is told --planted");
    }
    Ok(Bug::ALL.iter().map(|(_, name)| *name).collect())
}

/// Plants one for as long as this process runs.
///
/// # Errors
/// For an unknown name, and if this program was built without them.
pub fn plant(name: &str) -> Result<()> {
    names()?;
    let (bug, _) =
        Bug::ALL.iter().find(|(_, known)| *known == name).with_context(|| format!("no bug is called {name}"))?;
    #[cfg(feature = "planted")]
    df_core::planted::plant(*bug);
    let _ = bug;
    Ok(())
}
