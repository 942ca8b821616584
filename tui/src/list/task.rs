//! Columns of tasks, their peers and parents, cached contents.

use std::borrow::Cow;

use super::{Column, Listed, Value};
use crate::model::{Content, Edge, Task, TaskPeer};

/// As much of an id as people compare.
pub(super) fn short(id: &str) -> Value<'_> {
    Value::text(id.get(..8).unwrap_or(id))
}

pub(super) fn at(time: u64) -> Value<'static> {
    if time == 0 { Value::None } else { Value::At(time) }
}

impl Listed for Task {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::words("TASK", 8, 0, |task| short(&task.id)),
        Column::words("STATE", 10, 1, |task| Value::State(&task.state)),
        Column::number("SIZE", 9, 1, |task| task.content_length.map_or(Value::None, Value::Size)),
        Column::number("PEERS", 6, 2, |task| Value::Count(task.peers.into())),
        Column::number("DONE", 6, 0, |task| Value::Share(task.done_per_mille)),
        Column::number("RATE", 11, 0, |task| Value::Rate(task.rate_bytes_per_sec)),
        Column::number("LEFT", 7, 3, |task| task.left_s.map_or(Value::None, Value::Span)),
        Column::number("SOURCE", 7, 4, |task| task.source_per_mille().map_or(Value::None, Value::Share)),
        Column::number("COMPLETE", 8, 6, |task| Value::Count(task.complete_peers.into())),
        Column::number("RAREST", 6, 6, |task| Value::Count(task.rarest_copies.into())),
        Column::words("TAG", 10, 5, |task| Value::text(&task.tag)),
        Column::words("APPLICATION", 12, 7, |task| Value::text(&task.application)),
        Column::words("SCHEDULER", 12, 8, |task| Value::text(&task.scheduler)),
        Column::number("PIECES", 7, 9, |task| Value::Count(task.total_pieces.into())),
        Column::grows("NAME", 10, 0, |task| Value::text(task.name())),
        Column::words("URL", 60, 9, |task| Value::text(&task.url)),
    ];

    fn key(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.id)
    }

    fn name(&self) -> Cow<'_, str> {
        Cow::Borrowed(Task::name(self))
    }
}

impl Listed for TaskPeer {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::grows("HOST", 10, 0, |peer| Value::text(&peer.hostname)),
        Column::words("ROLE", 5, 3, |peer| Value::made(peer.role.to_string())),
        Column::words("IDC", 8, 4, |peer| Value::text(&peer.idc)),
        Column::number("DONE", 6, 0, |peer| Value::Share(peer.done_per_mille)),
        Column::number("DOWN", 11, 1, |peer| Value::Rate(peer.download_bytes_per_sec)),
        Column::number("UP", 11, 2, |peer| Value::Rate(peer.upload_bytes_per_sec)),
        Column::words("STATE", 14, 1, |peer| Value::State(&peer.state)),
    ];

    fn key(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.host)
    }

    fn name(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.hostname)
    }
}

impl Listed for Edge {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::grows("PEER", 10, 0, |edge| Value::text(&edge.parent_name)),
        Column::words("ROLE", 6, 3, |edge| {
            edge.role.map_or(Value::text("source"), |role| Value::made(role.to_string()))
        }),
        Column::words("IDC", 8, 4, |edge| Value::text(&edge.idc)),
        Column::number("RATE", 11, 0, |edge| Value::Rate(edge.rate_bytes_per_sec)),
        Column::number("OK", 6, 2, |edge| Value::Count(edge.pieces.into())),
        Column::number("FAIL", 5, 2, |edge| Value::Count(edge.failures.into())),
        Column::number("NOW", 4, 5, |edge| Value::Count(edge.transfers.into())),
        Column::words("STATE", 17, 1, |edge| Value::State(&edge.state)),
    ];

    fn key(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.parent)
    }

    fn name(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.parent_name)
    }
}

impl Listed for Content {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::grows("CID", 14, 0, |content| Value::text(&content.cid)),
        Column::words("TAG", 12, 3, |content| Value::text(&content.tag)),
        Column::number("SIZE", 9, 0, |content| content.content_length.map_or(Value::None, Value::Size)),
        Column::number("STORED", 9, 5, |content| Value::Size(content.stored_bytes)),
        Column::words("STATE", 10, 1, |content| Value::State(&content.state)),
        Column::words("KEPT", 6, 2, |content| Value::text(if content.is_pinned { "pinned" } else { "" })),
        Column::words("TASK", 8, 6, |content| short(&content.task_id)),
        Column::words("USED", 19, 4, |content| at(content.used_at)),
        Column::words("CREATED", 19, 7, |content| at(content.created_at)),
        Column::words("EXPIRES", 19, 6, |content| content.expires_at.map_or(Value::None, Value::At)),
    ];

    fn key(&self) -> Cow<'_, str> {
        Cow::Owned(format!("{}\u{0}{}", self.cid, self.tag))
    }

    fn name(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.cid)
    }
}
