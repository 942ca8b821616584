//! Which manager is asked, and with which token.

use std::env;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clap::Args;
use df_api::failure::{Code, Failure};

use crate::poller::Manager;

/// A token is one line; a file with more is something else.
const TOKEN_LIMIT: usize = 4096;

/// Flags that dfconsole and dfctl share.
#[derive(Args, Clone, Debug)]
pub struct Access {
    /// The manager's gRPC address
    #[arg(
        short,
        long,
        global = true,
        value_name = "HOST:PORT",
        env = "DAMSELFLY_MANAGER",
        default_value = "127.0.0.1:65003"
    )]
    pub manager: String,
    /// The cluster to look at [default: the manager's default cluster]
    #[arg(long, global = true, value_name = "NAME", env = "DAMSELFLY_CLUSTER")]
    pub cluster: Option<String>,
    /// A file with a token [default: DAMSELFLY_TOKEN, else the one that dfctl login left]
    #[arg(long, global = true, value_name = "PATH", env = "DAMSELFLY_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
}

impl Access {
    /// The manager, to be called with the token there is.
    ///
    /// # Errors
    /// An address that is none, a token file that cannot be read.
    pub fn manager(&self) -> Result<Manager, Failure> {
        Manager::new(&self.manager, self.token()?.as_deref())
    }

    /// The token: of the file that was named, of the environment, or of the last sign-in.
    fn token(&self) -> Result<Option<String>, Failure> {
        if let Some(path) = &self.token_file {
            let none = || Failure::new(Code::LocalIo, format!("there is no token in {}", path.display()));
            return read(path)?.ok_or_else(none).map(Some);
        }
        if let Some(token) = env::var("DAMSELFLY_TOKEN").ok().filter(|token| !token.trim().is_empty()) {
            return Ok(Some(token.trim().to_owned()));
        }
        kept_at().map_or(Ok(None), |path| read(&path))
    }
}

/// Where a session is kept: a file of this user's alone.
fn kept_at() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")))?;
    Some(folder.join("damselfly").join("token"))
}

fn read(path: &Path) -> Result<Option<String>, Failure> {
    let failed = |error| Failure::new(Code::LocalIo, format!("cannot read {}", path.display())).because(error);
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let token = text.trim();
    if token.len() > TOKEN_LIMIT || token.contains(char::is_whitespace) {
        return Err(Failure::new(Code::Usage, format!("{} holds no token", path.display())));
    }
    Ok(Some(token.to_owned()).filter(|token| !token.is_empty()))
}

/// Keeps a session for the next call; gives where.
///
/// # Errors
/// When it cannot be written.
pub fn keep(token: &str) -> Result<PathBuf, Failure> {
    let none =
        || Failure::new(Code::LocalIo, "there is no place to keep the token").hint("set HOME or XDG_CONFIG_HOME");
    let path = kept_at().ok_or_else(none)?;
    let failed = |error| Failure::new(Code::LocalIo, format!("cannot write {}", path.display())).because(error);
    write(&path, token).map_err(failed)?;
    Ok(path)
}

fn write(path: &Path, token: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    // One that was there before may have been open to others.
    file.set_permissions(Permissions::from_mode(0o600))?;
    writeln!(file, "{token}")
}

/// Forgets the session that was kept, if one was.
///
/// # Errors
/// When it cannot be removed.
pub fn forget() -> Result<(), Failure> {
    let Some(path) = kept_at() else { return Ok(()) };
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Failure::new(Code::LocalIo, format!("cannot remove {}", path.display())).because(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_kept_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/token");
        assert_eq!(read(&path), Ok(None));
        write(&path, "dfs_x").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        write(&path, "dfs_y").unwrap();
        assert_eq!(read(&path), Ok(Some("dfs_y".to_owned())));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_with_more_than_a_token_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "one two\n").unwrap();
        assert_eq!(read(&path).unwrap_err().code, Code::Usage);
        fs::write(&path, "\n").unwrap();
        assert_eq!(read(&path), Ok(None));
    }
}
