//! dfctl: what the console shows and does, one command at a time.

use std::fs;
use std::io::{self, BufRead, IsTerminal};
use std::path::Path;
use std::time::Duration;

use clap::Parser;
use crossterm::event::KeyCode;
use crossterm::terminal;
use df_api::failure::{Code, Failure};
use df_api::manager as pb;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::access;
use crate::app::Interest;
use crate::demo::Demo;
use crate::event::Event;
use crate::filter::Filter;
use crate::format;
use crate::list::{List, Row};
use crate::model::{Happening, Job as JobRow, Mark, PreheatScope, Snapshot};
use crate::poller::{Daemon, Live, Outcome, Source, rows};
use crate::request::{LimitScope, NewBlock, Request};
use crate::screen::Screen;

mod clusters;
mod doctor;
mod flags;
mod manual;
mod people;
mod print;

pub use flags::Control;
use flags::{Block, Events, Field, Host, Job, Kind, Limit, Login, Preheat, Rows, Task};
use flags::{What, Where};
use print::Answer;

/// A password is a line.
const PASSWORD_LIMIT: usize = 4096;

/// How long past events may take to come.
const BACKLOG_LIMIT: Duration = Duration::from_secs(3);

/// Runs dfctl as the command line says, and gives the exit code.
pub fn main() -> u8 {
    let control = Control::parse();
    if let Some(written) = manual::write(&control.what) {
        return match written {
            Ok(()) => 0,
            Err(failure) => print::end(Err(failure), control.json),
        };
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(Code::Internal, "cannot begin").because(error));
    let ended = runtime.and_then(|runtime| runtime.block_on(control.run()));
    print::end(ended, control.json)
}

fn told(outcome: Outcome) -> Answer {
    Answer::new(outcome.text, "result", outcome.json)
}

impl Control {
    fn source(&self) -> Result<Source, Failure> {
        if self.demo {
            return Ok(Source::Demo(Box::new(Demo::new(7, 64, 12))));
        }
        Ok(Source::Live(Box::new(Live::new(self.access.manager()?, None, self.access.cluster.clone()))))
    }

    async fn run(&self) -> Result<Answer, Failure> {
        let mut source = self.source()?;
        let source = &mut source;
        match &self.what {
            What::Login(login) => sign_in(source, login).await,
            What::Logout => sign_out(source).await,
            What::Whoami => who(source).await,
            What::Preheat(preheat) => self.preheat(source, preheat).await,
            What::Job(job) => self.job(source, job).await,
            What::Task(task) => self.task(source, task).await,
            What::Host(host) => self.host(source, host).await,
            What::Block(block) => self.block(source, block).await,
            What::Limit(limit) => limits(source, limit).await,
            What::Cluster(cluster) => clusters::run(source, cluster).await,
            What::User(user) => people::users(source, user).await,
            What::Token(token) => people::tokens(source, token).await,
            What::Completions { .. } | What::Man { .. } => Err(Failure::new(Code::Internal, "that asks no cluster")),
            What::Audit(rows) => listed(source, Screen::Admin, List::Audit, "audit", rows).await,
            What::Events(events) => self.events(source, events).await,
            What::Doctor => {
                let daemon = if self.demo { None } else { Some(Daemon::new(self.endpoint.clone())?) };
                Ok(doctor::look(source, daemon).await)
            }
        }
    }

    async fn preheat(&self, source: &mut Source, preheat: &Preheat) -> Result<Answer, Failure> {
        let password = match preheat.username.as_str() {
            "" => String::new(),
            _ => password(preheat.password.password_file.as_deref(), "DFCTL_PASSWORD", "the registry's password: ")?,
        };
        let request = Request::Preheat(crate::request::Preheat {
            is_image: preheat.kind == Kind::Image,
            urls: preheat.urls.clone(),
            platform: preheat.platform.clone().unwrap_or_default(),
            scope: match preheat.scope {
                Where::SingleSeedPeer => PreheatScope::SingleSeedPeer,
                Where::AllSeedPeers => PreheatScope::AllSeedPeers,
                Where::AllPeers => PreheatScope::AllPeers,
            },
            count: preheat.count.unwrap_or_default(),
            percentage: preheat.percentage.unwrap_or_default(),
            ips: preheat.ips.clone(),
            concurrency: preheat.concurrency.unwrap_or_default(),
            timeout_ms: preheat.timeout.saturating_mul(1000),
            tag: preheat.tag.clone(),
            application: preheat.application.clone(),
            piece_length: preheat.piece_length.unwrap_or_default(),
            headers: preheat.headers.clone(),
            username: preheat.username.clone(),
            password,
            is_dry_run: preheat.dry_run,
        });
        let outcome = source.carry_out(&request).await?;
        let begun = outcome.json.get("id").and_then(Value::as_str).map(str::to_owned);
        match begun.filter(|_| preheat.wait) {
            Some(job) => self.wait(source, &job).await,
            None => Ok(Answer::new(outcome.text, "job", outcome.json)),
        }
    }

