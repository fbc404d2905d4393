//! The headers of what goes to one destination: written once, with the sums of all that stays as it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use fbufs::Fbuf;

use super::checksum::Sum;

/// Bytes of an Ethernet header.
pub const ETHERNET: usize = 14;
/// Bytes of the headers of IPv4 and UDP.
pub const V4: usize = 28;
/// Bytes of the headers of IPv6 and UDP.
pub const V6: usize = 48;
/// The most bytes of headers.
pub const HEADERS: usize = ETHERNET + V6;

/// The number of UDP among the protocols over IP.
pub const UDP: u8 = 17;
/// The Ethernet type of IPv4.
pub const TYPE_V4: [u8; 2] = [0x08, 0x00];
/// The Ethernet type of IPv6.
pub const TYPE_V6: [u8; 2] = [0x86, 0xdd];
const HOPS: u8 = 64;

/// The headers of what goes to one destination.
#[derive(Clone, Debug)]
pub enum Template {
    /// Over IPv4.
    V4(Template4),
    /// Over IPv6.
    V6(Template6),
}

/// Ethernet, IPv4 and UDP.
#[derive(Clone, Debug)]
pub struct Template4 {
    bytes: [u8; ETHERNET + V4],
    /// Of the IPv4 header, without its length.
    header: Sum,
    /// Of the pseudo-header and the ports, without the lengths. `None`: no checksum.
    ports: Option<Sum>,
    /// Bytes of the packet whose lengths and header checksum stand there: mostly the next is as long.
    total: u16,
}

/// Ethernet, IPv6 and UDP.
#[derive(Clone, Debug)]
pub struct Template6 {
    bytes: [u8; ETHERNET + V6],
    ports: Sum,
    /// Bytes of UDP's header and the payload whose lengths stand there.
    udp: u16,
}

/// Who sends to whom. Both addresses are of one family.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// From which Ethernet address.
    pub from_mac: [u8; 6],
    /// To which.
    pub to_mac: [u8; 6],
    /// From which address and port.
    pub from: SocketAddr,
    /// To which.
    pub to: SocketAddr,
}

impl Template {
    /// Writes the headers; `omit` leaves out UDP's checksum, which only IPv4 allows. `None` if the
    /// addresses are of two families.
    pub fn new(ends: &Ends, omit: bool) -> Option<Self> {
        match (ends.from.ip(), ends.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                Some(Self::V4(Template4::new(ends, from, to, omit)))
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => Some(Self::V6(Template6::new(ends, from, to))),
            _ => None,
        }
    }

    /// Bytes of the headers of IP and UDP.
    #[inline(always)]
    pub fn over_ethernet(&self) -> usize {
        match self {
            Self::V4(_) => V4,
            Self::V6(_) => V6,
        }
    }

    /// Whether the payload's sum goes into the headers.
    #[inline(always)]
    pub fn is_summed(&self) -> bool {
        match self {
            Self::V4(template) => template.ports.is_some(),
            Self::V6(_) => true,
        }
    }

    /// Writes the headers of a payload of `len` bytes, which with those of IP and UDP are no more than
    /// 65,535, before the first piece of it, where there is room for them. `false`, and nothing written, where
    /// others share its buffer.
    #[inline(always)]
    #[must_use]
    pub fn push(&mut self, first: &mut Fbuf, len: usize, payload: Sum) -> bool {
        match self {
            Self::V4(template) => template.push(first, len, payload),
            Self::V6(template) => template.push(first, len, payload),
        }
    }
}

fn ethernet(bytes: &mut [u8], ends: &Ends, kind: [u8; 2]) {
    bytes[..6].copy_from_slice(&ends.to_mac);
    bytes[6..12].copy_from_slice(&ends.from_mac);
    bytes[12..14].copy_from_slice(&kind);
}

fn ports(bytes: &mut [u8], ends: &Ends) {
    bytes[..2].copy_from_slice(&ends.from.port().to_be_bytes());
    bytes[2..4].copy_from_slice(&ends.to.port().to_be_bytes());
}

impl Template4 {
    fn new(ends: &Ends, from: Ipv4Addr, to: Ipv4Addr, omit: bool) -> Self {
        let mut bytes = [0; ETHERNET + V4];
        ethernet(&mut bytes, ends, TYPE_V4);
        let ip = &mut bytes[ETHERNET..];
        ip[0] = 0x45;
        // Not to be fragmented; the identification may be zero then (RFC 6864).
        ip[6] = 0x40;
        ip[8] = HOPS;
        ip[9] = UDP;
        ip[12..16].copy_from_slice(&from.octets());
        ip[16..20].copy_from_slice(&to.octets());
        ports(&mut ip[20..], ends);
        let header = Sum::of(&ip[..20]);
        let ports = Sum::of(&ip[12..24]).number(u16::from(UDP));
        Self { bytes, header, ports: (!omit).then_some(ports), total: 0 }
    }

    /// As [`Template::push`]. What stays is not written here for each packet: it would have to be waited
    /// for, to be read again at once.
    #[inline(always)]
    fn push(&mut self, first: &mut Fbuf, len: usize, payload: Sum) -> bool {
        let (total, udp) = ((len + V4) as u16, (len + 8) as u16);
        if total != self.total {
            self.total = total;
            self.bytes[16..18].copy_from_slice(&total.to_be_bytes());
            self.bytes[24..26].copy_from_slice(&self.header.number(total).checksum());
            self.bytes[38..40].copy_from_slice(&udp.to_be_bytes());
        }
        let Some(ports) = self.ports else { return first.push(&self.bytes) };
        let checksum = never_zero(ports.number(udp).number(udp).and(payload));
        first.push(&checksum) && first.push(&self.bytes[..40])
    }
}

impl Template6 {
    fn new(ends: &Ends, from: Ipv6Addr, to: Ipv6Addr) -> Self {
        let mut bytes = [0; ETHERNET + V6];
        ethernet(&mut bytes, ends, TYPE_V6);
        let ip = &mut bytes[ETHERNET..];
        ip[0] = 0x60;
        ip[6] = UDP;
        ip[7] = HOPS;
        ip[8..24].copy_from_slice(&from.octets());
        ip[24..40].copy_from_slice(&to.octets());
        ports(&mut ip[40..], ends);
        let ports = Sum::of(&ip[8..44]).number(u16::from(UDP));
        Self { bytes, ports, udp: 0 }
    }

    /// As [`Template4::push`].
    #[inline(always)]
    fn push(&mut self, first: &mut Fbuf, len: usize, payload: Sum) -> bool {
        let udp = (len + 8) as u16;
        if udp != self.udp {
            self.udp = udp;
            self.bytes[18..20].copy_from_slice(&udp.to_be_bytes());
            self.bytes[58..60].copy_from_slice(&udp.to_be_bytes());
        }
        let checksum = never_zero(self.ports.number(udp).number(udp).and(payload));
        first.push(&checksum) && first.push(&self.bytes[..60])
    }
}

/// UDP's checksum: zero would say that there is none, and its other form is sent (RFC 768).
#[inline(always)]
fn never_zero(sum: Sum) -> [u8; 2] {
    match sum.checksum() {
        [0, 0] => [0xff, 0xff],
        other => other,
    }
}
