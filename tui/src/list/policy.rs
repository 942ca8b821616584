//! Columns of jobs, isolated hosts, blocks, users, tokens, audit and settings.

use std::borrow::Cow;

use super::task::{at, short};
use super::{Column, Listed, Value};
use crate::model::{AuditEntry, Block, Isolated, Job, JobPart, Setting, Token, User};

impl Listed for Job {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::number("JOB", 5, 0, |job| Value::text(&job.id)),
        Column::words("STATE", 13, 0, |job| Value::State(&job.state)),
        Column::words("TYPE", 6, 3, |job| Value::text(&job.kind)),
        Column::number("DONE", 6, 1, |job| Value::Share(job.done_per_mille)),
        Column::number("PARTS", 8, 2, |job| Value::made(format!("{}/{}", job.done, job.all))),
        Column::number("FAILED", 6, 2, |job| Value::Count(job.failed)),
        Column::words("SCOPE", 16, 4, |job| Value::text(job.scope.name())),
        Column::number("TOOK", 7, 4, |job| Value::Span(job.taken_s)),
        Column::words("BY", 8, 5, |job| Value::text(&job.user)),
        Column::words("CREATED", 19, 6, |job| at(job.created_at)),
        Column::grows("URL", 14, 0, |job| Value::text(&job.url)),
        Column::words("ERROR", 24, 7, |job| Value::text(&job.error)),
    ];

    fn key(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.id)
    }
}

impl Listed for JobPart {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::words("TASK", 8, 3, |part| short(&part.task_id)),
        Column::words("STATE", 12, 0, |part| Value::State(&part.state)),
        Column::number("HOSTS", 7, 1, |part| Value::made(format!("{}/{}", part.done, part.all))),
        Column::number("FAILED", 6, 2, |part| Value::Count(part.failed)),
        Column::grows("URL", 20, 0, |part| Value::text(&part.url)),
        Column::words("ERROR", 30, 4, |part| Value::text(&part.error)),
    ];

    fn key(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.url)
    }
}

impl Listed for Isolated {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::words("HOST", 14, 0, |isolated| Value::text(&isolated.hostname)),
        Column::words("SCOPE", 8, 0, |isolated| Value::made(isolated.scope.to_string())),
        Column::number("SINCE", 7, 2, |isolated| Value::Span(isolated.since_s)),
        Column::number("STRIKES", 7, 3, |isolated| match isolated.strike_limit {
            0 => Value::None,
            limit => Value::made(format!("{}/{limit}", isolated.strikes)),
        }),
        Column::words("BY", 16, 4, |isolated| Value::text(&isolated.by)),
        Column::words("PAROLE", 6, 6, |isolated| Value::text(if isolated.is_on_parole { "parole" } else { "" })),
        Column::number("EXPIRES", 8, 1, |isolated| isolated.expires_s.map_or(Value::None, Value::Span)),
        Column::grows("REASON", 16, 0, |isolated| Value::text(&isolated.reason)),
    ];

    fn key(&self) -> Cow<'_, str> {
        Cow::Owned(format!("{}\u{0}{}\u{0}{}", self.host, self.scope, self.by))
    }

    fn name(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.hostname)
    }
}

impl Listed for Block {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::number("RULE", 4, 2, |block| Value::text(&block.id)),
        Column::words("FIELD", 11, 0, |block| Value::text(&block.kind)),
        Column::grows("VALUE", 14, 0, |block| Value::text(&block.value)),
        Column::words("REFUSES", 8, 1, |block| Value::text(&block.direction)),
        Column::words("FOR", 5, 3, |block| Value::text(&block.hosts)),
        Column::words("REASON", 20, 3, |block| Value::text(&block.reason)),
        Column::words("BY", 8, 5, |block| Value::text(&block.by)),
        Column::words("CREATED", 19, 6, |block| at(block.created_at)),
    ];

    fn key(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.id)
    }

    fn name(&self) -> Cow<'_, str> {
        Cow::Owned(format!("{} {}", self.kind, self.value))
    }
}

impl Listed for User {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::grows("USER", 10, 0, |user| Value::text(&user.name)),
        Column::words("ROLE", 10, 0, |user| Value::text(&user.role)),
        Column::words("STATE", 11, 1, |user| Value::State(&user.state)),
        Column::words("SIGNED_IN", 19, 2, |user| user.seen_at.map_or(Value::None, Value::At)),
        Column::words("CREATED", 19, 3, |user| at(user.created_at)),
    ];

    fn key(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.id)
    }

    fn name(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.name)
    }
}

impl Listed for Token {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::number("TOKEN", 5, 0, |token| Value::text(&token.id)),
        Column::grows("NAME", 10, 0, |token| Value::text(&token.name)),
        Column::words("USER", 10, 1, |token| Value::text(&token.user)),
        Column::words("STATE", 10, 1, |token| Value::State(&token.state)),
        Column::words("SCOPES", 24, 2, |token| Value::made(token.scopes.join(" "))),
        Column::words("EXPIRES", 19, 2, |token| token.expires_at.map_or(Value::None, Value::At)),
        Column::words("USED", 19, 4, |token| token.used_at.map_or(Value::None, Value::At)),
        Column::words("CREATED", 19, 5, |token| at(token.created_at)),
    ];

    fn key(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.id)
    }

    fn name(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.name)
    }
}

impl Listed for AuditEntry {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::words("TIME", 19, 1, |entry| at(entry.happened_at)),
        Column::words("USER", 10, 0, |entry| Value::text(&entry.user)),
        Column::words("ACTION", 18, 0, |entry| Value::text(&entry.action)),
        Column::words("TARGET", 18, 1, |entry| Value::text(&entry.target)),
        Column::words("STATE", 10, 2, |entry| Value::State(&entry.state)),
        Column::words("IP", 15, 5, |entry| Value::text(&entry.ip)),
        Column::grows("DETAIL", 16, 3, |entry| Value::text(&entry.detail)),
    ];

    fn key(&self) -> Cow<'_, str> {
        Cow::Owned(self.number.to_string())
    }
}

impl Listed for Setting {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::words("FOR", 14, 0, |setting| Value::text(&setting.scope)),
        Column::grows("SETTING", 12, 0, |setting| Value::text(&setting.name)),
        Column::words("VALUE", 12, 0, |setting| Value::text(&setting.value)),
    ];

    fn key(&self) -> Cow<'_, str> {
        Cow::Owned(format!("{}\u{0}{}", self.scope, self.name))
    }

    fn name(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.name)
    }
}
