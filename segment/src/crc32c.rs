//! CRC-32C (Castagnoli), by the CPU's instruction: the checksum of what leaves this host.
//!
//! What is short is summed here, from wherever it lies, eight bytes an instruction. What is long goes to the
//! crate `crc-fast`, which folds many bytes at once by carry-less multiplication, as wide as the CPU has it:
//! before it begins, a short message is done here.
//!
//! # Invariants
//!
//! 1. What needs an instruction of the CPU's is called only where it was detected.

use crc_fast::{CrcAlgorithm, Digest};

/// Longer pieces are folded.
const SHORT: usize = 256;

/// The sum of bytes that follow those whose sum is `sum`; 0 is that of none.
///
/// # Cost
/// With the CPU's instructions, some three cycles each 8 bytes of what is short, and a third of that or less of
/// what is long; without, the tables of the crate.
#[inline]
pub fn append(sum: u32, bytes: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if bytes.len() <= SHORT && is_x86_feature_detected!("sse4.2") {
        // SAFETY: invariant 1.
        return unsafe { sse::append(sum, bytes) };
    }
    fold(sum, bytes)
}

#[inline(never)]
fn fold(sum: u32, bytes: &[u8]) -> u32 {
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!sum));
    digest.update(bytes);
    // Of 32 bits.
    digest.finalize() as u32
}

/// The sum of a header and of what follows it.
///
/// # Cost
/// As [`append`], in one call.
#[inline]
pub fn of(header: &[[u8; 8]; 4], body: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if body.len() <= SHORT && is_x86_feature_detected!("sse4.2") {
        // SAFETY: invariant 1.
        return unsafe { sse::of(header, body) };
    }
    append(append(0, header.as_flattened()), body)
}

#[cfg(target_arch = "x86_64")]
mod sse {
    use std::arch::x86_64::{_mm_crc32_u8, _mm_crc32_u16, _mm_crc32_u32, _mm_crc32_u64};

    #[target_feature(enable = "sse4.2")]
    pub fn append(sum: u32, bytes: &[u8]) -> u32 {
        !add(!sum, bytes)
    }

    #[target_feature(enable = "sse4.2")]
    pub fn of(header: &[[u8; 8]; 4], body: &[u8]) -> u32 {
        let mut sum = u64::from(u32::MAX);
        for word in header {
            sum = _mm_crc32_u64(sum, u64::from_le_bytes(*word));
        }
        !add(sum as u32, body)
    }

    #[target_feature(enable = "sse4.2")]
    #[inline]
    fn add(sum: u32, mut bytes: &[u8]) -> u32 {
        let mut sum = u64::from(sum);
        while let Some((word, rest)) = bytes.split_first_chunk() {
            sum = _mm_crc32_u64(sum, u64::from_le_bytes(*word));
            bytes = rest;
        }
        let mut sum = sum as u32;
        if let Some((half, rest)) = bytes.split_first_chunk() {
            sum = _mm_crc32_u32(sum, u32::from_le_bytes(*half));
            bytes = rest;
        }
        if let Some((quarter, rest)) = bytes.split_first_chunk() {
            sum = _mm_crc32_u16(sum, u16::from_le_bytes(*quarter));
            bytes = rest;
        }
        bytes.first().map_or(sum, |byte| _mm_crc32_u8(sum, *byte))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_sums_of_rfc_3720_are_right() {
        // Appendix B.4.
        let up: Vec<u8> = (0..32).collect();
        let down: Vec<u8> = (0..32).rev().collect();
        let vectors = [
            (&[0; 32][..], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&up, 0x46dd_794e),
            (&down, 0x113f_db5c),
        ];
        for (bytes, sum) in vectors {
            assert_eq!((append(0, bytes), fold(0, bytes)), (sum, sum), "{bytes:?}");
        }
    }

    proptest! {
        /// However the bytes are cut and wherever they lie.
        #[test]
        fn pieces_sum_up_to_the_whole(
            bytes in prop::collection::vec(any::<u8>(), 0..8 * SHORT),
            at in any::<prop::sample::Index>(),
        ) {
            let whole = bytes.chunks(SHORT).fold(0, append);
            let (front, back) = bytes.split_at(at.index(bytes.len() + 1));
            prop_assert_eq!(append(append(0, front), back), whole);
            prop_assert_eq!(fold(fold(0, front), back), whole);
            if let Some((header, body)) = bytes.split_first_chunk::<32>() {
                let (words, _) = header.as_chunks();
                prop_assert_eq!(of(words.try_into().expect("four"), body), whole);
            }
        }
    }
}
