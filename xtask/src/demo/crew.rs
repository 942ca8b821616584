//! The demonstration's processes: started with a log each, listened to, ended by their ids.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{background, now};

/// How long a daemon may take until it says that it is ready.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// How long processes that have nothing left to do may take to end after SIGTERM.
const END_LIMIT: Duration = Duration::from_secs(15);

/// The same when nobody wants to wait for what they still do.
const QUICK_END_LIMIT: Duration = Duration::from_secs(2);

/// Lines of a log that are shown when something went wrong.
const LAST_LINES: usize = 5;

/// A process of the crew.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Member(usize);

/// Something happened.
#[derive(Debug)]
pub(super) enum Event {
    /// A process wrote a line to its standard output.
    Said(Member, String),
    /// A process wrote a line to its standard error, which is listened to.
    Told(Member, String),
    /// A process will say no more: it has ended, or is about to.
    Silent(Member),
    /// We are to end.
    Signal(i32),
}

/// The end that a signal asked for.
#[derive(Debug)]
pub(super) struct Interrupted(i32);

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = signal_hook::low_level::signal_name(self.0).unwrap_or("a signal");
        write!(f, "ended by {name}")
    }
}

impl std::error::Error for Interrupted {}

/// All processes, and what is heard of them. When dropped, those that still run are ended.
pub(super) struct Crew {
    logs: PathBuf,
    members: Vec<Process>,
    events: Receiver<Event>,
    tell: Sender<Event>,
}

struct Process {
    name: String,
    child: Child,
    /// Whether its standard output is still open.
    is_heard: bool,
    ended: Option<ExitStatus>,
}

