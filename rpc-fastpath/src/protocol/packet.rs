//! What a machine wants sent.

use std::ops::Range;

use crate::wire::{HEADER_BYTES, MAX_CONTROL, Packet};

/// A packet to send: the header, and what follows it.
#[derive(Debug, PartialEq, Eq)]
pub struct Transmit<'a, P> {
    /// The first bytes.
    pub header: [u8; HEADER_BYTES],
    /// The rest.
    pub body: Body<'a, P>,
}

/// What follows a header.
#[derive(Debug, PartialEq, Eq)]
pub enum Body<'a, P> {
    /// Nothing.
    Empty,
    /// Some bytes of the protocol's own; the number says how many.
    Control([u8; MAX_CONTROL], usize),
    /// These bytes of a payload, whose handle stays with the machine.
    Payload(&'a P, Range<usize>),
}

impl<P> Body<'_, P> {
    /// How many bytes.
    pub fn len(&self) -> usize {
        match self {
            Body::Empty => 0,
            Body::Control(_, len) => *len,
            Body::Payload(_, range) => range.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a, P> Transmit<'a, P> {
    /// A header alone.
    pub(super) fn bare(packet: Packet) -> Self {
        Self { header: packet.encode(), body: Body::Empty }
    }

    /// A header, and so many of these bytes.
    pub(super) fn control(packet: Packet, (bytes, len): ([u8; MAX_CONTROL], usize)) -> Self {
        Self { header: packet.encode(), body: Body::Control(bytes, len) }
    }

    /// A fragment of a payload of `len` bytes.
    pub(super) fn fragment(
        packet: Packet,
        payload: &'a P,
        index: u16,
        (fragment, len): (u32, usize),
    ) -> Self {
        let start = usize::from(index) * fragment as usize;
        let range = start..len.min(start + fragment as usize);
        Self { header: packet.encode(), body: Body::Payload(payload, range) }
    }
}
