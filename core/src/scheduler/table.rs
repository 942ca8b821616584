//! A table of values by keys that are never used twice, laid out for the memory.

use alloc::vec::Vec;
use core::marker::PhantomData;
use core::ops::{Index, IndexMut};

use slotmap::{Key, KeyData};

/// Values by keys: what a slot map does, with the versions of the slots apart from the values. So a value
/// that is aligned to cache lines fills whole lines, a key is checked against a table that is small enough
/// for a cache, and who wants the first line of a value reads no other.
///
/// A slot's version is odd while it is in use; a blank value stands in the others.
#[derive(Debug)]
pub(super) struct Table<K, V> {
    versions: Vec<u32>,
    values: Vec<V>,
    free: Vec<u32>,
    keys: PhantomData<fn(K) -> K>,
}

/// What stands in a slot that is not in use.
pub(super) trait Blank {
    fn blank() -> Self;
}

impl<K: Key, V: Blank> Table<K, V> {
    pub(super) fn new() -> Self {
        let (mut versions, mut values) = (Vec::new(), Vec::new());
        versions.push(0);
        values.push(V::blank());
        Self { versions, values, free: Vec::new(), keys: PhantomData }
    }

    pub(super) const fn len(&self) -> usize {
        self.values.len() - 1 - self.free.len()
    }

    pub(super) fn insert(&mut self, value: V) -> K {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.versions.push(0);
            self.values.push(V::blank());
            (self.versions.len() - 1) as u32
        });
        let version = &mut self.versions[slot as usize];
        *version = version.wrapping_add(1);
        self.values[slot as usize] = value;
        key(slot, *version)
    }

    pub(super) fn remove(&mut self, key: K) -> Option<V> {
        let slot = self.slot(key)?;
        self.versions[slot] = self.versions[slot].wrapping_add(1);
        self.free.push(slot as u32);
        Some(core::mem::replace(&mut self.values[slot], V::blank()))
    }

    pub(super) fn contains_key(&self, key: K) -> bool {
        self.slot(key).is_some()
    }

    pub(super) fn get(&self, key: K) -> Option<&V> {
        Some(&self.values[self.slot(key)?])
    }

    pub(super) fn get_mut(&mut self, key: K) -> Option<&mut V> {
        let slot = self.slot(key)?;
        Some(&mut self.values[slot])
    }

    /// Keys and values in the order of their slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        let slots = self.values.iter().zip(&self.versions).enumerate();
        let used = slots.filter(|(_, (_, version))| **version % 2 == 1);
        used.map(|(slot, (value, version))| (key(slot as u32, *version), value))
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    fn slot(&self, key: K) -> Option<usize> {
        let (slot, version) = (slot(key), (key.data().as_ffi() >> 32) as u32);
        (self.versions.get(slot) == Some(&version)).then_some(slot)
    }
}

fn slot<K: Key>(key: K) -> usize {
    key.data().as_ffi() as u32 as usize
}

fn key<K: Key>(slot: u32, version: u32) -> K {
    K::from(KeyData::from_ffi(u64::from(version) << 32 | u64::from(slot)))
}

impl<K: Key, V: Blank> Index<K> for Table<K, V> {
    type Output = V;

    /// The value of a key that is known to be in use: only debug builds look at its version.
    #[track_caller]
    fn index(&self, key: K) -> &V {
        debug_assert!(self.contains_key(key), "{key:?} is not in use");
        &self.values[slot(key)]
    }
}

impl<K: Key, V: Blank> IndexMut<K> for Table<K, V> {
    #[track_caller]
    fn index_mut(&mut self, key: K) -> &mut V {
        debug_assert!(self.contains_key(key), "{key:?} is not in use");
        &mut self.values[slot(key)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::event::GrantKey;

    impl Blank for u32 {
        fn blank() -> Self {
            0
        }
    }

    #[test]
    fn a_key_finds_its_own_value_and_no_later_one() {
        let mut table: Table<GrantKey, u32> = Table::new();
        assert!(table.get(GrantKey::default()).is_none());
        let [first, second] = [table.insert(1), table.insert(2)];
        assert_eq!(table.remove(first), Some(1));
        assert_eq!((table.remove(first), table.get(first), table.contains_key(first)), (None, None, false));
        let third = table.insert(3);
        assert_ne!(first, third);
        table[third] += 1;
        assert_eq!((table.get(first), table[second], table[third], table.len()), (None, 2, 4, 2));
        assert_eq!(table.iter().collect::<Vec<_>>(), [(third, &4), (second, &2)]);
    }
}
