//! What is true of every task: which bytes it may have, and where they are kept.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use df_api::base::UrlMeta;
use df_api::task::TaskRequest;
use df_core::id::TaskId;
use df_core::piece::PiecePlan;
use df_daemons::sync::lock;

use super::content;
use super::disk::SimDisk;
use super::origin::Shelf;
use super::scenario::Content;

/// The data directory of every daemon.
pub const ROOT: &str = "/data";

/// Piece length of what is imported, in bytes.
pub const IMPORT_PIECE_LEN: u64 = 1024;

/// Where a task's bytes come from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Origin {
    /// A content of the origin, and whether it was asked for with its digest.
    Shelf(u32, bool),
    /// A name in the cache.
    Cache(u32),
}

/// All tasks of a run.
pub struct Book {
    tasks: BTreeMap<TaskId, Origin>,
    contents: Vec<Content>,
    shelf: Arc<Mutex<Shelf>>,
    imports: BTreeMap<(u32, u32), Arc<Vec<u8>>>,
}

/// How many names there are in the cache, and how many contents may be put under each.
pub const NAMES: u32 = 3;
/// See [`NAMES`].
pub const VARIANTS: u32 = 2;

/// The length of what is imported, in bytes.
fn import_len(name: u32, variant: u32) -> u64 {
    [0, 700, 5000][name as usize % 3] + u64::from(variant)
}

impl Book {
    /// That of these contents.
    pub fn new(contents: &[Content], shelf: Arc<Mutex<Shelf>>) -> Self {
        let mut book = Self { tasks: BTreeMap::new(), contents: contents.to_vec(), shelf, imports: BTreeMap::new() };
        for number in 0..contents.len() as u32 {
            for has_digest in [false, true] {
                if let Some(request) = book.request(number, has_digest) {
                    book.tasks.insert(request.id(), Origin::Shelf(number, has_digest));
                }
            }
        }
        for name in 0..NAMES {
            for variant in 0..VARIANTS {
                let bytes = content::bytes("import", name, variant, import_len(name, variant));
                book.imports.insert((name, variant), Arc::new(bytes));
            }
            if let Ok(request) = TaskRequest::cached(&book.cid(name), "") {
                book.tasks.insert(request.id(), Origin::Cache(name));
            }
        }
        book
    }

    /// The name of a cached content; the first is the digest of its first variant.
    pub fn cid(&self, name: u32) -> String {
        match (name, self.imports.get(&(1, 0))) {
            (1, Some(bytes)) => content::digest(bytes),
            _ => format!("name {name}"),
        }
    }

    /// How a content is asked for.
    pub fn request(&self, number: u32, has_digest: bool) -> Option<TaskRequest> {
        let (content, meta) = (self.contents.get(number as usize)?, self.meta(number, has_digest));
        TaskRequest::new(&Shelf::url(number, content), meta, content.piece_len).ok()
    }

    /// What is asked for with it.
    pub fn meta(&self, number: u32, has_digest: bool) -> UrlMeta {
        let first = lock(&self.shelf).versions(number).first().cloned();
        let digest = first.filter(|_| has_digest).map(|bytes| content::digest(&bytes)).unwrap_or_default();
        UrlMeta { digest, ..UrlMeta::default() }
    }

    /// What is imported.
    pub fn import(&self, name: u32, variant: u32) -> Arc<Vec<u8>> {
        self.imports.get(&(name, variant)).cloned().unwrap_or_default()
    }

    /// What a task is.
    pub fn origin(&self, task: &TaskId) -> Option<Origin> {
        self.tasks.get(task).copied()
    }

    /// All tasks.
    pub fn tasks(&self) -> impl Iterator<Item = (TaskId, Origin)> + '_ {
        self.tasks.iter().map(|(task, origin)| (*task, *origin))
    }

    /// Everything a task's content may be: each of its versions so far.
    pub fn versions(&self, task: &TaskId) -> Vec<Arc<Vec<u8>>> {
        match self.origin(task) {
            Some(Origin::Shelf(number, has_digest)) => {
                let versions = lock(&self.shelf).versions(number).to_vec();
                if has_digest { versions.into_iter().take(1).collect() } else { versions }
            }
            Some(Origin::Cache(name)) => {
                let is_digest = self.cid(name).starts_with("blake3:");
                let variants = if is_digest { 1 } else { VARIANTS };
                (0..variants).map(|variant| self.import(name, variant)).collect()
            }
            None => Vec::new(),
        }
    }

    /// Every version a task's pieces may be of: what came from a source is compared with the digest of the
    /// whole only when all of it is there.
    fn piece_versions(&self, task: &TaskId) -> Vec<Arc<Vec<u8>>> {
        match self.origin(task) {
            Some(Origin::Shelf(number, _)) => lock(&self.shelf).versions(number).to_vec(),
            _ => self.versions(task),
        }
    }

    fn plan(&self, task: &TaskId, len: u64) -> Option<PiecePlan> {
        let piece_len = match self.origin(task)? {
            Origin::Shelf(number, _) => self.contents.get(number as usize)?.piece_len,
            Origin::Cache(_) => IMPORT_PIECE_LEN,
        };
        if piece_len == 0 { PiecePlan::for_content(len) } else { PiecePlan::with_piece_len(len, piece_len) }.ok()
    }

    /// Where a host keeps a task's content.
    pub fn path(task: &TaskId) -> PathBuf {
        let name = task.to_string();
        PathBuf::from(ROOT).join("content").join(&name[..2]).join(format!("{name}.data"))
    }

    /// Whether a piece on a disk is that of some version. Yes, if the task's file is not there (any more).
    pub fn is_true(&self, disk: &SimDisk, task: &TaskId, number: u32) -> bool {
        let Some(inode) = disk.inode(&Self::path(task)) else { return true };
        let inode = lock(&inode);
        self.piece_versions(task).iter().any(|version| {
            let plan = self.plan(task, version.len() as u64);
            let range = plan.and_then(|plan| plan.number(number).map(|piece| plan.range(piece)));
            range.is_some_and(|range| {
                let (from, to) = (range.start as usize, range.end() as usize);
                inode.bytes().get(from..to).is_some_and(|found| version.get(from..to) == Some(found))
            })
        })
    }

    /// Which version some bytes are.
    pub fn version_of(&self, task: &TaskId, bytes: &[u8]) -> Option<usize> {
        self.versions(task).iter().position(|version| version[..] == *bytes)
    }
}
