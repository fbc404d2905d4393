//! What the suite's packets say: who they are, and a pattern that shows a wrong byte.

/// A check, the length and the number stand first in payloads that have room for them.
pub(super) const STAMP: usize = 16;

/// What shows a wrong length or number: a bit of them changes about half of its bits.
#[inline(always)]
fn check(number: u64, len: usize) -> [u8; 4] {
    let word = (number ^ (len as u64) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ word >> 32).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((word >> 32) as u32).to_be_bytes()
}

/// The byte at a place behind the stamp, and in payloads that have none.
#[inline(always)]
fn pattern(number: u64, at: usize) -> u8 {
    let mixed = (number as u8).wrapping_mul(31) ^ (number >> 8) as u8;
    mixed.wrapping_add((at as u8).wrapping_mul(7)).wrapping_add((at >> 8) as u8)
}

/// The byte of a payload of `len` bytes at a place.
#[inline(always)]
fn byte(number: u64, len: usize, at: usize) -> u8 {
    match at {
        _ if len < STAMP => pattern(len as u64, at),
        0..4 => check(number, len)[at],
        4..8 => (len as u32).to_be_bytes()[at - 4],
        8..16 => number.to_be_bytes()[at - 8],
        _ => pattern(number, at),
    }
}

/// Writes a part of payload `number` of `len` bytes in all, from its byte `from` on.
pub(super) fn write(number: u64, len: usize, from: usize, part: &mut [u8]) {
    part.iter_mut().enumerate().for_each(|(at, to)| *to = byte(number, len, from + at));
}

/// What a payload that arrived is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The one of this number, with every byte right.
    Whole(u64),
    /// One of so few bytes that it has no number, with every byte right.
    Short(usize),
    /// Not as it was sent; what is wrong.
    Damaged(String),
}

/// Reads a payload, behind which there may be padding up to a length of `padded`.
pub(super) fn read(bytes: &[u8], short: Option<usize>, padded: usize) -> Found {
    let length = |len: usize| bytes.len() == len || (len < bytes.len() && bytes.len() <= padded);
    if let Some(len) = short {
        return match (length(len), wrong(0, len, bytes)) {
            (false, _) => Found::Damaged(format!(
                "a payload of {len} bytes was sent, and one of {} arrived",
                bytes.len()
            )),
            (true, Some(what)) => Found::Damaged(what),
            (true, None) => Found::Short(len),
        };
    }
    let nobodys =
        || Found::Damaged(format!("a payload of {} bytes arrived that nobody sent", bytes.len()));
    let (Some(said), Some(len), Some(number)) =
        (part::<4>(bytes, 0), part::<4>(bytes, 4), part::<8>(bytes, 8))
    else {
        return nobodys();
    };
    let (len, number) = (u32::from_be_bytes(len) as usize, u64::from_be_bytes(number));
    if said != check(number, len) {
        return nobodys();
    }
    if !length(len) {
        let got = bytes.len();
        return Found::Damaged(format!(
            "packet {number} was sent with {len} bytes of payload, and arrived with {got}"
        ));
    }
    wrong(number, len, bytes).map_or(Found::Whole(number), Found::Damaged)
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn wrong(number: u64, len: usize, bytes: &[u8]) -> Option<String> {
    let mut places = bytes.iter().take(len).enumerate();
    let (at, found) = places.find(|(at, found)| **found != byte(number, len, *at))?;
    let sent = byte(number, len, at);
    Some(format!(
        "byte {at} of packet {number} ({len} bytes) was sent as {sent:#04x} and is {found:#04x}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_reads_as_it_was_written_and_no_bit_flips_unseen() {
        for len in [STAMP, 60, 300] {
            let mut bytes = vec![0; len];
            write(77, len, 0, &mut bytes);
            assert_eq!(read(&bytes, None, 0), Found::Whole(77));
            for bit in 0..len * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(matches!(read(&bytes, None, 0), Found::Damaged(_)), "bit {bit}");
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }
}
