//! What holds in a cluster: for whom it is, limits, block rules; and which values are bad.

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;

use super::event::Refusal;
use crate::network::Cidr;

/// Rates below this are mistakes, not limits.
pub const RATE_FLOOR_BYTES_PER_SEC: u64 = 1024;

/// Most slots of a host.
const SLOT_LIMIT: u32 = 10_000;

/// Longest name of a cluster, in bytes.
const NAME_LIMIT: usize = 63;

/// Longest value of a rule, pattern or place, in bytes.
const TEXT_LIMIT: usize = 1024;

/// Patterns or networks in one scope.
const SCOPE_LIMIT: usize = 100;

/// Parts of a location that count.
const LOCATION_DEPTH: u32 = 5;

/// Weights of what fits a cluster, in thousandths: those of Dragonfly's manager.
const NETWORK_WEIGHT: u32 = 300;
const HOSTNAME_WEIGHT: u32 = 300;
const IDC_WEIGHT: u32 = 250;
const LOCATION_WEIGHT: u32 = 140;
const DEFAULT_WEIGHT: u32 = 10;

/// Limits on one host; `None` leaves one to the host's own configuration, a rate of 0 says "without
/// limit" on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct HostLimits {
    /// Pieces sent at once.
    pub upload_slot_limit: Option<u32>,
    /// Pieces received at once.
    pub download_slot_limit: Option<u32>,
    /// What it sends, in bytes per second.
    pub upload_rate: Option<u64>,
    /// What it receives, in bytes per second.
    pub download_rate: Option<u64>,
    /// Of that from sources, in bytes per second.
    pub source_rate: Option<u64>,
    /// What it receives for one task, in bytes per second.
    pub task_rate: Option<u64>,
}

impl HostLimits {
    /// These limits, and where they say nothing, those below.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        Self {
            upload_slot_limit: self.upload_slot_limit.or(below.upload_slot_limit),
            download_slot_limit: self.download_slot_limit.or(below.download_slot_limit),
            upload_rate: self.upload_rate.or(below.upload_rate),
            download_rate: self.download_rate.or(below.download_rate),
            source_rate: self.source_rate.or(below.source_rate),
            task_rate: self.task_rate.or(below.task_rate),
        }
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Says which value is bad.
    ///
    /// # Errors
    /// [`Refusal::BadValue`].
    pub fn check(&self) -> Result<(), Refusal> {
        let slots = [("upload_slot_limit", self.upload_slot_limit), ("download_slot_limit", self.download_slot_limit)];
        for (name, value) in slots {
            within(name, value.map(u64::from), 1, u64::from(SLOT_LIMIT))?;
        }
        let rates = [
            ("upload_rate_bytes_per_sec", self.upload_rate),
            ("download_rate_bytes_per_sec", self.download_rate),
            ("source_rate_bytes_per_sec", self.source_rate),
            ("task_rate_bytes_per_sec", self.task_rate),
        ];
        for (name, value) in rates {
            within(name, value.filter(|rate| *rate != 0), RATE_FLOOR_BYTES_PER_SEC, u64::MAX >> 1)?;
        }
        Ok(())
    }

    /// Leaves a limit to the hosts again; false for a name that is none.
    fn clear(&mut self, name: &str) -> bool {
        match name {
            "upload_slot_limit" => self.upload_slot_limit = None,
            "download_slot_limit" => self.download_slot_limit = None,
            "upload_rate_bytes_per_sec" => self.upload_rate = None,
            "download_rate_bytes_per_sec" => self.download_rate = None,
            "source_rate_bytes_per_sec" => self.source_rate = None,
            "task_rate_bytes_per_sec" => self.task_rate = None,
            _ => return false,
        }
        true
    }
}

fn within(what: &'static str, value: Option<u64>, least: u64, most: u64) -> Result<(), Refusal> {
    match value {
        Some(value) if !(least..=most).contains(&value) => Err(Refusal::BadValue { what, least, most }),
        _ => Ok(()),
    }
}

/// Limits that hold in a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Limits {
    /// Of its peers.
    pub peer: HostLimits,
    /// Of its seed peers.
    pub seed_peer: HostLimits,
    /// Candidate parents that a Dragonfly v1 peer is offered.
    pub candidate_parent_limit: Option<u32>,
    /// Peers looked at for them.
    pub filter_parent_limit: Option<u32>,
    /// Jobs created per second.
    pub job_rate_limit_per_sec: Option<u32>,
}

