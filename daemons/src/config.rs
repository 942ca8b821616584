//! Configuration: flags over environment over file over defaults, and where every value came from.
//!
//! A program's settings are one struct; a leaf of it has a dotted key, such as `rpc.port`. A flag that
//! sets it has that key as its id, so the struct is the one list of what can be configured. A file
//! is checked against the struct by itself, so that a mistake is told with its line; then the layers
//! are put over each other and the whole is checked once more, so that a mistake in a flag or the
//! environment is told with its name.

mod address;
mod layers;
mod manager;
mod membership;
mod mistake;
mod peer;
mod scheduler;
mod surroundings;
mod value;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, Parser};
use df_api::failure::{Code, Failure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use yaml_serde::Value;

pub use address::HostPort;
pub use manager::{ManagerCommand, ManagerFlags, ManagerSettings};
pub use membership::{ManagerAddress, ManagerLink};
pub use peer::{
    Download, HostIdentity, Log, LogFormat, LogLevel, PeerCommand, PeerConfig, PeerFlags, Port, Schedulers, SeedPeer,
    Source, Store, Upload,
};
pub use scheduler::{Limits, SchedulerCommand, SchedulerFlags, SchedulerSettings};
pub use surroundings::Surroundings;
pub(crate) use value::within;

/// Most bytes of a configuration file.
const FILE_LIMIT: u64 = 1 << 20;

/// What a program can be told by file, environment and flags.
pub trait Settings: Serialize + DeserializeOwned {
    /// Name of its file in the configuration folders.
    const FILE_NAME: &'static str;

    /// The values of what is not given; some depend on what is.
    fn defaults(around: &Surroundings, given: &Given) -> Self;
}

/// The command line of a program that has settings.
pub trait CommandLine: Parser {
    /// What it configures.
    type Settings: Settings;
    /// Its flags that are settings, serialised as a map from dotted keys to what was given.
    type Flags: Serialize;

    /// The flags that are settings.
    fn flags(&self) -> &Self::Flags;

    /// The flags on the configuration itself.
    fn config(&self) -> &ConfigFlags;
}

/// Flags on the configuration itself, the same for every program.
#[derive(Args, Clone, Default, Debug)]
#[command(next_help_heading = "Configuration")]
pub struct ConfigFlags {
    /// Read the configuration from FILE
    ///
    /// Without it, the program's file in $XDG_CONFIG_HOME/damselfly (or ~/.config/damselfly) is read
    /// if there is one, else that in /etc/damselfly.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the effective configuration as YAML, with where each value came from, and exit
    #[arg(long)]
    pub print_config: bool,
    /// Check the configuration, say ok or what is wrong (exit code 2), and exit
    #[arg(long)]
    pub check_config: bool,
}

/// Where a value came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Nobody gave it.
    Default,
    /// This configuration file.
    File(PathBuf),
    /// This variable of the environment.
    Env(String),
    /// This flag of the command line.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Env(name) => write!(f, "env {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// The values that somebody gave, by dotted key.
#[derive(Default, Debug)]
pub struct Given(BTreeMap<String, (Value, Origin)>);

impl Given {
    /// The text given for a key.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|(value, _)| value.as_str())
    }

    fn origin(&self, key: &str) -> &Origin {
        self.0.get(key).map_or(&Origin::Default, |(_, origin)| origin)
    }

    /// Puts a layer over what is there.
    fn put(&mut self, layer: Vec<(String, Value)>, origin: impl Fn(&str) -> Origin) {
        for (key, value) in layer {
            let origin = origin(&key);
            self.0.insert(key, (value, origin));
        }
    }
}

/// Settings in effect, and where they came from.
#[derive(Debug)]
pub struct Loaded<T> {
    /// The settings.
    pub settings: T,
    given: Given,
}

impl<T: Settings> Loaded<T> {
    /// The origin of the value with this dotted key.
    pub fn origin(&self, key: &str) -> &Origin {
        self.given.origin(key)
    }

    /// The settings as YAML, each value with its origin in a comment behind it.
    ///
    /// # Errors
    /// None for settings that were loaded: they came through YAML.
    pub fn print(&self) -> Result<String, Failure> {
        let tree = yaml_serde::to_value(&self.settings).map_err(internal)?;
        Ok(layers::print(&tree, |key| self.origin(key).to_string()))
    }

    /// What `--print-config` and `--check-config` answer, if one of them was given.
    ///
    /// # Errors
    /// As [`Loaded::print`].
    pub fn answer(&self, flags: &ConfigFlags) -> Result<Option<String>, Failure> {
        match flags {
            ConfigFlags { print_config: true, .. } => self.print().map(Some),
            ConfigFlags { check_config: true, .. } => Ok(Some("ok\n".to_owned())),
            _ => Ok(None),
        }
    }
}

