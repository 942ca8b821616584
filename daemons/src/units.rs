//! Sizes, rates and durations as people write and read them.
//!
//! Written in a flag or a file, a quantity is exact and printed back in a form that reads the same;
//! shown to people (`for_people`) it is rounded to two or three digits.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

/// Why a text is no quantity: shows the text and how to write it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{text:?} is no {expected}")]
pub struct UnitError {
    text: String,
    expected: &'static str,
}

/// A number of bytes: `10MiB` (binary), `10MB` (decimal), `4096` (bytes). A letter alone is binary,
/// as in Dragonfly v1: `10m` is `10MiB`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Size(u64);

/// Bytes per second, at least one: `20MiB/s`, `20MB/s`, `20M`; units as for a [`Size`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Rate(u64);

/// A duration to the microsecond: `90s`, `1h30m`, `500ms`, `1.5s`; a bare number is seconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Span(Duration);

/// Names of size units in lower case, and their bytes; the first of a value is the one printed.
const SIZE_UNITS: [(&str, &str, u64); 17] = [
    ("B", "b", 1),
    ("KiB", "kib", 1 << 10),
    ("MiB", "mib", 1 << 20),
    ("GiB", "gib", 1 << 30),
    ("TiB", "tib", 1 << 40),
    ("kB", "kb", 1_000),
    ("MB", "mb", 1_000_000),
    ("GB", "gb", 1_000_000_000),
    ("TB", "tb", 1_000_000_000_000),
    ("Ki", "ki", 1 << 10),
    ("Mi", "mi", 1 << 20),
    ("Gi", "gi", 1 << 30),
    ("Ti", "ti", 1 << 40),
    ("K", "k", 1 << 10),
    ("M", "m", 1 << 20),
    ("G", "g", 1 << 30),
    ("T", "t", 1 << 40),
];

/// Units of time, long ones first, in microseconds.
const TIME_UNITS: [(&str, u64); 6] =
    [("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];

/// A quantity of bytes in the parts of the names above.
const PEOPLE_UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

impl Size {
    /// So many bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// `1.2 GiB`.
    pub fn for_people(self) -> String {
        let exponent = exponent(self.0);
        format!("{} {}", scaled_down(self.0, exponent, digits(self.0, exponent)), PEOPLE_UNITS[exponent])
    }

    /// How much of a whole there is, in the unit of the whole: `0.9/1.2 GiB`.
    pub fn of_whole(self, whole: Self) -> String {
        let exponent = exponent(whole.0);
        let digits = digits(whole.0, exponent);
        let [part, whole] = [self, whole].map(|size| scaled_down(size.0, exponent, digits));
        format!("{part}/{whole} {}", PEOPLE_UNITS[exponent])
    }
}

/// The power of 1024 in whose unit a number of bytes has at most three digits before the point.
fn exponent(bytes: u64) -> usize {
    let last = PEOPLE_UNITS.len() - 1;
    (0..last).find(|exponent| (bytes as f64) < 999.5 * 1024f64.powi(*exponent as i32)).unwrap_or(last)
}

/// Digits behind the point: one where there is but one before it, none for bytes.
fn digits(bytes: u64, exponent: usize) -> usize {
    usize::from(exponent > 0 && (bytes as f64) < 9.95 * 1024f64.powi(exponent as i32))
}

fn scaled_down(bytes: u64, exponent: usize, digits: usize) -> String {
    format!("{:.digits$}", bytes as f64 / 1024f64.powi(exponent as i32))
}

impl Rate {
    /// So many bytes per second, if that is at least one.
    pub const fn new(bytes_per_sec: u64) -> Option<Self> {
        if bytes_per_sec == 0 { None } else { Some(Self(bytes_per_sec)) }
    }

    /// Bytes per second, at least one.
    pub const fn bytes_per_sec(self) -> u64 {
        self.0
    }

    /// `412 MiB/s`.
    pub fn for_people(self) -> String {
        format!("{}/s", Size(self.0).for_people())
    }
}

impl Span {
    /// A duration, cut to the microsecond.
    pub const fn new(duration: Duration) -> Self {
        Self(Duration::new(duration.as_secs(), duration.subsec_micros() * 1_000))
    }

    /// So many seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// The duration.
    pub const fn duration(self) -> Duration {
        self.0
    }

    /// `412ms`, `1.8s`, `42s`, `3m20s`, `2h05m`, `3d04h`.
    pub fn for_people(self) -> String {
        let (secs, millis) = (self.0.as_secs(), self.0.as_millis());
        match secs {
            0 => format!("{millis}ms"),
            // Cut, not rounded: what has not taken ten seconds does not say so.
            1..10 => format!("{secs}.{}s", millis % 1000 / 100),
            10..60 => format!("{secs}s"),
            60..3600 => format!("{}m{:02}s", secs / 60, secs % 60),
            3600..86_400 => format!("{}h{:02}m", secs / 3600, secs / 60 % 60),
            _ => format!("{}d{:02}h", secs / 86_400, secs / 3600 % 24),
        }
    }
}

/// The decimal number at the start of a text, as digits with at most one point, and the rest.
fn split_number(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()))
}

