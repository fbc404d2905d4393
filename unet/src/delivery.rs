//! What is received.

use fbufs::{Descriptor, FbufMut, Holdings, MAX_PARTS, Message, Part, PeerFbuf, ReadError};
use segment::Fault;
use segment::geometry::MAX_BUFFER_BYTES;
use segment::ring::{Cell, SLOT_PAYLOAD};

/// The most bytes that travel in a slot.
pub const MAX_INLINE: usize = SLOT_PAYLOAD;
/// The most bytes that travel in a slot beside a buffer's descriptor.
pub const MAX_INLINE_WITH_FBUF: usize = SLOT_PAYLOAD - Descriptor::BYTES;
/// How many descriptors fit into a slot.
pub(crate) const DESCRIPTORS: usize = SLOT_PAYLOAD / Descriptor::BYTES;
/// The most bytes of a message in buffers: as if each part were one buffer, the largest there can be. Runs
/// are longer, and a peer can name one many times.
pub(crate) const MAX_MESSAGE: usize = MAX_PARTS * MAX_BUFFER_BYTES;
/// In a slot's count of descriptors: further ones follow in the next slot.
pub(crate) const MORE: u8 = 0x80;

/// The beginning of a message whose last slot has not come yet.
#[derive(Debug, Default)]
pub(crate) struct Partial {
    message: Message,
    /// Empty parts are not kept, but count: a message ends.
    descriptors: usize,
}

/// What was received: bytes that came in the slot, in private memory, and perhaps a message in buffers
/// of the peer's, or of domains before it.
///
/// The buffers are the receiver's until the delivery, or what was taken out of it, is dropped, or
/// another one is received into it. `Delivery::default()` is an empty one, to receive into.
#[derive(Debug, Default)]
pub struct Delivery {
    cell: Cell,
    message: Message,
}

impl Delivery {
    /// Turns what was received into a delivery, in place: checks the descriptors, takes the buffers.
    /// The last ones were taken out before. `false` if the rest of it is still to come.
    #[inline(always)]
    pub(crate) fn complete(
        &mut self,
        holdings: &mut Holdings,
        partial: &mut Partial,
    ) -> Result<bool, Fault> {
        match self.cell.descriptors() {
            0 if partial.descriptors == 0 => Ok(true),
            1 if partial.descriptors == 0 && self.cell.len() >= Descriptor::BYTES => {
                let [first, second, ..] = *self.cell.words();
                let fbuf = holdings.accept(Descriptor::from_words([first, second]))?;
                self.message.begin_with(Part::Peer(fbuf));
                Ok(true)
            }
            _ => self.take_descriptors(holdings, partial),
        }
    }

    #[cold]
    fn take_descriptors(
        &mut self,
        holdings: &mut Holdings,
        partial: &mut Partial,
    ) -> Result<bool, Fault> {
        let more = self.cell.descriptors() & MORE != 0;
        let count = usize::from(self.cell.descriptors() & !MORE);
        let too_many = count > DESCRIPTORS || partial.descriptors + count > MAX_PARTS;
        if count == 0 || too_many || self.cell.len() < count * Descriptor::BYTES {
            return Err(Fault::DescriptorCount);
        }
        for words in self.cell.words().as_chunks().0.iter().take(count) {
            let fbuf = holdings.accept(Descriptor::from_words(*words))?;
            partial.message.append_part(Part::Peer(fbuf));
            if partial.message.len() > MAX_MESSAGE {
                return Err(Fault::BufferRange);
            }
        }
        partial.descriptors += count;
        if !more {
            self.message = std::mem::take(partial).message;
        }
        Ok(!more)
    }

    /// Begins a delivery that came over a network: at most [`MAX_INLINE`] bytes beside the message.
    #[inline(always)]
    pub(crate) fn begin(&mut self, tag: u16, inline: &[u8]) {
        self.cell = Cell::new(tag);
        let fits = self.cell.append(inline);
        debug_assert!(fits, "the length was checked with the header");
    }

    #[inline(always)]
    pub(crate) fn begin_message(&mut self, part: Part) {
        self.message.begin_with(part);
    }

    #[cold]
    pub(crate) fn append_to_message(&mut self, pieces: Vec<FbufMut>) {
        for piece in pieces {
            self.message.append_part(Part::Own(piece.freeze()));
        }
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
        let skip = usize::from(self.cell.descriptors() & !MORE) * Descriptor::BYTES;
        self.cell.bytes().get(skip..).unwrap_or_default()
    }

    /// The message that came in buffers; empty if all came in the slot.
    #[inline(always)]
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Takes the message out, to keep it longer or to pass it on.
    #[inline]
    pub fn take_message(&mut self) -> Message {
        std::mem::take(&mut self.message)
    }

    /// The first buffer that came with it.
    pub fn fbuf(&self) -> Option<&PeerFbuf> {
        match self.message.parts().first() {
            Some(Part::Peer(fbuf)) => Some(fbuf),
            _ => None,
        }
    }

    /// Takes the first buffer out, to keep it longer than the delivery. What came over a network is in
    /// buffers of this process: [`Delivery::take_message`] takes those.
    #[inline]
    pub fn take_fbuf(&mut self) -> Option<PeerFbuf> {
        self.fbuf()?;
        match self.message.pop_part() {
            Some(Part::Peer(fbuf)) => Some(fbuf),
            _ => None,
        }
    }

    #[inline(always)]
    pub(crate) fn has_fbufs(&self) -> bool {
        !self.message.parts().is_empty()
    }

    #[inline(always)]
    pub(crate) fn take_last_part(&mut self) -> Option<Part> {
        self.message.pop_last_part()
    }

    /// How many bytes it has, in the slot and in buffers.
    pub fn len(&self) -> usize {
        self.inline().len() + self.message.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A private copy of its bytes: those of the slot, then those in buffers.
    ///
    /// # Errors
    /// [`ReadError::Revoked`].
    ///
    /// # Cost
    /// One allocation and one copy.
    pub fn to_vec(&self) -> Result<Vec<u8>, ReadError> {
        let inline = self.inline();
        let mut bytes = vec![0; inline.len() + self.message.len()];
        bytes[..inline.len()].copy_from_slice(inline);
        self.message.peek(0, &mut bytes[inline.len()..])?;
        Ok(bytes)
    }
}
