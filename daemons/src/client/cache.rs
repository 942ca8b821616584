//! dfcache: names data that was made here, so that every node of the swarm can have it.

mod answer;
mod flags;
mod offer;

use std::cell::Cell;
use std::ffi::OsString;
use std::time::Duration;

use clap::CommandFactory;
use df_api::base::UrlMeta;
use df_api::dfdaemon as wire;
use df_api::failure::{Code, Failure};
use df_api::task::TaskRequest;
use df_core::time::{Instant, micros};
use tokio::runtime::Handle;
use tokio::time::timeout_at;

use super::Ending;
use super::daemon::Daemon;
use super::delivery::Link;
use super::output::{Output, Place, local};
use super::progress::{Board, Show};
use super::session::{JsonTo, stop_on, stopped};
use super::start;
use super::transfer::Transfer;
use crate::config::{self, Surroundings};
use crate::console::{Color, Console, Signals};
use crate::env::Env;
use answer::{Answer, Content};
use flags::{CacheCommand, CacheSettings, Delete, Export, Import, List, Name, Sort, Stat, TakeOver, What};
use offer::{Input, Offer};

const TOOL: &str = "dfcache";

/// How long a command may take that moves bytes, and one that does not.
const TRANSFER_TERM: Duration = Duration::from_secs(2 * 60 * 60);
const QUESTION_TERM: Duration = Duration::from_secs(30);

/// Runs a command line and gives the exit code. The runtime may have one thread; it is to be shut
/// down without waiting for blocking calls.
pub async fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let around = Surroundings::look();
    let mut console = Console::new(TOOL, Color::Auto, false);
    let refused = |console: Console, failure: Failure| {
        console.fail(&failure);
        failure.code.exit()
    };
    let (command, loaded) = match config::load::<CacheCommand>(arguments, &around) {
        Ok(loaded) => loaded,
        Err(failure) => return refused(console, failure),
    };
    console = Console::new(TOOL, loaded.settings.color, command.report.quiet);
    if let Some(shell) = command.report.completions {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut CacheCommand::command(), TOOL, &mut script);
        return super::print(&String::from_utf8_lossy(&script));
    }
    match loaded.answer(&command.config) {
        Ok(Some(answer)) => return super::print(&answer),
        Ok(None) => {}
        Err(failure) => return refused(console, failure),
    }
    let Some(what) = &command.what else {
        let failure = Failure::new(Code::Usage, "no command was given");
        return refused(console, failure.hint("import, stat, export, delete or list; dfcache --help shows all"));
    };
    let begun = command.report.json.as_deref().map(JsonTo::open).transpose().and_then(|json| {
        let env = Env::real(Some(Handle::current())).map_err(|error| local("begin", &error))?;
        let signals = Signals::listen().map_err(|error| local("listen to signals", &error))?;
        Ok((json, env, signals))
    });
    let (json, env, signals) = match begun {
        Ok(begun) => begun,
        Err(failure) => return refused(console, failure),
    };
    let show = if command.report.quiet { Show::None } else { loaded.settings.progress };
    let session = Session {
        since: env.clock.now(),
        board: Board::new(show),
        env,
        settings: &loaded.settings,
        around: &around,
        console,
        verbose: command.report.verbose,
    };
    session.run(what, json.as_ref(), signals).await
}

/// One command.
struct Session<'a> {
    env: Env,
    settings: &'a CacheSettings,
    around: &'a Surroundings,
    console: Console,
    board: Board,
    verbose: bool,
    since: Instant,
}

impl What {
    const fn word(&self) -> &'static str {
        match self {
            Self::Import(_) => "import",
            Self::Stat(_) => "stat",
            Self::Export(_) => "export",
            Self::Delete(_) => "delete",
            Self::List(_) => "list",
        }
    }

    fn name(&self) -> (&str, &str) {
        match self {
            Self::Import(Import { name, .. })
            | Self::Stat(Stat { name, .. })
            | Self::Export(Export { name, .. })
            | Self::Delete(Delete { name, .. }) => (&name.cid, &name.tag),
            Self::List(list) => ("", &list.tag),
        }
    }

    const fn term(&self) -> Duration {
        match self {
            Self::Import(_) | Self::Export(_) => TRANSFER_TERM,
            Self::Stat(_) | Self::Delete(_) | Self::List(_) => QUESTION_TERM,
        }
    }
}

fn meta(name: &Name) -> Option<UrlMeta> {
    Some(UrlMeta { tag: name.tag.clone(), ..UrlMeta::default() })
}

