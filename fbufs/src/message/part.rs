//! What a message consists of: a buffer, or a part of one, of whichever process.

use crate::{Fbuf, PeerFbuf, ReadError};

/// A part of a message: of this process's own buffers, or of another domain's.
#[derive(Clone, Debug)]
pub enum Part {
    /// Nobody else can change it.
    Own(Fbuf),
    /// Volatile.
    Peer(PeerFbuf),
}

impl Part {
    /// How many bytes it has.
    #[inline(always)]
    pub fn len(&self) -> usize {
        match self {
            Self::Own(fbuf) => fbuf.len_fast(),
            Self::Peer(fbuf) => fbuf.len(),
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline(always)]
    pub(crate) fn place(&self) -> (u32, u32) {
        match self {
            Self::Own(fbuf) => fbuf.place(),
            Self::Peer(fbuf) => fbuf.place(),
        }
    }

    #[inline(always)]
    pub(super) fn advance(&mut self, count: usize) {
        match self {
            Self::Own(fbuf) => fbuf.advance(count),
            Self::Peer(fbuf) => fbuf.advance(count),
        }
    }

    /// Whether nothing is left of it once so many bytes are skipped. What is left of an own part is its
    /// headroom.
    #[inline(always)]
    pub(super) fn is_used_up_by(&self, count: usize) -> bool {
        match self {
            Self::Own(fbuf) => fbuf.len_fast() < count,
            Self::Peer(fbuf) => fbuf.len() <= count,
        }
    }

    #[inline(always)]
    pub(super) fn keep(&mut self, len: usize) {
        match self {
            Self::Own(fbuf) => fbuf.keep(len),
            Self::Peer(fbuf) => fbuf.keep(len),
        }
    }

    #[inline(always)]
    pub(super) fn copy_to(&self, offset: usize, to: &mut [u8]) -> Result<(), ReadError> {
        match self {
            Self::Own(fbuf) => {
                let bytes = fbuf.get(offset..).and_then(|rest| rest.get(..to.len()));
                to.copy_from_slice(bytes.ok_or(ReadError::OutOfRange)?);
                Ok(())
            }
            Self::Peer(fbuf) => fbuf.copy_to(offset, to),
        }
    }
}
