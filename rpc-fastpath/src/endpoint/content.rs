//! What is sent, what is received, and how it is read.

use std::ops::Range;

use unet::{FbufMut, MAX_INLINE, Message, Part, ReadError};

use crate::protocol::{Fragment, Payload};
use crate::wire::HEADER_BYTES;

/// The most bytes that travel in a slot beside their header.
const SMALL: usize = MAX_INLINE - HEADER_BYTES;

/// Arguments or a reply, kept until the other side has them. Clones of a message share its buffers.
#[derive(Clone, Debug)]
pub struct Content(pub(super) Kept);

#[derive(Clone, Debug)]
pub(super) enum Kept {
    Small(u8, [u8; SMALL]),
    Bytes(Vec<u8>),
    /// In buffers of the channel that it goes by, or of any other, which is copied then.
    Message(Box<Message>),
}

impl Default for Content {
    fn default() -> Self {
        Self(Kept::Small(0, [0; SMALL]))
    }
}

impl Content {
    /// How many bytes.
    #[inline(always)]
    pub fn len(&self) -> usize {
        match &self.0 {
            Kept::Small(len, _) => usize::from(*len),
            Kept::Bytes(bytes) => bytes.len(),
            Kept::Message(message) => message.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, where they are in one piece of private memory.
    #[inline(always)]
    pub(crate) fn as_slice(&self) -> Option<&[u8]> {
        match &self.0 {
            Kept::Small(len, bytes) => bytes.get(..usize::from(*len)),
            Kept::Bytes(bytes) => Some(bytes),
            Kept::Message(_) => None,
        }
    }

    /// The bytes of a range, where they are in one piece of memory that nobody else can change.
    pub(super) fn slice(&self, range: Range<usize>) -> Option<&[u8]> {
        match &self.0 {
            Kept::Message(message) => message.slice(range),
            _ => self.as_slice()?.get(range),
        }
    }
}

/// A copy: without an allocation up to 40 bytes.
impl From<&[u8]> for Content {
    #[inline(always)]
    fn from(bytes: &[u8]) -> Self {
        if bytes.len() > SMALL {
            return Self(Kept::Bytes(bytes.to_vec()));
        }
        let mut small = [0; SMALL];
        small[..bytes.len()].copy_from_slice(bytes);
        Self(Kept::Small(bytes.len() as u8, small))
    }
}

impl<const N: usize> From<&[u8; N]> for Content {
    #[inline(always)]
    fn from(bytes: &[u8; N]) -> Self {
        bytes.as_slice().into()
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Kept::Bytes(bytes))
    }
}

impl From<Message> for Content {
    fn from(message: Message) -> Self {
        Self(Kept::Message(Box::new(message)))
    }
}

impl From<FbufMut> for Content {
    fn from(fbuf: FbufMut) -> Self {
        Message::from(fbuf).into()
    }
}

/// What is received, in the machines' hands.
#[derive(Debug)]
pub enum Piece {
    /// It stays where it came, and is read at once.
    Here,
    /// A copy.
    Bytes(Vec<u8>),
    /// A buffer of the sender's, or of the device's.
    Part(Part),
}

/// The most bytes of fragments that are put together: few enough to be had from the heap at once.
const JOINED: usize = 64 * 1024;

/// Private bytes are put together, so that a long message is few pieces, and its end takes little time.
impl Fragment for Piece {
    fn join(&mut self, next: Self) -> Option<Self> {
        let (Self::Bytes(bytes), Some(more)) = (self, next.as_slice()) else { return Some(next) };
        if bytes.len() + more.len() > JOINED {
            return Some(next);
        }
        if bytes.capacity() - bytes.len() < more.len() {
            bytes.reserve_exact(JOINED - bytes.len());
        }
        bytes.extend_from_slice(more);
        None
    }

