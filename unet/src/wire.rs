//! The format of U-Net messages in UDP datagrams, version 1: a header of 32 bytes, then the body.
//!
//! The book's chapter on the wire format has the table, the rules and the test vectors; the tests here
//! compare them with this code. Every number is little-endian. Nothing here trusts what it reads: a datagram
//! is a header that passes every check, and a body of exactly the length that it names, or an error.
//!
//! After von Eicken et al., *U-Net* (SOSP 1995), section 3.2 (the tag that names the channel); the
//! incarnation after the literature on remote calls (a restarted peer is another peer).

use segment::crc32c;
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, transmute};

/// The first byte of every message: `U`.
pub const MAGIC: u8 = 0x55;
/// The version of the format.
pub const VERSION: u8 = 1;
/// Bytes of the header.
pub const HEADER_BYTES: usize = size_of::<Header>();
/// The channel of a [`Kind::Hello`], which has none yet.
pub const NO_CHANNEL: u32 = u32::MAX;
/// Where the checksum stands: the last bytes of the header.
const CHECKSUM_AT: std::ops::Range<usize> = 28..32;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A message of the application's.
    Data = 1,
    /// Asks to be connected.
    Hello = 2,
    /// Answers a hello: accepted.
    Welcome = 3,
    /// Answers a hello: not accepted.
    Refusal = 4,
    /// The sender closed its channel.
    Bye = 5,
    /// Asks whether the receiver still has the channel.
    Probe = 6,
    /// Answers a probe.
    Alive = 7,
    /// Answers what was for a channel that the sender does not have, or not in that incarnation.
    Stale = 8,
}

impl Kind {
    const ALL: [Kind; 8] = [
        Kind::Data,
        Kind::Hello,
        Kind::Welcome,
        Kind::Refusal,
        Kind::Bye,
        Kind::Probe,
        Kind::Alive,
        Kind::Stale,
    ];

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// What protects the bytes of a message on their way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Checksum {
    /// Nothing here: what the link and UDP check is enough. Not every device has UDP check anything:
    /// `xdp:` sends no checksum of UDP's over IPv4.
    None = 0,
    /// CRC-32C of header and body, from end to end.
    #[default]
    Crc32c = 1,
}

/// The header as it stands in the datagram.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    magic: u8,
    version_kind: u8,
    tag: U16,
    channel: U32,
    incarnation: U64,
    sequence: U64,
    length: U16,
    inline: u8,
    policy: u8,
    checksum: U32,
}

const _: () = assert!(HEADER_BYTES == 32);

/// What a header says, once it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    /// What the message is.
    pub kind: Kind,
    /// The number of the layer above.
    pub tag: u16,
    /// The receiver's number of the channel.
    pub channel: u32,
    /// The receiver's incarnation of the channel; of a hello, the sender's.
    pub incarnation: u64,
    /// Counts the messages of the channel in this direction, from 1; of a farewell, a probe and its answer,
    /// how many there were so far; else 0.
    pub sequence: u64,
    /// How many of the body's first bytes are those that were sent beside a buffer.
    pub inline: u8,
    /// What protects it.
    pub checksum: Checksum,
}

/// Why a datagram is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Shorter than a header.
    #[error("the datagram is shorter than a header")]
    Short,
    /// It does not begin with the magic byte.
    #[error("the datagram is not one of ours")]
    Magic,
    /// Another version.
    #[error("the message is of version {0}")]
    Version(u8),
    /// An unknown kind.
    #[error("the message is of an unknown kind")]
    Kind,
    /// The body has another length than the header says.
    #[error("the message has another length than its header says")]
    Length,
    /// More inline bytes than body, or than a slot takes.
    #[error("the message has more inline bytes than body")]
    Inline,
    /// An unknown policy, or an authentication tag, of which this version knows none.
    #[error("the message is protected in a way that this version does not know")]
    Policy,
    /// The checksum is wrong.
    #[error("the message's checksum is wrong")]
    Checksum,
}

impl Fields {
    /// The header of a body of so many bytes, its checksum still zero. A body has at most 65,535.
    #[inline(always)]
    pub fn to_header(&self, length: usize) -> Header {
        Header {
            magic: MAGIC,
            version_kind: VERSION << 4 | self.kind as u8,
            tag: self.tag.into(),
            channel: self.channel.into(),
            incarnation: self.incarnation.into(),
            sequence: self.sequence.into(),
            length: (length as u16).into(),
            inline: self.inline,
            policy: self.checksum as u8,
            checksum: 0.into(),
        }
    }
}

impl Header {
    /// Makes the header of the next message of the same kind and channel: what the template of a channel
    /// has patched for each.
    #[inline(always)]
    pub fn patched(&self, sequence: u64, tag: u16, length: usize, inline: usize) -> Self {
        // By words, as they are copied into the buffer: what is written in small pieces and read in large
        // ones waits for the cache.
        let [first, incarnation, _, last]: [U64; 4] = transmute!(*self);
        let first = first.get() & !(0xffff << 16) | u64::from(tag) << 16;
        let last =
            last.get() & !0xff_ffff | (length as u64 & 0xffff) | (inline as u64 & 0xff) << 16;
        transmute!([first.into(), incarnation, U64::new(sequence), U64::new(last)])
    }
}

