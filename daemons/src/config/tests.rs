//! Layers, origins and mistakes, by way of real files and command lines.

use std::path::PathBuf;

use tempfile::TempDir;

use super::*;

/// A user without a file or a variable of the environment.
struct User {
    home: TempDir,
}

impl User {
    fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    fn around(&self) -> Surroundings {
        let home = self.home.path();
        Surroundings {
            is_root: false,
            config_home: Some(home.join("config")),
            data_home: Some(home.join("data")),
            runtime_dir: Some(home.join("run")),
        }
    }

    /// Writes a file below the home.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.home.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    fn load<C: CommandLine>(&self, flags: &[&str]) -> Result<Loaded<C::Settings>, Failure> {
        let arguments = ["program"].iter().chain(flags).map(OsString::from);
        load::<C>(arguments, &self.around()).map(|(_, loaded)| loaded)
    }

    /// The failure of a dfdaemon with this file.
    fn refusal(&self, text: &str) -> Failure {
        let path = self.write("bad.yaml", text);
        let failure = self.load::<PeerCommand>(&["-c", path.to_str().unwrap()]).unwrap_err();
        let place = path.to_str().unwrap();
        Failure { message: failure.message.replace(place, "FILE"), ..failure }
    }
}

#[test]
fn without_anything_given_all_are_defaults_of_this_user() {
    let user = User::new();
    let peer = user.load::<PeerCommand>(&[]).unwrap();
    let expected = PeerConfig {
        host: HostIdentity {
            hostname: Surroundings::hostname(),
            ip: Surroundings::address(),
            ..HostIdentity::default()
        },
        data_dir: user.home.path().join("data/damselfly"),
        socket: user.home.path().join("run/damselfly/dfdaemon.sock"),
        ..PeerConfig::default()
    };
    assert_eq!((peer.settings, peer.given.0.len()), (expected, 0));
    let scheduler = user.load::<SchedulerCommand>(&[]).unwrap();
    let expected = SchedulerSettings {
        hostname: Surroundings::hostname(),
        data_dir: user.home.path().join("data/damselfly/scheduler"),
        ..SchedulerSettings::default()
    };
    assert_eq!(scheduler.settings, expected);
    assert_eq!(
        format!("{:?}", scheduler.settings.machine()),
        format!("{:?}", df_core::scheduler::SchedulerConfig::default())
    );
}

