//! The whole of a content, while it arrives: hashed from its start as far as there is no hole, and written
//! to the disk as it comes, so that neither is left to be done when the last piece is here.

use std::sync::{Arc, Weak};

use df_api::failure::{Code, Failure};
use df_core::planted::{Bug, is_planted};
use tokio::sync::watch;

use super::job::Job;
use crate::digest::{Digest, Hasher};
use crate::env::Env;

/// Bytes hashed at once.
const HASH_BYTES: usize = 1 << 20;

/// Bytes that have to be there before it pays to hash them, or to write them to the disk.
const HASH_STEP: u64 = 8 << 20;
const WRITE_STEP: u64 = 8 << 20;

/// How far a content is hashed, from its start.
#[derive(Default)]
pub(super) struct Hashed {
    hasher: Option<Hasher>,
    at: u64,
}

/// Hashes what arrives of a job and writes it to the disk, as long as somebody waits for it.
pub(super) fn follow(env: &Env, job: &Arc<Job>) {
    let (weak, changes) = (Arc::downgrade(job), job.stored.watch());
    drop(env.spawn_data(write_along(env.clone(), weak.clone(), changes.clone())));
    if !job.request.meta.digest.is_empty() {
        drop(env.spawn_data(hash_along(env.clone(), weak, changes)));
    }
}

/// The job, when there is news of what it has; `None` when it is over.
async fn news(job: &Weak<Job>, changes: &mut watch::Receiver<u64>) -> Option<Arc<Job>> {
    changes.changed().await.ok()?;
    job.upgrade().filter(|job| job.outcome().borrow().is_none())
}

async fn hash_along(env: Env, job: Weak<Job>, mut changes: watch::Receiver<u64>) {
    let mut next = HASH_STEP;
    while let Some(job) = news(&job, &mut changes).await {
        let (_, end) = job.stored.held_bytes();
        if end >= next {
            next = end + HASH_STEP;
            // What is wrong with it is found out again at the end, by those who can tell the caller.
            let _ = hash(&env, &job, end).await;
        }
    }
}

async fn write_along(env: Env, job: Weak<Job>, mut changes: watch::Receiver<u64>) {
    let mut next = WRITE_STEP;
    while let Some(job) = news(&job, &mut changes).await {
        let (held, _) = job.stored.held_bytes();
        if held >= next {
            next = held + WRITE_STEP;
            let file = job.stored.file().clone();
            drop(job);
            // A disk that fails says so once more when the content is to be durable.
            let _ = env.blocking(move || file.sync()).await;
        }
    }
}

/// Hashes a content up to `end`; its digest, if that is the end of it.
async fn hash(env: &Env, job: &Arc<Job>, end: u64) -> Result<Digest, Failure> {
    let mut hashed = job.hashed.clone().lock_owned().await;
    let job = job.clone();
    env.blocking(move || {
        let expected = expected(&job)?;
        let Hashed { hasher, at } = &mut *hashed;
        let hasher = hasher.get_or_insert_with(|| Hasher::new(expected.algorithm()));
        let mut buffer = vec![0; HASH_BYTES];
        while *at < end {
            let part = usize::try_from(end - *at).unwrap_or(HASH_BYTES).min(HASH_BYTES);
            job.stored
                .file()
                .read_exact_at(&mut buffer[..part], *at)
                .map_err(|error| Failure::new(Code::LocalIo, "cannot read the store back").because(error))?;
            hasher.update(&buffer[..part]);
            *at += part as u64;
        }
        Ok(hasher.clone().finish())
    })
    .await
}

fn expected(job: &Job) -> Result<Digest, Failure> {
    let digest = &job.request.meta.digest;
    digest.parse().map_err(|error| Failure::new(Code::Usage, format!("{digest:?} is not a digest")).because(error))
}

/// Compares the whole content, all of it here, with the digest the caller gave, if any.
///
/// # Errors
/// [`Code::Digest`] if it is another; [`Code::LocalIo`].
pub(super) async fn verify(env: &Env, job: &Arc<Job>) -> Result<(), Failure> {
    if job.request.meta.digest.is_empty() {
        return Ok(());
    }
    let (expected, len) = (expected(job)?, job.stored.plan().and_then(|plan| plan.content_len()).unwrap_or(0));
    let found = hash(env, job, len).await?;
    if found == expected || is_planted(Bug::WholeNotVerified) {
        return job.stored.note_verified(&job.request.meta.digest);
    }
    Err(Failure::new(Code::Digest, format!("{} is not what it should be", job.request.shown()))
        .because(format!("expected {expected}, got {found}"))
        .hint("the source has other content, or the digest is mistyped"))
}