    async fn job(&self, source: &mut Source, job: &Job) -> Result<Answer, Failure> {
        match job {
            Job::Ls(rows) => listed(source, Screen::Jobs, List::Jobs, "jobs", rows).await,
            Job::Show { job } => {
                let interest = Interest { screen: Screen::Jobs, job: Some(job.clone()), ..Interest::default() };
                let found = source.look_at(&interest).await?.job;
                let job = found.ok_or_else(|| Failure::new(Code::NotFound, format!("there is no job {job}")))?;
                Ok(job_answer(&job))
            }
            Job::Wait { job } => self.wait(source, job).await,
            Job::Cancel { job } => ordered(source, Request::CancelJob { job: job.clone() }).await,
        }
    }

    /// Waits until a job is over; how it ended decides the exit code.
    async fn wait(&self, source: &mut Source, id: &str) -> Result<Answer, Failure> {
        let mut updates = source.manager()?.follow_job(id).await?;
        let mut last: Option<JobRow> = None;
        while let Some(update) = updates.message().await.map_err(|status| df_api::status::failure_of(&status))? {
            let job = rows::job(update, 0);
            let is_new = last.as_ref().is_none_or(|last| last.done_per_mille != job.done_per_mille);
            if is_new && !self.json && job.is_running() {
                let shown = format::percent(job.done_per_mille);
                eprintln!("dfctl: job {} {} {shown}", job.id, job.state.word);
            }
            let is_over = !job.is_running();
            last = Some(job);
            if is_over {
                break;
            }
        }
        let job = last.ok_or_else(|| Failure::new(Code::Protocol, "the manager ended the watch at once"))?;
        let failure = match (job.state.mark, job.state.word.as_str()) {
            (Mark::Good, _) => None,
            (_, "cancelled") => Some(Code::Cancelled),
            (_, "timed out") => Some(Code::Timeout),
            _ => Some(Code::Network),
        };
        let failure = failure.map(|code| {
            let part = job.parts.iter().find(|part| !part.error.is_empty()).map(|part| part.error.clone());
            let why = if job.error.is_empty() { part.unwrap_or_default() } else { job.error.clone() };
            Failure::new(code, format!("job {id} ended: {}", job.state.word)).because(why)
        });
        Ok(Answer { failure, ..job_answer(&job) })
    }

    async fn task(&self, source: &mut Source, task: &Task) -> Result<Answer, Failure> {
        if let Task::Ls(rows) = task {
            return listed(source, Screen::Tasks, List::Tasks, "tasks", rows).await;
        }
        let (Task::Show { task: name } | Task::Who { task: name } | Task::Rm { task: name, .. }) = task else {
            return Err(Failure::new(Code::Internal, "a command without a task"));
        };
        let snapshot = seen(source, Screen::Tasks).await?;
        let row = named(List::Tasks.rows(&snapshot), name, "task")?;
        let id = row.key().into_owned();
        match task {
            Task::Rm { yes, .. } => {
                if !yes {
                    confirm(&row.name())?;
                }
                ordered(source, Request::DeleteTask { task: id }).await
            }
            Task::Who { .. } => {
                let interest = Interest { screen: Screen::Task, task: Some(id), ..Interest::default() };
                let snapshot = source.look_at(&interest).await?;
                Answer::rows(List::TaskPeers, "peers", &snapshot, &Rows::default())
            }
            _ => {
                let text = print::fields(row, List::Tasks);
                let interest = Interest { screen: Screen::Task, task: Some(id), ..Interest::default() };
                let snapshot = source.look_at(&interest).await?;
                Ok(Answer::new(text, "task", json!(snapshot.task)))
            }
        }
    }

    async fn host(&self, source: &mut Source, host: &Host) -> Result<Answer, Failure> {
        let (name, request): (&String, Option<(Option<u64>, &String)>) = match host {
            Host::Ls(rows) => return listed(source, Screen::Peers, List::Hosts, "hosts", rows).await,
            Host::Isolated(rows) => {
                return listed(source, Screen::Blacklist, List::Isolated, "blacklist", rows).await;
            }
            Host::Show { host } | Host::Release { host } => (host, None),
            Host::Isolate { host, term, reason } => (host, Some((*term, reason))),
        };
        let snapshot = seen(source, Screen::Peers).await?;
        let row = named(List::Hosts.rows(&snapshot), name, "host")?;
        let id = row.key().into_owned();
        match (host, request) {
            (Host::Show { .. }, _) => Ok(Answer::new(print::fields(row, List::Hosts), "host", row.json())),
            (_, Some((seconds, reason))) => {
                ordered(source, Request::Isolate { host: id, seconds, reason: reason.clone() }).await
            }
            _ => ordered(source, Request::Release { host: id }).await,
        }
    }

