//! The receiver's side of a message of several fragments: handles, put into order.
//!
//! Nothing is copied; what arrives is kept until the whole is there. What a sender can make this side keep
//! is bounded by the size that was agreed, and memory is taken only for what came.

use super::map::Map;
use super::transfer::REORDERED;

/// So many fragments may come before their sender is told, if it does not ask.
const WORD_AFTER: u32 = 16;

/// A message of which some fragments came.
#[derive(Debug)]
pub(super) struct Reassembly<D> {
    parts: Vec<Option<D>>,
    /// The last fragment's number.
    last: u16,
    /// The first that is missing.
    base: u32,
    /// Which came above it.
    above: Map,
    bytes: usize,
    /// What is missing below is known to be lost.
    missed: u32,
    /// How many came since the sender was told.
    unsaid: u32,
}

/// What became of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// It is kept. Whether its sender shall be told now, as after a gap.
    New {
        /// Now, rather than with the next ones.
        tell: bool,
    },
    /// It was there: its sender does not know, or the network made two of it.
    Duplicate,
    /// It contradicts what came before, or what was agreed.
    Wrong,
}

impl<D> Reassembly<D> {
    pub fn new(last: u16) -> Self {
        Self {
            parts: Vec::new(),
            last,
            base: 0,
            above: Map::default(),
            bytes: 0,
            missed: 0,
            unsaid: 0,
        }
    }

    pub fn is_whole(&self) -> bool {
        self.base > u32::from(self.last)
    }

    /// Keeps a fragment of `len` bytes. All but the last are full: `fragment` bytes. Those `credits` from
    /// the first missing one, and further ones, could not be sent.
    pub fn keep(
        &mut self,
        (index, last): (u16, u16),
        len: usize,
        (fragment, credits): (usize, u16),
        part: D,
    ) -> Kept {
        let is_full = if index < last { len == fragment } else { (1..=fragment).contains(&len) };
        let index = u32::from(index);
        let is_ahead = index >= self.base + u32::from(credits);
        if last != self.last || index > last.into() || is_ahead || !is_full {
            return Kept::Wrong;
        }
        if index < self.base || self.above.contains(index - self.base) {
            return Kept::Duplicate;
        }
        if self.parts.len() <= index as usize {
            self.parts.resize_with(index as usize + 1, || None);
        }
        self.parts[index as usize] = Some(part);
        self.bytes += len;
        self.above.insert(index - self.base);
        let run = self.above.run();
        self.base += run;
        self.above = self.above.advanced(run);
        self.unsaid += 1;
        Kept::New { tell: !self.above.is_empty() || self.unsaid >= WORD_AFTER }
    }

    /// What to tell the sender: the first missing fragment, and which came above it.
    pub fn word(&mut self) -> (u32, Map) {
        self.unsaid = 0;
        (self.base, self.above)
    }

    /// The first that is missing.
    pub fn base(&self) -> u32 {
        self.base
    }

    /// Whether one is missing below another.
    pub fn has_gap(&self) -> bool {
        !self.above.is_empty()
    }

    /// How many came.
    pub fn arrived(&self) -> u32 {
        self.base + self.above.len()
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        u32::from(self.last) + 1
    }

    /// Whether something more is missing that cannot just have been overtaken. Says so once.
    pub fn misses_more(&mut self) -> bool {
        let overtaken = (self.above.highest().unwrap_or(0) + 1).saturating_sub(REORDERED);
        let known = Map::below(self.missed.saturating_sub(self.base));
        let missing = Map::below(overtaken).without(&self.above).without(&known);
        self.missed = self.missed.max(self.base + overtaken);
        !missing.is_empty()
    }

    /// The message, in order, and its length.
    pub fn into_parts(self) -> (Vec<D>, usize) {
        (self.parts.into_iter().flatten().collect(), self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGREED: (usize, u16) = (10, 4);

    #[test]
    fn fragments_are_put_into_order_and_said_once() {
        let mut it = Reassembly::new(2);
        assert_eq!(it.keep((2, 2), 3, AGREED, 'c'), Kept::New { tell: true });
        assert_eq!(it.keep((2, 2), 3, AGREED, 'x'), Kept::Duplicate);
        assert_eq!(it.keep((0, 2), 10, AGREED, 'a'), Kept::New { tell: true });
        let (base, map) = it.word();
        assert_eq!((base, map.first()), (1, Some(1)));
        assert!(!it.is_whole());
        assert_eq!(it.keep((1, 2), 10, AGREED, 'b'), Kept::New { tell: false });
        assert!(it.is_whole());
        assert_eq!(it.into_parts(), (vec!['a', 'b', 'c'], 23));
    }

    #[test]
    fn what_was_not_agreed_is_wrong() {
        let mut it = Reassembly::new(9);
        for (numbers, len) in
            [((0, 9), 9), ((0, 9), 11), ((9, 9), 0), ((9, 9), 11), ((0, 8), 10), ((4, 9), 10)]
        {
            assert_eq!(it.keep(numbers, len, AGREED, ()), Kept::Wrong, "{numbers:?} {len}");
        }
        assert_eq!(it.keep((10, 9), 10, AGREED, ()), Kept::Wrong);
        assert_eq!(it.word(), (0, Map::default()));
    }

    #[test]
    fn what_is_lost_is_missed_once() {
        let mut it = Reassembly::new(9);
        let mut missed = Vec::new();
        for index in [0, 2, 3, 4, 5, 7, 8, 1] {
            it.keep((index, 9), 10, (10, 20), ());
            missed.push(it.misses_more());
        }
        assert_eq!(missed, [false, false, false, true, false, false, false, false]);
    }

    #[test]
    fn memory_is_taken_for_what_came_only() {
        let mut it = Reassembly::new(u16::MAX - 1);
        assert_eq!(it.keep((0, u16::MAX - 1), 10, AGREED, [0u8; 64]), Kept::New { tell: false });
        assert!(it.parts.capacity() < 16);
    }
}
