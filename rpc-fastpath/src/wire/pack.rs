//! Several packets in one message of the channel, which its tag says: before each stands its length.

use super::{HEADER_BYTES, WireError};

/// Bytes before a packet.
pub const LENGTH_BYTES: usize = 2;
/// The longest pack, in bytes: what one message brings about has a bound.
pub const LONGEST: usize = 4096;

/// The packets of a pack, in order. The first that is none is the last.
#[inline]
pub fn packets(bytes: &[u8]) -> impl Iterator<Item = Result<&[u8], WireError>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let packet = take(&mut rest);
        if packet.is_none() {
            rest = &[];
        }
        Some(packet.ok_or(WireError::Short))
    })
}

#[inline(always)]
fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<LENGTH_BYTES>()?;
    let (packet, after) = after.split_at_checked(u16::from_le_bytes(*length).into())?;
    *rest = after;
    (packet.len() >= HEADER_BYTES).then_some(packet)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(
            all in prop::collection::vec(prop::collection::vec(any::<u8>(), 16..80), 0..9),
        ) {
            let mut bytes = Vec::new();
            for packet in &all {
                bytes.extend((packet.len() as u16).to_le_bytes());
                bytes.extend(packet);
            }
            let found: Result<Vec<_>, _> = packets(&bytes).collect();
            prop_assert_eq!(found.expect("a pack"), all);
        }

        #[test]
        fn whatever_comes_ends_and_lies_within(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let found: Vec<_> = packets(&bytes).collect();
            let taken = found.iter().flatten().map(|packet| packet.len() + LENGTH_BYTES).sum::<usize>();
            prop_assert!(taken <= bytes.len() && found.len() <= bytes.len() / 18 + 1);
            let is_whole = found.iter().all(Result::is_ok);
            prop_assert_eq!(is_whole, taken == bytes.len());
        }
    }
}
