//! What a healed world is to bring: tried until it comes, or has failed time and again.

use std::collections::BTreeSet;

use df_daemons::sync::lock;

use super::World;
use crate::turmoil::checks;
use crate::turmoil::scenario::Act;
use crate::turmoil::user::Outcome;

/// Tries of what has to come in a healed world, and of what need not.
const FINAL_TRIES: [u32; 2] = [6, 1];

/// Pause after the first of them, in milliseconds; it doubles each time, for a source that hangs is given
/// half a minute.
const RETRY_MS: u64 = 2000;

/// How long a change may take to be in force on every member of a healed core, in milliseconds: less than the
/// minute after which members ask by themselves.
const CHANGE_LIMIT_MS: u64 = 20_000;

/// Something that is wanted in a healed world.
pub struct Wish {
    /// Where.
    pub host: u32,
    /// What.
    pub act: Act,
    entry: Option<usize>,
    tries: u32,
    not_before_ms: u64,
    /// What came of the last try.
    pub last: Option<Outcome>,
}

impl World<'_> {
    /// What was asked for on the hosts of the core, each once.
    pub(super) fn wishes(&self) -> Vec<Wish> {
        let first = self.first_daemon();
        let mut wishes: Vec<Wish> = Vec::new();
        for work in &self.scenario().work {
            let host = first + work.host;
            let act = match &work.act {
                Act::Download { content, priority, has_digest, .. } => Act::Download {
                    content: *content,
                    may_fetch_source: true,
                    priority: if *priority == 3 { 3 } else { 0 },
                    has_digest: *has_digest,
                    is_in_order: false,
                    cancel_after_ms: None,
                },
                Act::Export { name } => Act::Export { name: *name },
                _ => continue,
            };
            let is_known = wishes.iter().any(|wish| wish.host == host && wish.act == act);
            if self.core.contains(&host) && !is_known {
                wishes.push(Wish { host, act, entry: None, tries: 0, not_before_ms: self.now_ms, last: None });
            }
        }
        wishes
    }

    /// Whether something can be had in the healed core, whatever happened before.
    pub(in crate::turmoil) fn must_come(&self, act: &Act) -> bool {
        let Act::Download { content, has_digest, .. } = act else { return false };
        let has_changed = lock(&self.common.shelf).versions(*content).len() > 1;
        self.core.contains(&self.origin()) && !(*has_digest && has_changed)
    }

    /// Tries again what has failed. Answers what is still to be had.
    pub(super) fn look(&self, wishes: Vec<Wish>) -> Vec<Wish> {
        let busy: BTreeSet<u32> = wishes.iter().filter(|wish| self.is_under_way(wish)).map(|wish| wish.host).collect();
        let mut still = Vec::new();
        for mut wish in wishes {
            if let Some(outcome) = self.ended(&wish) {
                if self.is_had(&wish, &outcome) {
                    continue;
                }
                // Room that another download of the same host takes comes back when that is done.
                let lacks_room = matches!(&outcome, Outcome::Failed { code, .. } if code == "NO_SPACE");
                let has_to_come = self.must_come(&wish.act);
                wish.tries -= u32::from(lacks_room && has_to_come && busy.contains(&wish.host));
                wish.last = Some(outcome);
                wish.entry = None;
                wish.not_before_ms = self.now_ms + (RETRY_MS << wish.tries.min(5)) / 2;
                if wish.tries >= FINAL_TRIES[usize::from(!has_to_come)] {
                    checks::gave_up(self, &wish);
                    continue;
                }
            }
            if wish.entry.is_none() && self.now_ms >= wish.not_before_ms {
                wish.entry = self.ask(wish.host, wish.act.clone());
                wish.tries += u32::from(wish.entry.is_some());
            }
            still.push(wish);
        }
        still
    }

    /// With a manager in the core, an operator changes something there; its members have it soon.
    pub(super) fn change_something(&mut self) {
        let manager = self.origin() + 1;
        if self.is_over() || !self.core.contains(&manager) {
            return;
        }
        let upload_rate = self.scenario().upload_rates().max().unwrap_or(1 << 30);
        let limit_ms = self.now_ms + CHANGE_LIMIT_MS;
        let mut entry = None;
        while !self.is_over() {
            let outcome = self.outcome(entry);
            if matches!(outcome, Some(Outcome::Failed { .. })) || entry.is_none() {
                entry = self.ask(manager, Act::SetLimits { upload_rate });
            }
            let behind = checks::behind(self);
            if matches!(outcome, Some(Outcome::Done { .. })) && behind.is_empty() {
                return;
            }
            if self.now_ms >= limit_ms {
                self.ledger().violate("changes-arrive", format!("the operator: {outcome:?}; {}", behind.join(", ")));
            }
            self.wait(200);
        }
    }

    fn outcome(&self, entry: Option<usize>) -> Option<Outcome> {
        let diary = lock(&self.common.diary);
        diary.get(entry?)?.ended.as_ref().map(|(_, outcome)| outcome.clone())
    }

    /// What came of the last try, once it is over.
    fn ended(&self, wish: &Wish) -> Option<Outcome> {
        self.outcome(wish.entry)
    }

    fn is_under_way(&self, wish: &Wish) -> bool {
        wish.entry.is_some() && self.ended(wish).is_none()
    }

    /// Whether a try brought it, right or wrong.
    fn is_had(&self, wish: &Wish, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Done { local_bytes, .. } => {
                if let Some(mark) = self.deaths.get(&wish.host).filter(|_| *local_bytes > 0) {
                    self.ledger().mark(*mark);
                }
            }
            Outcome::Wrong(what) => self.ledger().violate("bytes-of-one-version", what.clone()),
            _ => return false,
        }
        true
    }
}
