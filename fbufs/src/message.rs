//! A message: a rope of buffer parts to which layers push and from which they pop headers.

use std::cell::OnceCell;
use std::io::IoSlice;

use bytes::Buf;
use smallvec::SmallVec;

use crate::{AllocError, Fbuf, FbufMut, PeerFbuf, Pool, ReadError, SecureError};

/// The longest header that is popped or peeked at without being counted as a copy of payload, and the
/// most headroom of a buffer that [`Message::push_with`] takes for a header. Longer ones are pushed too:
/// what bounds them is the headroom, or the pool's largest buffer.
pub const MAX_HEADER: usize = 256;
/// How many parts a message that is handed over has at most, so that nobody receives one of crumbs
/// without end.
pub const MAX_PARTS: usize = 256;

/// Bytes of a volatile part that are read at a time.
const WINDOW: usize = 1024;

/// Parts for which a message needs no memory of its own: as many as a slot names.
const INLINE: usize = 3;

/// The beginning of a volatile part, copied out.
struct Window {
    len: usize,
    bytes: [u8; WINDOW],
}

/// Why a header was not pushed in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no headroom: allocate the message with more, or push with a pool")]
pub struct NoHeadroom;

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
    fn advance(&mut self, count: usize) {
        match self {
            Self::Own(fbuf) => fbuf.advance(count),
            Self::Peer(fbuf) => fbuf.advance(count),
        }
    }

    /// Whether nothing is left of it once so many bytes are skipped. What is left of an own part is its
    /// headroom.
    #[inline(always)]
    fn is_used_up_by(&self, count: usize) -> bool {
        match self {
            Self::Own(fbuf) => fbuf.len_fast() < count,
            Self::Peer(fbuf) => fbuf.len() <= count,
        }
    }

    #[inline(always)]
    fn keep(&mut self, len: usize) {
        match self {
            Self::Own(fbuf) => fbuf.keep(len),
            Self::Peer(fbuf) => fbuf.keep(len),
        }
    }

    #[inline(always)]
    fn copy_to(&self, offset: usize, to: &mut [u8]) -> Result<(), ReadError> {
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
    /// What [`Buf::chunk`] shows of a volatile part in front.
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

    /// Passes all bytes to `each`, in order and in pieces: own parts as they stand, volatile ones by
    /// way of a private window of 1 KiB. What `each` made of them is not to be used if this fails.
    ///
    /// # Errors
    /// [`ReadError::Revoked`].
    ///
    /// # Cost
    /// For volatile parts, a copy into memory that is in the first cache; it is no copy of the payload
    /// that anybody keeps, and is not counted as one.
    pub fn for_each_chunk(&self, mut each: impl FnMut(&[u8])) -> Result<(), ReadError> {
        for part in &self.parts {
            match part {
                Part::Own(fbuf) => each(fbuf),
                Part::Peer(fbuf) => {
                    let mut window = [0u8; WINDOW];
                    let mut at = 0;
                    while at < fbuf.len() {
                        let piece = (fbuf.len() - at).min(WINDOW);
                        fbuf.copy_to(at, &mut window[..piece])?;
                        each(&window[..piece]);
                        at += piece;
                    }
                }
            }
        }
        Ok(())
    }

    /// Its bytes as slices for vectored output; `None` where a part is volatile: secure it first.
    pub fn io_slices(&self) -> Option<impl Iterator<Item = IoSlice<'_>>> {
        let slice = |part: &'_ Part| matches!(part, Part::Own(_));
        self.parts.iter().all(slice).then(|| {
            self.parts.iter().filter_map(|part| match part {
                Part::Own(fbuf) => Some(IoSlice::new(fbuf)),
                Part::Peer(_) => None,
            })
        })
    }

    /// Whether a part of it may be changed by another domain.
    pub fn is_volatile(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Peer(_)))
    }

    /// Whether the originator of a part has taken it back.
    pub fn is_revoked(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Peer(fbuf) if fbuf.is_revoked()))
    }

    /// Replaces volatile parts by copies in buffers of this process, which nobody else can change; what
    /// is given back is how many bytes that were.
    ///
    /// # Errors
    /// [`SecureError`]; the parts that were not copied are still volatile.
    ///
    /// # Cost
    /// One copy of the volatile parts.
    pub fn secure(&mut self, pool: &mut Pool) -> Result<usize, SecureError> {
        self.close_window();
        let (mut at, mut copied) = (0, 0);
        while let Some(part) = self.parts.get_mut(at) {
            if let Part::Peer(fbuf) = part {
                copied += fbuf.len();
                if fbuf.len() > pool.largest() {
                    at += self.secure_in_parts(at, pool)?;
                    continue;
                }
                *part = Part::Own(fbuf.secure(pool)?);
            }
            at += 1;
        }
        Ok(copied)
    }

    /// Replaces a volatile part that no buffer of the pool is large enough for; by how many parts.
    #[cold]
    fn secure_in_parts(&mut self, at: usize, pool: &mut Pool) -> Result<usize, SecureError> {
        let Some(Part::Peer(fbuf)) = self.parts.get(at) else { return Ok(1) };
        let (mut done, mut read) = (0, Ok(()));
        let secured = pool.message(0, fbuf.len(), |piece| {
            read = read.and_then(|()| fbuf.copy_to(done, piece));
            done += piece.len();
        })?;
        read?;
        pool.count_copy(done);
        let parts = secured.parts.len();
        self.parts.remove(at);
        self.parts.insert_many(at, secured.parts);
        Ok(parts)
    }

    /// A private copy of all bytes.
    ///
    /// # Errors
    /// [`ReadError::Revoked`].
    ///
    /// # Cost
    /// One allocation and one copy.
    pub fn to_vec(&self) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![0; self.len];
        self.peek(0, &mut bytes)?;
        Ok(bytes)
    }

    #[inline(always)]
    fn close_window(&mut self) {
        if self.window.get().is_some() {
            self.window.take();
        }
    }

    #[cold]
    fn open_window(&self, fbuf: &PeerFbuf) -> &[u8] {
        let window = self.window.get_or_init(|| {
            let mut window = Box::new(Window { len: fbuf.len().min(WINDOW), bytes: [0; WINDOW] });
            let len = window.len;
            if fbuf.copy_to(0, &mut window.bytes[..len]).is_err() {
                window.bytes.fill(0);
            }
            window
        });
        &window.bytes[..window.len]
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

impl Buf for Message {
    fn remaining(&self) -> usize {
        self.len
    }

    fn chunk(&self) -> &[u8] {
        match self.parts.iter().find(|part| !part.is_empty()) {
            None => &[],
            Some(Part::Own(fbuf)) => fbuf,
            Some(Part::Peer(fbuf)) => self.open_window(fbuf),
        }
    }

    fn chunks_vectored<'a>(&'a self, to: &mut [IoSlice<'a>]) -> usize {
        let stable = self.parts.iter().map_while(|part| match part {
            Part::Own(fbuf) => Some(&**fbuf),
            Part::Peer(_) => None,
        });
        let mut filled = 0;
        for (slot, bytes) in to.iter_mut().zip(stable.filter(|bytes| !bytes.is_empty())) {
            *slot = IoSlice::new(bytes);
            filled += 1;
        }
        if filled == 0 && !self.is_empty() && !to.is_empty() {
            to[0] = IoSlice::new(self.chunk());
            filled = 1;
        }
        filled
    }

    fn advance(&mut self, count: usize) {
        assert!(count <= self.len, "cannot advance past the end of the message");
        self.skip(count);
    }
}