impl Crew {
    /// A crew without members, whose logs go to the folder `logs`. Signals that would end this
    /// process are from now on events.
    ///
    /// # Errors
    /// When the folder cannot be created or the system refuses a handler.
    pub(super) fn new(logs: PathBuf) -> Result<Self> {
        fs::create_dir(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
        let (tell, events) = mpsc::channel();
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("signals cannot be handled")?;
        let hear = tell.clone();
        background("signals", move || {
            for signal in signals.forever() {
                // Nobody hears it any more: all is over.
                let _ = hear.send(Event::Signal(signal));
            }
        })?;
        Ok(Self { logs, members: Vec::new(), events, tell })
    }

    /// Starts a program whose standard error is its log.
    ///
    /// # Errors
    /// When it does not start.
    pub(super) fn start(&mut self, name: &str, command: &mut Command) -> Result<Member> {
        let log = self.log(name)?;
        self.spawn(name, command.stderr(log))
    }

    /// Starts a program whose standard error is logged and told line by line.
    ///
    /// # Errors
    /// When it does not start.
    pub(super) fn start_told(&mut self, name: &str, command: &mut Command) -> Result<Member> {
        let mut log = self.log(name)?;
        let member = self.spawn(name, command.stderr(Stdio::piped()))?;
        if let Some(stderr) = self.members[member.0].child.stderr.take() {
            let tell = self.tell.clone();
            background(name, move || {
                lines(stderr, |line| {
                    // The log is a help, not a duty.
                    let _ = writeln!(log, "{line}");
                    tell.send(Event::Told(member, line)).is_ok()
                });
            })?;
        }
        Ok(member)
    }

    fn log(&self, name: &str) -> Result<File> {
        let path = self.log_path(name);
        File::create(&path).with_context(|| format!("cannot create {}", path.display()))
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }

    /// The child gets a process group of its own, so that ^C reaches us alone and the order of the
    /// end is ours; and nothing of the environment, so that it is the same everywhere.
    fn spawn(&mut self, name: &str, command: &mut Command) -> Result<Member> {
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
        let mut child = command.spawn().with_context(|| format!("{name} does not start"))?;
        let (member, stdout) = (Member(self.members.len()), child.stdout.take());
        self.members.push(Process { name: name.to_owned(), child, is_heard: true, ended: None });
        let tell = self.tell.clone();
        background(name, move || {
            if let Some(stdout) = stdout {
                lines(stdout, |line| tell.send(Event::Said(member, line)).is_ok());
            }
            let _ = tell.send(Event::Silent(member));
        })?;
        Ok(member)
    }

    /// What a process is called.
    pub(super) fn name(&self, member: Member) -> &str {
        &self.members[member.0].name
    }

    /// The next event before `deadline`; `None` if there is none.
    ///
    /// # Errors
    /// [`Interrupted`].
    pub(super) fn next(&mut self, deadline: Instant) -> Result<Option<Event>> {
        match self.hear(deadline) {
            Some(Event::Signal(signal)) => Err(Interrupted(signal).into()),
            event => Ok(event),
        }
    }

    fn hear(&mut self, deadline: Instant) -> Option<Event> {
        match self.events.recv_timeout(deadline.saturating_duration_since(now())) {
            Ok(event) => {
                if let Event::Silent(member) = event {
                    self.members[member.0].is_heard = false;
                }
                Some(event)
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Waits until all these say `ready name=value …`: what they said, in the same order.
    ///
    /// # Errors
    /// When one ends before, says something else, or takes too long; [`Interrupted`].
    pub(super) fn ready(&mut self, members: &[Member]) -> Result<Vec<BTreeMap<String, String>>> {
        let deadline = now() + READY_LIMIT;
        let mut ready = BTreeMap::new();
        while ready.len() < members.len() {
            match self.next(deadline)? {
                Some(Event::Said(member, line)) => {
                    let name = self.name(member);
                    let words = parse_ready(&line).with_context(|| format!("{name} says {line:?}"))?;
                    ready.insert(member, words);
                }
                Some(Event::Silent(member)) => bail!("{} ended before it was ready", self.name(member)),
                Some(_) => {}
                None => bail!("not everybody was ready after {} s", READY_LIMIT.as_secs()),
            }
        }
        members.iter().map(|member| ready.remove(member).context("somebody else was ready")).collect()
    }

    /// How a process ended, once it is silent. Waits for the moment between its last word and its end.
    ///
    /// # Errors
    /// When the system does not know it.
    pub(super) fn outcome(&mut self, member: Member) -> Result<ExitStatus> {
        let process = &mut self.members[member.0];
        if let Some(ended) = process.ended {
            return Ok(ended);
        }
        let ended = process.child.wait().with_context(|| format!("{} cannot be waited for", process.name))?;
        process.ended = Some(ended);
        Ok(ended)
    }

    /// Asks all that still run to end, and waits. Those who do not in time, or when we are asked
    /// again, are killed; their names.
    pub(super) fn end(&mut self) -> Vec<String> {
        self.end_within(END_LIMIT)
    }

    fn end_within(&mut self, limit: Duration) -> Vec<String> {
        for process in self.members.iter().filter(|process| process.ended.is_none()) {
            if let Some(pid) = i32::try_from(process.child.id()).ok().and_then(Pid::from_raw) {
                // Not waited for yet, so the id is still its own. It may have ended: then it is well.
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        let deadline = now() + limit;
        while self.members.iter().any(|process| process.is_heard && process.ended.is_none()) {
            match self.hear(deadline) {
                Some(Event::Signal(_)) | None => break,
                Some(_) => {}
            }
        }
        let mut killed = Vec::new();
        for process in self.members.iter_mut().filter(|process| process.ended.is_none()) {
            if process.is_heard {
                let _ = process.child.kill();
                killed.push(process.name.clone());
            }
            process.ended = process.child.wait().ok();
        }
        killed
    }

    /// The last lines of every log that has some, for somebody who wants to know what went wrong.
    pub(super) fn last_words(&self) -> String {
        let mut text = String::new();
        for process in &self.members {
            let log = fs::read_to_string(self.log_path(&process.name)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().filter(|line| !line.starts_with('{')).collect();
            for line in &lines[lines.len().saturating_sub(LAST_LINES)..] {
                text += &format!("  {}: {line}\n", process.name);
            }
        }
        text
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.end_within(QUICK_END_LIMIT);
    }
}

/// Reads lines until the end, or until `take` has enough. Bytes that are no text are replaced.
fn lines(from: impl Read, mut take: impl FnMut(String) -> bool) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        if !take(String::from_utf8_lossy(&line).trim_end().to_owned()) {
            return;
        }
        line.clear();
    }
}

/// `ready name=value name=value`.
fn parse_ready(line: &str) -> Option<BTreeMap<String, String>> {
    let words = line.strip_prefix("ready ")?.split(' ');
    words.map(|word| word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use tempfile::TempDir;

    use super::{Crew, Event, now, parse_ready};

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_ready_line_is_names_and_values() {
        let words = parse_ready("ready rpc=127.0.0.1:1 socket=/s=1").unwrap();
        assert_eq!((words["rpc"].as_str(), words["socket"].as_str()), ("127.0.0.1:1", "/s=1"));
        assert_eq!(parse_ready("error rpc=1"), None);
        assert_eq!(parse_ready("ready now"), None);
    }

    /// A line of a shell that waits until somebody ends it: `<>` opens a pipe without waiting for
    /// the other side, and nobody writes to it.
    fn wait(folder: &TempDir) -> String {
        let fifo = folder.path().join("fifo");
        assert!(fifo.exists() || Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        format!("exec 3<>{}; while :; do read x <&3; done", fifo.display())
    }

    #[test]
    fn who_is_ready_is_heard_and_who_ends_before_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (mut crew, wait) = (Crew::new(folder.path().join("logs")).unwrap(), wait(&folder));
        let mut start = |n| crew.start(&format!("p{n}"), &mut shell(&format!("echo ready n={n}; {wait}"))).unwrap();
        let (two, one) = (start(2), start(1));
        let said: Vec<String> = crew.ready(&[one, two]).unwrap().into_iter().map(|words| words["n"].clone()).collect();
        assert_eq!(said, ["1", "2"]);
        let dead = crew.start("dead", &mut shell("echo no room >&2; exit 3")).unwrap();
        let error = crew.ready(&[dead]).unwrap_err();
        assert_eq!(error.to_string(), "dead ended before it was ready");
        assert_eq!(crew.outcome(dead).unwrap().code(), Some(3));
        assert_eq!(crew.last_words(), "  dead: no room\n");
    }

    #[test]
    fn all_are_ended_and_the_deaf_are_killed_when_asked_twice() {
        let folder = tempfile::tempdir().unwrap();
        let (mut crew, wait) = (Crew::new(folder.path().join("logs")).unwrap(), wait(&folder));
        let wait = format!("echo ready n=1; {wait}");
        let meek = crew.start("meek", &mut shell(&format!("trap 'exit 7' TERM; {wait}"))).unwrap();
        let deaf = crew.start("deaf", &mut shell(&format!("trap '' TERM; {wait}"))).unwrap();
        crew.ready(&[meek, deaf]).unwrap();
        crew.tell.send(Event::Signal(2)).unwrap();
        assert!(crew.next(now() + Duration::from_secs(60)).unwrap_err().is::<super::Interrupted>());
        // The second time is while they are being waited for; it may come before the meek one's end.
        crew.tell.send(Event::Signal(2)).unwrap();
        let killed = crew.end();
        assert!(killed.contains(&"deaf".to_owned()), "{killed:?}");
        assert!(crew.outcome(meek).is_ok() && !crew.outcome(deaf).unwrap().success());
        assert!(crew.end().is_empty());
    }
}
