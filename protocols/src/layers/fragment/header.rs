//! The header of a piece.

/// In front of every piece, also of a message that fits into one.
///
/// | bytes | what |
/// |---|---|
/// | 0–3 | the number of the message, counted by the sender |
/// | 4–7 | where in the message the piece begins |
/// | 8–11 | how long the whole message is |
///
/// All in network byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The number of the message.
    pub message: u32,
    /// Where the piece begins.
    pub offset: u32,
    /// How long the message is.
    pub total: u32,
}

/// A header that no sender writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the piece is empty or lies outside its message")]
pub struct Invalid;

const _: () = assert!(Header::LEN == 3 * size_of::<u32>());

impl Header {
    /// How many bytes it has.
    pub const LEN: usize = 12;

    /// As it is sent.
    pub fn encode(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..4].copy_from_slice(&self.message.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.offset.to_be_bytes());
        bytes[8..].copy_from_slice(&self.total.to_be_bytes());
        bytes
    }

    /// From what was received, in front of `len` bytes.
    ///
    /// # Errors
    /// [`Invalid`].
    pub fn decode(bytes: [u8; Self::LEN], len: usize) -> Result<Self, Invalid> {
        let word = |at: usize| {
            u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let header = Self { message: word(0), offset: word(4), total: word(8) };
        let end = u64::from(header.offset) + len as u64;
        let empty = len == 0 && header.total != 0;
        if end > u64::from(header.total) || empty { Err(Invalid) } else { Ok(header) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_one_described() {
        let header = Header { message: 0x0102_0304, offset: 1500, total: 3000 };
        let bytes = [1, 2, 3, 4, 0, 0, 0x05, 0xdc, 0, 0, 0x0b, 0xb8];
        assert_eq!(header.encode(), bytes);
        assert_eq!(Header::decode(bytes, 1500), Ok(header));
    }

    #[test]
    fn a_piece_outside_its_message_is_refused() {
        let header = Header { message: 0, offset: u32::MAX, total: u32::MAX };
        assert_eq!(Header::decode(header.encode(), 1), Err(Invalid));
        assert_eq!(Header::decode(header.encode(), 0), Err(Invalid));
        let empty = Header { message: 0, offset: 0, total: 0 };
        assert_eq!(Header::decode(empty.encode(), 0), Ok(empty));
        assert_eq!(Header::decode(empty.encode(), 1), Err(Invalid));
    }
}