    /// Gives a buffer back to the device, and memory that was meant for more to the heap.
    fn settle(&mut self) {
        match self {
            Self::Part(Part::Own(fbuf)) => *self = Self::Bytes(fbuf.to_vec()),
            Self::Bytes(bytes) => bytes.shrink_to_fit(),
            Self::Here | Self::Part(Part::Peer(_)) => {}
        }
    }
}

/// Bytes that were received, lent: arguments to a handler, or a reply to its caller.
///
/// What came over a network, or in a slot, is private memory. What is longer and came from a process of this
/// host is the sender's to change still, and is read by copies.
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a>(pub(super) View<'a>);

#[derive(Clone, Copy, Debug)]
pub(super) enum View<'a> {
    Slice(&'a [u8]),
    Message(&'a Message),
    Pieces(&'a [Piece]),
}

impl<'a> From<&'a [u8]> for Bytes<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self(View::Slice(bytes))
    }
}

impl<'a> Bytes<'a> {
    /// What an event hands over; what it left where it came is there.
    #[inline(always)]
    pub(super) fn of(payload: &'a Payload<Piece>, here: View<'a>) -> Self {
        match payload {
            Payload::One(Piece::Here) => Self(here),
            payload => Self(View::Pieces(payload.pieces())),
        }
    }

    /// How many.
    pub fn len(&self) -> usize {
        match self.0 {
            View::Slice(bytes) => bytes.len(),
            View::Message(message) => message.len(),
            View::Pieces(pieces) => pieces.iter().map(Piece::len).sum(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes themselves, where they are in one piece of private memory.
    #[inline(always)]
    pub fn as_slice(&self) -> Option<&'a [u8]> {
        match self.0 {
            View::Slice(bytes) => Some(bytes),
            View::Message(message) => match message.parts() {
                [] => Some(&[]),
                [Part::Own(fbuf)] => Some(fbuf),
                _ => None,
            },
            View::Pieces([piece]) => piece.as_slice(),
            View::Pieces(_) => None,
        }
    }

    /// The message that they are, where all of it lies in buffers of the sender's, which keeps them lent until it is
    /// dropped. Nothing is copied.
    pub fn shared(&self) -> Option<Message> {
        let is_lent = |part: &Part| matches!(part, Part::Peer(_));
        match self.0 {
            View::Slice(_) => None,
            View::Message(message) => message.parts().iter().all(is_lent).then(|| message.clone()),
            View::Pieces(pieces) => {
                let mut message = Message::new();
                for piece in pieces {
                    match piece {
                        Piece::Part(part) if is_lent(part) => message.append_part(part.clone()),
                        _ => return None,
                    }
                }
                Some(message)
            }
        }
    }

    /// Fills `to` with the bytes from `offset` on.
    ///
    /// # Errors
    /// [`ReadError`]; `to` is not to be used then.
    ///
    /// # Cost
    /// One copy.
    pub fn copy_to(&self, offset: usize, to: &mut [u8]) -> Result<(), ReadError> {
        let pieces = match self.0 {
            View::Slice(bytes) => return copy(bytes, offset, to),
            View::Message(message) => return message.peek(offset, to),
            View::Pieces(pieces) => pieces,
        };
        let (mut skip, mut done) = (offset, 0);
        for piece in pieces {
            let here = piece.len().saturating_sub(skip).min(to.len() - done);
            if here > 0 {
                piece.copy_to(skip, &mut to[done..done + here])?;
            }
            done += here;
            skip = skip.saturating_sub(piece.len());
        }
        if done < to.len() || skip > 0 { Err(ReadError::OutOfRange) } else { Ok(()) }
    }

    /// A copy of all.
    ///
    /// # Errors
    /// [`ReadError::Revoked`]: the sender took it back.
    pub fn to_vec(&self) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![0; self.len()];
        self.copy_to(0, &mut bytes)?;
        Ok(bytes)
    }

    /// All of them in one piece of private memory: where they are, or copied to `space`.
    ///
    /// # Errors
    /// [`ReadError::Revoked`]: the sender took it back.
    #[inline]
    pub fn whole<'b>(&'b self, space: &'b mut Vec<u8>) -> Result<&'b [u8], ReadError> {
        if let Some(bytes) = self.as_slice() {
            return Ok(bytes);
        }
        space.clear();
        space.resize(self.len(), 0);
        self.copy_to(0, space)?;
        Ok(space)
    }
}

impl Piece {
    fn len(&self) -> usize {
        match self {
            Self::Here => 0,
            Self::Bytes(bytes) => bytes.len(),
            Self::Part(part) => part.len(),
        }
    }

    /// The bytes, where they are private.
    fn as_slice(&self) -> Option<&[u8]> {
        match self {
            Self::Here => Some(&[]),
            Self::Bytes(bytes) => Some(bytes),
            Self::Part(Part::Own(fbuf)) => Some(fbuf),
            Self::Part(Part::Peer(_)) => None,
        }
    }

    fn copy_to(&self, offset: usize, to: &mut [u8]) -> Result<(), ReadError> {
        match self {
            Self::Part(Part::Peer(fbuf)) => fbuf.copy_to(offset, to),
            private => copy(private.as_slice().unwrap_or_default(), offset, to),
        }
    }
}

fn copy(bytes: &[u8], offset: usize, to: &mut [u8]) -> Result<(), ReadError> {
    let found = bytes.get(offset..).and_then(|rest| rest.get(..to.len()));
    to.copy_from_slice(found.ok_or(ReadError::OutOfRange)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unet::{Pool, PoolOptions};

    use super::*;

    #[test]
    fn private_bytes_are_joined_until_a_piece_is_full() {
        let mut piece = Piece::Bytes(vec![1; 1400]);
        piece.settle();
        let mut fragments = 1;
        while piece.join(Piece::Bytes(vec![2; 1400])).is_none() {
            fragments += 1;
        }
        assert_eq!((fragments, piece.len()), (JOINED / 1400, JOINED / 1400 * 1400));
        let Piece::Bytes(bytes) = &mut piece else { panic!("it was private") };
        assert_eq!((bytes[1399], bytes[1400], bytes.capacity()), (1, 2, JOINED));
        bytes.truncate(3000);
        piece.settle();
        assert!(matches!(piece, Piece::Bytes(bytes) if bytes.capacity() < 4000));
    }

    #[test]
    fn a_devices_buffer_is_copied_and_given_back() {
        let mut pool = Pool::new(PoolOptions::default()).expect("a pool");
        let free = pool.free();
        let mut received = |bytes: &[u8]| {
            let mut fbuf = pool.alloc(bytes.len()).expect("a buffer");
            fbuf.copy_from_slice(bytes);
            Piece::Part(Part::Own(fbuf.freeze()))
        };
        let (mut piece, next) = (received(b"one "), received(b"piece"));
        piece.settle();
        assert!(piece.join(next).is_none());
        assert_eq!(piece.as_slice(), Some(&b"one piece"[..]));
        assert_eq!(pool.free(), free);
    }

    proptest! {
        #[test]
        fn pieces_read_as_the_whole(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..6),
            offset in 0..40usize,
            len in 0..40usize,
        ) {
            let whole = pieces.concat();
            let pieces: Vec<Piece> = pieces.into_iter().map(Piece::Bytes).collect();
            let bytes = Bytes(View::Pieces(&pieces));
            prop_assert_eq!(bytes.len(), whole.len());
            prop_assert_eq!(bytes.to_vec().expect("private"), whole.clone());
            let mut to = vec![0; len];
            match whole.get(offset..offset + len) {
                Some(expected) => {
                    prop_assert_eq!(bytes.copy_to(offset, &mut to), Ok(()));
                    prop_assert_eq!(&to[..], expected);
                }
                // Nothing of nothing is to be had anywhere.
                None if len == 0 => {}
                None => prop_assert_eq!(bytes.copy_to(offset, &mut to), Err(ReadError::OutOfRange)),
            }
        }
    }
}
