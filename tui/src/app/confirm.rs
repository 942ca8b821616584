//! A question before something is changed.

use super::line::Line;
use crate::request::Request;

/// Do it? What concerns the whole cluster is answered by typing a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Confirm {
    /// What would be done.
    pub title: String,
    /// What it means.
    pub lines: Vec<String>,
    /// What has to be typed; empty when the key alone will do.
    pub expected: String,
    /// What was typed.
    pub line: Line,
    /// What is asked for then.
    pub requests: Vec<Request>,
}

impl Confirm {
    /// A question about requests; `name` is to be typed if one of them is for the whole cluster.
    pub fn new(title: String, lines: Vec<String>, name: &str, requests: Vec<Request>) -> Self {
        let is_wide = requests.iter().any(Request::is_cluster_wide);
        let expected = if is_wide { name.to_owned() } else { String::new() };
        Self { title, lines, expected, line: Line::default(), requests }
    }

    /// Whether it is answered.
    pub fn is_answered(&self) -> bool {
        self.line.text().trim() == self.expected
    }
}