impl Limits {
    /// These limits, and where they say nothing, those below.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        Self {
            peer: self.peer.over(below.peer),
            seed_peer: self.seed_peer.over(below.seed_peer),
            candidate_parent_limit: self.candidate_parent_limit.or(below.candidate_parent_limit),
            filter_parent_limit: self.filter_parent_limit.or(below.filter_parent_limit),
            job_rate_limit_per_sec: self.job_rate_limit_per_sec.or(below.job_rate_limit_per_sec),
        }
    }

    /// Says which value is bad. The ranges of the parents' limits are Dragonfly's.
    ///
    /// # Errors
    /// [`Refusal::BadValue`].
    pub fn check(&self) -> Result<(), Refusal> {
        self.peer.check()?;
        self.seed_peer.check()?;
        within("candidate_parent_limit", self.candidate_parent_limit.map(u64::from), 1, 20)?;
        within("filter_parent_limit", self.filter_parent_limit.map(u64::from), 10, 1000)?;
        within("job_rate_limit_per_sec", self.job_rate_limit_per_sec.map(u64::from), 1, 10_000)
    }

    /// Leaves limits to the members again, by names such as `peer.upload_rate_bytes_per_sec`.
    ///
    /// # Errors
    /// [`Refusal::UnknownLimit`] for a name that is none.
    pub fn clear(&mut self, names: &[String]) -> Result<(), Refusal> {
        for name in names {
            let is_known = match name.split_once('.') {
                Some(("peer", limit)) => self.peer.clear(limit),
                Some(("seed_peer", limit)) => self.seed_peer.clear(limit),
                _ => self.clear_own(name),
            };
            if !is_known {
                return Err(Refusal::UnknownLimit);
            }
        }
        Ok(())
    }

    fn clear_own(&mut self, name: &str) -> bool {
        let limit = match name {
            "candidate_parent_limit" => &mut self.candidate_parent_limit,
            "filter_parent_limit" => &mut self.filter_parent_limit,
            "job_rate_limit_per_sec" => &mut self.job_rate_limit_per_sec,
            _ => return false,
        };
        *limit = None;
        true
    }
}

/// What a block rule looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlockField {
    /// The application named in a request.
    Application,
    /// The URL, by a regular expression.
    Url,
    /// The tag.
    Tag,
    /// The priority, 0 to 6.
    Priority,
}

/// An operator's word that something is not to be transferred.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BlockRule {
    /// Given by the registry.
    pub id: u64,
    /// What it looks at.
    pub field: BlockField,
    /// What that must be.
    pub value: String,
    /// Refuses downloads.
    pub blocks_download: bool,
    /// Refuses uploads of what is there.
    pub blocks_upload: bool,
    /// Holds for peers.
    pub for_peers: bool,
    /// Holds for seed peers.
    pub for_seed_peers: bool,
    /// Why, for whoever meets it.
    pub reason: String,
    /// Who made it.
    pub created_by: String,
    /// When, in milliseconds of wall time.
    pub created_at_ms: u64,
}

impl BlockRule {
    /// Says what is wrong with it.
    ///
    /// # Errors
    /// [`Refusal::BadRule`].
    pub fn check(&self) -> Result<(), Refusal> {
        let is_short = self.value.len() <= TEXT_LIMIT && self.reason.len() <= TEXT_LIMIT;
        let is_priority = || self.value.parse::<u8>().is_ok_and(|priority| priority <= 6);
        let is_good = !self.value.is_empty()
            && is_short
            && (self.blocks_download || self.blocks_upload)
            && (self.field != BlockField::Priority || is_priority());
        if is_good { Ok(()) } else { Err(Refusal::BadRule) }
    }
}

/// For whom a cluster is.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Scopes {
    /// Data centres, with `|` between them.
    pub idc: String,
    /// A place, its parts with `|` between them, the widest first.
    pub location: String,
    /// Networks.
    pub cidrs: Vec<Cidr>,
    /// Patterns of hostnames with `*` and `?`.
    pub hostnames: Vec<String>,
}

/// Who looks for a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seeker<'a> {
    /// Its address.
    pub ip: IpAddr,
    /// Its name.
    pub hostname: &'a str,
    /// Its data centre.
    pub idc: &'a str,
    /// Its place.
    pub location: &'a str,
}

