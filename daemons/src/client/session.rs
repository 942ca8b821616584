//! One command: its downloads, some at a time, through one daemon.

use std::cell::Cell;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use df_api::dfdaemon::DownRequest;
use df_api::failure::{Code, Failure};
use df_core::time::{Instant, micros};
use futures_util::StreamExt;
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, watch};
use tokio::time::timeout_at;

use super::Ending;
use super::daemon::Daemon;
use super::embedded::{InProcess, PEER};
use super::flags::{GetCommand, GetSettings};
use super::job::Job;
use super::output::{Output, local};
use super::progress::{Board, Meter};
use super::report::{Done, Outcome};
use super::start::{self, Background};
use super::transfer::Transfer;
use crate::config::Surroundings;
use crate::console::{Console, Signals, Stop};
use crate::env::Env;

/// Where results are written as JSON.
pub(super) enum JsonTo {
    Stdout,
    File(File),
}

impl JsonTo {
    /// Opens what `--json` names.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        match path.to_str() {
            Some("-") => Ok(Self::Stdout),
            _ => {
                let file = File::create(path).map_err(|error| local(&format!("create {}", path.display()), &error))?;
                Ok(Self::File(file))
            }
        }
    }

    /// Writes one result: the exit code of that.
    pub(super) fn write(&self, outcome: &Outcome) -> u8 {
        self.write_line(&outcome.json())
    }

    /// Writes one line: the exit code of that.
    pub(super) fn write_line(&self, line: &str) -> u8 {
        let line = format!("{line}\n");
        match self {
            Self::Stdout => super::print(&line),
            Self::File(file) => {
                let mut file: &File = file;
                file.write_all(line.as_bytes()).map_or(Code::LocalIo.exit(), |()| 0)
            }
        }
    }
}