/// Reads a command line (the first argument is the program's name), its environment and the file.
/// A command line that clap refuses or answers itself (`--help`) ends the process here.
///
/// # Errors
/// [`Code::Usage`] for a configuration that is wrong, [`Code::LocalIo`] for a file that cannot be
/// read.
pub fn load<C: CommandLine>(
    arguments: impl IntoIterator<Item = OsString>,
    around: &Surroundings,
) -> Result<(C, Loaded<C::Settings>), Failure> {
    let mut command = C::command();
    let matches =
        command.try_get_matches_from_mut(arguments).unwrap_or_else(|error| with_origin(error, &command).exit());
    let line = C::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let mut given = Given::default();
    if let Some((path, text)) = file(line.config().config.as_deref(), &around.config_files(C::Settings::FILE_NAME))? {
        given.put(read_file::<C::Settings>(&path, &text)?, |_| Origin::File(path.clone()));
    }
    let flags = yaml_serde::to_value(line.flags()).map_err(internal)?;
    given.put(layers::flatten(flags), |key| flag_origin(&command, &matches, key));
    let settings = merge(C::Settings::defaults(around, &given), &given)?;
    Ok((line, Loaded { settings, given }))
}

/// An error of clap, with the variable that the value it complains about came from: clap names the
/// flag alone, which nobody may have typed.
fn with_origin(mut error: clap::Error, command: &Command) -> clap::Error {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let (arg, value) = (context(ContextKind::InvalidArg), context(ContextKind::InvalidValue));
    let flag = command.get_arguments().find(|flag| Some(flag.to_string().as_str()) == arg);
    let name = flag.and_then(|flag| flag.get_env());
    let is_from_env = name.and_then(std::env::var_os).is_some_and(|text| text.to_str() == value);
    if let (true, Some(name)) = (is_from_env, name) {
        let tip = format!("the value is that of the environment variable {}", name.to_string_lossy());
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

/// The text of the file that was named, or else of the first that is there.
fn file(named: Option<&Path>, usual: &[PathBuf]) -> Result<Option<(PathBuf, String)>, Failure> {
    let read = |path: &Path| -> io::Result<String> {
        let mut text = String::new();
        File::open(path)?.take(FILE_LIMIT + 1).read_to_string(&mut text)?;
        if text.len() as u64 > FILE_LIMIT {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {FILE_LIMIT} bytes")));
        }
        Ok(text)
    };
    let named_alone = named.map(Path::to_owned);
    for path in named_alone.as_ref().map_or(usual, std::slice::from_ref) {
        match read(path) {
            Ok(text) => return Ok(Some((path.clone(), text))),
            Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => {}
            Err(error) => {
                let message = format!("cannot read the configuration file {}", path.display());
                return Err(Failure::new(Code::LocalIo, message).because(error));
            }
        }
    }
    Ok(None)
}

/// The leaves of a file that has none but known keys with good values.
fn read_file<T: Settings>(path: &Path, text: &str) -> Result<Vec<(String, Value)>, Failure> {
    let wrong = |error| mistake::in_file(path, &error);
    let tree: Value = yaml_serde::from_str(text).map_err(wrong)?;
    if tree.is_null() {
        return Ok(Vec::new());
    }
    yaml_serde::from_str::<T>(text).map_err(wrong)?;
    Ok(layers::flatten(tree))
}

/// What was given over the defaults.
fn merge<T: Settings>(defaults: T, given: &Given) -> Result<T, Failure> {
    let mut tree = yaml_serde::to_value(defaults).map_err(internal)?;
    for (key, (value, _)) in &given.0 {
        layers::set(&mut tree, key, value.clone());
    }
    // By way of a text, because only then do errors name the key.
    let text = yaml_serde::to_string(&tree).map_err(internal)?;
    yaml_serde::from_str(&text).map_err(|error| mistake::in_value(&error, |key| given.origin(key).to_string()))
}

fn flag_origin(command: &Command, matches: &ArgMatches, key: &str) -> Origin {
    let arg = command.get_arguments().find(|arg| arg.get_id() == key);
    let env = arg.and_then(|arg| arg.get_env()).map(|name| name.to_string_lossy().into_owned());
    match (matches.value_source(key), env) {
        (Some(ValueSource::EnvVariable), Some(name)) => Origin::Env(name),
        _ => Origin::Flag(format!("--{}", arg.and_then(|arg| arg.get_long()).unwrap_or(key))),
    }
}

fn internal(error: yaml_serde::Error) -> Failure {
    Failure::new(Code::Internal, "the configuration cannot be written as YAML").because(error)
}

#[cfg(test)]
mod tests;
