//! The gate every call passes: who asks, with which token, from where; and the record of what they did.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use df_api::failure::Failure;
use df_api::manager as wire;
use prost::Message;
use tonic::Request;

use super::auth::{Auth, Caller, Right};
use super::db::{Change, Db, Kind};
use super::desk::Desk;
use crate::env::net::Remote;

/// Entries of the audit log that are kept.
const AUDIT_LIMIT: u64 = 100_000;

/// Entries looked through for one page.
const SCAN_LIMIT: usize = 10_000;

/// Longest text of an entry, in bytes.
const TEXT_LIMIT: usize = 1024;

/// The gate. Cheap to clone.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) auth: Auth,
    desk: Desk,
    db: Arc<dyn Db>,
    /// Number of the last entry.
    last: Arc<AtomicU64>,
}

/// Who asks for what, for the record.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    pub(super) caller: Caller,
    ip: String,
}

impl Gate {
    /// # Errors
    /// When the store fails.
    pub(super) fn open(auth: Auth, desk: Desk, db: Arc<dyn Db>) -> Result<Self, Failure> {
        let last = db.latest(Kind::Audit, u64::MAX, 1)?.first().map_or(0, |(id, _)| *id);
        Ok(Self { auth, desk, db, last: Arc::new(AtomicU64::new(last)) })
    }

    /// Lets a call pass that shows a token with a right (`None`: any token).
    pub(super) fn pass<T>(&self, request: &Request<T>, right: Option<Right>) -> Result<Visit, Failure> {
        let said = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let caller = self.auth.require(said.and_then(bearer), right)?;
        let ip = request.extensions().get::<Remote>().map_or_else(String::new, shown);
        Ok(Visit { caller, ip })
    }

    /// The same for a token from elsewhere.
    pub(super) fn pass_token(&self, token: Option<&str>, right: Option<Right>, ip: String) -> Result<Visit, Failure> {
        Ok(Visit { caller: self.auth.require(token, right)?, ip })
    }

    /// Somebody without a token did something, such as signing in.
    pub(super) async fn record_stranger<T>(
        &self,
        request_ip: String,
        name: &str,
        action: &str,
        result: &Result<T, Failure>,
    ) {
        let entry = wire::AuditEntry { user: name.to_owned(), ip: request_ip, ..self.entry(action, "", "", result) };
        self.write(entry).await;
    }

    /// Notes what somebody did or tried.
    pub(super) async fn record<T>(
        &self,
        visit: &Visit,
        action: &str,
        object: &str,
        detail: &str,
        result: &Result<T, Failure>,
    ) {
        let entry = wire::AuditEntry {
            user: visit.caller.user.clone(),
            token: visit.caller.token.1.clone(),
            ip: visit.ip.clone(),
            ..self.entry(action, object, detail, result)
        };
        self.write(entry).await;
    }

    fn entry<T>(&self, action: &str, object: &str, detail: &str, result: &Result<T, Failure>) -> wire::AuditEntry {
        let cut = |text: &str| text.chars().filter(|c| !c.is_control()).take(TEXT_LIMIT).collect();
        wire::AuditEntry {
            id: self.last.fetch_add(1, Ordering::Relaxed) + 1,
            at_ms: self.desk.times().now_ms(),
            action: action.to_owned(),
            object: cut(object),
            detail: cut(detail),
            failure: result.as_ref().err().map_or_else(String::new, |failure| cut(&failure.to_string())),
            ..wire::AuditEntry::default()
        }
    }

    async fn write(&self, entry: wire::AuditEntry) {
        let mut changes = vec![Change::Put(Kind::Audit, entry.id, entry.encode_to_vec())];
        if let Some(old) = entry.id.checked_sub(AUDIT_LIMIT) {
            changes.push(Change::Remove(Kind::Audit, old));
        }
        let db = self.db.clone();
        if let Err(failure) = self.desk.env().blocking(move || db.apply(&changes)).await {
            tracing::error!(%failure, "what was done is not in the audit log");
            self.desk.note_store(Some(failure.to_string()));
        }
    }

    /// A page of the audit log, the latest first.
    pub(super) async fn audit(&self, asked: wire::AuditRequest, limit: usize) -> Result<wire::AuditPage, Failure> {
        let db = self.db.clone();
        let before = if asked.before_id == 0 { u64::MAX } else { asked.before_id };
        let scan = if asked.filter.is_empty() { limit } else { SCAN_LIMIT };
        let rows = self.desk.env().blocking(move || db.latest(Kind::Audit, before, scan)).await?;
        let entries = rows.iter().filter_map(|(_, value)| wire::AuditEntry::decode(&value[..]).ok());
        let has = |entry: &wire::AuditEntry| {
            let texts = [&entry.user, &entry.token, &entry.ip, &entry.action, &entry.object, &entry.detail];
            asked.filter.is_empty() || texts.iter().any(|text| text.contains(&asked.filter))
        };
        Ok(wire::AuditPage { entries: entries.filter(has).take(limit).collect() })
    }
}

/// The token of an Authorization header.
pub(super) fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

pub(super) fn shown(remote: &Remote) -> String {
    match remote {
        Remote::Tcp(address) => address.ip().to_canonical().to_string(),
        Remote::Local { uid, .. } => format!("local uid {uid}"),
    }
}
