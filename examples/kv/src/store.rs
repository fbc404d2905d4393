//! The store itself: a hash map for single keys, an ordered index for scans, and a bound on its memory.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest key in bytes: beside a value in a buffer there is room for no more.
pub const MAX_KEY: usize = 250;

/// What an entry is charged beside its bytes: its places in map and index, and the allocator's share.
pub const ENTRY: usize = 160;

/// How large it may become.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest value in bytes.
    pub value: usize,
    /// Bytes of all keys and values, and [`ENTRY`] for each.
    pub memory: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { value: 1 << 20, memory: 1 << 30 }
    }
}

/// Why a value was not put. What was there before is there still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum PutError {
    /// The key is longer than [`MAX_KEY`].
    #[error("a key has at most {MAX_KEY} bytes")]
    KeyTooLong,
    /// The value is larger than [`Limits::value`].
    #[error("a value has at most {largest} bytes")]
    ValueTooLarge {
        /// The limit of this store.
        largest: u64,
    },
    /// It would not fit into [`Limits::memory`].
    #[error("the store is full: delete something, or give it more memory")]
    Full,
    /// The client took the value back while it was copied.
    #[error("the value was taken back before it was stored")]
    Revoked,
}

/// What is in a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Keys.
    pub keys: u64,
    /// Bytes, as [`Limits::memory`] counts them.
    pub bytes: u64,
    /// How many changes there have been: puts, and deletes of what was there.
    pub revision: u64,
}

/// Keys and their values. Owned by whoever serves it; everything is gone with it.
#[derive(Debug, Default)]
pub struct Store {
    values: HashMap<Arc<[u8]>, Vec<u8>>,
    order: BTreeSet<Arc<[u8]>>,
    limits: Limits,
    bytes: usize,
    revision: u64,
}

impl Store {
    /// An empty store.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// How large it may become.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The value of a key.
    ///
    /// # Cost
    /// One hash, keyed against those who choose keys to collide.
    #[inline]
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.values.get(key).map(Vec::as_slice)
    }

    /// Whether a value of that length may be put, memory aside.
    ///
    /// # Errors
    /// `KeyTooLong`, `ValueTooLarge`.
    pub fn admits(&self, key: &[u8], len: usize) -> Result<(), PutError> {
        if key.len() > MAX_KEY {
            return Err(PutError::KeyTooLong);
        }
        if len > self.limits.value {
            return Err(PutError::ValueTooLarge { largest: self.limits.value as u64 });
        }
        Ok(())
    }

    /// Puts a value in the place of the one before; gives the revision of that change.
    ///
    /// # Errors
    /// [`PutError`], and nothing has changed.
    ///
    /// # Cost
    /// As [`Store::get`]; for a new key also a place in the index.
    pub fn put(&mut self, key: &[u8], value: Vec<u8>) -> Result<u64, PutError> {
        self.admits(key, value.len())?;
        let before = self.values.get_mut(key);
        let freed = before.as_ref().map_or(0, |value| charge(key, value));
        // None of them exceeds memory that is there, so no sum overflows.
        let bytes = self.bytes - freed + charge(key, &value);
        if bytes > self.limits.memory {
            return Err(PutError::Full);
        }
        match before {
            Some(before) => *before = value,
            None => {
                let key: Arc<[u8]> = key.into();
                self.order.insert(Arc::clone(&key));
                self.values.insert(key, value);
            }
        }
        self.bytes = bytes;
        Ok(self.changed())
    }

    /// Takes a key away; gives the revision of that change, or `None` if there was no such key.
    pub fn delete(&mut self, key: &[u8]) -> Option<u64> {
        let value = self.values.remove(key)?;
        self.order.remove(key);
        self.bytes -= charge(key, &value);
        Some(self.changed())
    }

    /// The keys from `from` on, in the order of their bytes, with their values.
    pub fn scan(&self, from: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
        let keys = self.order.range::<[u8], _>((Bound::Included(from), Bound::Unbounded));
        keys.filter_map(|key| Some((&**key, self.get(key)?)))
    }

    /// What is in it.
    pub fn usage(&self) -> Usage {
        let (keys, bytes) = (self.values.len() as u64, self.bytes as u64);
        Usage { keys, bytes, revision: self.revision }
    }

    fn changed(&mut self) -> u64 {
        self.revision += 1;
        self.revision
    }
}

