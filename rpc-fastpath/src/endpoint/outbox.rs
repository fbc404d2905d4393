//! How a machine's packets go out: one in a message while one waits, several small ones in a message else.

use unet::{Channel, CloseReason, MAX_INLINE, Message, Offer, SendError};

use super::arriving::{PACK, PACKET};
use super::content::{Content, Kept, Piece};
use crate::protocol::{Body, Client, Server, Transmit};
use crate::wire::HEADER_BYTES;
use crate::wire::pack::{LENGTH_BYTES, LONGEST};

/// Packets up to this length, header included, go into a pack.
const PACKABLE: usize = 256;

/// How often to look for room, in nanoseconds: at most, and at least.
const SOON: u64 = 50_000;
const SELDOM: u64 = 2_000_000;

/// A state machine that has packets to send.
pub(super) trait Packets {
    fn next(&mut self, now: u64) -> Option<Transmit<'_, Content>>;
    /// Whether there may be another one.
    fn may_have_more(&self) -> bool;
    /// Whether the packet that was given out last has a payload that was not given out before.
    fn is_first(&self, head: &[u8; HEADER_BYTES]) -> bool;
    /// That packet cannot be sent: its payload was taken back by whose buffers it is in.
    fn revoke(&mut self, now: u64, head: &[u8; HEADER_BYTES], is_first: bool);
}

impl Packets for Client<Content, Piece> {
    #[inline(always)]
    fn next(&mut self, now: u64) -> Option<Transmit<'_, Content>> {
        self.poll_transmit(now)
    }

    #[inline(always)]
    fn may_have_more(&self) -> bool {
        self.may_transmit()
    }

    fn is_first(&self, head: &[u8; HEADER_BYTES]) -> bool {
        Client::is_first(self, head)
    }

    fn revoke(&mut self, _: u64, head: &[u8; HEADER_BYTES], is_first: bool) {
        Client::revoke(self, head, is_first);
    }
}

impl Packets for Server<Content, Piece> {
    #[inline(always)]
    fn next(&mut self, _: u64) -> Option<Transmit<'_, Content>> {
        self.poll_transmit()
    }

    #[inline(always)]
    fn may_have_more(&self) -> bool {
        self.may_transmit()
    }

    fn is_first(&self, _: &[u8; HEADER_BYTES]) -> bool {
        false
    }

    fn revoke(&mut self, now: u64, head: &[u8; HEADER_BYTES], _: bool) {
        Server::revoke(self, now, head);
    }
}

/// What was sent of what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Sent {
    /// All.
    All,
    /// As much as one turn permits.
    Turn,
    /// As much as the channel had room for.
    Full,
}

/// Why a packet cannot go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsent {
    Closed(CloseReason),
    /// The channel does not carry so much any more: what was agreed holds no longer.
    TooLarge,
    /// The payload was taken back by whose buffers it is in. Told to the machine, and to nobody else.
    Revoked([u8; HEADER_BYTES]),
}

/// What is between a machine and its channel: packets that the machine has given out and that are not sent yet.
#[derive(Debug)]
pub(super) struct Outbox {
    /// Packets, each behind its length.
    pack: Box<[u8; LONGEST]>,
    len: usize,
    count: u32,
    /// The most bytes of a pack on this channel.
    limit: usize,
    /// Whether it leads to another host, where foreign buffers are copied.
    is_far: bool,
    /// Packets that there was no room for, before those of the pack.
    late: Option<([u8; HEADER_BYTES], Late)>,
    /// Whether that one's payload was not given out before.
    late_is_first: bool,
    /// Whether something was posted that the device has not been told of.
    posted: bool,
    /// Since when the channel has taken nothing of what waits.
    full_since: Option<u64>,
}

#[derive(Debug)]
enum Late {
    Bytes(Vec<u8>),
    Message(Message),
}

impl Default for Outbox {
    fn default() -> Self {
        let pack = Box::new([0; LONGEST]);
        Self {
            pack,
            len: 0,
            count: 0,
            limit: MAX_INLINE,
            is_far: false,
            late: None,
            late_is_first: false,
            posted: false,
            full_since: None,
        }
    }
}

impl Outbox {
    /// Begins on a channel; what waited for another one is dropped.
    pub fn begin(&mut self, channel: &Channel) {
        let is_far = channel.peer_address().is_some();
        let limit = if is_far { channel.limit().min(LONGEST) } else { MAX_INLINE };
        self.clear();
        (self.limit, self.is_far) = (limit, is_far);
    }

    /// Drops what waits.
    pub fn clear(&mut self) {
        (self.len, self.count, self.late, self.full_since) = (0, 0, None, None);
    }

