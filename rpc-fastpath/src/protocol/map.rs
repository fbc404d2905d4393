//! A map of as many fragments as may be under way: bit `i` stands for the fragment `base + i`.

use crate::wire::{MAX_CONTROL, MAX_CREDITS};

const WORDS: usize = MAX_CREDITS as usize / 64;
const _: () = assert!(WORDS * 8 == MAX_CONTROL);

/// Bits of a window that only moves forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Map([u64; WORDS]);

impl Map {
    pub fn contains(&self, bit: u32) -> bool {
        self.0.get(bit as usize / 64).is_some_and(|word| word >> (bit % 64) & 1 != 0)
    }

    /// Sets a bit; one that lies outside is not there to be set.
    pub fn insert(&mut self, bit: u32) {
        if let Some(word) = self.0.get_mut(bit as usize / 64) {
            *word |= 1 << (bit % 64);
        }
    }

    pub fn remove(&mut self, bit: u32) {
        if let Some(word) = self.0.get_mut(bit as usize / 64) {
            *word &= !(1 << (bit % 64));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0 == [0; WORDS]
    }

    pub fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    pub fn first(&self) -> Option<u32> {
        let at = self.0.iter().position(|word| *word != 0)?;
        Some(at as u32 * 64 + self.0[at].trailing_zeros())
    }

    pub fn highest(&self) -> Option<u32> {
        let at = self.0.iter().rposition(|word| *word != 0)?;
        Some(at as u32 * 64 + 63 - self.0[at].leading_zeros())
    }

    /// How many of the lowest bits are set without a gap.
    pub fn run(&self) -> u32 {
        let Some(at) = self.0.iter().position(|word| *word != u64::MAX) else {
            return MAX_CREDITS.into();
        };
        at as u32 * 64 + self.0[at].trailing_ones()
    }

    /// The bits below this one.
    pub fn below(end: u32) -> Self {
        let mut map = Self::default();
        for (at, word) in map.0.iter_mut().enumerate() {
            let bits = end.saturating_sub(at as u32 * 64);
            *word = if bits >= 64 { u64::MAX } else { (1 << bits) - 1 };
        }
        map
    }

    pub fn union(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a | b)
    }

    pub fn intersection(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a & b)
    }

    pub fn without(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a & !b)
    }

    fn combine(&self, other: &Self, by: impl Fn(u64, u64) -> u64) -> Self {
        Self(std::array::from_fn(|at| by(self.0[at], other.0[at])))
    }

    /// The same fragments, seen from a base that lies so far ahead.
    pub fn advanced(&self, by: u32) -> Self {
        let (words, bits) = (by as usize / 64, by % 64);
        let word = |at: usize| self.0.get(at + words).copied().unwrap_or(0);
        Self(std::array::from_fn(|at| match bits {
            0 => word(at),
            bits => word(at) >> bits | word(at + 1) << (64 - bits),
        }))
    }

    /// As it travels, without the zeros at its end: bytes, and how many of them.
    pub fn encode(&self) -> ([u8; MAX_CONTROL], usize) {
        let mut bytes = [0; MAX_CONTROL];
        for (place, word) in bytes.as_chunks_mut().0.iter_mut().zip(self.0) {
            *place = word.to_le_bytes();
        }
        let words = self.highest().map_or(0, |bit| bit as usize / 64 + 1);
        (bytes, words * 8)
    }

    /// What travelled: up to four words. Nothing else is a map.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks();
        if !rest.is_empty() || words.len() > WORDS {
            return None;
        }
        let mut map = Self::default();
        for (word, bytes) in map.0.iter_mut().zip(words) {
            *word = u64::from_le_bytes(*bytes);
        }
        Some(map)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn map(bits: &BTreeSet<u32>) -> Map {
        let mut map = Map::default();
        bits.iter().for_each(|bit| map.insert(*bit));
        map
    }

    proptest! {
        #[test]
        fn it_is_a_set_of_numbers_below_256(
            bits in proptest::collection::btree_set(0..256u32, 0..300),
            by in 0..300u32,
        ) {
            let it = map(&bits);
            prop_assert_eq!(it.len() as usize, bits.len());
            prop_assert_eq!(it.first(), bits.first().copied());
            prop_assert_eq!(it.highest(), bits.last().copied());
            prop_assert_eq!(it.run(), (0..256).take_while(|bit| bits.contains(bit)).count() as u32);
            let later = bits.iter().filter_map(|bit| bit.checked_sub(by)).collect();
            prop_assert_eq!(it.advanced(by), map(&later));
            let lower = bits.iter().copied().filter(|bit| *bit < by).collect();
            prop_assert_eq!(it.intersection(&Map::below(by)), map(&lower));
            prop_assert_eq!(it.without(&Map::below(by)).union(&map(&lower)), it);
            let (bytes, len) = it.encode();
            prop_assert_eq!(Map::decode(&bytes[..len]), Some(it));
        }
    }

    #[test]
    fn what_lies_outside_is_not_there() {
        let mut map = Map::default();
        map.insert(256);
        map.remove(300);
        assert!(map.is_empty() && !map.contains(256));
        assert_eq!(Map::decode(&[0; 40]), None);
        assert_eq!(Map::decode(&[0; 7]), None);
    }
}