    async fn block(&self, source: &mut Source, block: &Block) -> Result<Answer, Failure> {
        match block {
            Block::Ls(rows) => listed(source, Screen::Blacklist, List::Blocks, "block_rules", rows).await,
            Block::Rm { rule } => ordered(source, Request::RemoveBlock { rule: rule.clone() }).await,
            Block::Add { field, value, upload, both, reason } => {
                let kind = match field {
                    Field::Application => "application",
                    Field::Url => "url",
                    Field::Tag => "tag",
                    Field::Priority => "priority",
                };
                let block = NewBlock {
                    kind: kind.to_owned(),
                    value: value.clone(),
                    blocks_download: !upload,
                    blocks_upload: *upload || *both,
                    reason: reason.clone(),
                };
                ordered(source, Request::AddBlock(block)).await
            }
        }
    }

    async fn events(&self, source: &mut Source, events: &Events) -> Result<Answer, Failure> {
        let filter = Filter::new(&events.filter);
        let heads = List::Happenings.heads();
        if let Source::Demo(demo) = source {
            let snapshot = demo.snapshot(&Interest::default());
            let wanted = Rows { filter: events.filter.clone(), ..Rows::default() };
            return Answer::rows(List::Happenings, "events", &snapshot, &wanted);
        }
        let mut batches = source.manager()?.events(events.lines).await?;
        let mut kept: Vec<Happening> = Vec::new();
        // The first answer is the backlog; where nothing has happened, none comes.
        let patience = if events.follow { Duration::MAX } else { BACKLOG_LIMIT };
        while let Ok(batch) = timeout(patience, batches.message()).await
            && let Some(batch) = batch.map_err(|status| df_api::status::failure_of(&status))?
        {
            let happenings = batch.events.into_iter().map(rows::happening);
            for happening in happenings.filter(|it| filter.passes(&heads, it)) {
                if !events.follow {
                    kept.push(happening);
                } else if print::write(&self.event_line(&happening)).is_err() {
                    return Ok(Answer::new("", "events", Value::Array(Vec::new())));
                }
            }
            if !events.follow {
                break;
            }
        }
        let text = kept.iter().map(event_text).collect::<String>();
        Ok(Answer::new(text, "events", json!(kept)))
    }

    fn event_line(&self, happening: &Happening) -> String {
        if self.json { format!("{}\n", json!(happening)) } else { event_text(happening) }
    }
}

fn event_text(happening: &Happening) -> String {
    let place = if happening.place.is_empty() { "-" } else { &happening.place };
    let line = format!(
        "{}  {:<24} {:<14} {}",
        format::date(happening.happened_at),
        format!("{} {}", crate::theme::sign(happening.kind.mark), happening.kind.word),
        place,
        happening.text
    );
    format!("{}\n", format::clean(&line))
}

fn job_answer(job: &JobRow) -> Answer {
    let mut text = print::fields(job, List::Jobs);
    for part in &job.parts {
        let line = format!("  {:<10} {:>7}  {}", part.state.word, format!("{}/{}", part.done, part.all), part.url);
        text.push_str(&format!("{}\n", format::clean(&line)));
    }
    Answer::new(text, "job", json!(job))
}

async fn seen(source: &mut Source, screen: Screen) -> Result<Snapshot, Failure> {
    source.look_at(&Interest { screen, ..Interest::default() }).await
}

async fn listed(source: &mut Source, screen: Screen, list: List, name: &str, rows: &Rows) -> Result<Answer, Failure> {
    let snapshot = seen(source, screen).await?;
    Answer::rows(list, name, &snapshot, rows)
}

async fn ordered(source: &mut Source, request: Request) -> Result<Answer, Failure> {
    source.carry_out(&request).await.map(told)
}

async fn sign_in(source: &mut Source, login: &Login) -> Result<Answer, Failure> {
    let manager = source.manager()?;
    let password = password(login.password.password_file.as_deref(), "DFCTL_PASSWORD", "password: ")?;
    let session = manager.sign_in(&login.name, &password).await?;
    let path = access::keep(&session.token)?;
    let identity = session.identity.unwrap_or_default();
    let mut answer = identity_answer(&identity);
    answer.text.push_str(&format!("the token is in {}\n", path.display()));
    Ok(answer)
}

async fn sign_out(source: &mut Source) -> Result<Answer, Failure> {
    let ended = source.manager()?.sign_out().await;
    // Whatever the manager says, the token is not to lie about here.
    access::forget()?;
    ended.map(|()| Answer::new("signed out", "result", json!({ "done": "signed out" })))
}

async fn who(source: &mut Source) -> Result<Answer, Failure> {
    let identity = source.manager()?.who_am_i().await?;
    Ok(identity_answer(&identity))
}

