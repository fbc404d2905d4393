//! Two numbers in one word.

/// Two numbers that are kept, copied and passed on as one word. A token that moves is copied in words: two
/// halves that were just written one by one would have to reach the cache before they can be read as one,
/// some fifteen cycles for each move.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pair(u64);

impl Pair {
    /// Puts two numbers together.
    #[inline(always)]
    pub const fn new(first: u32, second: u32) -> Self {
        Self(first as u64 | (second as u64) << 32)
    }

    /// The first one.
    #[inline(always)]
    pub const fn first(self) -> u32 {
        self.0 as u32
    }

    /// The second one.
    #[inline(always)]
    pub const fn second(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (self.first(), self.second()).fmt(f)
    }
}
