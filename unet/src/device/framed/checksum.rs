//! The internet's checksum (RFC 1071), and its update by parts (RFC 1624).

/// A sum of 16-bit words in ones' complement, not folded yet.
///
/// The words are added as they lie in memory: the sum of swapped words is the swapped sum (RFC 1071, 2B),
/// so only what a program computes itself, such as a length, must be swapped. Sums add up, which is what
/// RFC 1624 comes to where the constant part of a header is kept: a length is added to the sum of a
/// header that was summed with zero in its place.
///
/// Up to four gigabytes fit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

const LOW: u64 = 0xffff_ffff;

impl Sum {
    /// The sum of bytes that begin at an even place of what is summed.
    ///
    /// # Cost
    /// Two instructions for eight bytes.
    #[inline(always)]
    pub fn of(bytes: &[u8]) -> Self {
        let (blocks, rest) = bytes.as_chunks::<32>();
        let (mut even, mut odd) = (0u128, 0u128);
        for block in blocks {
            let (words, _) = block.as_chunks::<8>();
            even += u128::from(u64::from_ne_bytes(words[0]));
            odd += u128::from(u64::from_ne_bytes(words[1]));
            even += u128::from(u64::from_ne_bytes(words[2]));
            odd += u128::from(u64::from_ne_bytes(words[3]));
        }
        let (words, rest) = rest.as_chunks::<8>();
        let mut sum = even + odd;
        for word in words {
            sum += u128::from(u64::from_ne_bytes(*word));
        }
        if !rest.is_empty() {
            sum += u128::from(last_word(rest));
        }
        let low = sum as u64;
        Self((low & LOW) + (low >> 32) + (sum >> 64) as u64)
    }

    /// With a 16-bit number, as it would stand on the wire.
    #[inline(always)]
    #[must_use]
    pub fn number(self, number: u16) -> Self {
        Self(self.0 + u64::from(number.to_be()))
    }

    /// With another sum, of bytes that begin at an even place.
    #[inline(always)]
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// As it is if the bytes begin at an odd place.
    #[inline(always)]
    #[must_use]
    pub fn at(self, place: usize) -> Self {
        if place.is_multiple_of(2) { self } else { Self(u64::from(self.fold().swap_bytes())) }
    }

    /// Folded to 16 bits, in the order of memory: not complemented.
    #[inline(always)]
    pub fn fold(self) -> u16 {
        // What is carried out comes in again at the other end.
        let (sum, carry) = ((self.0 >> 32) as u32).overflowing_add(self.0 as u32);
        let sum = sum + u32::from(carry);
        let (sum, carry) = ((sum >> 16) as u16).overflowing_add(sum as u16);
        sum + u16::from(carry)
    }

    /// The checksum, as it stands on the wire.
    #[inline(always)]
    pub fn checksum(self) -> [u8; 2] {
        (!self.fold()).to_ne_bytes()
    }

    /// Whether bytes that contain their checksum were summed, and it is right.
    #[inline(always)]
    pub fn is_right(self) -> bool {
        self.fold() == 0xffff
    }
}

/// Fewer than eight bytes, and zeros behind them.
#[inline(always)]
fn last_word(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut word = 0;
    let mut shift = 0;
    if let [first, ..] = words {
        word = u64::from(u32::from_le_bytes(*first));
        shift = 32;
    }
    for byte in rest {
        word |= u64::from(*byte) << shift;
        shift += 8;
    }
    word.to_le()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Word by word, as RFC 1071 says it.
    fn plain(bytes: &[u8]) -> u16 {
        let words = bytes.chunks(2).map(|word| [word[0], word.get(1).copied().unwrap_or(0)]);
        let mut sum: u64 = words.map(|word| u64::from(u16::from_be_bytes(word))).sum();
        while sum > 0xffff {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        sum as u16
    }

    #[test]
    fn the_example_of_rfc_1071_has_its_sum() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::of(&bytes).fold().to_ne_bytes(), [0xdd, 0xf2]);
    }

    #[test]
    fn the_largest_sum_folds_without_loss() {
        assert_eq!(Sum(u64::MAX).fold(), 0xffff);
        assert_eq!(
            Sum::of(&[0xff; 65_535]).fold().to_ne_bytes(),
            plain(&[0xff; 65_535]).to_be_bytes()
        );
    }

    proptest! {
        #[test]
        fn wide_adds_give_the_sum_of_words(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Sum::of(&bytes).fold().to_ne_bytes(), plain(&bytes).to_be_bytes());
        }

        #[test]
        fn pieces_sum_to_the_whole(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            cut in any::<prop::sample::Index>(),
        ) {
            let (front, back) = bytes.split_at(cut.index(bytes.len() + 1));
            let sum = Sum::of(front).and(Sum::of(back).at(front.len()));
            prop_assert_eq!(sum.fold(), Sum::of(&bytes).fold());
        }

        #[test]
        fn a_length_added_later_is_a_length_summed(
            mut bytes in prop::collection::vec(any::<u8>(), 4..60),
            length in any::<u16>(),
        ) {
            bytes[2..4].fill(0);
            let updated = Sum::of(&bytes).number(length).checksum();
            bytes[2..4].copy_from_slice(&length.to_be_bytes());
            prop_assert_eq!(updated, Sum::of(&bytes).checksum());
        }

        #[test]
        fn another_length_is_equation_3_of_rfc_1624(
            mut bytes in prop::collection::vec(any::<u8>(), 4..60),
            length in any::<u16>(),
        ) {
            // A header is never all zeros, whose sum has no other form.
            bytes[0] = 0x45;
            let old = u16::from_be_bytes([bytes[2], bytes[3]]);
            let before = u16::from_be_bytes(Sum::of(&bytes).checksum());
            // HC' = ~(~HC + ~m + m')
            let after = Sum::default().number(!before).number(!old).number(length).checksum();
            bytes[2..4].copy_from_slice(&length.to_be_bytes());
            prop_assert_eq!(after, Sum::of(&bytes).checksum());
        }
    }
}
