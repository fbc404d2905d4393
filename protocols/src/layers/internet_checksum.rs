//! The Internet checksum over a rope (RFC 1071).

use std::net::IpAddr;

use etherparse::checksum::u64_16bit_word::{add_slice, ones_complement};

use crate::Message;

/// The sum so far of bytes that come in pieces of any length.
///
/// The sum does not depend on the order of its 16-bit words, and swapping the bytes of every word
/// swaps those of the sum. So a piece that begins at an odd offset is summed by itself, eight bytes
/// at a time like any other, and its sum is turned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct InternetChecksum {
    sum: u64,
    odd: bool,
}

impl InternetChecksum {
    /// Adds the bytes that follow.
    ///
    /// # Cost
    /// Reads each byte once, eight at a time.
    #[inline]
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let piece = !ones_complement(add_slice(0, bytes));
        // A number of folded sums that overflows 64 bits would take 2^48 pieces.
        self.sum += u64::from(if self.odd { piece.swap_bytes() } else { piece });
        self.odd ^= bytes.len() % 2 == 1;
    }

    /// Adds all of a message. `None` if its bytes cannot be read.
    pub(super) fn add_message(mut self, message: &Message) -> Option<Self> {
        message.for_each_chunk(|chunk| self.add(chunk)).ok()?;
        Some(self)
    }

    /// Begins with the pseudo-header of what is carried from one address to another (RFC 768,
    /// RFC 8200, section 8.1). The addresses are of the same family, else nothing can be right.
    pub(super) fn of_pseudo_header(from: IpAddr, to: IpAddr, protocol: u8, len: usize) -> Self {
        let mut sum = Self::default();
        for address in [from, to] {
            match address {
                IpAddr::V4(address) => sum.add(&address.octets()),
                IpAddr::V6(address) => sum.add(&address.octets()),
            }
        }
        // Both families add the same words: a length of more than 16 bits is version 6 only.
        sum.add(&(len as u32).to_be_bytes());
        sum.add(&[0, protocol]);
        sum
    }

    /// What belongs into the checksum's field, which was zero while it was summed. Of bytes that
    /// hold their right checksum, it is zero.
    #[inline]
    pub(super) fn finish(self) -> u16 {
        u16::from_be_bytes(ones_complement(self.sum).to_ne_bytes())
    }

    /// The same for UDP, where a field of zero says that there is none (RFC 768).
    #[inline]
    pub(super) fn finish_udp(self) -> u16 {
        match self.finish() {
            0 => 0xffff,
            sum => sum,
        }
    }
}

/// The checksum of a header.
#[inline]
pub(super) fn of(bytes: &[u8]) -> u16 {
    let mut sum = InternetChecksum::default();
    sum.add(bytes);
    sum.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As RFC 1071, section 4.1, writes it down.
    fn plainly(bytes: &[u8]) -> u16 {
        let mut sum = 0_u32;
        for word in bytes.chunks(2) {
            sum += u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0));
        }
        while sum > 0xffff {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        !(sum as u16)
    }

    #[test]
    fn the_example_of_rfc_1071() {
        assert_eq!(of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    #[test]
    fn the_header_of_a_real_datagram() {
        // An echo request as Linux sent it.
        let header = [
            0x45, 0x00, 0x00, 0x54, 0xaa, 0x73, 0x40, 0x00, 0x40, 0x01, 0x0c, 0x32, 0xc0, 0x00,
            0x02, 0x01, 0xc0, 0x00, 0x02, 0x02,
        ];
        assert_eq!(of(&header), 0);
    }

    proptest! {
        #[test]
        fn pieces_of_any_length_sum_up_to_the_whole(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20),
        ) {
            let mut sum = InternetChecksum::default();
            pieces.iter().for_each(|piece| sum.add(piece));
            prop_assert_eq!(sum.finish(), plainly(&pieces.concat()));
        }

        #[test]
        fn bytes_with_their_checksum_sum_up_to_nothing(
            mut bytes in prop::collection::vec(any::<u8>(), 2..100),
        ) {
            bytes[..2].fill(0);
            let sum = of(&bytes);
            bytes[..2].copy_from_slice(&sum.to_be_bytes());
            prop_assert_eq!(of(&bytes), 0);
        }
    }
}
