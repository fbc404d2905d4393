//! Takes the headers of what arrived apart. Pure: what the wire says is all there is.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::Range;

use super::checksum::Sum;
use super::filter::{Filter, Verify};
use super::template::{ETHERNET, TYPE_V4, TYPE_V6, UDP, V4};
use crate::device::Count;

/// A datagram whose headers are right, from an address of one family, or of any.
#[derive(Clone, Copy, Debug)]
pub struct Headers<A = SocketAddr> {
    /// Who sent it, by the network's word.
    pub from: A,
    /// Where in the frame its payload begins.
    pub start: usize,
    /// Where it ends: what follows is padding.
    pub end: usize,
    /// The sum of the pseudo-header, if UDP's header and the payload must be summed to know whether
    /// they are right.
    pub unverified: Option<Sum>,
}

impl<A> Headers<A> {
    /// Where UDP's header begins, which UDP's checksum is over.
    #[inline(always)]
    pub fn summed_from(&self) -> usize {
        self.start - UDP_HEADER
    }

    /// Verifies the checksum where it must be, of a frame in one piece.
    ///
    /// # Errors
    /// [`Count::BadChecksum`].
    #[inline(always)]
    pub fn verified(self, frame: &[u8]) -> Result<Self, Count> {
        if let Some(sum) = self.unverified
            && !sum.and(Sum::of(&frame[self.summed_from()..self.end])).is_right()
        {
            return Err(Count::BadChecksum);
        }
        Ok(self)
    }
}

impl<A: Into<SocketAddr>> Headers<A> {
    fn of_any(self) -> Headers {
        let Self { from, start, end, unverified } = self;
        Headers { from: from.into(), start, end, unverified }
    }
}

/// Bytes of UDP's header.
const UDP_HEADER: usize = 8;

/// Takes a frame in one piece apart: who sent its payload, and where in the frame that is.
///
/// # Errors
/// As which of [`Count::DROPPED`] it is to be counted.
#[inline]
pub fn parse(frame: &[u8], filter: &Filter) -> Result<(SocketAddr, Range<usize>), Count> {
    let headers = match plain(frame, filter) {
        Plain::V4(headers) => headers?.of_any(),
        Plain::V6(headers) => headers?.of_any(),
        Plain::Not => parse_headers(frame, frame.len(), filter)?.verified(frame)?,
    };
    Ok((headers.from, headers.start..headers.end))
}

/// Takes the headers of a frame apart, of which `first` is all, or the first piece, and which has `len`
/// bytes in all. The payload lies within these.
///
/// # Errors
/// As [`parse`]; headers that are not in the first piece: [`Count::Truncated`].
pub fn parse_headers(first: &[u8], len: usize, filter: &Filter) -> Result<Headers, Count> {
    let Some((ethernet, packet)) = first.split_first_chunk::<ETHERNET>() else {
        return Err(Count::Truncated);
    };
    if ethernet[..6] != filter.mac {
        return Err(Count::Foreign);
    }
    let len = len - ETHERNET;
    match [ethernet[12], ethernet[13]] {
        TYPE_V4 => ipv4(packet, len, filter).map(Headers::of_any),
        TYPE_V6 => ipv6(packet, len, filter).map(Headers::of_any),
        _ => Err(Count::Foreign),
    }
}

/// What nearly all frames are, by their first bytes.
pub enum Plain {
    /// One in one piece, for us, with a header of IPv4 that has no options.
    V4(Result<Headers<SocketAddrV4>, Count>),
    /// The same, with one of IPv6.
    V6(Result<Headers<SocketAddrV6>, Count>),
    /// Anything else, which [`parse_headers`] judges.
    Not,
}

