//! Ids and times as the wire has them and as people see them.

use df_api::failure::{Code, Failure};
use df_api::status::failure_of;
use tonic::Status;

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).map_or('0', |digit| char::from(*digit));
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The bytes behind hexadecimal digits.
pub(super) fn unhex(text: &str, what: &str) -> Result<Vec<u8>, Failure> {
    let wrong = || Failure::new(Code::Usage, format!("\"{text}\" is no id of a {what}"));
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let byte = |at: usize| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    (0..text.len()).step_by(2).map(|at| byte(at).ok_or_else(wrong)).collect()
}

/// A number that was an id.
pub(super) fn number(text: &str, what: &str) -> Result<u64, Failure> {
    text.parse().map_err(|_| Failure::new(Code::Usage, format!("\"{text}\" is no number of a {what}")))
}

/// Seconds since 1970, where 0 is never.
pub(super) const fn moment(at_ms: u64) -> Option<u64> {
    if at_ms == 0 { None } else { Some(at_ms / 1000) }
}

/// How long ago something was, in seconds.
pub(super) const fn ago(now_ms: u64, at_ms: u64) -> u64 {
    if at_ms == 0 { 0 } else { now_ms.saturating_sub(at_ms) / 1000 }
}

/// What a manager's refusal is to whoever asked.
pub(super) fn refusal(status: &Status) -> Failure {
    match status.code() {
        tonic::Code::Unavailable => Failure::new(Code::DaemonDown, "the manager does not answer")
            .because(status.message())
            .hint("is it running, and is --manager its gRPC address?"),
        tonic::Code::Unauthenticated => {
            let failure = failure_of(status);
            if failure.hint.is_some() { failure } else { failure.hint("sign in with dfctl login") }
        }
        _ => failure_of(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(unhex(&hex(&bytes), "task").ok(), Some(bytes));
        for text in ["a", "zz", "ää", "+f"] {
            assert!(unhex(text, "task").is_err(), "{text}");
        }
    }
}