impl Session<'_> {
    async fn run(&self, what: &What, json: Option<&JsonTo>, signals: Signals) -> u8 {
        let mut stop = stop_on(signals);
        let limit = self.settings.timeout.map_or(what.term(), |span| span.duration());
        let deadline = self.since + if limit.is_zero() { Duration::MAX } else { limit };
        let (cid, tag) = what.name();
        let blank = Answer::new(what.word(), cid, tag);
        let writes_stdout = matches!(json, Some(JsonTo::Stdout));
        let work = timeout_at(self.env.clock.at(deadline), self.command(what, blank.clone(), deadline, writes_stdout));
        let ended = tokio::select! { biased;
            stop = stopped(&mut stop) => Err(Ending::Stopped(stop)),
            ended = work => ended.unwrap_or_else(|_| {
                let failure = Failure::new(Code::Timeout, "not done within its time");
                Err(failure.hint("give it longer with --timeout").into())
            }),
        };
        let answer = match &ended {
            Ok(answer) => answer.clone(),
            Err(ending) => blank.failed(ending),
        };
        if let Err(ending) = &ended {
            let failure = match ending {
                Ending::Failed(failure) => failure.clone(),
                Ending::Stopped(stop) => Failure::new(Code::Cancelled, stop.word()),
            };
            self.console.fail(&failure);
        }
        let written = match json {
            Some(json) => json.write_line(&answer.json()),
            None => super::print(&answer.text()),
        };
        if answer.exit() == 0 { written } else { answer.exit() }
    }

    async fn command(
        &self,
        what: &What,
        blank: Answer,
        deadline: Instant,
        writes_stdout: bool,
    ) -> Result<Answer, Ending> {
        if !matches!(what, What::List(_)) {
            let (cid, tag) = what.name();
            let checked = TaskRequest::cached(cid, tag)?;
            if self.verbose {
                self.console.note(&format!("task {}", checked.id()));
            }
        }
        let answer = match what {
            What::Import(import) => self.import(import, blank).await,
            What::Stat(stat) => self.stat(stat, blank).await,
            What::Export(export) => self.export(export, blank, deadline, writes_stdout).await,
            What::Delete(delete) => self.delete(delete, blank).await,
            What::List(list) => self.list(list, blank).await,
        };
        answer.map(|answer| Answer { ms: self.elapsed_ms(), ..answer })
    }

    fn elapsed_ms(&self) -> u64 {
        micros(self.env.clock.now() - self.since) / 1000
    }

    /// The daemon. dfcache starts none: what it would keep would soon be gone with it.
    async fn daemon(&self) -> Result<Daemon, Failure> {
        let sockets = match &self.settings.endpoint {
            Some(endpoint) => vec![std::path::absolute(endpoint).map_err(|error| local("find the socket", &error))?],
            None => start::usual_sockets(self.around),
        };
        if let Some(daemon) = start::find(&sockets).await? {
            return Ok(daemon);
        }
        let shown: Vec<String> = sockets.iter().map(|socket| socket.display().to_string()).collect();
        Err(Failure::new(Code::DaemonDown, format!("no daemon listens at {}", shown.join(" or ")))
            .hint("start dfdaemon, or name its socket with --endpoint"))
    }

    async fn import(&self, import: &Import, blank: Answer) -> Result<Answer, Ending> {
        let path = import.path.as_ref().or(import.input.as_ref());
        let none = || Failure::new(Code::Usage, "no file was given").hint("name it, or '-' for stdin");
        let (path, streams) = (path.ok_or_else(none)?.clone(), import.stream);
        let input = self.env.blocking(move || Input::open(&path, streams)).await?;
        let daemon = self.daemon().await?;
        let offer = Offer::make(daemon.socket(), input).await?;
        let ttl = import.ttl.map_or(0, |span| micros(span.duration()) / 1000);
        let mut url_meta = meta(&import.name);
        if let Some(meta) = &mut url_meta {
            meta.application.clone_from(&import.application);
        }
        let request = wire::ImportTaskRequest {
            cid: import.name.cid.clone(),
            url_meta,
            ticket: offer.ticket.to_vec(),
            piece_length: import.piece_size.map_or(0, crate::units::Size::bytes),
            ttl,
            replicas: import.replicas,
            hard_link: import.link == TakeOver::Hard,
            no_verify: import.no_verify,
            path: String::new(),
        };
        let imported = tokio::select! { biased;
            imported = daemon.import(request) => imported?,
            failure = offer.feed(&self.env) => return Err(failure.into()),
        };
        let announced = match imported.announced() {
            wire::Announced::Confirmed => "confirmed",
            wire::Announced::Pending => "pending",
            wire::Announced::Nowhere => "nowhere",
        };
        let is_pending = imported.announced() == wire::Announced::Pending;
        let answer = Answer {
            task: Some(imported.task_id),
            bytes: Some(imported.content_length),
            pieces: Some(imported.total_pieces),
            existed: Some(imported.existed),
            announced: Some(announced),
            digest: Some(imported.digest).filter(|digest| !digest.is_empty()),
            ms: self.elapsed_ms(),
            ..blank
        };
        self.console.note(&format!("{}: {}", answer.cid, answer.summary()));
        if is_pending {
            let failure = Failure::new(Code::NoScheduler, "it is imported, but other nodes do not know yet");
            self.console.fail(
                &failure.because("no scheduler has confirmed it").hint("the daemon goes on trying, over restarts too"),
            );
            return Ok(answer.with_exit(Code::NoScheduler));
        }
        Ok(answer)
    }

    async fn stat(&self, stat: &Stat, blank: Answer) -> Result<Answer, Ending> {
        let request =
            wire::StatTaskRequest { cid: stat.name.cid.clone(), url_meta: meta(&stat.name), local_only: stat.local };
        let found = self.daemon().await?.stat(request).await?;
        Ok(Answer {
            task: Some(found.task_id),
            bytes: Some(found.content_length),
            pieces: Some(found.total_pieces),
            local: Some(found.is_local),
            peers: Some(found.peers).filter(|_| !found.is_local),
            ..blank
        })
    }

    async fn export(
        &self,
        export: &Export,
        blank: Answer,
        deadline: Instant,
        writes_stdout: bool,
    ) -> Result<Answer, Ending> {
        let path = export.out.as_ref().or(export.output.as_ref());
        let none = || Failure::new(Code::Usage, "no output was given").hint("name it, or '-' for stdout");
        let place = Place::new(path.ok_or_else(none)?);
        if place == Place::Stdout && writes_stdout {
            let failure = Failure::new(Code::Usage, "the content and the result cannot both go to stdout");
            return Err(failure.hint("write the result to a file with --json=FILE").into());
        }
        let (to, clobbers) = (place.clone(), export.overwrite);
        let output = self.env.blocking(move || Output::open(&to, clobbers)).await?;
        let daemon = self.daemon().await?;
        let request = wire::ExportTaskRequest {
            cid: export.name.cid.clone(),
            url_meta: meta(&export.name),
            timeout: micros(deadline - self.since) / 1000,
            limit: export.rate_limit.map_or(0.0, |rate| rate.bytes_per_sec() as f64),
            callsystem: TOOL.to_owned(),
            uid: rustix::process::getuid().as_raw().into(),
            gid: rustix::process::getgid().as_raw().into(),
            local_only: export.local,
            in_order: output.is_stream(),
            output: String::new(),
        };
        let progress = daemon.export(request).await?;
        let link = if export.stream { Link::Copy } else { export.link };
        let unfinished = Cell::new(0);
        let mut meter = self.board.begin(&export.name.cid, &place.name(), self.since);
        let mut transfer = Transfer::new(&self.env, &daemon, &unfinished, output, link);
        let last = transfer.run(progress, &mut meter).await?;
        let len = last.content_length.unwrap_or(last.completed_length);
        if let Some(expected) = export.digest
            && let Some(found) = transfer.digest(expected.algorithm(), len).await?
            && found != expected
        {
            let failure = Failure::new(Code::Digest, format!("the content is not {expected}"));
            return Err(failure.because(format!("its digest is {found}")).into());
        }
        let link = transfer.finish(len).await?;
        meter.close();
        let tally = last.tally.unwrap_or_default();
        let answer = Answer {
            task: Some(last.task_id),
            bytes: Some(len),
            pieces: Some(tally.total_pieces),
            output: Some(place.name()),
            link,
            digest: Some(last.digest).filter(|digest| !digest.is_empty()),
            ms: self.elapsed_ms(),
            ..blank
        };
        let answer = answer.with_tally(&tally);
        self.console.note(&format!("{}: {}", answer.cid, answer.summary()));
        Ok(answer)
    }

    async fn delete(&self, delete: &Delete, blank: Answer) -> Result<Answer, Ending> {
        let request = wire::DeleteTaskRequest {
            cid: delete.name.cid.clone(),
            url_meta: meta(&delete.name),
            local_only: delete.local,
        };
        match self.daemon().await?.delete(request).await {
            Err(failure) if failure.code == Code::NotFound && delete.if_exists => {
                Ok(Answer { existed: Some(false), ..blank })
            }
            Err(failure) => Err(failure.into()),
            Ok(()) => Ok(Answer { existed: Some(true), ..blank }),
        }
    }

    async fn list(&self, list: &List, blank: Answer) -> Result<Answer, Ending> {
        let mut entries = self.daemon().await?.list(list.tag.clone()).await?;
        match list.sort {
            Sort::Size => entries.sort_by_key(|entry| std::cmp::Reverse(entry.content_length)),
            Sort::Age => entries.sort_by_key(|entry| std::cmp::Reverse(entry.created)),
            Sort::Name => entries.sort_by(|a, b| (&a.cid, &a.tag).cmp(&(&b.cid, &b.tag))),
        }
        Ok(Answer { contents: Some(entries.into_iter().map(Content::from).collect()), ..blank })
    }
}
