//! What operators decided, as the model has it.

use df_api::manager as pb;

use super::rows::limits;
use super::wire::hex;
use crate::model::{AuditEntry, Block, Mark, Policy, State};

pub(super) fn policy(settings: pb::Settings) -> Policy {
    let in_force = settings.limits.unwrap_or_default();
    let overrides = settings.overrides.into_iter();
    let own = overrides.map(|own| (hex(&own.host_id), own.hostname, limits(own.limits.as_ref())));
    Policy {
        cluster: settings.cluster_id.to_string(),
        version: settings.version,
        peer: limits(in_force.peer.as_ref()),
        seed: limits(in_force.seed_peer.as_ref()),
        overrides: own.collect(),
        blocks: settings.block_rules.into_iter().map(block).collect(),
        members_in_force: settings.members_in_force,
        members: settings.members,
    }
}

fn block(rule: pb::BlockRule) -> Block {
    let kind = match rule.field() {
        pb::BlockField::Application => "application",
        pb::BlockField::Url => "url",
        pb::BlockField::Tag => "tag",
        pb::BlockField::Priority => "priority",
    };
    let direction = match (rule.blocks_download, rule.blocks_upload) {
        (true, true) => "both",
        (_, true) => "upload",
        _ => "download",
    };
    let hosts = match (rule.for_peers, rule.for_seed_peers) {
        (true, false) => "peers",
        (false, true) => "seeds",
        _ => "all",
    };
    Block {
        id: rule.id.to_string(),
        kind: kind.to_owned(),
        value: rule.value,
        direction: direction.to_owned(),
        hosts: hosts.to_owned(),
        reason: rule.reason,
        by: rule.created_by,
        created_at: rule.created_at_ms / 1000,
    }
}

/// The field of a rule by its name.
pub(super) fn field(name: &str) -> Option<pb::BlockField> {
    Some(match name {
        "application" => pb::BlockField::Application,
        "url" => pb::BlockField::Url,
        "tag" => pb::BlockField::Tag,
        "priority" => pb::BlockField::Priority,
        _ => return None,
    })
}

pub(super) fn audit(entry: pb::AuditEntry) -> AuditEntry {
    let state =
        if entry.failure.is_empty() { State::new(Mark::Good, "done") } else { State::new(Mark::Bad, "refused") };
    let detail = [entry.detail, entry.failure].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>();
    AuditEntry {
        number: entry.id,
        happened_at: entry.at_ms / 1000,
        user: entry.user,
        action: entry.action,
        target: entry.object,
        detail: detail.join(": "),
        ip: entry.ip,
        state,
    }
}
