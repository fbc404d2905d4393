//! The receiver's side of a message of several fragments: handles, put into order.
//!
//! What arrives is kept until the whole is there; what came in a row may become one piece. What a sender can make
//! this side keep is bounded by the size that was agreed, and memory is taken only for what came.

use super::map::Map;
use super::transfer::REORDERED;

/// So many fragments may come before their sender is told, if it does not ask.
const WORD_AFTER: u32 = 16;

/// What a machine is given to keep for a fragment's bytes, or for those of several in a row.
///
/// By default each is kept as it came.
pub trait Fragment: Sized {
    /// Takes in the fragment that follows, or gives it back.
    fn join(&mut self, next: Self) -> Option<Self> {
        Some(next)
    }

    /// Lets go of what it does not need while it waits: nothing was joined to it yet, or nothing will be.
    fn settle(&mut self) {}
}

/// A number, or anything else that stands for bytes that are elsewhere.
impl<T: Copy> Fragment for T {}

/// A message of which some fragments came.
#[derive(Debug)]
pub(super) struct Reassembly<D> {
    /// By the number of its first fragment.
    parts: Vec<Option<D>>,
    /// The piece that was added to last, and the fragment that follows it.
    open: (u32, u32),
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
            open: (0, 0),
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
}

impl<D: Fragment> Reassembly<D> {
    /// The message, in order, and its length.
    pub fn into_parts(mut self) -> (Vec<D>, usize) {
        if let Some(open) = self.parts.get_mut(self.open.0 as usize).and_then(Option::as_mut) {
            open.settle();
        }
        (self.parts.into_iter().flatten().collect(), self.bytes)
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
        self.put(index, part);
        self.bytes += len;
        self.above.insert(index - self.base);
        let run = self.above.run();
        self.base += run;
        self.above = self.above.advanced(run);
        self.unsaid += 1;
        Kept::New { tell: !self.above.is_empty() || self.unsaid >= WORD_AFTER }
    }

    fn put(&mut self, index: u32, mut part: D) {
        let (piece, follows) = self.open;
        if let Some(open) = self.parts.get_mut(piece as usize).and_then(Option::as_mut) {
            if index == follows {
                match open.join(part) {
                    None => return self.open.1 += 1,
                    Some(back) => part = back,
                }
            }
            open.settle();
        }
        part.settle();
        if self.parts.len() <= index as usize {
            self.parts.resize_with(index as usize + 1, || None);
        }
        self.parts[index as usize] = Some(part);
        self.open = (index, index + 1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AGREED: (usize, u16) = (10, 4);

    /// Numbers in a row, and how often it was told to settle.
    #[derive(Debug, PartialEq, Eq)]
    struct Run(Vec<u16>, u32);

    impl Fragment for Run {
        fn join(&mut self, next: Self) -> Option<Self> {
            if self.0.len() == 4 {
                return Some(next);
            }
            self.0.extend(next.0);
            None
        }

        fn settle(&mut self) {
            self.1 += 1;
        }
    }

    proptest! {
        #[test]
        fn pieces_are_joined_in_order_however_they_come(
            order in Just((0..40).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let mut it = Reassembly::new(39);
            for index in order {
                let kept = it.keep((index, 39), 10, (10, 64), Run(vec![index], 0));
                prop_assert_ne!(kept, Kept::Wrong);
            }
            let (parts, bytes) = it.into_parts();
            let numbers: Vec<_> = parts.into_iter().flat_map(|run| run.0).collect();
            prop_assert_eq!((numbers, bytes), ((0..40).collect(), 400));
        }
    }

    #[test]
    fn what_came_in_a_row_is_one_piece_and_settles_before_and_after() {
        let mut it = Reassembly::new(9);
        for index in [0, 1, 3, 4, 2, 5, 6, 7, 8, 9] {
            it.keep((index, 9), 10, (10, 64), Run(vec![index], 0));
        }
        let parts =
            [Run(vec![0, 1], 2), Run(vec![2], 2), Run(vec![3, 4], 2), Run(vec![5, 6, 7, 8], 2)];
        let last = Run(vec![9], 2);
        assert_eq!(it.into_parts().0, parts.into_iter().chain([last]).collect::<Vec<_>>());
    }

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
