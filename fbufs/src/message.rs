//! A message: a rope of buffer parts to which layers push and from which they pop headers.

mod part;
mod reading;

use std::cell::OnceCell;

use smallvec::SmallVec;

pub use part::Part;
use reading::Window;

use crate::{AllocError, Fbuf, FbufMut, PeerFbuf, Pool, ReadError};

/// The longest header that is popped or peeked at without being counted as a copy of payload, and the
/// most headroom of a buffer that [`Message::push_with`] takes for a header. Longer ones are pushed too:
/// what bounds them is the headroom, or the pool's largest buffer.
pub const MAX_HEADER: usize = 256;
/// How many parts a message that is handed over has at most, so that nobody receives one of crumbs
/// without end.
pub const MAX_PARTS: usize = 256;

/// Parts for which a message needs no memory of its own: as many as a slot names.
const INLINE: usize = 3;

/// Why a header was not pushed in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no headroom: allocate the message with more, or push with a pool")]
pub struct NoHeadroom;

/// A rope of buffer parts. Headers are pushed and popped, pieces split off and appended, all without
/// moving payload; clones share the buffers.
///
/// Parts may be volatile: see [`PeerFbuf`]. Reading methods work on all alike, by copies of what is
/// asked for; a reference to bytes is given out only where nobody can change them. As [`bytes::Buf`]
/// it is read through a window of 1 KiB where it is volatile; if the originator revokes it while it is
/// read so, zeros are read, and [`Message::is_revoked`] says so afterwards.
///
/// After Hutchinson and Peterson, *The x-Kernel* (IEEE TSE 1991), section 3.3.
#[derive(Default)]
pub struct Message {
    parts: SmallVec<[Part; INLINE]>,
    len: usize,
    /// What [`bytes::Buf::chunk`] shows of a volatile part in front.
    window: OnceCell<Box<Window>>,
}

impl Message {
    /// An empty message.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many bytes it has.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its parts, in order. An empty one may stand in front, for its headroom.
    #[inline(always)]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Takes it apart.
    pub fn into_parts(mut self) -> impl Iterator<Item = Part> {
        self.len = 0;
        std::mem::take(&mut self.parts).into_iter()
    }

    /// Becomes its only part.
    ///
    /// # Errors
    /// Itself, if it has not one part.
    #[inline(always)]
    pub fn into_part(mut self) -> Result<Part, Self> {
        if self.parts.len() != 1 {
            return Err(self);
        }
        self.close_window();
        match self.parts.pop() {
            Some(part) if !self.parts.spilled() => {
                // Nothing is left in it that would have to be dropped.
                std::mem::forget(self);
                Ok(part)
            }
            Some(part) => Ok(part),
            None => Err(self),
        }
    }

    /// Takes the first part out.
    #[inline]
    pub fn pop_part(&mut self) -> Option<Part> {
        self.close_window();
        let part = match self.parts.len() {
            1 => self.parts.pop()?,
            0 => return None,
            _ => self.parts.remove(0),
        };
        self.len -= part.len();
        Some(part)
    }

    /// Takes the last part out.
    #[inline]
    pub fn pop_last_part(&mut self) -> Option<Part> {
        self.close_window();
        let part = self.parts.pop()?;
        self.len -= part.len();
        Some(part)
    }

    /// How many bytes can be pushed in place.
    #[inline]
    pub fn headroom(&self) -> usize {
        match self.parts.first() {
            Some(Part::Own(fbuf)) => fbuf.headroom(),
            _ => 0,
        }
    }

    /// Writes a header before the message, in place.
    ///
    /// # Errors
    /// [`NoHeadroom`] if the first part does not begin far enough in its buffer, is shared, or is not
    /// this process's; nothing is written then.
    ///
    /// # Cost
    /// One copy of the header.
    #[inline(always)]
    pub fn push(&mut self, header: &[u8]) -> Result<(), NoHeadroom> {
        if let Some(Part::Own(fbuf)) = self.parts.first_mut()
            && fbuf.push(header)
        {
            self.len += header.len();
            return Ok(());
        }
        Err(NoHeadroom)
    }

    /// Writes a header before the message: in place, or without headroom into a new small buffer, at
    /// whose end it stands, so that further headers fit before it.
    ///
    /// # Errors
    /// [`AllocError`]; nothing is written then.
    ///
    /// # Cost
    /// One copy of the header; an allocation without headroom.
    #[inline(always)]
    pub fn push_with(&mut self, pool: &mut Pool, header: &[u8]) -> Result<(), AllocError> {
        match self.push(header) {
            Ok(()) => Ok(()),
            Err(NoHeadroom) => self.push_new(pool, header),
        }
    }

    #[cold]
    fn push_new(&mut self, pool: &mut Pool, header: &[u8]) -> Result<(), AllocError> {
        let spare = MAX_HEADER.min(pool.smallest().saturating_sub(header.len()));
        let mut fbuf = pool.alloc_with_headroom(spare, header.len())?;
        fbuf.copy_from_slice(header);
        self.prepend(Part::Own(fbuf.freeze()));
        Ok(())
    }

    fn prepend(&mut self, part: Part) {
        self.close_window();
        if !part.is_empty() {
            self.len += part.len();
            self.parts.insert(0, part);
        }
    }

