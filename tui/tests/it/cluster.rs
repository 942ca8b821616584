//! Console and dfctl over a real cluster on the loopback address: manager, scheduler, seed peer, peers, a
//! source, and a download that goes on.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use serde_json::Value;
use tempfile::TempDir;

use crate::tmux::{Tmux, until};

/// Bytes of the file that is downloaded.
const LENGTH: usize = 24 << 20;

/// A daemon, ended when dropped.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program beside ours, if it is built.
fn program(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_BIN_EXE_dfconsole")).with_file_name(name);
    if !path.exists() {
        println!("skipped: {name} is not built; cargo build -p df-daemons builds it");
        return None;
    }
    Some(path)
}

/// A cluster of its own folder.
struct Cluster {
    folder: TempDir,
    manager: String,
    dfget: PathBuf,
    daemons: Vec<Daemon>,
    source: SocketAddr,
}

impl Cluster {
    /// Manager, scheduler, seed peer and two peers, all of them ready; `None` if they are not built.
    fn start() -> Option<Self> {
        let programs = ["dfmanager", "dfscheduler", "dfdaemon", "dfget"].map(program);
        let [Some(dfmanager), Some(dfscheduler), Some(dfdaemon), Some(dfget)] = programs else { return None };
        let folder = tempfile::tempdir().expect("a folder");
        let source = serve_file();
        let mut cluster = Self { folder, manager: String::new(), dfget, daemons: Vec::new(), source };
        let (data, password) = (cluster.path("manager"), cluster.path("password"));
        let mut command = Command::new(dfmanager);
        command.args(["--listen-grpc", "127.0.0.1:0", "--listen-rest", "127.0.0.1:0", "--data-dir"]).arg(&data);
        cluster.manager = cluster.begin("manager", command.arg("--init-admin-password-file").arg(&password), "grpc");
        let join = data.join("join-token");
        // It is ready to be asked a moment before it has written these.
        until(|| (join.exists() && password.exists()).then_some(()), || cluster.log("manager"));
        let mut command = Command::new(dfscheduler);
        command.args(["--listen", "127.0.0.1:0", "--manager", &cluster.manager, "--hostname", "scheduler-1"]);
        command.arg("--join-token-file").arg(&join).arg("--data-dir").arg(cluster.path("scheduler"));
        cluster.begin("scheduler", &mut command, "listen");
        for name in ["seed-1", "peer-1", "peer-2"] {
            let mut command = Command::new(&dfdaemon);
            command.args(["--ip", "127.0.0.1", "--rpc-port", "0", "--piece-port", "0", "--hostname", name]);
            command.args(["--manager", &cluster.manager, "--join-token-file"]).arg(&join);
            command.arg("--data-dir").arg(cluster.path(name)).arg("--socket").arg(cluster.socket(name));
            command.args((name == "seed-1").then_some("--seed"));
            cluster.begin(name, &mut command, "socket");
        }
        Some(cluster)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.sock"))
    }

    fn url(&self) -> String {
        format!("http://{}/weights.bin", self.source)
    }

    /// Starts a daemon and waits for its line `ready name=value`; gives the value of `wanted`.
    fn begin(&mut self, name: &str, command: &mut Command, wanted: &str) -> String {
        let log = fs::File::create(self.path(&format!("{name}.log"))).expect("a log");
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().expect("it starts");
        let out = child.stdout.take().expect("it is piped");
        self.daemons.push(Daemon(child));
        let ready = BufReader::new(out).lines().map_while(Result::ok).find_map(|line| {
            let words = line.strip_prefix("ready ")?.to_owned();
            words.split(' ').find_map(|word| Some(word.strip_prefix(wanted)?.strip_prefix('=')?.to_owned()))
        });
        ready.unwrap_or_else(|| panic!("{name}: {}", self.log(name)))
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default()
    }

