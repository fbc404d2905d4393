//! The header of version 6 with its extensions, received and sent.

use std::net::Ipv6Addr;

use etherparse::{IpFragOffset, IpNumber, Ipv6FragmentHeader, Ipv6Header};

use super::HEADER;
use crate::layers::reassembly::Place;
use crate::{Message, Reason};

/// Hops that our packets may pass.
const HOP_LIMIT: u8 = 64;
/// Extension headers in one packet.
const EXTENSIONS: usize = 8;
/// The longest headers altogether, so that they can be taken off at once.
const LONGEST_HEADERS: usize = 256;
/// How long a fragment header is.
pub(super) const FRAGMENT: usize = 8;

/// What a received packet's headers say, checked against themselves and against the message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received {
    pub from: Ipv6Addr,
    pub to: Ipv6Addr,
    /// What the payload is.
    pub protocol: u8,
    pub hop_limit: u8,
    /// The header and its extensions.
    pub headers_len: usize,
    pub payload_len: usize,
    /// Of a fragment: its place, and what it is part of.
    pub fragment: Option<(Place, u32)>,
    /// The header as it came, to be quoted in an error.
    pub bytes: [u8; HEADER],
}

impl Received {
    /// Reads a message's headers.
    ///
    /// # Errors
    /// Why the message is to be dropped.
    ///
    /// # Cost
    /// A copy of the header, and of each extension.
    pub(super) fn read(message: &Message) -> Result<Self, Reason> {
        let mut bytes = [0; HEADER];
        message.peek(0, &mut bytes).map_err(|_| Reason::Malformed)?;
        let (header, _) = Ipv6Header::from_slice(&bytes).map_err(|_| Reason::Malformed)?;
        let len = usize::from(header.payload_length);
        if HEADER + len > message.len() {
            return Err(Reason::Malformed);
        }
        if header.hop_limit == 0 {
            return Err(Reason::HopLimit);
        }
        let mut received = Self {
            from: header.source.into(),
            to: header.destination.into(),
            protocol: header.next_header.0,
            hop_limit: header.hop_limit,
            headers_len: HEADER,
            payload_len: len,
            fragment: None,
            bytes,
        };
        received.pass_extensions(message, HEADER + len)?;
        Ok(received)
    }

    /// The header to quote: without extensions, so that it says so itself.
    pub(super) fn quote(&self) -> [u8; HEADER] {
        let mut bytes = self.bytes;
        bytes[4..6].copy_from_slice(&(self.payload_len as u16).to_be_bytes());
        bytes[6] = self.protocol;
        bytes
    }

    fn pass_extensions(&mut self, message: &Message, end: usize) -> Result<(), Reason> {
        for _extension in 0..EXTENSIONS {
            let kind = IpNumber(self.protocol);
            let at = self.headers_len;
            let known = [
                IpNumber::IPV6_HEADER_HOP_BY_HOP,
                IpNumber::IPV6_ROUTE_HEADER,
                IpNumber::IPV6_FRAGMENTATION_HEADER,
                IpNumber::IPV6_DESTINATION_OPTIONS,
            ];
            if !known.contains(&kind) {
                self.payload_len = end - at;
                return Ok(());
            }
            // Of what a fragment carries only the first bytes may be there: not looked into.
            if self.fragment.is_some() {
                return Err(Reason::Unsupported);
            }
            let mut first = [0; FRAGMENT];
            message.peek(at, &mut first).map_err(|_| Reason::Malformed)?;
            let mut len = (usize::from(first[1]) + 1) * 8;
            if kind == IpNumber::IPV6_FRAGMENTATION_HEADER {
                len = FRAGMENT;
                self.note_fragment(first)?;
            }
            if at + len > end.min(LONGEST_HEADERS) {
                return Err(Reason::Malformed);
            }
            match kind {
                // It may come first only (RFC 8200, section 4.1).
                IpNumber::IPV6_HEADER_HOP_BY_HOP if at > HEADER => return Err(Reason::Malformed),
                IpNumber::IPV6_HEADER_HOP_BY_HOP | IpNumber::IPV6_DESTINATION_OPTIONS => {
                    pass_options(message, at, len)?;
                }
                // Nothing of the route may be left: we are its end and send nothing on.
                IpNumber::IPV6_ROUTE_HEADER if first[3] != 0 => return Err(Reason::Unsupported),
                _ => {}
            }
            self.protocol = first[0];
            self.headers_len += len;
        }
        Err(Reason::Malformed)
    }

    fn note_fragment(&mut self, bytes: [u8; FRAGMENT]) -> Result<(), Reason> {
        let (header, _) = Ipv6FragmentHeader::from_slice(&bytes).map_err(|_| Reason::Malformed)?;
        let place = Place {
            offset: usize::from(header.fragment_offset.byte_offset()),
            more: header.more_fragments,
        };
        // An atomic one is complete by itself (RFC 6946).
        if place.more || place.offset > 0 {
            self.fragment = Some((place, header.identification));
        }
        Ok(())
    }
}

/// Looks through the options of an extension header: those that we do not know, which is all, are
/// skipped if they say so and refused if not (RFC 8200, section 4.2).
fn pass_options(message: &Message, at: usize, len: usize) -> Result<(), Reason> {
    let mut bytes = [0; LONGEST_HEADERS];
    let options = &mut bytes[..len];
    message.peek(at, options).map_err(|_| Reason::Malformed)?;
    let mut rest = &options[2..];
    while let [kind, behind @ ..] = rest {
        if *kind == 0 {
            rest = behind;
            continue;
        }
        let [len, behind @ ..] = behind else { return Err(Reason::Malformed) };
        if kind >> 6 != 0 {
            return Err(Reason::Unsupported);
        }
        rest = behind.get(usize::from(*len)..).ok_or(Reason::Malformed)?;
    }
    Ok(())
}

/// The header of a packet of ours.
pub(super) fn to_send(
    from: Ipv6Addr,
    to: Ipv6Addr,
    protocol: u8,
    hop_limit: Option<u8>,
    payload_len: usize,
) -> [u8; HEADER] {
    let header = Ipv6Header {
        // It fits: the caller has looked.
        payload_length: payload_len as u16,
        next_header: IpNumber(protocol),
        hop_limit: hop_limit.unwrap_or(HOP_LIMIT),
        source: from.octets(),
        destination: to.octets(),
        ..Ipv6Header::default()
    };
    header.to_bytes()
}

/// The header of a fragment of ours.
pub(super) fn fragment_to_send(protocol: u8, place: Place, identification: u32) -> [u8; FRAGMENT] {
    // Offsets come in units of eight bytes and fit: the caller cuts them so.
    let offset = IpFragOffset::try_new((place.offset / 8) as u16).unwrap_or_default();
    Ipv6FragmentHeader::new(IpNumber(protocol), offset, place.more, identification).to_bytes()
}