#[test]
fn flags_beat_the_file_and_the_file_beats_the_defaults() {
    let user = User::new();
    let text = "data_dir: /d\nrpc: {port: 1}\npieces:\n  port: 2\ndownload:\n  rate_limit: 20M\nupload:\nscheduler:\n  addresses: [a, 'b:1']\n";
    let path = user.write("config/damselfly/dfdaemon.yaml", text);
    let loaded = user.load::<PeerCommand>(&["--piece-port", "3", "--seed", "--log-level=debug"]).unwrap();
    let settings = &loaded.settings;
    assert_eq!((settings.rpc.port, settings.pieces.port, settings.seed_peer.enable), (1, 3, true));
    assert_eq!(settings.download.rate_limit.map(crate::units::Rate::bytes_per_sec), Some(20 << 20));
    assert_eq!(settings.upload, Upload::default());
    assert_eq!(settings.scheduler.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a:8002", "b:1"]);
    let origins = [
        ("rpc.port", Origin::File(path.clone())),
        ("pieces.port", Origin::Flag("--piece-port".to_owned())),
        ("seed_peer.enable", Origin::Flag("--seed".to_owned())),
        ("scheduler.addresses", Origin::File(path)),
        ("upload.transfer_limit", Origin::Default),
    ];
    for (key, origin) in origins {
        assert_eq!(loaded.origin(key), &origin, "{key}");
    }
    // The flag takes back what the file says, and a list replaces a list.
    std::fs::write(user.home.path().join("config/damselfly/dfdaemon.yaml"), "seed_peer: {enable: true}\n").unwrap();
    let loaded = user.load::<PeerCommand>(&["--seed=no", "-n", "x,y:7=2"]).unwrap();
    assert!(!loaded.settings.seed_peer.enable);
    assert_eq!(loaded.settings.scheduler.addresses.len(), 2);
}

#[test]
fn the_socket_goes_with_the_folder_where_there_is_no_better_place() {
    let user = User::new();
    let around = Surroundings { runtime_dir: None, ..user.around() };
    let arguments = ["dfdaemon", "--data-dir", "/elsewhere"].map(OsString::from);
    let (_, loaded) = load::<PeerCommand>(arguments, &around).unwrap();
    assert_eq!(loaded.settings.socket, PathBuf::from("/elsewhere/dfdaemon.sock"));
}

#[test]
fn an_unknown_key_is_told_with_its_line_and_the_key_that_was_meant() {
    let user = User::new();
    let table = [
        ("dta_dir: /d\n", "FILE, line 1: unknown key `dta_dir`", "did you mean `data_dir`?"),
        (
            "rpc:\n  port: 1\nseed_peer:\n  enabel: true\n",
            "FILE, line 4: unknown key `seed_peer.enabel`",
            "did you mean `seed_peer.enable`?",
        ),
        ("log:\n  level: info\n  file: x\n", "FILE, line 3: unknown key `log.file`", "known here: level, format"),
        (
            "download: {rate_limt: 1}\n",
            "FILE, line 1: unknown key `download.rate_limt`",
            "did you mean `download.rate_limit`?",
        ),
    ];
    for (text, message, hint) in table {
        let failure = user.refusal(text);
        assert_eq!(failure.code, Code::Usage, "{text}");
        assert_eq!((failure.message.as_str(), failure.hint.as_deref()), (message, Some(hint)));
    }
}

#[test]
fn a_bad_value_is_told_with_its_line_its_key_and_what_is_allowed() {
    let user = User::new();
    let table = [
        (
            "\nrpc:\n  port: 70000\n",
            "FILE, line 3: rpc.port: invalid value: integer `70000`, expected a whole number from 0 to 65535",
        ),
        (
            "rpc: {port: -1}\n",
            "FILE, line 1: rpc.port: invalid value: integer `-1`, expected a whole number from 0 to 65535",
        ),
        (
            "rpc: {port: x}\n",
            "FILE, line 1: rpc.port: invalid type: string \"x\", expected a whole number from 0 to 65535",
        ),
        (
            "upload:\n  transfer_limit: 0\n",
            "FILE, line 2: upload.transfer_limit: invalid value: integer `0`, expected a whole number from 1 to 1024",
        ),
        (
            "download:\n  rate_limit: fast\n",
            "FILE, line 2: download.rate_limit: \"fast\" is no rate: write it as 20MiB/s (binary), 20MB/s (decimal) or bytes per second, at least 1",
        ),
        (
            "store: {quota: 1XB}\n",
            "FILE, line 1: store.quota: \"1XB\" is no size: write it as 10MiB (binary), 10MB (decimal) or a number of bytes",
        ),
        (
            "source: {stall_limit: soon}\n",
            "FILE, line 1: source.stall_limit: \"soon\" is no duration: write it as 90s, 1h30m, 500ms or a number of seconds",
        ),
        (
            "source: {deny: [10.0.0.1/8]}\n",
            "FILE, line 1: source.deny[0]: \"10.0.0.1/8\": the network's length does not fit its address",
        ),
        (
            "scheduler: {addresses: ['h:0']}\n",
            "FILE, line 1: scheduler.addresses[0]: \"h:0\" is no address of a scheduler: write it as HOST:PORT",
        ),
        (
            "host: {ip: 0.0.0.0}\n",
            "FILE, line 1: host.ip: \"0.0.0.0\" is no address that others can connect to, such as 10.0.0.7",
        ),
        ("log: {format: xml}\n", "FILE, line 1: log.format: unknown variant `xml`, expected `text` or `json`"),
        ("seed_peer: {enable: 1}\n", "FILE, line 1: seed_peer.enable: invalid type: integer `1`, expected a boolean"),
    ];
    for (text, message) in table {
        let failure = user.refusal(text);
        assert_eq!((failure.code, failure.message.as_str()), (Code::Usage, message), "{text}");
    }
    assert!(user.refusal("a: [").message.starts_with("FILE, line 2: "));
    assert_eq!(user.refusal("rpc: 1\nrpc: 2\n").code, Code::Usage);
    assert_eq!(user.refusal("- a\n").code, Code::Usage);
    assert!(user.refusal(&"#".repeat(FILE_LIMIT as usize + 1)).to_string().contains("more than 1048576 bytes"));
}

#[test]
fn a_bad_flag_is_told_with_its_name() {
    let user = User::new();
    let failure = user.load::<PeerCommand>(&["--ip", "0.0.0.0"]).unwrap_err();
    let message = "flag --ip: host.ip: \"0.0.0.0\" is no address that others can connect to, such as 10.0.0.7";
    assert_eq!((failure.code, failure.message.as_str()), (Code::Usage, message));
    let failure = user.load::<SchedulerCommand>(&["--relay-depth-limit", "65"]).unwrap_err();
    assert!(failure.message.starts_with("flag --relay-depth-limit: relay_depth_limit: invalid value: integer `65`"));
}

#[test]
fn a_named_file_has_to_be_there() {
    let user = User::new();
    let missing = user.home.path().join("missing.yaml");
    let failure = user.load::<PeerCommand>(&["-c", missing.to_str().unwrap()]).unwrap_err();
    assert_eq!(failure.code, Code::LocalIo);
    assert!(failure.to_string().contains("missing.yaml"), "{failure}");
    // An empty one, or one of comments, says nothing.
    for text in ["", "# nothing yet\n"] {
        let path = user.write("empty.yaml", text);
        assert_eq!(user.load::<PeerCommand>(&["-c", path.to_str().unwrap()]).unwrap().given.0.len(), 0);
    }
}

#[test]
fn what_is_printed_is_read_back_and_names_every_origin() {
    let user = User::new();
    let text = "host: {idc: 'a: #1'}\nsource:\n  allow: [127.0.0.0/8, '::1']\nscheduler: {addresses: ['[::1]:9', s]}\nstore: {quota: 10GB}\n";
    let path = user.write("one.yaml", text);
    let first =
        user.load::<PeerCommand>(&["-c", path.to_str().unwrap(), "--hostname", "true", "--alive-time", "90"]).unwrap();
    let printed = first.print().unwrap();
    let again = user.write("two.yaml", &printed);
    let second = user.load::<PeerCommand>(&["-c", again.to_str().unwrap()]).unwrap();
    assert_eq!(second.settings, first.settings, "{printed}");

    let place = path.to_str().unwrap();
    for line in [
        "  hostname: 'true'  # flag --hostname\n".to_owned(),
        format!("  idc: 'a: #1'  # file {place}\n"),
        format!("  quota: 10GB  # file {place}\n"),
        format!("  addresses:  # file {place}\n    - '[::1]:9'\n    - s:8002\n"),
        "alive_time: 1m30s  # flag --alive-time\n".to_owned(),
        "  deny: []  # default\n".to_owned(),
        "  rate_limit: null  # default\n".to_owned(),
        "rpc:\n  port: 65000  # default\n".to_owned(),
    ] {
        assert!(printed.contains(&line), "{line}{printed}");
    }
    let leaves = printed.lines().filter(|line| !line.ends_with(':') && !line.trim_start().starts_with("- "));
    assert!(leaves.clone().all(|line| line.contains("  # ")), "{printed}");
}

#[test]
fn every_flag_that_is_a_setting_has_the_key_of_one() {
    fn check<C: CommandLine>(settings: &C::Settings, prefix: &str) {
        let known: Vec<String> =
            layers::flatten(yaml_serde::to_value(settings).unwrap()).into_iter().map(|(key, _)| key).collect();
        let command = C::command();
        for arg in command
            .get_arguments()
            .filter(|arg| !["config", "print_config", "check_config"].contains(&arg.get_id().as_str()))
        {
            assert!(known.contains(&arg.get_id().to_string()), "{}", arg.get_id());
            let name = format!("{prefix}_{}", arg.get_long().unwrap().replace('-', "_").to_uppercase());
            assert_eq!(arg.get_env().and_then(|env| env.to_str()), Some(name.as_str()));
            assert!(arg.get_help().is_some(), "{}", arg.get_id());
        }
        command.debug_assert();
    }
    check::<PeerCommand>(&PeerConfig::default(), "DFDAEMON");
    check::<SchedulerCommand>(&SchedulerSettings::default(), "DFSCHEDULER");
}
