//! Values of settings that are not every value of their type, and how they are told to be wrong.

use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;

use serde::de::{Deserializer, Error, Unexpected, Visitor};

/// A whole number from `MIN` to `MAX`.
pub(crate) fn within<'de, const MIN: u64, const MAX: u64, T, D>(from: D) -> Result<T, D::Error>
where
    T: TryFrom<u64>,
    D: Deserializer<'de>,
{
    from.deserialize_any(Within::<MIN, MAX, T>(PhantomData))
}

struct Within<const MIN: u64, const MAX: u64, T>(PhantomData<T>);

impl<const MIN: u64, const MAX: u64, T: TryFrom<u64>> Visitor<'_> for Within<MIN, MAX, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from {MIN} to {MAX}")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        let wrong = || E::invalid_value(Unexpected::Unsigned(number), &self);
        if !(MIN..=MAX).contains(&number) {
            return Err(wrong());
        }
        T::try_from(number).map_err(|_| wrong())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        u64::try_from(number).map_or_else(
            |_| Err(E::invalid_value(Unexpected::Signed(number), &self)),
            |unsigned| Within::<MIN, MAX, T>(PhantomData).visit_u64(unsigned),
        )
    }
}

/// An address that others can connect to.
pub(super) fn reachable<'de, D: Deserializer<'de>>(from: D) -> Result<IpAddr, D::Error> {
    parsed(from, |text| match text.parse::<IpAddr>() {
        Ok(address) if !address.is_unspecified() && !address.is_multicast() => Ok(address),
        _ => Err(format!("{text:?} is no address that others can connect to, such as 10.0.0.7")),
    })
}

/// A value that is written as text. An error of `parse` is told with the value's key, for it
/// arises inside the deserializer.
pub(super) fn parsed<'de, T, D: Deserializer<'de>>(
    from: D,
    parse: fn(&str) -> Result<T, String>,
) -> Result<T, D::Error> {
    from.deserialize_str(Parsed(parse))
}

struct Parsed<T>(fn(&str) -> Result<T, String>);

impl<T> Visitor<'_> for Parsed<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).map_err(E::custom)
    }
}

/// A list of values that are written as text.
pub(super) mod texts {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::{Deserialize, Deserializer};
    use serde::ser::Serializer;

    struct Text<T>(T);

    impl<'de, T: FromStr<Err: Display>> Deserialize<'de> for Text<T> {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            super::parsed(from, |text| text.parse().map(Self).map_err(|error| format!("{text:?}: {error}")))
        }
    }

    pub(crate) fn serialize<T: Display, S: Serializer>(list: &[T], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(list.iter().map(ToString::to_string))
    }

    pub(crate) fn deserialize<'de, T, D>(from: D) -> Result<Vec<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        Ok(Vec::<Text<T>>::deserialize(from)?.into_iter().map(|text| text.0).collect())
    }
}
