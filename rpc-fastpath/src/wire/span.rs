//! A span of time in 16 bits: five of exponent, eleven of fraction, in nanoseconds.
//!
//! From 0 to 2,047 ns it is exact; above, it is right to one part in 2,048, up to 73 minutes. It is rounded
//! down, so that a deadline which travels only comes nearer, and a longer span becomes the longest.

/// The longest span that can be said, in nanoseconds.
pub const LONGEST: u64 = 4095 << 30;
const FRACTION: u32 = 11;

/// The largest span of 16 bits that is not longer.
#[inline(always)]
pub fn encode(nanoseconds: u64) -> u16 {
    let span = nanoseconds.min(LONGEST);
    let bits = 64 - span.leading_zeros();
    let shift = bits.saturating_sub(FRACTION + 1);
    // With an exponent, the fraction's leading one falls on the exponent's lowest bit and counts there.
    ((shift << FRACTION) + (span >> shift) as u32) as u16
}

/// The span in nanoseconds.
#[inline(always)]
pub fn decode(span: u16) -> u64 {
    let exponent = u32::from(span) >> FRACTION;
    let fraction = u64::from(span) & ((1 << FRACTION) - 1);
    match exponent {
        0 => fraction,
        exponent => (fraction | 1 << FRACTION) << (exponent - 1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_spans_are_exact_and_long_ones_saturate() {
        for exact in [0, 1, 2047, 2048, 4095, 4096, 4098] {
            assert_eq!(decode(encode(exact)), exact);
        }
        assert_eq!(encode(u64::MAX), u16::MAX);
        assert_eq!(decode(u16::MAX), LONGEST);
    }

    #[test]
    fn every_code_is_the_code_of_its_span() {
        assert!((0..=u16::MAX).all(|code| encode(decode(code)) == code));
    }

    proptest! {
        #[test]
        fn a_span_is_rounded_down_by_less_than_one_part_in_2048(span in 0..LONGEST) {
            let said = decode(encode(span));
            prop_assert!(said <= span && span - said <= span / 2048);
        }
    }
}