    /// The end of what everybody says of its work.
    fn logs(&self) -> String {
        let last = |name: &str| {
            let log = self.log(name);
            let lines: Vec<&str> = log.lines().collect();
            format!("--- {name}\n{}\n", lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n"))
        };
        ["manager", "scheduler", "seed-1", "peer-1", "peer-2"].map(last).concat()
    }

    /// What dfctl says, signed in as whoever did so last.
    fn control(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dfctl"));
        command.env_clear().env("XDG_CONFIG_HOME", self.folder.path()).stdin(Stdio::null());
        command.args(["--manager", &self.manager]).args(arguments).output().expect("it runs")
    }

    fn sign_in(&self) {
        let password = self.path("password");
        let signed_in = self.json(&["login", "root", "--password-file", password.to_str().expect("text")]);
        assert_eq!(signed_in["identity"]["role"], "root", "{signed_in}");
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.control(&[arguments, &["--json"]].concat());
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error} {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Asks until the answer is as wanted.
    fn until(&self, arguments: &[&str], is_there: impl Fn(&Value) -> bool) -> Value {
        let ask = || Some(self.json(arguments)).filter(|answer| is_there(answer));
        until(ask, || format!("{arguments:?}: {}\n{}", self.json(arguments), self.logs()))
    }

    /// A download that takes a while.
    fn download(&self, peer: &str) -> Daemon {
        let mut command = Command::new(&self.dfget);
        command.arg(self.url()).arg("-O").arg(self.path(&format!("{peer}.copy"))).arg("--endpoint");
        command.arg(self.socket(peer)).args(["--require-daemon", "--rate-limit", "1MiB"]);
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Daemon(command.spawn().expect("it starts"))
    }
}

/// A source of one file, with ranges, on the loopback address.
fn serve_file() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    let serve = move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let _ = thread::Builder::new().spawn(move || answer(&stream));
        }
    };
    thread::Builder::new().spawn(serve).expect("a thread");
    address
}

fn answer(stream: &TcpStream) {
    let content: Vec<u8> = (0..LENGTH).map(|at| (at / 7 % 251) as u8).collect();
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        for line in reader.by_ref().take(16 << 10).lines().map_while(Result::ok) {
            if line.is_empty() {
                break;
            }
            head.push(line.to_ascii_lowercase());
        }
        let Some(request) = head.first() else { return };
        let range = head.iter().find_map(|line| line.strip_prefix("range: bytes=")?.split_once('-'));
        let (first, last) = match range {
            Some((first, last)) => {
                let first: usize = first.parse().unwrap_or_default();
                (first, last.parse().map_or(LENGTH - 1, |last: usize| last.min(LENGTH - 1)))
            }
            None => (0, LENGTH - 1),
        };
        let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
        let body = content.get(first..=last).unwrap_or_default();
        let text = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nContent-Range: bytes {first}-{last}/{LENGTH}\r\n\
             Accept-Ranges: bytes\r\nETag: \"one\"\r\n\r\n",
            body.len()
        );
        let mut stream = stream;
        let is_head = request.starts_with("head ");
        if stream.write_all(text.as_bytes()).is_err() || !is_head && stream.write_all(body).is_err() {
            return;
        }
    }
}