/// What an entry costs.
fn charge(key: &[u8], value: &[u8]) -> usize {
    key.len() + value.len() + ENTRY
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Put(Vec<u8>, usize),
        Get(Vec<u8>),
        Delete(Vec<u8>),
        Scan(Vec<u8>, usize),
    }

    /// Few bytes, so that keys come again.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        vec(0..3u8, 0..3)
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (key(), 0..12usize).prop_map(|(key, len)| Step::Put(key, len)),
            1 => key().prop_map(Step::Get),
            1 => key().prop_map(Step::Delete),
            1 => (key(), 0..9usize).prop_map(|(key, limit)| Step::Scan(key, limit)),
        ]
    }

    const LIMITS: Limits = Limits { value: 10, memory: 6 * (ENTRY + 5) };

    proptest! {
        #[test]
        fn it_does_what_an_ordered_map_with_a_limit_does(steps in vec(step(), 0..200)) {
            let mut store = Store::new(LIMITS);
            let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
            let mut revision = 0;
            for (at, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Put(key, len) => {
                        let value = vec![at as u8; len];
                        let mut after = model.clone();
                        after.insert(key.clone(), value.clone());
                        let charged: usize = after.iter().map(|(k, v)| charge(k, v)).sum();
                        let expected = if len > LIMITS.value {
                            Err(PutError::ValueTooLarge { largest: LIMITS.value as u64 })
                        } else if charged > LIMITS.memory {
                            Err(PutError::Full)
                        } else {
                            model = after;
                            revision += 1;
                            Ok(revision)
                        };
                        prop_assert_eq!(store.put(&key, value), expected);
                    }
                    Step::Get(key) => {
                        prop_assert_eq!(store.get(&key), model.get(&key).map(Vec::as_slice));
                    }
                    Step::Delete(key) => {
                        let expected = model.remove(&key).map(|_| { revision += 1; revision });
                        prop_assert_eq!(store.delete(&key), expected);
                    }
                    Step::Scan(from, limit) => {
                        let found: Vec<_> = store.scan(&from).take(limit).collect();
                        let expected: Vec<_> = model
                            .range(from..)
                            .take(limit)
                            .map(|(k, v)| (k.as_slice(), v.as_slice()))
                            .collect();
                        prop_assert_eq!(found, expected);
                    }
                }
                let bytes = model.iter().map(|(k, v)| charge(k, v)).sum::<usize>() as u64;
                let usage = Usage { keys: model.len() as u64, bytes, revision };
                prop_assert_eq!(store.usage(), usage);
            }
        }
    }

    #[test]
    fn a_key_that_is_too_long_is_refused_and_the_longest_is_not() {
        let mut store = Store::new(Limits::default());
        assert_eq!(store.put(&[b'k'; MAX_KEY + 1], vec![]), Err(PutError::KeyTooLong));
        assert_eq!(store.put(&[b'k'; MAX_KEY], vec![]), Ok(1));
        assert_eq!(store.usage().keys, 1);
    }

    #[test]
    fn a_full_store_still_takes_what_is_no_larger_than_what_it_replaces() {
        let mut store = Store::new(Limits { value: 100, memory: ENTRY + 1 + 10 });
        assert_eq!(store.put(b"a", vec![1; 10]), Ok(1));
        assert_eq!(store.put(b"b", vec![]), Err(PutError::Full));
        assert_eq!(store.put(b"a", vec![2; 11]), Err(PutError::Full));
        assert_eq!(store.get(b"a"), Some(&[1; 10][..]));
        assert_eq!(store.put(b"a", vec![3; 10]), Ok(2));
        assert_eq!(store.delete(b"a"), Some(3));
        assert_eq!(store.put(b"b", vec![4; 10]), Ok(4));
    }
}