impl Scopes {
    /// How well a cluster with these scopes fits, in thousandths.
    pub fn fit(&self, seeker: &Seeker<'_>, is_default: bool) -> u32 {
        let mut score = if is_default { DEFAULT_WEIGHT } else { 0 };
        if self.cidrs.iter().any(|network| network.contains(seeker.ip.to_canonical())) {
            score += NETWORK_WEIGHT;
        }
        if self.hostnames.iter().any(|pattern| is_match(pattern.as_bytes(), seeker.hostname.as_bytes())) {
            score += HOSTNAME_WEIGHT;
        }
        let is_same = |idc: &str| !idc.is_empty() && idc.eq_ignore_ascii_case(seeker.idc);
        if self.idc.split('|').any(is_same) {
            score += IDC_WEIGHT;
        }
        if !self.location.is_empty() {
            let parts = self.location.split('|').zip(seeker.location.split('|'));
            let same = parts.take_while(|(wanted, part)| wanted.eq_ignore_ascii_case(part)).count() as u32;
            score += LOCATION_WEIGHT * same.min(LOCATION_DEPTH) / LOCATION_DEPTH;
        }
        score
    }

    fn is_short(&self) -> bool {
        self.idc.len() <= TEXT_LIMIT
            && self.location.len() <= TEXT_LIMIT
            && self.cidrs.len() <= SCOPE_LIMIT
            && self.hostnames.len() <= SCOPE_LIMIT
            && self.hostnames.iter().all(|pattern| pattern.len() <= TEXT_LIMIT)
    }
}

/// Whether a text is what a pattern with `*` and `?` says. Linear but for stars, of which only the
/// last is ever tried anew.
fn is_match(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == b'?' || c.eq_ignore_ascii_case(&text[t]) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, t) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

/// What an operator says of a cluster.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ClusterSpec {
    /// Its name.
    pub name: String,
    /// What it is, for people.
    pub description: String,
    /// For whom it is.
    pub scopes: Scopes,
}

impl ClusterSpec {
    /// The cluster there is from the beginning.
    pub fn first() -> Self {
        Self { name: "default".to_owned(), description: "for whoever fits no other".to_string(), ..Self::default() }
    }

    /// Says whether it is fit to be kept.
    ///
    /// # Errors
    /// [`Refusal::BadName`] and [`Refusal::TooLong`].
    pub fn check(&self) -> Result<(), Refusal> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.name.is_empty() || self.name.len() > NAME_LIMIT || !self.name.chars().all(is_plain) {
            return Err(Refusal::BadName);
        }
        if self.description.len() > TEXT_LIMIT || !self.scopes.is_short() {
            return Err(Refusal::TooLong);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        let table = [
            ("gpu-*", "gpu-7", true),
            ("gpu-*", "GPU-", true),
            ("gpu-*", "xgpu-7", false),
            ("*", "", true),
            ("h?", "h1", true),
            ("h?", "h", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b", "xxaxxbx", false),
            ("", "", true),
            ("", "a", false),
        ];
        for (pattern, text, expected) in table {
            assert_eq!(is_match(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn rates_have_a_floor_and_zero_is_no_limit() {
        let rate = |rate| HostLimits { upload_rate: Some(rate), ..HostLimits::default() }.check();
        assert_eq!(rate(0), Ok(()));
        assert!(rate(1023).is_err() && rate(u64::MAX).is_err());
        assert_eq!(rate(1024), Ok(()));
        assert!(HostLimits { upload_slot_limit: Some(0), ..HostLimits::default() }.check().is_err());
    }

    #[test]
    fn limits_are_cleared_by_name() {
        let peer = HostLimits { upload_rate: Some(1 << 20), ..HostLimits::default() };
        let mut limits = Limits { peer, candidate_parent_limit: Some(3), ..Limits::default() };
        assert_eq!(limits.clear(&["peer.upload_rate_bytes_per_sec".to_owned()]), Ok(()));
        assert!(limits.peer.is_empty());
        assert_eq!(limits.clear(&["candidate_parent_limit".to_owned()]), Ok(()));
        assert_eq!(limits, Limits::default());
        assert_eq!(limits.clear(&["peer.speed".to_owned()]), Err(Refusal::UnknownLimit));
    }
}
