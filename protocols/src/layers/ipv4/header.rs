//! The header of version 4, received and sent.

use std::net::Ipv4Addr;

use etherparse::{IpFragOffset, IpNumber, Ipv4Header};

use super::HEADER;
use crate::layers::internet_checksum;
use crate::layers::reassembly::Place;
use crate::{Message, Participants, Reason, Refusal};

/// Hops that our packets may pass.
const TIME_TO_LIVE: u8 = 64;

/// What a received header says, checked against itself and against the message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received {
    pub from: Ipv4Addr,
    pub to: Ipv4Addr,
    pub protocol: u8,
    pub identification: u16,
    pub header_len: usize,
    pub payload_len: usize,
    pub place: Place,
    /// The header without options as it came, to be quoted in an error.
    pub bytes: [u8; HEADER],
}

impl Received {
    /// Reads a message's header.
    ///
    /// # Errors
    /// Why the message is to be dropped.
    pub(super) fn read(message: &Message) -> Result<Self, Reason> {
        let mut bytes = [0; 60];
        message.peek(0, &mut bytes[..HEADER]).map_err(|_| Reason::Malformed)?;
        let header_len = usize::from(bytes[0] & 0xf) * 4;
        if header_len < HEADER {
            return Err(Reason::Malformed);
        }
        let rest = &mut bytes[HEADER..header_len];
        message.peek(HEADER, rest).map_err(|_| Reason::Malformed)?;
        let (header, _) =
            Ipv4Header::from_slice(&bytes[..header_len]).map_err(|_| Reason::Malformed)?;
        if internet_checksum::of(&bytes[..header_len]) != 0 {
            return Err(Reason::Checksum);
        }
        let total = usize::from(header.total_len);
        let payload_len = total.checked_sub(header_len).ok_or(Reason::Malformed)?;
        if total > message.len() {
            return Err(Reason::Malformed);
        }
        if header.time_to_live == 0 {
            return Err(Reason::HopLimit);
        }
        let mut quoted = [0; HEADER];
        quoted.copy_from_slice(&bytes[..HEADER]);
        Ok(Self {
            from: header.source.into(),
            to: header.destination.into(),
            protocol: header.protocol.0,
            identification: header.identification,
            header_len,
            payload_len,
            place: Place {
                offset: usize::from(header.fragment_offset.byte_offset()),
                more: header.more_fragments,
            },
            bytes: quoted,
        })
    }

    pub(super) fn is_fragment(&self) -> bool {
        self.place.more || self.place.offset > 0
    }

    /// The header to quote: without options, so that it says so itself.
    pub(super) fn quote(&self) -> [u8; HEADER] {
        let mut bytes = self.bytes;
        let total = (HEADER + self.payload_len) as u16;
        bytes[0] = 0x45;
        bytes[2..4].copy_from_slice(&total.to_be_bytes());
        if self.is_fragment() {
            // It was put together.
            bytes[6..8].fill(0);
        }
        bytes[10..12].fill(0);
        let sum = internet_checksum::of(&bytes);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        bytes
    }
}

/// The header of a packet of ours.
pub(super) fn to_send(
    from: Ipv4Addr,
    to: Ipv4Addr,
    protocol: u8,
    identification: u16,
    place: Place,
    payload_len: usize,
) -> [u8; HEADER] {
    // Offsets come in units of eight bytes and fit, as does the length: the caller cuts them so.
    let fragment_offset = IpFragOffset::try_new((place.offset / 8) as u16).unwrap_or_default();
    let mut header = Ipv4Header {
        total_len: (HEADER + payload_len) as u16,
        identification,
        fragment_offset,
        more_fragments: place.more,
        time_to_live: TIME_TO_LIVE,
        protocol: IpNumber(protocol),
        source: from.octets(),
        destination: to.octets(),
        ..Ipv4Header::default()
    };
    header.dont_fragment = false;
    header.header_checksum = header.calc_header_checksum();
    let mut bytes = [0; HEADER];
    bytes.copy_from_slice(&header.to_bytes()[..HEADER]);
    bytes
}

/// The number of the protocol above, from its participants.
pub(super) fn protocol_of(who: &Participants) -> Result<u8, Refusal> {
    let selector = who.selector.and_then(|selector| u8::try_from(selector).ok());
    selector.ok_or(Refusal::Missing("IP protocol number (selector)"))
}
