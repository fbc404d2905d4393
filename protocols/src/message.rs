//! A stand-in with the signatures of `fbufs::Message`, until ropes of buffers are there.

/// Bytes with room in front for headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    bytes: Vec<u8>,
    start: usize,
}

/// Where headers come from that find no room in front.
#[derive(Debug, Default)]
pub struct Pool;

/// There is not enough room in front.
#[derive(Debug)]
pub struct NoHeadroom;

/// The message is shorter, or cannot be read.
#[derive(Debug)]
pub struct ReadError;

/// No buffer.
#[derive(Debug)]
pub struct AllocError;

impl Message {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }
    /// A message of these bytes.
    pub fn from_bytes(headroom: usize, payload: &[u8]) -> Self {
        let mut bytes = vec![0; headroom];
        bytes.extend_from_slice(payload);
        Self { bytes, start: headroom }
    }
    /// How many bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }
    /// Whether none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The room in front.
    #[inline]
    pub fn headroom(&self) -> usize {
        self.start
    }
    /// Adds a header in place.
    #[inline]
    pub fn push(&mut self, header: &[u8]) -> Result<(), NoHeadroom> {
        let start = self.start.checked_sub(header.len()).ok_or(NoHeadroom)?;
        self.bytes[start..self.start].copy_from_slice(header);
        self.start = start;
        Ok(())
    }
    /// Adds a header.
    #[inline]
    pub fn push_with(&mut self, _pool: &mut Pool, header: &[u8]) -> Result<(), AllocError> {
        if self.push(header).is_ok() {
            return Ok(());
        }
        let mut bytes = vec![0; 64];
        bytes.extend_from_slice(header);
        bytes.extend_from_slice(&self.bytes[self.start..]);
        *self = Self { bytes, start: 64 };
        Ok(())
    }
    /// Removes the first bytes.
    #[inline]
    pub fn pop(&mut self, header: &mut [u8]) -> Result<(), ReadError> {
        self.peek(0, header)?;
        self.start += header.len();
        Ok(())
    }
    /// Reads.
    #[inline]
    pub fn peek(&self, offset: usize, to: &mut [u8]) -> Result<(), ReadError> {
        let from = self.bytes[self.start..].get(offset..).and_then(|rest| rest.get(..to.len()));
        to.copy_from_slice(from.ok_or(ReadError)?);
        Ok(())
    }
    /// Drops the first bytes.
    pub fn advance_by(&mut self, n: usize) {
        self.start += n.min(self.len());
    }
    /// Drops the last bytes.
    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(self.start + len);
    }
    /// The first bytes leave.
    pub fn split_to(&mut self, at: usize) -> Option<Message> {
        let first = self.bytes[self.start..].get(..at)?;
        let first = Self::from_bytes(0, first);
        self.start += at;
        Some(first)
    }
    /// Adds bytes behind.
    pub fn append(&mut self, tail: Message) {
        self.bytes.extend_from_slice(&tail.bytes[tail.start..]);
    }
    /// All bytes, in pieces.
    pub fn for_each_chunk(&self, mut f: impl FnMut(&[u8])) -> Result<(), ReadError> {
        f(&self.bytes[self.start..]);
        Ok(())
    }
}