    /// Whether something waits for room.
    #[inline(always)]
    pub fn is_waiting(&self) -> bool {
        self.count > 0 || self.late.is_some()
    }

    /// Sends what waits, and what the machine has; at most so many packets.
    #[inline(always)]
    pub fn send(
        &mut self,
        channel: &mut Channel,
        machine: &mut impl Packets,
        now: u64,
        most: u32,
    ) -> Result<Sent, Unsent> {
        if !machine.may_have_more() && !self.is_waiting() {
            return Ok(Sent::All);
        }
        let sent = self.send_all(channel, machine, now, most);
        if std::mem::take(&mut self.posted) {
            channel.flush();
        }
        if sent == Ok(Sent::Full) {
            self.full_since.get_or_insert(now);
        }
        sent
    }

    /// When to look for room again, since nothing tells when there is: the less often, the longer there was none.
    pub fn next_try(&self, now: u64) -> u64 {
        let waited = self.full_since.map_or(0, |since| now.saturating_sub(since));
        now.saturating_add((waited / 8).clamp(SOON, SELDOM))
    }

    /// Whether the channel has taken nothing of what waits for longer than the patience.
    pub fn is_stuck(&self, now: u64, patience: u64) -> bool {
        self.full_since.is_some_and(|since| now.saturating_sub(since) > patience)
    }

    #[inline(always)]
    fn send_all(
        &mut self,
        channel: &mut Channel,
        machine: &mut impl Packets,
        now: u64,
        most: u32,
    ) -> Result<Sent, Unsent> {
        if self.late.is_some() {
            match self.send_late(channel) {
                Ok(true) => {}
                Ok(false) => return Ok(Sent::Full),
                Err(Unsent::Revoked(head)) => machine.revoke(now, &head, self.late_is_first),
                Err(why) => return Err(why),
            }
        }
        let mut sent = Sent::Turn;
        for _ in 0..most {
            let Some(packet) = machine.next(now) else {
                sent = Sent::All;
                break;
            };
            match self.put(channel, &packet) {
                Ok(true) => {}
                Ok(false) => {
                    let late = self.late.as_ref();
                    self.late_is_first = late.is_some_and(|(head, _)| machine.is_first(head));
                    sent = Sent::Full;
                    break;
                }
                Err(Unsent::Revoked(head)) => {
                    let is_first = machine.is_first(&head);
                    machine.revoke(now, &head, is_first);
                }
                Err(why) => return Err(why),
            }
            if !machine.may_have_more() {
                sent = Sent::All;
                break;
            }
        }
        if self.count > 0 && sent != Sent::Full && !self.send_pack(channel, true)? {
            sent = Sent::Full;
        }
        Ok(sent)
    }

    /// Takes a packet. `false` if there is no more room: it waits then.
    #[inline(always)]
    fn put(
        &mut self,
        channel: &mut Channel,
        packet: &Transmit<'_, Content>,
    ) -> Result<bool, Unsent> {
        let len = HEADER_BYTES + packet.body.len();
        if len > PACKABLE.min(self.limit) {
            return self.put_long(channel, packet);
        }
        if self.len + LENGTH_BYTES + len > self.limit.max(LENGTH_BYTES + len)
            && !self.send_pack(channel, false)?
        {
            // There is a place for one that found no room.
            return self.keep_late(packet);
        }
        let bytes = match &packet.body {
            Body::Empty => &[][..],
            Body::Control(bytes, len) => bytes.get(..*len).unwrap_or_default(),
            Body::Payload(content, range) => match content.as_slice() {
                Some(bytes) => bytes.get(range.clone()).unwrap_or_default(),
                None => return self.put_long(channel, packet),
            },
        };
        let to = &mut self.pack[self.len..];
        to[..LENGTH_BYTES].copy_from_slice(&(len as u16).to_le_bytes());
        to[LENGTH_BYTES..][..HEADER_BYTES].copy_from_slice(&packet.header);
        to[LENGTH_BYTES + HEADER_BYTES..][..bytes.len()].copy_from_slice(bytes);
        self.len += LENGTH_BYTES + len;
        self.count += 1;
        Ok(true)
    }

    /// Sends what is packed: a single packet as itself. `false` if there is no room.
    #[inline(always)]
    fn send_pack(&mut self, channel: &mut Channel, is_last: bool) -> Result<bool, Unsent> {
        let (tag, bytes) = match self.count {
            1 => (PACKET, &self.pack[LENGTH_BYTES..self.len]),
            _ => (PACK, &self.pack[..self.len]),
        };
        // A header stands in the slot, beside whatever follows it.
        let split =
            if tag == PACK || bytes.len() <= MAX_INLINE { bytes.len() } else { HEADER_BYTES };
        let (head, rest) = match tag {
            PACK if bytes.len() > MAX_INLINE => (&[][..], bytes),
            _ => bytes.split_at(split),
        };
        let offer = match is_last {
            true => channel.try_send_parts(tag, head, rest),
            false => channel.try_post_parts(tag, head, rest),
        };
        let is_taken = taken(offer)?;
        if is_taken {
            (self.len, self.count, self.full_since) = (0, 0, None);
            self.posted = !is_last;
        }
        Ok(is_taken)
    }

