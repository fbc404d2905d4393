//! The messages of the control socket: what they say, and how they are checked.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// The version of these messages.
pub const VERSION: u16 = 1;
/// How many bytes of its own the layer above may put into a frame.
pub const MAX_PRIVATE: usize = 128;

const MAGIC: u32 = u32::from_le_bytes(*b"UNET");

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// Client to server, with its segment: may I? The value is the client's incarnation.
    Hello = 1,
    /// Server to client, with its segment: you may. The value is the server's incarnation.
    Welcome = 2,
    /// Server to client: you may not. The value is the reason.
    Refusal = 3,
    /// You asked to be woken. The value is the epoch of that sleep.
    Doorbell = 4,
}

/// One control message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it says.
    pub kind: Kind,
    /// A number, by kind.
    pub value: u64,
    /// Properties of the sender, by kind.
    pub flags: u32,
    private: [u8; MAX_PRIVATE],
    private_len: u8,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Wire {
    magic: u32,
    kind: u16,
    version: u16,
    value: u64,
    flags: u32,
    private_len: u32,
    private: [u8; MAX_PRIVATE],
}

const HEAD: usize = size_of::<Wire>() - MAX_PRIVATE;
const _: () = assert!(size_of::<Wire>() == 152 && HEAD == 24);

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Not one of ours, or cut short.
    Malformed,
    /// One of another version.
    Version(u16),
}

impl Frame {
    /// A frame. Private bytes beyond [`MAX_PRIVATE`] make it `None`.
    pub fn new(kind: Kind, value: u64, flags: u32, private: &[u8]) -> Option<Self> {
        let mut bytes = [0; MAX_PRIVATE];
        bytes.get_mut(..private.len())?.copy_from_slice(private);
        Some(Self { kind, value, flags, private: bytes, private_len: private.len() as u8 })
    }

    /// A frame without private bytes.
    pub fn bare(kind: Kind, value: u64) -> Self {
        Self { kind, value, flags: 0, private: [0; MAX_PRIVATE], private_len: 0 }
    }

    /// The bytes of the layer above.
    pub fn private(&self) -> &[u8] {
        &self.private[..self.private_len as usize]
    }

    /// Decodes a received message.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut wire = Wire::new_zeroed();
        if bytes.len() < HEAD || bytes.len() > size_of::<Wire>() {
            return Err(DecodeError::Malformed);
        }
        wire.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
        if wire.magic != MAGIC {
            return Err(DecodeError::Malformed);
        }
        if wire.version != VERSION {
            return Err(DecodeError::Version(wire.version));
        }
        let kind = match wire.kind {
            1 => Kind::Hello,
            2 => Kind::Welcome,
            3 => Kind::Refusal,
            4 => Kind::Doorbell,
            _ => return Err(DecodeError::Malformed),
        };
        if wire.private_len as usize != bytes.len() - HEAD {
            return Err(DecodeError::Malformed);
        }
        Ok(Self {
            kind,
            value: wire.value,
            flags: wire.flags,
            private: wire.private,
            private_len: wire.private_len as u8,
        })
    }

    pub(crate) fn encode(&self) -> (Wire, usize) {
        let wire = Wire {
            magic: MAGIC,
            kind: self.kind as u16,
            version: VERSION,
            value: self.value,
            flags: self.flags,
            private_len: u32::from(self.private_len),
            private: self.private,
        };
        (wire, HEAD + self.private_len as usize)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::mem::offset_of;

    use super::*;
    use crate::book::{columns, compare_fields, table};

    #[test]
    fn a_control_message_is_as_its_tables_say() {
        let fields = [
            ("magic", offset_of!(Wire, magic), 4),
            ("kind", offset_of!(Wire, kind), 2),
            ("version", offset_of!(Wire, version), 2),
            ("value", offset_of!(Wire, value), 8),
            ("flags", offset_of!(Wire, flags), 4),
            ("private_len", offset_of!(Wire, private_len), 4),
            ("private", offset_of!(Wire, private), MAX_PRIVATE),
        ];
        compare_fields(&table("A control message", 0), &fields, size_of::<Wire>());
        assert_eq!((MAGIC.to_ne_bytes(), VERSION), (*b"UNET", 1));

        let kinds = columns(&table("A control message", 1), [0, 1]);
        // Every number that is decoded has a row with its name, and no other has.
        let decoded: Vec<[String; 2]> = (0..=u16::MAX)
            .filter_map(|kind| {
                let (mut wire, len) = Frame::bare(Kind::Hello, 0).encode();
                wire.kind = kind;
                let frame = Frame::decode(&wire.as_bytes()[..len]).ok()?;
                Some([kind.to_string(), format!("{:?}", frame.kind)])
            })
            .collect();
        assert_eq!(kinds, decoded);
    }

    #[test]
    fn a_frame_survives_the_way() {
        let frame = Frame::new(Kind::Hello, 7, 3, b"private").expect("it fits");
        let (wire, len) = frame.encode();
        assert_eq!(Frame::decode(&wire.as_bytes()[..len]), Ok(frame));
    }

    #[test]
    fn a_frame_cut_anywhere_is_malformed() {
        let (wire, len) = Frame::new(Kind::Hello, 7, 3, b"private").expect("it fits").encode();
        for cut in 0..len {
            assert_eq!(
                Frame::decode(&wire.as_bytes()[..cut]),
                Err(DecodeError::Malformed),
                "{cut}"
            );
        }
    }
}