/// Whether a message that was made here is one of the application's.
pub(crate) fn is_data(message: &[u8]) -> bool {
    message.get(1).is_some_and(|byte| byte & 15 == Kind::Data as u8)
}

/// Writes a message into a buffer that is as long: the header, with its checksum as its policy asks, and the
/// body, which is in two pieces.
///
/// # Panics
/// If the buffer has another length.
///
/// # Cost
/// As [`seal`], and a copy.
#[inline(always)]
pub fn write(header: Header, body: [&[u8]; 2], to: &mut [u8]) {
    let (head, rest) = to.split_at_mut(HEADER_BYTES);
    let (first, second) = rest.split_at_mut(body[0].len());
    first.copy_from_slice(body[0]);
    second.copy_from_slice(body[1]);
    let mut words = unsealed(header);
    if header.policy == Checksum::Crc32c as u8 {
        // From where the body was, not from where it has just been written to.
        let [front, back] = if body[0].is_empty() { [body[1], &[]] } else { body };
        let mut sum = crc32c::of(&words, front);
        if !back.is_empty() {
            sum = crc32c::append(sum, back);
        }
        words[3] = (u64::from_le_bytes(words[3]) | u64::from(sum) << 32).to_le_bytes();
    }
    // By words, from where they are.
    for (place, word) in head.as_chunks_mut().0.iter_mut().zip(words) {
        *place = word;
    }
}

/// Computes the checksum of a message that lies in one piece, header first, and writes it, as the header's
/// policy asks.
///
/// # Cost
/// With CRC-32C, an instruction each 8 bytes.
#[inline(always)]
pub fn seal(message: &mut [u8]) {
    seal_pieces(message, std::iter::empty());
}

/// As [`seal`], where the body goes on in further pieces.
#[inline(always)]
pub fn seal_pieces<'a>(first: &mut [u8], rest: impl Iterator<Item = &'a [u8]>) {
    if first.len() >= HEADER_BYTES && first[27] & 3 == Checksum::Crc32c as u8 {
        let sum = rest.fold(crc32c::append(0, first), crc32c::append);
        first[CHECKSUM_AT].copy_from_slice(&sum.to_le_bytes());
    }
}

/// A header without its checksum. By words, as it was read: see [`Header::patched`].
#[inline(always)]
fn unsealed(header: Header) -> [[u8; 8]; HEADER_BYTES / 8] {
    let mut words: [[u8; 8]; HEADER_BYTES / 8] = transmute!(header);
    words[3] = (u64::from_le_bytes(words[3]) & 0xffff_ffff).to_le_bytes();
    words
}

/// Checks a message that lies in one piece, and takes its header off: what it says, where its body lies.
///
/// # Errors
/// [`WireError`] names the first check that failed.
///
/// # Cost
/// As [`seal`].
#[inline(always)]
pub fn open(message: &[u8]) -> Result<(Fields, std::ops::Range<usize>), WireError> {
    let len = message.len();
    let fields = open_pieces(message, len, std::iter::empty())?;
    Ok((fields, HEADER_BYTES..len))
}

/// As [`open`], where the body goes on in further pieces, `len` bytes in all.
///
/// # Errors
/// As [`open`].
///
/// # Cost
/// As [`open`].
#[inline(always)]
pub fn open_pieces<'a>(
    first: &[u8],
    len: usize,
    rest: impl Iterator<Item = &'a [u8]>,
) -> Result<Fields, WireError> {
    let Ok((header, _)) = Header::read_from_prefix(first) else { return Err(WireError::Short) };
    if header.magic != MAGIC {
        return Err(WireError::Magic);
    }
    if header.version_kind >> 4 != VERSION {
        return Err(WireError::Version(header.version_kind >> 4));
    }
    let Some(kind) = Kind::from_number(header.version_kind & 15) else {
        return Err(WireError::Kind);
    };
    let length = usize::from(header.length.get());
    if HEADER_BYTES + length != len {
        return Err(WireError::Length);
    }
    if usize::from(header.inline) > length.min(crate::MAX_INLINE) {
        return Err(WireError::Inline);
    }
    let checksum = match header.policy {
        0 => Checksum::None,
        1 => Checksum::Crc32c,
        _ => return Err(WireError::Policy),
    };
    // One that has a checksum has lost the bit that says so.
    if checksum == Checksum::None && header.checksum.get() != 0 {
        return Err(WireError::Checksum);
    }
    if checksum == Checksum::Crc32c {
        let sum = crc32c::of(&unsealed(header), &first[HEADER_BYTES..]);
        let sum = rest.fold(sum, crc32c::append);
        if sum != header.checksum.get() {
            return Err(WireError::Checksum);
        }
    }
    Ok(Fields {
        kind,
        tag: header.tag.get(),
        channel: header.channel.get(),
        incarnation: header.incarnation.get(),
        sequence: header.sequence.get(),
        inline: header.inline,
        checksum,
    })
}

#[cfg(test)]
mod tests;
