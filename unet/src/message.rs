//! What is received.

use fbufs::{Descriptor, PeerFbuf, PeerPool};
use segment::Fault;
use segment::ring::{Cell, SLOT_PAYLOAD};

/// The most bytes that travel in a slot.
pub const MAX_INLINE: usize = SLOT_PAYLOAD;
/// The most bytes that travel in a slot beside a buffer's descriptor.
pub const MAX_INLINE_WITH_FBUF: usize = SLOT_PAYLOAD - Descriptor::BYTES;

/// A received message: bytes that came in the slot, in private memory, and perhaps a buffer.
///
/// The buffer is the receiver's until the message, or the [`PeerFbuf`] taken out of it, is dropped, or
/// another message is received into it. `Message::default()` is an empty one, to receive into.
#[derive(Debug, Default)]
pub struct Message {
    cell: Cell,
    fbuf: Option<PeerFbuf>,
}

impl Message {
    /// Turns what was received into a message, in place: checks the descriptor, takes the buffer.
    /// The last one was taken out before.
    #[inline(always)]
    pub(crate) fn complete(&mut self, pool: &mut PeerPool) -> Result<(), Fault> {
        if self.cell.descriptors() == 0 { Ok(()) } else { self.take_descriptor(pool) }
    }

    #[inline]
    fn take_descriptor(&mut self, pool: &mut PeerPool) -> Result<(), Fault> {
        if self.cell.descriptors() != 1 || self.cell.len() < Descriptor::BYTES {
            return Err(Fault::DescriptorCount);
        }
        let [first, second, ..] = *self.cell.words();
        self.fbuf = Some(pool.accept(Descriptor::from_words([first, second]))?);
        Ok(())
    }

    #[inline(always)]
    pub(crate) fn cell_mut(&mut self) -> &mut Cell {
        &mut self.cell
    }

    /// The number that the sender's layer put on it.
    #[inline(always)]
    pub fn tag(&self) -> u16 {
        self.cell.tag()
    }

    /// The bytes that came in the slot. Nobody else can change them any more.
    #[inline(always)]
    pub fn inline(&self) -> &[u8] {
        let skip = usize::from(self.cell.descriptors()) * Descriptor::BYTES;
        self.cell.bytes().get(skip..).unwrap_or_default()
    }

    /// The buffer that came with it.
    pub fn fbuf(&self) -> Option<&PeerFbuf> {
        self.fbuf.as_ref()
    }

    /// Takes the buffer out, to keep it longer than the message.
    pub fn take_fbuf(&mut self) -> Option<PeerFbuf> {
        self.fbuf.take()
    }

    /// How many bytes it has, in the slot and in the buffer.
    pub fn len(&self) -> usize {
        self.inline().len() + self.fbuf.as_ref().map_or(0, PeerFbuf::len)
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A private copy of its bytes: those of the slot, then those of the buffer.
    ///
    /// # Cost
    /// One allocation and one copy.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = self.inline().to_vec();
        if let Some(fbuf) = &self.fbuf {
            bytes.append(&mut fbuf.to_vec());
        }
        bytes
    }
}