/// One command and what its downloads share.
pub(super) struct Session<'a> {
    command: &'a GetCommand,
    settings: &'a GetSettings,
    around: &'a Surroundings,
    console: Console,
    board: Board,
    json: Option<&'a JsonTo>,
    env: Env,
    deadline: Instant,
    daemon: OnceCell<Daemon>,
    in_process: Mutex<Option<InProcess>>,
    /// Outputs that were begun and are not whole.
    unfinished: Cell<usize>,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        command: &'a GetCommand,
        settings: &'a GetSettings,
        around: &'a Surroundings,
        console: Console,
        json: Option<&'a JsonTo>,
    ) -> Result<Self, Failure> {
        let env = Env::real(Some(Handle::current())).map_err(|error| local("begin", &error))?;
        let limit = settings.timeout.duration();
        let deadline = env.clock.now() + if limit.is_zero() { Duration::MAX } else { limit };
        Ok(Self {
            command,
            settings,
            around,
            console,
            board: Board::new(command.report.show(settings.progress)),
            json,
            env,
            deadline,
            daemon: OnceCell::new(),
            in_process: Mutex::new(None),
            unfinished: Cell::new(0),
        })
    }

    /// Runs all downloads: the exit code is that of the signal that ended it, else of the first
    /// that failed in the order of the list.
    pub(super) async fn run(self, jobs: &[Job]) -> u8 {
        let stop = match Signals::listen() {
            Ok(signals) => stop_on(signals),
            Err(error) => {
                let failure = local("listen to signals", &error);
                self.console.fail(&failure);
                return failure.code.exit();
            }
        };
        let at_once = if jobs.len() > 1 { self.settings.jobs } else { 1 };
        let all = jobs.iter().enumerate();
        let downloads = all.map(|(number, job)| {
            let done = self.one(job, jobs.len() == 1, stop.clone());
            async move { (number, done.await) }
        });
        let mut exits: Vec<(usize, u8)> =
            futures_util::stream::iter(downloads).buffer_unordered(at_once).collect().await;
        exits.sort_unstable();

        let mut exit = exits.into_iter().map(|(_, exit)| exit).find(|exit| *exit != 0).unwrap_or(0);
        let stop = *stop.borrow();
        // A signal that came when all was done changes nothing.
        if let Some(stop) = stop.filter(|_| exit != 0) {
            exit = stop.exit();
            let failure = Failure::new(Code::Cancelled, stop.word()).hint("resume with the same command");
            if !self.board.is_json() {
                self.console.fail(&failure);
            }
        }
        // Its connection first, or a daemon that is to end would wait for it.
        drop(self.daemon);
        let in_process = self.in_process.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(daemon) = in_process {
            daemon.end(self.unfinished.get() > 0).await;
        }
        exit
    }

    /// Downloads one and says how it ended: its exit code.
    async fn one(&self, job: &Job, is_alone: bool, mut stop: watch::Receiver<Option<Stop>>) -> u8 {
        let since = self.env.clock.now();
        let mut meter = self.board.begin(&job.url, &job.place.name(), since);
        let download = timeout_at(self.env.clock.at(self.deadline), self.download(job, is_alone, since, &mut meter));
        let ended = tokio::select! {
            biased;
            stop = stopped(&mut stop) => Err(Ending::Stopped(stop)),
            ended = download => ended.unwrap_or_else(|_| Err(self.too_late().into())),
        };
        let outcome = match &ended {
            Ok(done) => Outcome::Done(done.clone()),
            Err(ending) => Outcome::failed(&job.url, ending),
        };
        meter.end(&outcome);
        match ended {
            Ok(done) if self.command.report.explain && !self.board.is_json() => {
                done.explain().iter().for_each(|line| self.say(line));
            }
            // What a signal did is said once for all.
            Err(Ending::Failed(failure)) if !self.board.is_json() => {
                let message = match is_alone {
                    true => failure.message,
                    false => format!("{}: {}", job.place.name(), failure.message),
                };
                self.board.aside(|| self.console.fail(&Failure { message, ..failure }));
            }
            _ => {}
        }
        let written = self.json.map_or(0, |json| json.write(&outcome));
        if outcome.exit() == 0 { written } else { outcome.exit() }
    }

    async fn download(&self, job: &Job, is_alone: bool, since: Instant, meter: &mut Meter<'_>) -> Result<Done, Ending> {
        let (place, clobbers) = (job.place.clone(), !self.command.output.no_clobber);
        let output = self.env.blocking(move || Output::open(&place, clobbers)).await?;
        let (is_resumed, in_order) = (output.is_resumed(), output.is_stream());
        let daemon = self.daemon.get_or_try_init(|| self.reach(output.store(is_alone))).await?;
        let request = DownRequest {
            uuid: format!("{:016x}", self.env.seed_for(&format!("{} {}", job.url, job.place.name()))),
            timeout: micros(self.deadline - since) / 1000,
            in_order,
            ..job.request.clone()
        };
        let progress = daemon.download(request).await?;
        let mut transfer = Transfer::new(&self.env, daemon, &self.unfinished, output, self.settings.link);
        let last = transfer.run(progress, meter).await?;
        self.detail(&format!("task {}", last.task_id));
        let len = last.content_length.unwrap_or(last.completed_length);
        let link = transfer.finish(len).await?;
        let ms = micros(self.env.clock.now() - since) / 1000;
        let tally = last.tally.unwrap_or_default();
        let resumed = is_resumed && tally.reused_pieces > 0;
        let mut done = Done::new(&job.url, job.place.name(), last.task_id, len, ms, tally);
        done.digest = Some(last.digest).filter(|digest| !digest.is_empty());
        (done.resumed, done.link) = (resumed, link);
        Ok(done)
    }

    /// A daemon: one that is there, one that stays, or one in this process, as the flags have it.
    async fn reach(&self, store: Option<PathBuf>) -> Result<Daemon, Failure> {
        let transfer = &self.command.transfer;
        if !transfer.no_daemon {
            let sockets = match &self.settings.endpoint {
                Some(endpoint) => {
                    vec![std::path::absolute(endpoint).map_err(|error| local("find the socket", &error))?]
                }
                None => start::usual_sockets(self.around),
            };
            if let Some(daemon) = start::find(&sockets).await? {
                return Ok(daemon);
            }
            let shown: Vec<String> = sockets.iter().map(|socket| socket.display().to_string()).collect();
            if transfer.require_daemon {
                let failure = Failure::new(Code::DaemonDown, format!("no daemon listens at {}", shown.join(" or ")));
                return Err(failure.hint("start dfdaemon, or leave out --require-daemon"));
            }
            match self.start(sockets.last()).await {
                Ok(daemon) => return Ok(daemon),
                Err(failure) => self.say(&format!("downloading without a daemon: {failure}")),
            }
        }
        let (own, daemon) = InProcess::start(PEER, self.around, &self.settings.scheduler, store).await?;
        *self.in_process.lock().unwrap_or_else(PoisonError::into_inner) = Some(own);
        Ok(daemon)
    }

    async fn start(&self, socket: Option<&PathBuf>) -> Result<Daemon, Failure> {
        let none = || Failure::new(Code::Internal, "there is no place for a socket");
        let background = Background::this_program(socket.ok_or_else(none)?, &self.settings.scheduler)?;
        background.ensure(|| self.say("no daemon is running: starting one in the background")).await
    }

    /// Shows a line, unless stderr is for a program or nobody wants to know.
    fn say(&self, line: &str) {
        if !self.board.is_json() {
            self.board.aside(|| self.console.note(line));
        }
    }

    /// Shows a line to those who want to know everything.
    fn detail(&self, line: &str) {
        if self.command.report.verbose {
            self.say(line);
        }
    }

    fn too_late(&self) -> Failure {
        Failure::new(Code::Timeout, format!("not done within {}", self.settings.timeout.for_people()))
            .hint("resume with the same command, and give it longer with --timeout")
    }
}

/// Hears of the first signal; the second ends the process.
pub(super) fn stop_on(mut signals: Signals) -> watch::Receiver<Option<Stop>> {
    let (stop, hears) = watch::channel(None);
    tokio::spawn(async move {
        stop.send_replace(Some(signals.next().await));
        signals.exit_on_next().await;
    });
    hears
}

/// Waits for a signal.
pub(super) async fn stopped(stop: &mut watch::Receiver<Option<Stop>>) -> Stop {
    match stop.wait_for(Option::is_some).await.map(|stop| *stop) {
        Ok(Some(stop)) => stop,
        _ => std::future::pending().await,
    }
}