    /// Copies a header out of the first bytes, and removes them.
    ///
    /// # Errors
    /// [`ReadError`]; nothing is removed then.
    ///
    /// # Cost
    /// One copy of the header.
    #[inline(always)]
    pub fn pop(&mut self, header: &mut [u8]) -> Result<(), ReadError> {
        if let Some(Part::Own(fbuf)) = self.parts.first_mut()
            && fbuf.pop(header)
        {
            self.len -= header.len();
            return Ok(());
        }
        self.pop_slowly(header)
    }

    #[cold]
    #[inline(never)]
    fn pop_slowly(&mut self, header: &mut [u8]) -> Result<(), ReadError> {
        self.peek(0, header)?;
        self.skip(header.len());
        Ok(())
    }

    /// Copies the bytes from `offset` on out.
    ///
    /// # Errors
    /// [`ReadError`]; `to` is not to be used then.
    ///
    /// # Cost
    /// One copy.
    pub fn peek(&self, offset: usize, to: &mut [u8]) -> Result<(), ReadError> {
        if offset.checked_add(to.len()).is_none_or(|end| end > self.len) {
            return Err(ReadError::OutOfRange);
        }
        let (mut offset, mut done) = (offset, 0);
        for part in &self.parts {
            if done == to.len() {
                break;
            }
            if offset >= part.len() {
                offset -= part.len();
                continue;
            }
            let piece = (part.len() - offset).min(to.len() - done);
            part.copy_to(offset, &mut to[done..done + piece])?;
            if to.len() > MAX_HEADER
                && let Part::Peer(fbuf) = part
            {
                fbuf.count_copy(piece);
            }
            (offset, done) = (0, done + piece);
        }
        Ok(())
    }

    /// Drops the first `count` bytes, or all if there are not as many.
    ///
    /// # Cost
    /// None, but for the parts that are dropped with them.
    #[inline]
    pub fn skip(&mut self, count: usize) {
        self.close_window();
        let mut left = count.min(self.len);
        self.len -= left;
        let mut whole = 0;
        // The last part stays, for its headroom.
        while whole + 1 < self.parts.len() && self.parts[whole].is_used_up_by(left) {
            left -= self.parts[whole].len();
            whole += 1;
        }
        if whole > 0 {
            self.parts.drain(..whole);
        }
        if let Some(part) = self.parts.first_mut() {
            part.advance(left);
        }
    }

    /// Keeps the first `len` bytes; no effect if there are not more.
    pub fn truncate(&mut self, len: usize) {
        if len >= self.len {
            return;
        }
        self.close_window();
        let mut left = len;
        let mut keep = 0;
        for part in &mut self.parts {
            if left == 0 {
                break;
            }
            part.keep(left);
            left -= part.len();
            keep += 1;
        }
        self.parts.truncate(keep);
        self.len = len;
    }

    /// Splits the first `at` bytes off as a message; a buffer in which the cut lies is shared by both.
    /// `None`, and nothing happens, if there are not as many.
    ///
    /// # Cost
    /// Two locked instructions if the cut lies in a buffer.
    #[must_use]
    pub fn split_to(&mut self, at: usize) -> Option<Message> {
        if at > self.len {
            return None;
        }
        self.close_window();
        let mut front = Message::new();
        let whole = self.parts.iter().take_while(|part| {
            let fits = front.len + part.len() <= at;
            front.len += if fits { part.len() } else { 0 };
            fits
        });
        let whole = whole.count();
        front.parts.extend(self.parts.drain(..whole));
        if front.len < at
            && let Some(part) = self.parts.first_mut()
        {
            let mut shared = part.clone();
            shared.keep(at - front.len);
            part.advance(at - front.len);
            front.parts.push(shared);
            front.len = at;
        }
        self.len -= at;
        Some(front)
    }

    /// Appends a message.
    ///
    /// # Cost
    /// None that depends on the payload.
    pub fn append(&mut self, tail: Message) {
        self.len += tail.len;
        self.parts.extend(tail.parts);
    }

    /// Appends a part; an empty one is dropped.
    #[inline(always)]
    pub fn append_part(&mut self, part: Part) {
        let len = part.len();
        if len != 0 {
            self.len += len;
            self.parts.push(part);
        }
    }

    /// Becomes the message of this part alone; an empty one is kept, to be given back by who got it.
    #[inline(always)]
    pub fn begin_with(&mut self, part: Part) {
        if !self.parts.is_empty() {
            self.clear();
        }
        self.len = part.len();
        self.parts.push(part);
    }

    /// Removes everything; buffers that nobody else shares are free.
    #[inline]
    pub fn clear(&mut self) {
        self.close_window();
        self.parts.clear();
        self.len = 0;
    }
}

impl Clone for Message {
    /// # Cost
    /// Two locked instructions a part.
    fn clone(&self) -> Self {
        Self { parts: self.parts.clone(), len: self.len, window: OnceCell::new() }
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message").field("len", &self.len).field("parts", &self.parts).finish()
    }
}

impl From<Part> for Message {
    fn from(part: Part) -> Self {
        let mut message = Self::new();
        message.begin_with(part);
        message
    }
}

impl From<FbufMut> for Message {
    /// Keeps its headroom, also where it is empty otherwise.
    fn from(fbuf: FbufMut) -> Self {
        fbuf.freeze().into()
    }
}

impl From<Fbuf> for Message {
    fn from(fbuf: Fbuf) -> Self {
        Part::Own(fbuf).into()
    }
}

impl From<PeerFbuf> for Message {
    fn from(fbuf: PeerFbuf) -> Self {
        Part::Peer(fbuf).into()
    }
}
