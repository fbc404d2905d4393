//! What the messages say, and who has come already.

/// Numbers that a seed determines: SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(word ^ (word >> 31)) * u128::from(bound)) >> 64) as u64
    }
}

/// The shortest message.
pub const SHORTEST: usize = 16;

/// Writes the message of a number in a stream; its length is the buffer's.
pub fn write(bytes: &mut [u8], stream: u64, number: u64) {
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[8..16].copy_from_slice(&stream.to_le_bytes());
    let first = (number.wrapping_mul(31) ^ stream) as u8;
    for (place, byte) in bytes[16..].iter_mut().enumerate() {
        *byte = first.wrapping_add(place as u8);
    }
}

/// Which numbers of a stream came.
#[derive(Default)]
pub struct Seen {
    stream: Option<u64>,
    came: Vec<u64>,
}

impl Seen {
    /// Checks a message, which must be whole, of one stream, and new.
    pub fn check(&mut self, bytes: &[u8]) {
        assert!(bytes.len() >= SHORTEST, "a message of {} bytes was never sent", bytes.len());
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let (number, stream) = (word(0), word(8));
        assert_eq!(*self.stream.get_or_insert(stream), stream, "a message of another channel's");
        let first = (number.wrapping_mul(31) ^ stream) as u8;
        let rest = bytes[16..].iter().enumerate();
        let is_right = rest
            .fold(true, |right, (place, byte)| right & (*byte == first.wrapping_add(place as u8)));
        assert!(is_right, "message {number} of {} bytes came changed", bytes.len());
        assert!(number < 1 << 32, "message {number} was never sent");
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if self.came.len() <= word {
            self.came.resize(word + 1, 0);
        }
        assert_eq!(self.came[word] & bit, 0, "message {number} came twice");
        self.came[word] |= bit;
    }
}