    /// A packet that is a message of its own.
    #[inline(never)]
    fn put_long(
        &mut self,
        channel: &mut Channel,
        packet: &Transmit<'_, Content>,
    ) -> Result<bool, Unsent> {
        if self.count > 0 && !self.send_pack(channel, false)? {
            return self.keep_late(packet);
        }
        let Body::Payload(content, range) = &packet.body else { return self.keep_late(packet) };
        // On this host a message is handed over, and not copied.
        let is_copied = self.is_far || content.as_slice().is_some();
        let bytes = if is_copied { content.slice(range.clone()) } else { None };
        let is_taken = match bytes {
            Some(bytes) => taken(channel.try_post_parts(PACKET, &packet.header, bytes))?,
            None => {
                self.keep_late(packet)?;
                self.send_late(channel)?
            }
        };
        if is_taken {
            (self.posted, self.full_since) = (true, None);
        }
        if is_taken || self.late.is_some() { Ok(is_taken) } else { self.keep_late(packet) }
    }

    /// Keeps what there is no room for.
    #[cold]
    fn keep_late(&mut self, packet: &Transmit<'_, Content>) -> Result<bool, Unsent> {
        let late = match &packet.body {
            Body::Empty => Late::Bytes(Vec::new()),
            Body::Control(bytes, len) => Late::Bytes(bytes.get(..*len).unwrap_or_default().into()),
            Body::Payload(Content(Kept::Message(message)), range) => {
                let mut part = Message::clone(message);
                part.skip(range.start);
                part.truncate(range.len());
                Late::Message(part)
            }
            Body::Payload(content, range) => {
                let bytes = content.as_slice().and_then(|bytes| bytes.get(range.clone()));
                Late::Bytes(bytes.unwrap_or_default().to_vec())
            }
        };
        self.late = Some((packet.header, late));
        Ok(false)
    }

    /// Sends what found no room before. `false` if there still is none.
    #[inline(never)]
    fn send_late(&mut self, channel: &mut Channel) -> Result<bool, Unsent> {
        // What was packed before it goes before it.
        if self.count > 0 && !self.send_pack(channel, false)? {
            return Ok(false);
        }
        let Some((header, late)) = self.late.take() else { return Ok(true) };
        let bytes = match late {
            Late::Bytes(bytes) => bytes,
            Late::Message(message) => {
                let foreign = if self.is_far { Message::new() } else { message.clone() };
                match channel.try_post_message(PACKET, message, &header) {
                    Ok(Offer::Taken) => {
                        (self.posted, self.full_since) = (true, None);
                        return Ok(true);
                    }
                    Ok(Offer::Full(message)) => {
                        self.late = Some((header, Late::Message(message)));
                        return Ok(false);
                    }
                    Err(SendError::Closed(reason)) => return Err(Unsent::Closed(reason)),
                    Err(SendError::Revoked) => return Err(Unsent::Revoked(header)),
                    Err(_) if self.is_far => return Err(Unsent::TooLarge),
                    // Of another channel's buffers, or of too many parts: as bytes, then.
                    Err(_) => foreign.to_vec().map_err(|_| Unsent::Revoked(header))?,
                }
            }
        };
        let joined;
        let (head, rest) = match bytes.len() {
            len if HEADER_BYTES + len <= MAX_INLINE => {
                joined = [&header[..], &bytes].concat();
                (&joined[..], &[][..])
            }
            _ => (&header[..], &bytes[..]),
        };
        let is_taken = taken(channel.try_post_parts(PACKET, head, rest))?;
        self.posted |= is_taken;
        match is_taken {
            true => self.full_since = None,
            false => self.late = Some((header, Late::Bytes(bytes))),
        }
        Ok(is_taken)
    }
}

#[inline(always)]
fn taken(offer: Result<Offer, SendError>) -> Result<bool, Unsent> {
    match offer {
        Ok(Offer::Taken) => Ok(true),
        Ok(Offer::Full(())) => Ok(false),
        Err(SendError::Closed(reason)) => Err(Unsent::Closed(reason)),
        // No buffer of the channel's own is foreign, and none is guarded.
        Err(_) => Err(Unsent::TooLarge),
    }
}