/// Takes the headers of a frame in one piece apart as [`parse_headers`] does, and verifies it, if it is a
/// plain one: with one check of bounds, and all places known beforehand.
#[inline(always)]
pub fn plain(frame: &[u8], filter: &Filter) -> Plain {
    let Some(headers) = frame.first_chunk::<{ ETHERNET + V4 }>() else { return Plain::Not };
    if headers[..6] != filter.mac {
        return Plain::Not;
    }
    let packet = &frame[ETHERNET..];
    match [headers[12], headers[13], headers[14]] {
        [0x08, 0x00, 0x45] => {
            let headers = ipv4_of(&headers[ETHERNET..], 20, packet.len(), filter);
            Plain::V4(headers.and_then(|headers| headers.verified(frame)))
        }
        [0x86, 0xdd, _] => {
            let headers = ipv6(packet, packet.len(), filter);
            Plain::V6(headers.and_then(|headers| headers.verified(frame)))
        }
        _ => Plain::Not,
    }
}

fn ipv4(packet: &[u8], len: usize, filter: &Filter) -> Result<Headers<SocketAddrV4>, Count> {
    let Some(fixed) = packet.first_chunk::<20>() else { return Err(Count::Truncated) };
    let header = usize::from(fixed[0] & 0xf) * 4;
    if fixed[0] >> 4 != 4 || header < 20 {
        return Err(Count::BadHeader);
    }
    ipv4_of(packet, header, len, filter)
}

/// One whose header has so many bytes, 20 at least.
#[inline(always)]
fn ipv4_of(
    packet: &[u8],
    header: usize,
    len: usize,
    filter: &Filter,
) -> Result<Headers<SocketAddrV4>, Count> {
    let Some(fixed) = packet.first_chunk::<20>() else { return Err(Count::Truncated) };
    let total = usize::from(number(fixed[2], fixed[3]));
    if total < header {
        return Err(Count::BadHeader);
    }
    if !Sum::of(packet.get(..header).ok_or(Count::Truncated)?).is_right() {
        return Err(Count::BadChecksum);
    }
    let from: [u8; 4] = [fixed[12], fixed[13], fixed[14], fixed[15]];
    let to: [u8; 4] = [fixed[16], fixed[17], fixed[18], fixed[19]];
    if fixed[9] != UDP || !filter.has_v4(&to) {
        return Err(Count::Foreign);
    }
    // All but the flag that forbids fragments: more of them, or not the first.
    let is_fragment = number(fixed[6], fixed[7]) & 0x3fff != 0;
    let from = Ipv4Addr::from(from);
    if is_fragment || from.is_multicast() || from.is_broadcast() || from.octets()[0] == 0 {
        return Err(Count::BadHeader);
    }
    if total > len {
        return Err(Count::Truncated);
    }
    let udp = Udp { packet, start: header, end: total, ends: Sum::of(&fixed[12..20]) };
    let (port, unverified) = udp.check(filter, true)?;
    let from = SocketAddrV4::new(from, port);
    let start = ETHERNET + header + UDP_HEADER;
    Ok(Headers { from, start, end: ETHERNET + total, unverified })
}

#[inline(always)]
fn ipv6(packet: &[u8], len: usize, filter: &Filter) -> Result<Headers<SocketAddrV6>, Count> {
    let Some(fixed) = packet.first_chunk::<40>() else { return Err(Count::Truncated) };
    if fixed[0] >> 4 != 6 {
        return Err(Count::BadHeader);
    }
    let (addresses, _) = fixed[8..].as_chunks::<16>();
    let [from, to] = addresses else { return Err(Count::BadHeader) };
    if !filter.has_v6(to) {
        return Err(Count::Foreign);
    }
    let from = Ipv6Addr::from(*from);
    match fixed[6] {
        _ if from.is_multicast() || from.is_unspecified() => return Err(Count::BadHeader),
        UDP => {}
        // Headers between, which nobody who sends to us has a use for; fragments are among them.
        0 | 43 | 44 | 51 | 60 => return Err(Count::BadHeader),
        _ => return Err(Count::Foreign),
    }
    let total = 40 + usize::from(number(fixed[4], fixed[5]));
    if total > len {
        return Err(Count::Truncated);
    }
    let udp = Udp { packet, start: 40, end: total, ends: Sum::of(&fixed[8..40]) };
    let (port, unverified) = udp.check(filter, filter.zero_over_v6)?;
    let from = SocketAddrV6::new(from, port, 0, 0);
    let start = ETHERNET + 40 + UDP_HEADER;
    Ok(Headers { from, start, end: ETHERNET + total, unverified })
}

