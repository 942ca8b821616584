//! Bugs that are planted on purpose, to see that the simulator finds them. Without the feature `planted`, as
//! in every daemon, there are none.

/// A bug; each changes what happens at one place in the code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Bug {
    /// A piece counts whatever its digest.
    DigestIgnored = 1,
    /// The last byte of a content is not written.
    LastPieceShort,
    /// An upload that ended keeps its slot until its lease runs out.
    SlotNotReleased,
    /// Nobody is ever on a blacklist.
    BlacklistNeverFires,
    /// A rate limit lets twice as much pass.
    LimiterRefillsTwice,
    /// A host that is gone still counts.
    HostNeverLeaves,
    /// What was written before a power loss is believed without a look.
    JournalBelieved,
    /// Another version of the source is taken for the same.
    VersionIgnored,
    /// An import is not compared with the digest that is its name.
    ImportNotVerified,
    /// A source that ends early is asked again for ever.
    SourceAskedForEver,
    /// Schedulers are not told what a host dropped.
    LeaveNotTold,
    /// Bytes before the range asked for are skipped, but for one.
    SkipOneShort,
    /// An import that failed leaves its files behind.
    DraftNotRemoved,
    /// A silent connection is not noticed.
    SilenceIgnored,
    /// The digest of the whole is not compared.
    WholeNotVerified,
    /// A piece is promised though it could not be written.
    PromisedBeforeStored,
    /// Members are not told of a new configuration.
    PushForgotten,
    /// The manager says that a change is stored, and it is not.
    ChangeNotStored,
    /// A daemon that is told to end waits for children's idle connections, however long they stay.
    EndNotHeard,
}

impl Bug {
    /// Every bug, with its name.
    pub const ALL: [(Self, &'static str); 19] = [
        (Self::DigestIgnored, "digest-ignored"),
        (Self::LastPieceShort, "last-piece-short"),
        (Self::SlotNotReleased, "slot-not-released"),
        (Self::BlacklistNeverFires, "blacklist-never-fires"),
        (Self::LimiterRefillsTwice, "limiter-refills-twice"),
        (Self::HostNeverLeaves, "host-never-leaves"),
        (Self::JournalBelieved, "journal-believed"),
        (Self::VersionIgnored, "version-ignored"),
        (Self::ImportNotVerified, "import-not-verified"),
        (Self::SourceAskedForEver, "source-asked-for-ever"),
        (Self::LeaveNotTold, "leave-not-told"),
        (Self::SkipOneShort, "skip-one-short"),
        (Self::DraftNotRemoved, "draft-not-removed"),
        (Self::SilenceIgnored, "silence-ignored"),
        (Self::WholeNotVerified, "whole-not-verified"),
        (Self::PromisedBeforeStored, "promised-before-stored"),
        (Self::PushForgotten, "push-forgotten"),
        (Self::ChangeNotStored, "change-not-stored"),
        (Self::EndNotHeard, "end-not-heard"),
    ];
}

#[cfg(feature = "planted")]
static CHOSEN: core::sync::atomic::AtomicU8 = core::sync::atomic::AtomicU8::new(0);

/// Plants a bug for as long as this process runs.
#[cfg(feature = "planted")]
pub fn plant(bug: Bug) {
    CHOSEN.store(bug as u8, core::sync::atomic::Ordering::Relaxed);
}

/// Whether this bug is planted.
#[cfg(feature = "planted")]
pub fn is_planted(bug: Bug) -> bool {
    CHOSEN.load(core::sync::atomic::Ordering::Relaxed) == bug as u8
}

/// Whether this bug is planted: no.
#[cfg(not(feature = "planted"))]
pub const fn is_planted(_: Bug) -> bool {
    false
}
