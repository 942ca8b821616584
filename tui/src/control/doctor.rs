//! Looks for what is wrong between this node and the cluster, and says what to do about it.

use df_api::failure::{Code, Failure};
use serde_json::{Value, json};

use super::print::Answer;
use crate::app::Interest;
use crate::format;
use crate::model::{Mark, Role, Scope, Snapshot};
use crate::poller::{Daemon, Source};
use crate::screen::Screen;
use crate::theme;

/// One thing that was looked at.
struct Finding {
    mark: Mark,
    what: String,
    hint: Option<String>,
}

fn good(what: impl Into<String>) -> Finding {
    Finding { mark: Mark::Good, what: what.into(), hint: None }
}

fn wrong(mark: Mark, what: impl Into<String>, hint: impl Into<String>) -> Finding {
    Finding { mark, what: what.into(), hint: Some(hint.into()) }
}

/// Looks at everything that can be looked at from here. What is broken is a failure, what is worth a
/// look is not.
pub(super) async fn look(source: &mut Source, daemon: Option<Daemon>) -> Answer {
    let mut findings = Vec::new();
    let mut first_failure: Option<Failure> = None;
    if let Some(mut daemon) = daemon {
        match daemon.contents().await {
            Ok(contents) => {
                findings.push(good(format!("the daemon of this node answers, {} contents", contents.len())))
            }
            // A node of an operator need not be one of the swarm.
            Err(failure) => {
                let hint = "start dfdaemon, or name its socket with --endpoint; without it this node caches nothing";
                findings.push(wrong(Mark::Warn, failure.to_string(), hint));
            }
        }
    }
    let mut seen = Snapshot::default();
    let mut failed = None;
    for screen in [Screen::Cluster, Screen::Peers, Screen::Blacklist] {
        match source.look_at(&Interest { screen, ..Interest::default() }).await {
            Ok(snapshot) => seen = snapshot,
            Err(failure) => failed = Some(failure),
        }
    }
    match failed {
        Some(failure) => {
            let hint = failure.hint.clone().unwrap_or_else(|| "see its log".to_owned());
            findings.push(wrong(Mark::Bad, failure.to_string(), hint));
            first_failure = Some(failure);
        }
        None => {
            findings.push(good(format!("the manager answers, cluster {}", seen.cluster)));
            findings.extend(of_cluster(&seen));
        }
    }
    let bad = findings.iter().find(|finding| finding.mark == Mark::Bad);
    let failure = first_failure.or_else(|| bad.map(|finding| Failure::new(Code::Network, finding.what.clone())));
    Answer { failure, ..answer(&findings) }
}

fn of_cluster(seen: &Snapshot) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (role, name, hint) in [
        (Role::Scheduler, "schedulers", "start dfscheduler with --manager: without one every peer goes to the source"),
        (Role::Seed, "seed peers", "start dfdaemon --seed: without one peers go to the source themselves"),
    ] {
        let all: Vec<_> = seen.members.iter().filter(|member| member.role == role).collect();
        let lost: Vec<&str> =
            all.iter().filter(|it| it.state.mark == Mark::Bad).map(|it| it.hostname.as_str()).collect();
        findings.push(match (all.len(), lost.len()) {
            (0, _) => wrong(if role == Role::Scheduler { Mark::Bad } else { Mark::Warn }, format!("no {name}"), hint),
            (all, 0) => good(format!("{all} {name}, all heard of")),
            (all, count) if count == all => wrong(Mark::Bad, format!("all {all} {name} are lost"), hint),
            (all, count) => wrong(
                Mark::Warn,
                format!("{count} of {all} {name} are lost: {}", lost.join(" ")),
                "see their logs, or forget them with dfctl cluster forget",
            ),
        });
    }
    let refusing = seen.members.iter().filter(|member| !member.refused.is_empty());
    findings.extend(refusing.map(|member| {
        let what = format!("{} does not take the configuration: {}", member.hostname, member.refused);
        wrong(Mark::Warn, what, "change the value, or bring the member up to date")
    }));
    let out = seen.isolated.iter().filter(|isolated| isolated.scope != Scope::Local);
    findings.extend(out.map(|isolated| {
        let what = format!("{} is not used ({}): {}", isolated.hostname, isolated.scope, isolated.reason);
        wrong(Mark::Warn, what, format!("mend it, then dfctl host release {}", isolated.hostname))
    }));
    let full = seen.hosts.iter().filter(|host| host.disk_per_mille() >= Some(950));
    findings.extend(full.map(|host| {
        let what = format!(
            "the cache of {} is {} full",
            host.hostname,
            format::percent(host.disk_per_mille().unwrap_or_default())
        );
        wrong(Mark::Warn, what, "give it more, or delete pinned contents: it evicts what it can by itself")
    }));
    findings
}

fn answer(findings: &[Finding]) -> Answer {
    let line = |finding: &Finding| {
        let hint = finding.hint.as_ref().map(|hint| format!("  hint: {}\n", format::clean(hint))).unwrap_or_default();
        format!("{} {}\n{hint}", theme::sign(finding.mark), format::clean(&finding.what))
    };
    let object = |finding: &Finding| json!({ "state": finding.mark, "what": finding.what, "hint": finding.hint });
    let text: String = findings.iter().map(line).collect();
    Answer::new(text, "findings", Value::Array(findings.iter().map(object).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Member, State};

    #[test]
    fn a_cluster_without_schedulers_is_broken_and_one_with_a_lost_one_is_worth_a_look() {
        let marks = |states: &[Mark]| {
            let scheduler =
                |mark: &Mark| Member { role: Role::Scheduler, state: State::new(*mark, ""), ..Member::default() };
            let seen = Snapshot { members: states.iter().map(scheduler).collect(), ..Snapshot::default() };
            of_cluster(&seen).first().map(|finding| finding.mark)
        };
        assert_eq!(marks(&[]), Some(Mark::Bad));
        assert_eq!(marks(&[Mark::Bad]), Some(Mark::Bad));
        assert_eq!(marks(&[Mark::Good, Mark::Bad]), Some(Mark::Warn));
        assert_eq!(marks(&[Mark::Good]), Some(Mark::Good));
    }
}
