//! Numbers as people read and write them: sizes, rates, spans, times of day.

use jiff::Timestamp;

const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];

/// Bytes in the unit that fits: `0 B`, `3.0 MiB`, `412 GiB`.
pub fn size(bytes: u64) -> String {
    let mut scaled = bytes as f64;
    let mut unit = 0;
    // 1023.6 would be shown as 1024.
    while scaled >= 999.5 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    match unit {
        0 => format!("{bytes} {name}"),
        _ if scaled < 99.95 => format!("{scaled:.1} {name}"),
        _ => format!("{scaled:.0} {name}"),
    }
}

/// Bytes per second: `412 MiB/s`.
pub fn rate(bytes_per_sec: u64) -> String {
    format!("{}/s", size(bytes_per_sec))
}

/// A rate limit, where none is a word.
pub fn limit(bytes_per_sec: Option<u64>) -> String {
    bytes_per_sec.map_or_else(|| "none".to_owned(), rate)
}

/// Seconds, in the two largest units: `4s`, `7m49s`, `2h05m`, `3d04h`.
pub fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

/// Parts per thousand as a percentage: `63 %`, and `99.1 %` near the ends, where it matters.
pub fn percent(per_mille: u32) -> String {
    let is_near_an_end = matches!(per_mille, 1..10 | 991..1000);
    if is_near_an_end {
        return format!("{}.{} %", per_mille / 10, per_mille % 10);
    }
    format!("{} %", per_mille / 10)
}

/// The date and time of seconds since 1970, in UTC.
pub fn date(unix_s: u64) -> String {
    written(unix_s, "%Y-%m-%d %H:%M:%S")
}

/// The time of day of seconds since 1970, in UTC.
pub fn clock(unix_s: u64) -> String {
    written(unix_s, "%H:%M:%S")
}

fn written(unix_s: u64, form: &str) -> String {
    let time = i64::try_from(unix_s).ok().and_then(|second| Timestamp::from_second(second).ok());
    time.map_or_else(|| "-".to_owned(), |time| time.strftime(form).to_string())
}

/// Reads a number of bytes: `10MB` is decimal, `10MiB` and `10M` are binary, a bare number is bytes.
/// A trailing `/s` is passed over.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim().trim_end_matches("/s");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().ok()?;
    let unit = unit.trim().to_ascii_lowercase();
    let (base, letter) = match unit.strip_suffix("ib") {
        Some(letter) => (1024.0_f64, letter),
        None => match unit.strip_suffix('b') {
            Some(letter) => (1000.0, letter),
            None => (1024.0, unit.as_str()),
        },
    };
    let power = match letter {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return None,
    };
    let bytes = number * base.powi(power);
    (bytes < 2_f64.powi(63)).then_some(bytes as u64)
}

/// Reads a rate limit in bytes per second; `none` and `off` lift it. A limit of nothing at all would
/// stop the node, so zero is none as well.
pub fn parse_limit(text: &str) -> Option<Option<u64>> {
    match text.trim() {
        "none" | "off" | "0" | "-" => Some(None),
        text => parse_size(text).filter(|bytes| *bytes > 0).map(Some),
    }
}

/// Reads seconds: `90s`, `10m`, `2h`, `1d`, `1h30m`, or a bare number.
pub fn parse_span(text: &str) -> Option<u64> {
    let mut total = 0_u64;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let unit = rest.chars().next();
        let seconds = match unit {
            None | Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3600,
            Some('d') => 86_400,
            Some(_) => return None,
        };
        rest = unit.and_then(|unit| rest.strip_prefix(unit)).unwrap_or(rest);
        total = total.checked_add(number.checked_mul(seconds)?)?;
    }
    Some(total)
}

/// Text from elsewhere without what a terminal would obey.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_unit_that_fits() {
        let shown = [0, 999, 1000, 1023, 1024, 100 << 20, 3 << 40, u64::MAX].map(size);
        let expected = ["0 B", "999 B", "1.0 KiB", "1.0 KiB", "1.0 KiB", "100 MiB", "3.0 TiB", "16777216 TiB"];
        assert_eq!(shown, expected);
    }

    #[test]
    fn spans_have_their_two_largest_units() {
        assert_eq!([0, 59, 469, 7500, 273_600].map(span), ["0s", "59s", "7m49s", "2h05m", "3d04h"]);
    }

    #[test]
    fn percentages_are_exact_where_it_matters() {
        assert_eq!([0, 5, 630, 991, 999, 1000].map(percent), ["0 %", "0.5 %", "63 %", "99.1 %", "99.9 %", "100 %"]);
    }

    #[test]
    fn times_are_of_utc() {
        assert_eq!((date(0).as_str(), clock(86_399).as_str()), ("1970-01-01 00:00:00", "23:59:59"));
        assert_eq!(date(u64::MAX), "-");
    }

    #[test]
    fn sizes_and_limits_are_read_as_they_are_written() {
        for (text, bytes) in [("10", 10), ("10MB", 10_000_000), ("10MiB/s", 10 << 20), ("1.5g", 3 << 29), ("2 k", 2048)]
        {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "M", "10X", "1e9", "-1", "99999999999T"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
        assert_eq!(parse_limit("none"), Some(None));
        assert_eq!(parse_limit("1K"), Some(Some(1024)));
        assert_eq!(parse_limit("fast"), None);
    }

    #[test]
    fn spans_are_read_as_they_are_written() {
        for seconds in [0, 4, 469, 7500, 273_600] {
            assert_eq!(parse_span(&span(seconds)), Some(seconds));
        }
        for text in ["", "m", "1y", "1mm", "99999999999999999999s", "1h-"] {
            assert_eq!(parse_span(text), None, "{text}");
        }
    }
}
