//! From a key in a header to a session.

use std::collections::HashMap;
use std::hash::Hash;

use crate::Slot;

/// The sessions of a layer that multiplexes, by key, with the last one found in front.
///
/// Keys that a hostile peer chooses are hashed with a secret, so they cannot be made to collide; the
/// layer bounds how many there are.
#[derive(Debug)]
pub struct Demultiplexer<K> {
    last: Option<(K, Slot)>,
    all: HashMap<K, Slot>,
}

impl<K: Copy + Eq + Hash> Demultiplexer<K> {
    /// Without sessions.
    pub fn new() -> Self {
        Self { last: None, all: HashMap::new() }
    }

    /// The session of a key.
    ///
    /// # Cost
    /// One comparison if it is the one found last, else a look-up.
    #[inline]
    pub fn find(&mut self, key: K) -> Option<Slot> {
        if let Some((last, slot)) = self.last
            && last == key
        {
            return Some(slot);
        }
        self.find_slowly(key)
    }

    #[cold]
    fn find_slowly(&mut self, key: K) -> Option<Slot> {
        let slot = *self.all.get(&key)?;
        self.last = Some((key, slot));
        Some(slot)
    }

    /// Notes a session. `false`, and nothing changed, if the key has one.
    #[must_use]
    pub fn insert(&mut self, key: K, slot: Slot) -> bool {
        match self.all.entry(key) {
            std::collections::hash_map::Entry::Occupied(_) => false,
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(slot);
                true
            }
        }
    }

    /// Forgets a key.
    pub fn remove(&mut self, key: K) -> Option<Slot> {
        self.last = self.last.filter(|(last, _)| *last != key);
        self.all.remove(&key)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

impl<K: Copy + Eq + Hash> Default for Demultiplexer<K> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_removed_is_not_found_though_it_was_found_last() {
        let mut sessions = Demultiplexer::new();
        assert!(sessions.insert(80u16, Slot(1)) && sessions.insert(443, Slot(2)));
        assert!(!sessions.insert(80, Slot(3)));
        assert_eq!(
            [80, 80, 443, 1].map(|key| sessions.find(key)),
            [Some(Slot(1)), Some(Slot(1)), Some(Slot(2)), None]
        );
        assert_eq!(sessions.find(80), Some(Slot(1)));
        assert_eq!(sessions.remove(80), Some(Slot(1)));
        assert_eq!((sessions.find(80), sessions.len()), (None, 1));
    }
}
