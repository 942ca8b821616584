//! Columns of hosts, members, clusters, and what they need attention for.

use std::borrow::Cow;

use super::task::at;
use super::{Column, Listed, Value};
use crate::model::{Attention, Cluster, Happening, Host, Member, State};

impl Listed for Host {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::grows("HOST", 10, 0, |host| Value::text(&host.hostname)),
        Column::words("ROLE", 5, 4, |host| Value::made(host.role.to_string())),
        Column::words("STATE", 13, 0, |host| Value::State(&host.state)),
        Column::words("IDC", 8, 4, |host| Value::text(&host.idc)),
        Column::words("IP", 15, 6, |host| Value::text(&host.ip)),
        Column::number("SLOTS", 7, 3, |host| Value::made(format!("{}/{}", host.slots_used, host.slots))),
        Column::number("DOWN", 11, 1, |host| Value::Rate(host.download_bytes_per_sec)),
        Column::number("UP", 11, 1, |host| Value::Rate(host.upload_bytes_per_sec)),
        Column::number("SOURCE", 11, 5, |host| Value::Rate(host.source_bytes_per_sec)),
        Column::number("TASKS", 5, 5, |host| Value::Count(host.tasks.into())),
        Column::number("DISK", 6, 2, |host| host.disk_per_mille().map_or(Value::None, Value::Share)),
        Column::words("LOCATION", 12, 8, |host| Value::text(&host.location)),
        Column::words("SCHEDULER", 12, 8, |host| Value::text(&host.scheduler)),
        Column::number("RECEIVED", 9, 9, |host| Value::Size(host.downloaded_bytes)),
        Column::number("SENT", 9, 9, |host| Value::Size(host.uploaded_bytes)),
        Column::words("REASON", 24, 7, |host| Value::text(&host.reason)),
    ];

    fn key(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.id)
    }

    fn name(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.hostname)
    }
}

impl Listed for Member {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::grows("HOST", 12, 0, |member| Value::text(&member.hostname)),
        Column::words("ROLE", 9, 0, |member| Value::made(member.role.to_string())),
        Column::words("STATE", 8, 0, |member| Value::State(&member.state)),
        Column::words("ADDRESS", 21, 3, |member| Value::text(&member.address)),
        Column::words("CLUSTER", 10, 4, |member| Value::text(&member.cluster)),
        Column::words("IDC", 8, 5, |member| Value::text(&member.idc)),
        Column::number("RING", 7, 1, |member| member.ring_per_mille.map_or(Value::None, Value::Share)),
        Column::number("TASKS", 6, 2, |member| member.tasks.map_or(Value::None, Value::Count)),
        Column::number("HOSTS", 6, 2, |member| member.peers.map_or(Value::None, Value::Count)),
        Column::number("SEEN", 7, 3, |member| Value::Span(member.silent_s)),
        Column::number("CONFIG", 6, 5, |member| Value::Count(member.configuration)),
        Column::words("RELEASE", 8, 6, |member| Value::text(&member.release)),
        Column::words("REFUSED", 24, 8, |member| Value::text(&member.refused)),
    ];

    fn key(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.id)
    }

    fn name(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.hostname)
    }
}

impl Listed for Cluster {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::grows("CLUSTER", 10, 0, |cluster| Value::text(&cluster.name)),
        Column::words("DEFAULT", 7, 4, |cluster| Value::text(if cluster.is_default { "default" } else { "" })),
        Column::number("SCHEDULERS", 10, 1, |cluster| Value::Count(cluster.schedulers.into())),
        Column::number("SEEDS", 5, 1, |cluster| Value::Count(cluster.seeds.into())),
        Column::number("PEERS", 6, 1, |cluster| Value::Count(cluster.peers.into())),
        Column::words("IDC", 10, 2, |cluster| Value::text(&cluster.idc)),
        Column::words("LOCATION", 14, 5, |cluster| Value::text(&cluster.location)),
        Column::words("NETWORKS", 18, 3, |cluster| Value::made(cluster.cidrs.join(" "))),
        Column::words("HOSTNAMES", 16, 6, |cluster| Value::made(cluster.hostnames.join(" "))),
        Column::words("DESCRIPTION", 24, 8, |cluster| Value::text(&cluster.description)),
    ];

    fn key(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.id)
    }

    fn name(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.name)
    }
}

impl Listed for Attention {
    const COLUMNS: &'static [Column<Self>] = &[Column::grows("WHAT", 20, 0, |attention| {
        let state = State::new(attention.mark, attention.text.as_str());
        Value::made(Value::State(&state).shown().into_owned())
    })];

    fn key(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.text)
    }
}

impl Listed for Happening {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::words("TIME", 19, 1, |happening| at(happening.happened_at)),
        Column::words("KIND", 24, 0, |happening| Value::State(&happening.kind)),
        Column::words("WHERE", 12, 2, |happening| Value::text(&happening.place)),
        Column::words("USER", 10, 4, |happening| Value::text(&happening.user)),
        Column::grows("WHAT", 20, 0, |happening| Value::text(&happening.text)),
    ];

    fn key(&self) -> Cow<'_, str> {
        Cow::Owned(self.number.to_string())
    }

    fn name(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.kind.word)
    }
}