/// What UDP's header is checked against.
struct Udp<'a> {
    packet: &'a [u8],
    /// Where its header begins.
    start: usize,
    /// Where the packet ends, by IP's word.
    end: usize,
    /// Of the two addresses.
    ends: Sum,
}

impl Udp<'_> {
    /// The sender's port, and the sum of the pseudo-header if the checksum must be verified.
    #[inline(always)]
    fn check(&self, filter: &Filter, may_be_zero: bool) -> Result<(u16, Option<Sum>), Count> {
        if self.end - self.start < UDP_HEADER {
            return Err(Count::BadHeader);
        }
        let header =
            self.packet.get(self.start..).and_then(|rest| rest.first_chunk::<UDP_HEADER>());
        let Some(header) = header else { return Err(Count::Truncated) };
        if number(header[2], header[3]) != filter.port {
            return Err(Count::Foreign);
        }
        let len = number(header[4], header[5]);
        if usize::from(len) != self.end - self.start {
            return Err(Count::BadHeader);
        }
        let port = number(header[0], header[1]);
        let pseudo = self.ends.number(u16::from(UDP)).number(len);
        let checksum = u16::from_ne_bytes([header[6], header[7]]);
        if checksum == 0 {
            return if may_be_zero { Ok((port, None)) } else { Err(Count::BadChecksum) };
        }
        match filter.verify {
            Verify::Not => Ok((port, None)),
            Verify::OrPartial if pseudo.fold() == checksum => Ok((port, None)),
            _ => Ok((port, Some(pseudo))),
        }
    }
}

#[inline(always)]
fn number(high: u8, low: u8) -> u16 {
    u16::from_be_bytes([high, low])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::template::{Ends, HEADERS, Template};
    use super::*;

    /// A frame to the filter's port, with 24 zeros; over IPv4 without UDP's checksum.
    fn frame(is_v6: bool) -> Vec<u8> {
        let address = if is_v6 { "[2001:db8::1]:7000" } else { "192.0.2.1:7000" };
        let end: SocketAddr = address.parse().expect("an address");
        let ends = Ends { from_mac: [2; 6], to_mac: [2; 6], from: end, to: end };
        let mut template = Template::new(&ends, true).expect("one family");
        let mut pool = fbufs::Pool::new(fbufs::PoolOptions::default()).expect("memory");
        let mut fbuf = pool.alloc_with_headroom(HEADERS, 24).expect("a buffer").freeze();
        assert!(template.push(&mut fbuf, 24, Sum::default()));
        fbuf.to_vec()
    }

    proptest! {
        /// The short way takes and refuses what the long one does, for the same reason.
        #[test]
        fn a_plain_frame_is_judged_as_any_other(
            is_v6 in any::<bool>(),
            changes in prop::collection::vec((0..80usize, any::<u8>()), 0..3),
            len in 0..90usize,
        ) {
            let mut bytes = frame(is_v6);
            for (place, value) in changes {
                if let Some(byte) = bytes.get_mut(place) {
                    *byte = value;
                }
            }
            bytes.truncate(len);
            let mut filter = Filter::new([2; 6], 7000);
            filter.set_addresses(["192.0.2.1", "2001:db8::1"].map(|it| it.parse().expect("one")));
            filter.zero_over_v6 = true;
            let all = |headers: Headers| (headers.from, headers.start, headers.end);
            let long = parse_headers(&bytes, bytes.len(), &filter);
            let long = long.and_then(|it| it.verified(&bytes)).map(all);
            match plain(&bytes, &filter) {
                Plain::V4(short) => prop_assert_eq!(short.map(Headers::of_any).map(all), long),
                Plain::V6(short) => prop_assert_eq!(short.map(Headers::of_any).map(all), long),
                Plain::Not => {}
            }
        }
    }
}
