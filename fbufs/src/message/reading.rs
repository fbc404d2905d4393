//! Reading a whole message: in pieces, as slices, as [`bytes::Buf`], or copied to where nobody else can
//! change it.

use std::io::IoSlice;
use std::ops::Range;

use bytes::Buf;

use super::{Message, Part};
use crate::{PeerFbuf, Pool, ReadError, SecureError};

/// Bytes of a volatile part that are read at a time.
const WINDOW: usize = 1024;

/// The beginning of a volatile part, copied out.
pub(super) struct Window {
    len: usize,
    bytes: [u8; WINDOW],
}

impl Message {
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

    /// The bytes of a range, where they lie in one part that nobody else can change.
    ///
    /// # Cost
    /// A comparison for each part before it.
    pub fn slice(&self, range: Range<usize>) -> Option<&[u8]> {
        let mut begin = 0;
        for part in &self.parts {
            let end = begin + part.len();
            if range.start < end {
                let Part::Own(fbuf) = part else { return None };
                return fbuf.get(range.start - begin..range.end.checked_sub(begin)?);
            }
            begin = end;
        }
        None
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
        if let [Part::Own(fbuf)] = &self.parts[..] {
            return Ok(fbuf.to_vec());
        }
        let mut bytes = vec![0; self.len];
        self.peek(0, &mut bytes)?;
        Ok(bytes)
    }

    #[inline(always)]
    pub(super) fn close_window(&mut self) {
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
