//! Block rules as a daemon holds to them.

use df_api::failure::{Code, Failure};
use df_api::manager::{BlockField, BlockRule};
use regex::{Regex, RegexBuilder};

/// The largest program a regular expression may become, in bytes.
const REGEX_LIMIT: usize = 1 << 20;

/// What is about to be transferred.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its URL.
    pub url: &'a str,
    /// Its tag.
    pub tag: &'a str,
    /// Its application.
    pub application: &'a str,
    /// The priority of the request for it; none of what is stored.
    pub priority: Option<u32>,
}

/// Rules of one kind of host, ready to be held to.
#[derive(Default, Debug)]
pub struct Rules(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    id: u64,
    what: What,
    blocks_download: bool,
    blocks_upload: bool,
    reason: String,
}

#[derive(Debug)]
enum What {
    Application(String),
    Tag(String),
    Url(Regex),
    Priority(u32),
}

impl Rules {
    /// Those of a configuration that are for this kind of host.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn new(told: &[BlockRule], is_seed: bool) -> Result<Self, String> {
        let is_meant = |rule: &&BlockRule| {
            let is_all = !rule.for_peers && !rule.for_seed_peers;
            is_all || if is_seed { rule.for_seed_peers } else { rule.for_peers }
        };
        let mut rules = Vec::new();
        for rule in told.iter().filter(is_meant) {
            let what = match rule.field() {
                BlockField::Application => What::Application(rule.value.clone()),
                BlockField::Tag => What::Tag(rule.value.clone()),
                BlockField::Url => {
                    let pattern = RegexBuilder::new(&rule.value).size_limit(REGEX_LIMIT).build();
                    What::Url(pattern.map_err(|_| format!("block rule {} is no regular expression", rule.id))?)
                }
                BlockField::Priority => {
                    What::Priority(rule.value.parse().map_err(|_| format!("block rule {} is on no priority", rule.id))?)
                }
            };
            rules.push(Rule {
                id: rule.id,
                what,
                blocks_download: rule.blocks_download,
                blocks_upload: rule.blocks_upload,
                reason: rule.reason.clone(),
            });
        }
        Ok(Self(rules))
    }

    /// Whether something may be downloaded.
    ///
    /// # Errors
    /// [`Code::Blocked`] with the operator's reason.
    pub fn check_download(&self, subject: &Subject<'_>) -> Result<(), Failure> {
        self.check("downloaded", subject, |rule| rule.blocks_download)
    }

    /// Whether something may be uploaded.
    ///
    /// # Errors
    /// [`Code::Blocked`] with the operator's reason.
    pub fn check_upload(&self, subject: &Subject<'_>) -> Result<(), Failure> {
        self.check("uploaded", subject, |rule| rule.blocks_upload)
    }

    fn check(&self, verb: &str, subject: &Subject<'_>, is_meant: fn(&Rule) -> bool) -> Result<(), Failure> {
        let fits = |rule: &&Rule| match &rule.what {
            What::Application(name) => name == subject.application,
            What::Tag(tag) => tag == subject.tag,
            What::Url(pattern) => pattern.is_match(subject.url),
            What::Priority(priority) => Some(*priority) == subject.priority,
        };
        match self.0.iter().filter(|rule| is_meant(rule)).find(fits) {
            None => Ok(()),
            Some(rule) => {
                let failure = Failure::new(Code::Blocked, format!("this may not be {verb}: block rule {}", rule.id));
                Err(if rule.reason.is_empty() { failure } else { failure.because(&rule.reason) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(field: BlockField, value: &str) -> BlockRule {
        BlockRule {
            id: 7,
            field: field.into(),
            value: value.to_owned(),
            blocks_download: true,
            reason: "not here".to_owned(),
            ..BlockRule::default()
        }
    }

    #[test]
    fn rules_match_tags_applications_and_parts_of_urls() {
        let subject = Subject { url: "http://h/models/a.bin", tag: "t", application: "app", priority: Some(3) };
        let table = [
            (rule(BlockField::Tag, "t"), true),
            (rule(BlockField::Tag, "T"), false),
            (rule(BlockField::Application, "app"), true),
            (rule(BlockField::Application, "ap"), false),
            (rule(BlockField::Url, r"models/.*\.bin$"), true),
            (rule(BlockField::Url, "^models"), false),
            (rule(BlockField::Priority, "3"), true),
            (rule(BlockField::Priority, "0"), false),
            (BlockRule { for_seed_peers: true, ..rule(BlockField::Tag, "t") }, false),
            (BlockRule { for_peers: true, ..rule(BlockField::Tag, "t") }, true),
            (BlockRule { blocks_download: false, blocks_upload: true, ..rule(BlockField::Tag, "t") }, false),
        ];
        for (rule, is_blocked) in table {
            let rules = Rules::new(std::slice::from_ref(&rule), false).unwrap();
            assert_eq!(rules.check_download(&subject).is_err(), is_blocked, "{rule:?}");
        }
    }

    #[test]
    fn a_blocked_request_says_why() {
        let rules = Rules::new(&[rule(BlockField::Tag, "t")], false).unwrap();
        let failure =
            rules.check_download(&Subject { url: "", tag: "t", application: "", priority: None }).unwrap_err();
        assert_eq!((failure.code, failure.cause.as_deref()), (Code::Blocked, Some("not here")));
    }

    #[test]
    fn a_value_that_is_none_is_told() {
        for rule in [rule(BlockField::Url, "("), rule(BlockField::Priority, "high")] {
            assert!(Rules::new(&[rule], false).unwrap_err().contains("block rule 7"));
        }
    }
}