fn identity_answer(identity: &pb::Identity) -> Answer {
    let role = rows::role_name(identity.role());
    let expires_at = Some(identity.expires_at_ms / 1000).filter(|at| *at > 0);
    let until = expires_at.map_or_else(|| "for ever".to_owned(), |at| format!("until {}", format::date(at)));
    let scopes = identity.scopes.join(" ");
    let mut text = format!("{} ({role}), {until}, for: {scopes}\n", format::clean(&identity.user));
    if identity.must_change_password {
        text.push_str("the password is still the one that was generated: change it with dfctl user passwd\n");
    }
    let json = json!({
        "user": identity.user,
        "role": role,
        "scopes": identity.scopes,
        "expires_at": expires_at,
        "must_change_password": identity.must_change_password,
    });
    Answer::new(text, "identity", json)
}

async fn limits(source: &mut Source, limit: &Limit) -> Result<Answer, Failure> {
    match limit {
        Limit::Get => {
            let snapshot = seen(source, Screen::Admin).await?;
            let answer = Answer::rows(List::Settings, "settings", &snapshot, &Rows::default())?;
            Ok(Answer::new(answer.text, "policy", json!(snapshot.policy)))
        }
        Limit::Set { limits, seeds, host } => {
            let scope = match host {
                None if *seeds => LimitScope::Seeds,
                None => LimitScope::Peers,
                Some(name) => {
                    let snapshot = seen(source, Screen::Peers).await?;
                    LimitScope::Host(named(List::Hosts.rows(&snapshot), name, "host")?.key().into_owned())
                }
            };
            ordered(source, Request::SetLimits { scope, limits: limits.clone() }).await
        }
    }
}

/// The row with this name, or the one whose id or name begins so.
fn named<'a>(rows: Vec<&'a dyn Row>, name: &str, what: &str) -> Result<&'a dyn Row, Failure> {
    crate::list::named(rows, name, what).map_err(|why| Failure::new(Code::NotFound, why))
}

/// Asks whoever sits at the terminal to type a name.
fn confirm(name: &str) -> Result<(), Failure> {
    let unasked =
        || Failure::new(Code::Usage, format!("{name} would be dropped by every host")).hint("say --yes to mean it");
    if !io::stdin().is_terminal() {
        return Err(unasked());
    }
    eprint!("Every host drops {}. Type its name to do it: ", format::clean(name));
    let mut typed = String::new();
    io::stdin().lock().read_line(&mut typed).map_err(|error| unasked().because(error))?;
    if typed.trim() == name { Ok(()) } else { Err(Failure::new(Code::Cancelled, "nothing was done")) }
}

/// A password: of a file, of the environment, or of whoever is asked.
fn password(file: Option<&Path>, variable: &str, prompt: &str) -> Result<String, Failure> {
    if let Some(path) = file {
        let failed = |error| Failure::new(Code::LocalIo, format!("cannot read {}", path.display())).because(error);
        return checked(&fs::read_to_string(path).map_err(failed)?);
    }
    match std::env::var(variable) {
        Ok(password) if !password.is_empty() => checked(&password),
        _ => ask(prompt),
    }
}

fn checked(text: &str) -> Result<String, Failure> {
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() || line.len() > PASSWORD_LIMIT {
        return Err(Failure::new(Code::Usage, "a password is one line, and not an empty one"));
    }
    Ok(line.to_owned())
}

/// Asks at the terminal, without showing what is typed; else reads a line of the standard input.
fn ask(prompt: &str) -> Result<String, Failure> {
    let failed = |error: io::Error| Failure::new(Code::LocalIo, "no password could be read").because(error);
    if !io::stdin().is_terminal() {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map_err(failed)?;
        return checked(&line);
    }
    eprint!("{prompt}");
    terminal::enable_raw_mode().map_err(failed)?;
    let typed = typed_unseen();
    terminal::disable_raw_mode().map_err(failed)?;
    eprintln!();
    let line = typed.map_err(failed)?.ok_or_else(|| Failure::new(Code::Cancelled, "nothing was done"))?;
    checked(&line)
}

/// The line that is typed; `None` when it is given up.
fn typed_unseen() -> io::Result<Option<String>> {
    let mut line = String::new();
    loop {
        let Some(Event::Pressed(key)) = Event::of(&crossterm::event::read()?) else { continue };
        match key.code {
            KeyCode::Enter => return Ok(Some(line)),
            KeyCode::Esc => return Ok(None),
            KeyCode::Char('c' | 'd') if key.is_control => return Ok(None),
            KeyCode::Char(c) if !key.is_control && line.len() < PASSWORD_LIMIT => line.push(c),
            KeyCode::Backspace => drop(line.pop()),
            _ => {}
        }
    }
}