#[test]
fn a_real_cluster_is_watched_and_operated_during_a_download() {
    let (Some(tmux), Some(cluster)) = (Tmux::new(), Cluster::start()) else { return };
    let refused = cluster.json(&["whoami"]);
    assert_eq!(refused["exit"], 6, "{refused}");
    cluster.sign_in();
    cluster.until(&["cluster", "members"], |it| it["members"].as_array().is_some_and(|all| all.len() == 4));

    let download = cluster.download("peer-1");
    cluster.until(&["task", "ls"], |it| it["tasks"][0]["state"]["word"] == "running");

    tmux.begin();
    let (folder, socket) = (cluster.folder.path().display(), cluster.socket("peer-1"));
    let console = env!("CARGO_BIN_EXE_dfconsole");
    let manager = &cluster.manager;
    tmux.write(&format!("XDG_CONFIG_HOME={folder} {console} -m {manager} -e {}; echo ended $?", socket.display()));
    tmux.press(&["Enter"]);
    let overview = tmux.wait("a running task", |it| it.contains("weights.bin") && it.contains("▶ running"));
    assert!(overview.contains("✔ live  cluster default  user root (rw)"), "{overview}");
    tmux.press(&["2"]);
    tmux.wait_for("tasks 1");
    tmux.press(&["Enter"]);
    tmux.wait("the task", |it| it.contains("copies of each piece") && it.contains("seed-1"));
    tmux.press(&["4"]);
    tmux.wait("its topology", |it| it.contains("topology of weights.bin") && it.contains("◆ seed-1"));
    tmux.press(&["5"]);
    tmux.wait("the members", |it| it.contains("scheduler-1") && it.contains("✔ active"));

    // Peer 2 is isolated at the console, which dfctl sees, and released again.
    tmux.press(&["3"]);
    tmux.wait_for("peer-2");
    tmux.write(":peer peer-2");
    tmux.press(&["Enter", "B"]);
    tmux.wait_for("Isolate peer-2");
    tmux.write("disk fails");
    tmux.press(&["Enter"]);
    cluster.until(&["host", "isolated"], |it| it["blacklist"][0]["hostname"] == "peer-2");
    tmux.press(&["7"]);
    tmux.wait("the blacklist", |it| it.contains("peer-2") && it.contains("operator") && it.contains("disk fails"));
    assert_eq!(cluster.json(&["host", "release", "peer-2"])["ok"], true);
    tmux.wait_for("nobody: every host is used");

    // A limit for the whole cluster takes its name.
    tmux.write(":limit upload 300M");
    tmux.press(&["Enter"]);
    tmux.wait_for("Type default to do it");
    tmux.write("default");
    tmux.press(&["Enter"]);
    cluster.until(&["limit", "get"], |it| it["policy"]["peer"]["upload_bytes_per_sec"] == 300 << 20);

    tmux.press(&["9"]);
    tmux.wait_for("member.joined");
    tmux.press(&["0"]);
    tmux.wait("users and audit", |it| it.contains("root") && it.contains("limits.set"));
    tmux.press(&["8"]);
    tmux.wait_for("cached on this node");
    drop(download);
    tmux.press(&["C-c"]);
    tmux.wait_for("ended 0");
}

#[test]
fn scripts_operate_a_real_cluster() {
    let Some(cluster) = Cluster::start() else { return };
    cluster.sign_in();
    cluster.until(&["cluster", "members"], |it| it["members"].as_array().is_some_and(|all| all.len() == 4));
    let preheated =
        cluster.json(&["preheat", "file", &format!("{}?v=2", cluster.url()), "--scope", "all_peers", "--wait"]);
    assert_eq!(
        (&preheated["ok"], &preheated["job"]["state"]["word"]),
        (&Value::from(true), &Value::from("succeeded")),
        "{preheated}"
    );
    let doctor = cluster.json(&["doctor"]);
    assert_eq!(doctor["exit"], 0, "{doctor}");
    let made = cluster.json(&["cluster", "add", "edge", "--idc", "b2", "--cidr", "10.1.0.0/16"]);
    assert_eq!(
        (&made["cluster"]["name"], &made["cluster"]["idc"]),
        (&Value::from("edge"), &Value::from("b2")),
        "{made}"
    );
    assert_eq!(cluster.json(&["cluster", "add", "edge"])["exit"], 13);
    let changed = cluster.json(&["cluster", "set", "edge", "--idc", "c3"]);
    assert_eq!(
        (&changed["cluster"]["idc"], &changed["cluster"]["cidrs"][0]),
        (&Value::from("c3"), &Value::from("10.1.0.0/16"))
    );
    assert_eq!(cluster.json(&["cluster", "rm", "edge"])["ok"], true);
    assert_eq!(cluster.json(&["cluster", "rm", "edge"])["exit"], 10);
    let created = cluster.json(&["token", "create", "ci", "--scope", "view"]);
    assert!(created["result"]["secret"].as_str().is_some_and(|secret| secret.starts_with("dfp_")), "{created}");
    assert_eq!(cluster.json(&["logout"])["ok"], true);
    assert_eq!(cluster.json(&["task", "ls"])["exit"], 6);
}