/// A decimal number of units, exactly and cut to a whole; none if it is malformed or too large.
fn times(number: &str, unit: u64) -> Option<u64> {
    const FRACTION_DIGIT_LIMIT: usize = 9;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') || fraction.len() > FRACTION_DIGIT_LIMIT {
        return None;
    }
    let ones = u128::from(whole.parse::<u64>().ok()?) * u128::from(unit);
    let part = u128::from(fraction.parse::<u64>().ok()?) * u128::from(unit) / 10u128.pow(fraction.len() as u32);
    u64::try_from(ones + part).ok()
}

fn parse_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split_number(text.trim());
    let unit = unit.trim().to_ascii_lowercase();
    if unit.is_empty() {
        return number.parse().ok();
    }
    SIZE_UNITS.iter().find(|(_, name, _)| *name == unit).and_then(|(_, _, bytes)| times(number, *bytes))
}

fn parse_micros(text: &str) -> Option<u64> {
    const SECOND: u64 = 1_000_000;
    let mut rest = text.trim();
    if let (number, "") = split_number(rest) {
        return times(number, SECOND);
    }
    let mut sum = 0u64;
    let mut larger = u64::MAX;
    while !rest.is_empty() {
        let (number, after) = split_number(rest);
        let (name, after) = after.split_at(after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len()));
        let (_, unit) = TIME_UNITS.iter().find(|(unit, _)| unit.eq_ignore_ascii_case(name))?;
        if *unit >= larger {
            return None;
        }
        larger = *unit;
        sum = sum.checked_add(times(number, *unit)?)?;
        rest = after;
    }
    (larger < u64::MAX).then_some(sum)
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse_bytes(text).map(Self).ok_or_else(|| UnitError { text: text.to_owned(), expected: Self::EXPECTED })
    }
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bytes = text.trim().strip_suffix("/s").unwrap_or(text);
        let rate = parse_bytes(bytes).and_then(Self::new);
        rate.ok_or_else(|| UnitError { text: text.to_owned(), expected: Self::EXPECTED })
    }
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let micros = parse_micros(text);
        let error = || UnitError { text: text.to_owned(), expected: Self::EXPECTED };
        micros.map(|micros| Self(Duration::from_micros(micros))).ok_or_else(error)
    }
}

impl fmt::Display for Size {
    /// The exact form with the smallest number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = SIZE_UNITS.iter().filter(|(_, _, unit)| self.0 != 0 && self.0.is_multiple_of(*unit));
        match exact.min_by_key(|(_, _, unit)| self.0 / unit) {
            Some((name, _, unit)) if *unit > 1 => write!(f, "{}{name}", self.0 / unit),
            _ => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Size(self.0).to_string() {
            bare if bare.bytes().all(|b| b.is_ascii_digit()) => write!(f, "{bare}B/s"),
            size => write!(f, "{size}/s"),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0s");
        }
        for (name, unit) in TIME_UNITS {
            if rest >= unit {
                write!(f, "{}{name}", rest / unit)?;
                rest %= unit;
            }
        }
        Ok(())
    }
}

/// What is written as a number or as a text with a unit.
trait Quantity: FromStr<Err = UnitError> {
    const EXPECTED: &'static str;
}

struct QuantityVisitor<T>(PhantomData<T>);

impl<T: Quantity> Visitor<'_> for QuantityVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a {}", T::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

