//! A table of values by keys that are never used twice, laid out for the memory.

use alloc::vec::Vec;
use core::marker::PhantomData;
use core::ops::{Index, IndexMut};

use slotmap::{Key, KeyData};

use crate::prefetch::prefetch;

/// Bytes of a cache line.
pub(super) const LINE: usize = 64;

/// Values by keys: what a slot map does, with the versions of the slots apart from the values. So a value
/// that is aligned to cache lines fills whole lines, a key is checked against a table that is small enough
/// for a cache, and where a value stands is known without reading it.
///
/// A slot's version is odd while it is in use. What stood in it stays there until it is used again.
#[derive(Debug)]
pub(super) struct Table<K, V> {
    versions: Vec<u32>,
    values: Vec<V>,
    free: Vec<u32>,
    keys: PhantomData<fn(K) -> K>,
}

impl<K: Key, V> Table<K, V> {
    pub(super) const fn new() -> Self {
        Self { versions: Vec::new(), values: Vec::new(), free: Vec::new(), keys: PhantomData }
    }

    pub(super) const fn len(&self) -> usize {
        self.values.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, value: V) -> K {
        let slot = match self.free.pop() {
            Some(slot) => {
                self.values[slot as usize] = value;
                slot
            }
            None => {
                self.versions.push(0);
                self.values.push(value);
                (self.values.len() - 1) as u32
            }
        };
        let version = &mut self.versions[slot as usize];
        *version = version.wrapping_add(1);
        key(slot, *version)
    }

    /// Takes a key out of use. Answers what it stood for.
    pub(super) fn remove(&mut self, key: K) -> Option<&mut V> {
        let slot = self.slot(key)?;
        self.versions[slot] = self.versions[slot].wrapping_add(1);
        self.free.push(slot as u32);
        Some(&mut self.values[slot])
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

    /// Has the version of a key fetched. Answers where its value stands, or stood; that is not looked at.
    pub(super) fn prefetch(&self, key: K) -> Option<&V> {
        prefetch(self.versions.get(slot(key))?);
        self.values.get(slot(key))
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

/// Where the value of a key stands. The slot 0 of a key is nobody's, so that a key of zeros is none.
fn slot<K: Key>(key: K) -> usize {
    (key.data().as_ffi() as u32 as usize).wrapping_sub(1)
}

fn key<K: Key>(slot: u32, version: u32) -> K {
    K::from(KeyData::from_ffi(u64::from(version) << 32 | u64::from(slot + 1)))
}

impl<K: Key, V> Index<K> for Table<K, V> {
    type Output = V;

    /// The value of a key that is known to be in use: only debug builds look at its version.
    #[track_caller]
    fn index(&self, key: K) -> &V {
        debug_assert!(self.contains_key(key), "{key:?} is not in use");
        &self.values[slot(key)]
    }
}

impl<K: Key, V> IndexMut<K> for Table<K, V> {
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

    #[test]
    fn a_key_finds_its_own_value_and_no_later_one() {
        let mut table: Table<GrantKey, u32> = Table::new();
        assert!(table.get(GrantKey::default()).is_none());
        let [first, second] = [table.insert(1), table.insert(2)];
        assert_eq!(table.remove(first), Some(&mut 1));
        assert_eq!(table.remove(first), None);
        assert_eq!((table.get(first), table.contains_key(first)), (None, false));
        let third = table.insert(3);
        assert_ne!(first, third);
        table[third] += 1;
        assert_eq!((table.get(first), table[second], table[third], table.len()), (None, 2, 4, 2));
        assert_eq!(table.iter().collect::<Vec<_>>(), [(third, &4), (second, &2)]);
    }
}
