//! The packets of a message that arrived.

use unet::{Channel, Delivery, Part};

use super::content::{Piece, View};
use crate::wire::{HEADER_BYTES, pack};

/// The tag of a message that is one packet.
pub(super) const PACKET: u16 = 0;
/// The tag of a message that is several.
pub(super) const PACK: u16 = 1;

/// Buffers of the peer's that may wait for the rest of their message; further ones are copied, so that the peer
/// can go on.
const MOST_HELD: usize = 4;

/// A packet, as a machine takes it.
pub(super) struct Arrived<'a> {
    /// The header, and all that follows it where that stands in the slot.
    pub head: &'a [u8],
    /// How many bytes follow the header.
    pub len: usize,
    /// The handle of what follows.
    pub piece: Piece,
    /// What follows, where the handle says that it is here.
    pub here: View<'a>,
}

/// What a channel can carry, and what is held of the peer's now.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// The most bytes behind a header, as agreed.
    pub fragment: usize,
    /// The peer's buffers that are held.
    pub held: usize,
}

impl Bounds {
    /// Those for a message that arrived on a channel.
    #[inline(always)]
    pub fn of(delivery: &Delivery, fragment: usize, channel: &Channel) -> Self {
        // Counted where it is asked for.
        let is_kept = delivery.tag() == PACKET && is_long(delivery.inline());
        Self { fragment, held: if is_kept { channel.held() } else { 0 } }
    }
}

/// Passes each packet of a message on. How many were dropped that are none.
#[inline(always)]
pub(super) fn packets(
    delivery: &mut Delivery,
    space: &mut Vec<u8>,
    bounds: Bounds,
    mut each: impl FnMut(Arrived<'_>),
) -> u64 {
    let inline = delivery.inline();
    if delivery.tag() != PACKET {
        return unpack(delivery, space, each);
    }
    let beside = delivery.message().len();
    let Some(len) = inline.len().checked_sub(HEADER_BYTES) else { return 1 };
    if is_long(inline) {
        return keep(delivery, bounds, each);
    }
    if beside == 0 {
        let here = View::Slice(&inline[HEADER_BYTES..]);
        each(Arrived { head: inline, len, piece: Piece::Here, here });
    } else if len == 0 {
        let here = View::Message(delivery.message());
        each(Arrived { head: inline, len: beside, piece: Piece::Here, here });
    } else {
        return 1;
    }
    0
}

/// Whether what follows a header is a part of a longer message, and is kept until that is whole.
#[inline(always)]
fn is_long(head: &[u8]) -> bool {
    match *head {
        [kind, _, _, _, _, _, low, high, ..] => {
            (low | high) != 0 && matches!(kind, 0x02 | 0x03 | 0x82 | 0x83)
        }
        _ => false,
    }
}

#[cold]
fn keep(delivery: &mut Delivery, bounds: Bounds, mut each: impl FnMut(Arrived<'_>)) -> u64 {
    let inline = delivery.inline();
    let Some((header, rest)) = inline.split_first_chunk::<HEADER_BYTES>() else { return 1 };
    let (header, here) = (*header, View::Slice(&[]));
    let (len, piece) = match (rest.len(), delivery.message().len()) {
        (len, 0) => (len, Piece::Bytes(rest.to_vec())),
        // Nothing is copied that no honest peer sends.
        (0, len) if len <= bounds.fragment => {
            let mut message = delivery.take_message();
            let is_kept = match message.parts() {
                // It is copied where it is put together with others.
                [Part::Own(_)] => true,
                [Part::Peer(_)] => bounds.held < MOST_HELD,
                _ => false,
            };
            match is_kept.then(|| message.pop_part()).flatten() {
                Some(part) => (len, Piece::Part(part)),
                None => match message.to_vec() {
                    Ok(bytes) => (len, Piece::Bytes(bytes)),
                    // The sender took it back.
                    Err(_) => return 1,
                },
            }
        }
        _ => return 1,
    };
    each(Arrived { head: &header, len, piece, here });
    0
}

#[inline(never)]
fn unpack(delivery: &mut Delivery, space: &mut Vec<u8>, mut each: impl FnMut(Arrived<'_>)) -> u64 {
    let (inline, message) = (delivery.inline(), delivery.message());
    let bytes = match message.parts() {
        _ if delivery.tag() != PACK => return 1,
        [] => inline,
        _ if message.len() > pack::LONGEST || !inline.is_empty() => return 1,
        [Part::Own(fbuf)] => fbuf,
        _ => {
            space.clear();
            space.resize(message.len(), 0);
            if message.peek(0, space).is_err() {
                return 1;
            }
            space
        }
    };
    let mut dropped = 0;
    for packet in pack::packets(bytes) {
        let Ok(head) = packet else {
            dropped += 1;
            continue;
        };
        let here = View::Slice(&head[HEADER_BYTES..]);
        let len = head.len() - HEADER_BYTES;
        let piece = match is_long(head) {
            true => Piece::Bytes(head[HEADER_BYTES..].to_vec()),
            false => Piece::Here,
        };
        each(Arrived { head, len, piece, here });
    }
    dropped
}