macro_rules! quantity {
    ($($name:ident: $expected:literal;)*) => {$(
        impl Quantity for $name {
            const EXPECTED: &'static str = $expected;
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_any(QuantityVisitor(PhantomData))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
    )*};
}

quantity! {
    Size: "size: write it as 10MiB (binary), 10MB (decimal) or a number of bytes";
    Rate: "rate: write it as 20MiB/s (binary), 20MB/s (decimal) or bytes per second, at least 1";
    Span: "duration: write it as 90s, 1h30m, 500ms or a number of seconds";
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_and_printed_exactly() {
        let table = [
            ("0", 0, "0"),
            ("1", 1, "1"),
            ("4096", 4096, "4KiB"),
            ("10MB", 10_000_000, "10MB"),
            ("10mb", 10_000_000, "10MB"),
            ("10MiB", 10 << 20, "10MiB"),
            ("10m", 10 << 20, "10MiB"),
            ("3g", 3 << 30, "3GiB"),
            ("7K", 7 << 10, "7KiB"),
            ("2Ti", 2 << 40, "2TiB"),
            ("1.5GiB", 3 << 29, "1536MiB"),
            ("0.001kB", 1, "1"),
            (" 20 MB ", 20_000_000, "20MB"),
            ("5B", 5, "5"),
            ("18446744073709551615", u64::MAX, "18446744073709551615"),
        ];
        for (text, bytes, printed) in table {
            let size: Size = text.parse().unwrap();
            assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, printed), "{text:?}");
        }
    }

    #[test]
    fn rates_are_sizes_per_second_and_never_nothing() {
        let table = [("20M", 20 << 20, "20MiB/s"), ("20MB/s", 20_000_000, "20MB/s"), ("1KiB/s", 1024, "1KiB/s")];
        for (text, bytes, printed) in table.into_iter().chain([("7", 7, "7B/s"), ("7B/s", 7, "7B/s")]) {
            let rate: Rate = text.parse().unwrap();
            assert_eq!((rate.bytes_per_sec(), rate.to_string().as_str()), (bytes, printed), "{text:?}");
        }
        assert_eq!("0".parse::<Rate>().unwrap_err().to_string().split(':').next(), Some("\"0\" is no rate"));
        assert_eq!(Rate::new(0), None);
    }

    #[test]
    fn durations_are_sums_of_falling_units() {
        let table = [
            ("90s", 90_000, "1m30s"),
            ("90", 90_000, "1m30s"),
            ("2h", 7_200_000, "2h"),
            ("500ms", 500, "500ms"),
            ("1h30m", 5_400_000, "1h30m"),
            ("1.5s", 1_500, "1s500ms"),
            ("1d", 86_400_000, "1d"),
            ("0", 0, "0s"),
        ];
        for (text, millis, printed) in table {
            let span: Span = text.parse().unwrap();
            assert_eq!((span.duration().as_millis(), span.to_string().as_str()), (millis, printed), "{text:?}");
        }
    }

    #[test]
    fn malformed_quantities_are_refused_with_an_example() {
        let sizes = ["", "x", "MB", "10XB", "1.2.3MB", ".5MB", "5.MB", "-1", "1e3", "10 M B", "1.5", "99999999999G"];
        for text in sizes {
            assert!(text.parse::<Rate>().is_err(), "{text:?}");
            let error = text.parse::<Size>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?} is no size: write it as 10MiB")), "{error}");
        }
        for text in ["", "s", "1x", "1s1m", "1m1m", "1h 30m", "-1s", "1s1", "99999999999d", "1:30"] {
            let error = text.parse::<Span>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?} is no duration: write it as 90s")), "{error}");
        }
    }

    #[test]
    fn people_read_two_or_three_digits() {
        let sizes = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 KiB"),
            (1024, "1.0 KiB"),
            (10_188, "9.9 KiB"),
            (10_240, "10 KiB"),
            (432_013_312, "412 MiB"),
            (1_073_000_000, "1.0 GiB"),
            (1_288_490_189, "1.2 GiB"),
            (u64::MAX, "16 EiB"),
        ];
        for (bytes, shown) in sizes {
            assert_eq!(Size::new(bytes).for_people(), shown);
        }
        assert_eq!(Size::new(644_245_094).of_whole(Size::new(2_040_109_466)), "0.6/1.9 GiB");
        assert_eq!(Size::new(512).of_whole(Size::new(900)), "512/900 B");
        assert_eq!(Rate::new(432_013_312).unwrap().for_people(), "412 MiB/s");
        let spans = [(0, "0ms"), (412, "412ms"), (1_899, "1.8s"), (42_900, "42s"), (200_000, "3m20s")];
        for (millis, shown) in spans.into_iter().chain([(7_500_000, "2h05m"), (273_600_000, "3d04h")]) {
            assert_eq!(Span::new(Duration::from_millis(millis)).for_people(), shown);
        }
    }

    #[test]
    fn files_hold_them_as_numbers_or_texts() {
        let read = |text: &str| yaml_serde::from_str::<(Size, Rate, Span)>(text).map_err(|error| error.to_string());
        let expected = (Size::new(4096), Rate::new(20 << 20).unwrap(), Span::new(Duration::from_millis(1500)));
        assert_eq!(read("[4096, 20M, 1.5]"), Ok(expected));
        assert_eq!(read("['4KiB', '20MiB/s', '1500ms']"), Ok(expected));
        assert!(read("[-1, 1, 1]").unwrap_err().contains("\"-1\" is no size"));
        assert!(read("[1, 1, true]").unwrap_err().contains("expected a duration: write it as 90s"));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(number: u64, micros in 0..u64::MAX / 2) {
            for number in [number, number >> 20, number >> 30 << 30, number % 1000 * 1_000_000] {
                let size = Size::new(number);
                prop_assert_eq!(size.to_string().parse(), Ok(size));
                if let Some(rate) = Rate::new(number) {
                    prop_assert_eq!(rate.to_string().parse(), Ok(rate));
                }
            }
            let span = Span::new(Duration::from_micros(micros));
            prop_assert_eq!(span.to_string().parse(), Ok(span));
        }
    }
}
