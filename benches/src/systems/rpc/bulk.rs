//! Bytes that show where they were cut or overwritten.

/// The least that there is room in for both numbers.
pub const LEAST: usize = 2 * WORD;
const WORD: usize = size_of::<u64>();

/// The number of the message whose bytes are all compared; of others both ends are, and the length.
pub const FIRST: u64 = 1;

/// Bytes in private memory, the same on both sides, with a number at each end.
pub struct Bulk(Vec<u8>);

impl Bulk {
    /// As many bytes.
    pub fn new(len: usize) -> Self {
        let unit: Vec<u8> = (0..251).collect();
        let mut bytes = unit.repeat(len.div_ceil(unit.len()));
        bytes.truncate(len);
        Self(bytes)
    }

    /// Writes a number at both ends.
    #[inline]
    pub fn numbered(&mut self, number: u64) -> &[u8] {
        let word = number.to_le_bytes();
        if let Some(first) = self.0.first_chunk_mut() {
            *first = word;
        }
        if let Some(last) = self.0.last_chunk_mut() {
            *last = word;
        }
        &self.0
    }

    /// What stands between the numbers.
    pub fn inner(&self) -> &[u8] {
        let inner = WORD..self.0.len().saturating_sub(WORD);
        self.0.get(inner).unwrap_or_default()
    }

    /// The number of bytes that are as those that were sent.
    #[inline]
    pub fn number_of(&self, found: &[u8]) -> Option<u64> {
        let (first, last) = (found.first_chunk::<WORD>()?, found.last_chunk()?);
        let number = u64::from_le_bytes(*first);
        let inner = WORD..found.len().saturating_sub(WORD);
        let is_whole = || found.get(inner).unwrap_or_default() == self.inner();
        let is_right = found.len() == self.0.len() && first == last;
        (is_right && (number != FIRST || is_whole())).then_some(number)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// Writes bytes into one buffer after the other.
pub fn fill(mut bytes: &[u8]) -> impl FnMut(&mut [u8]) + '_ {
    move |to| {
        let (now, later) = bytes.split_at(to.len().min(bytes.len()));
        to[..now.len()].copy_from_slice(now);
        bytes = later;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_those_that_were_sent_have_no_number() {
        let (mut sent, due) = (Bulk::new(1000), Bulk::new(1000));
        for number in [FIRST, 2, u64::MAX] {
            let bytes = sent.numbered(number).to_vec();
            assert_eq!(due.number_of(&bytes), Some(number));
            assert_eq!(due.number_of(&bytes[..999]), None, "cut");
            let mut torn = bytes.clone();
            torn[999] ^= 1;
            assert_eq!(due.number_of(&torn), None, "of two messages");
        }
        let mut first = sent.numbered(FIRST).to_vec();
        first[500] ^= 1;
        assert_eq!(due.number_of(&first), None, "the first is compared whole");
        assert_eq!(due.number_of(&[]), None);
    }

    #[test]
    fn buffers_are_filled_one_after_the_other() {
        let bytes: Vec<u8> = (0..100).collect();
        let mut buffers = [[9; 64]; 2];
        let mut fill = fill(&bytes);
        buffers.iter_mut().for_each(|buffer| fill(buffer));
        assert_eq!(buffers.as_flattened()[..100], bytes);
        assert_eq!(buffers[1][36..], [9; 28]);
    }
}
