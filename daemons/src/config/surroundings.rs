//! What this host and this user give a configuration to start from: folders, names, addresses.

use std::env;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;

/// Name of our folder in the system's and the user's folders.
const FOLDER: &str = "damselfly";

/// Name of a daemon's socket in its folder.
const SOCKET: &str = "dfdaemon.sock";

/// Where the system and the user keep things.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Surroundings {
    /// Whether the user is root, who uses the system's folders.
    pub is_root: bool,
    /// `$XDG_CONFIG_HOME`, or what stands for it.
    pub config_home: Option<PathBuf>,
    /// `$XDG_DATA_HOME`, or what stands for it.
    pub data_home: Option<PathBuf>,
    /// `$XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
}

impl Surroundings {
    /// Those of this process.
    pub fn look() -> Self {
        // Relative paths there are to be ignored (XDG base directory specification, "Basics").
        let folder = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = folder("HOME");
        let in_home = |name: &str, otherwise: &str| folder(name).or_else(|| Some(home.as_ref()?.join(otherwise)));
        Self {
            is_root: rustix::process::geteuid().is_root(),
            config_home: in_home("XDG_CONFIG_HOME", ".config"),
            data_home: in_home("XDG_DATA_HOME", ".local/share"),
            runtime_dir: folder("XDG_RUNTIME_DIR"),
        }
    }

    /// Files to read a configuration from, best first.
    pub fn config_files(&self, name: &str) -> Vec<PathBuf> {
        let user = self.config_home.iter().map(|home| home.join(FOLDER).join(name));
        user.chain([PathBuf::from("/etc").join(FOLDER).join(name)]).collect()
    }

    /// Where a daemon of this user keeps its contents.
    pub fn data_dir(&self) -> PathBuf {
        match (&self.data_home, self.is_root) {
            (Some(home), false) => home.join(FOLDER),
            (_, true) => PathBuf::from("/var/lib").join(FOLDER),
            // A user without a home has nothing better.
            (None, false) => env::temp_dir().join(format!("{FOLDER}-{}", rustix::process::geteuid())),
        }
    }

    /// Where a daemon of this user that keeps its contents in `data_dir` listens for local callers.
    pub fn socket(&self, data_dir: &std::path::Path) -> PathBuf {
        match (&self.runtime_dir, self.is_root) {
            (_, true) => Self::system_socket(),
            (Some(dir), false) => dir.join(FOLDER).join(SOCKET),
            (None, false) => data_dir.join(SOCKET),
        }
    }

    /// Where the system's daemon listens for local callers.
    pub fn system_socket() -> PathBuf {
        PathBuf::from("/run").join(FOLDER).join(SOCKET)
    }

    /// The name of this host.
    pub fn hostname() -> String {
        let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        match name.trim() {
            "" => "localhost".to_owned(),
            name => name.to_owned(),
        }
    }

    /// The address under which other hosts reach this one: the one it sends from, or else the first
    /// it has that is not loopback; alone, 127.0.0.1.
    pub fn address() -> IpAddr {
        let sent_from = || TEST_NETS.into_iter().find_map(source_address);
        let first = || first_address(&fs::read_to_string("/proc/net/fib_trie").unwrap_or_default());
        sent_from().or_else(first).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }
}

/// Addresses for documentation (RFC 5737, RFC 3849): somewhere behind the default route, and nobody's.
const TEST_NETS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1))];

/// The address this host would send from to reach `there`. Connecting a UDP socket sends nothing.
fn source_address(there: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = if there.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(SocketAddr::new(there, 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

/// The first address that is not loopback in the kernel's table of local routes.
fn first_address(fib_trie: &str) -> Option<IpAddr> {
    let mut last: Option<Ipv4Addr> = None;
    for line in fib_trie.lines().map(str::trim) {
        match line.strip_prefix("|-- ") {
            Some(address) => last = address.parse().ok(),
            None if line == "/32 host LOCAL" && last.is_some_and(|address| !address.is_loopback()) => {
                return last.map(IpAddr::V4);
            }
            None => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn root_uses_the_systems_folders_and_others_their_own() {
        let user = Surroundings {
            is_root: false,
            config_home: Some("/h/.config".into()),
            data_home: Some("/h/data".into()),
            runtime_dir: Some("/run/user/7".into()),
        };
        assert_eq!(user.data_dir(), Path::new("/h/data/damselfly"));
        assert_eq!(user.socket(Path::new("/d")), Path::new("/run/user/7/damselfly/dfdaemon.sock"));
        let files = ["/h/.config/damselfly/x.yaml", "/etc/damselfly/x.yaml"].map(PathBuf::from);
        assert_eq!(user.config_files("x.yaml"), files);

        let root = Surroundings { is_root: true, ..user.clone() };
        assert_eq!(root.data_dir(), Path::new("/var/lib/damselfly"));
        assert_eq!(root.socket(Path::new("/d")), Path::new("/run/damselfly/dfdaemon.sock"));

        let bare = Surroundings { runtime_dir: None, ..user };
        assert_eq!(bare.socket(Path::new("/d")), Path::new("/d/dfdaemon.sock"));
    }

    #[test]
    fn the_first_address_is_no_loopback_broadcast_or_network() {
        let table = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 127.0.0.0\n        /8 host LOCAL\n     |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 10.0.0.0\n        /24 link UNICAST\n     |-- 10.0.0.255\n        /32 link BROADCAST\n     |-- 10.0.0.7\n        /32 host LOCAL\n";
        assert_eq!(first_address(table), Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7))));
        assert_eq!(first_address(""), None);
        assert_eq!(first_address("|-- x\n/32 host LOCAL\n"), None);
    }

    #[test]
    fn this_host_has_a_name_and_an_address() {
        assert!(!Surroundings::hostname().is_empty());
        assert!(!Surroundings::address().is_unspecified());
    }
}
