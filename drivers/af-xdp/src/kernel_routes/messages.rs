//! What the kernel says by rtnetlink: as much of it as a way to a destination takes.
//!
//! The headers and the few attributes that matter are read one by one, and everything else is passed
//! over: a reader of whole messages (netlink-packet-route) refuses a link for one attribute that a newer
//! kernel writes otherwise. What is cut short or garbled is not there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::NlasIterator;

/// A message that matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// An interface, or what changed about it.
    Link(Link),
    /// An address of an interface.
    Address(Address),
    /// A way; or that the ways have changed.
    Way(Way),
    /// A neighbour.
    Neighbour(Neighbour),
}

/// An interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// It is gone.
    pub gone: bool,
    /// What it is: `ARPHRD_*`.
    pub kind: u16,
    /// Its flags: `IFF_*`.
    pub flags: u32,
    /// The most bytes of a packet.
    pub mtu: Option<u32>,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The interface's number.
    pub index: u32,
    /// Whether packets may come in for it: it is not on trial, nor found to be somebody else's.
    pub usable: bool,
    /// The address.
    pub address: Option<IpAddr>,
}

/// A way to a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// What it is: `RTN_*`.
    pub kind: u8,
    /// The interface's number.
    pub index: Option<u32>,
    /// The next hop; the destination itself, if `None`.
    pub gateway: Option<IpAddr>,
    /// The address to send from.
    pub source: Option<IpAddr>,
    /// The most bytes of a packet.
    pub mtu: Option<u32>,
}

/// A neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The interface's number.
    pub index: u32,
    /// Its address.
    pub address: Option<IpAddr>,
    /// What is known of it: `NUD_*`; nothing if it was removed.
    pub state: u16,
    /// Its Ethernet address.
    pub mac: Option<[u8; 6]>,
}

impl Neighbour {
    /// Its Ethernet address, if the kernel itself would send there.
    pub fn usable_mac(&self) -> Option<[u8; 6]> {
        const USABLE: u16 = libc::NUD_REACHABLE
            | libc::NUD_STALE
            | libc::NUD_DELAY
            | libc::NUD_PROBE
            | libc::NUD_PERMANENT
            | libc::NUD_NOARP;
        self.mac.filter(|_| self.state & USABLE != 0)
    }
}

/// Reads the body of a message of some kind (`RTM_*`). `None` if it is of no interest, or garbled.
pub fn read(kind: u16, body: &[u8]) -> Option<Message> {
    match kind {
        libc::RTM_NEWLINK | libc::RTM_DELLINK => {
            link(body, kind == libc::RTM_DELLINK).map(Message::Link)
        }
        libc::RTM_NEWADDR | libc::RTM_DELADDR => address(body).map(Message::Address),
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE => way(body).map(Message::Way),
        libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH => {
            neighbour(body, kind == libc::RTM_DELNEIGH).map(Message::Neighbour)
        }
        _ => None,
    }
}

/// The attributes behind a header, until one is garbled. By number, without its flags.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(Result::ok).map(|attribute| {
        let kind = attribute.kind();
        let value = attribute.into_inner();
        let len = usize::from(u16::from_ne_bytes([value[0], value[1]]));
        (kind, value.get(4..len).unwrap_or_default())
    })
}

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_ne_bytes)
}

/// An address of a family.
fn ip(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    match i32::from(family) {
        libc::AF_INET => <[u8; 4]>::try_from(bytes).ok().map(|bytes| Ipv4Addr::from(bytes).into()),
        libc::AF_INET6 => {
            <[u8; 16]>::try_from(bytes).ok().map(|bytes| Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

/// `struct ifinfomsg`.
fn link(body: &[u8], gone: bool) -> Option<Link> {
    let (header, rest) = body.split_first_chunk::<16>()?;
    // A bridge's ports have messages of their own, which tell of the bridge.
    if header[0] != libc::AF_UNSPEC as u8 {
        return None;
    }
    let mtu = attributes(rest).find(|(kind, _)| *kind == libc::IFLA_MTU);
    Some(Link {
        index: number(&header[4..8])?,
        gone,
        kind: u16::from_ne_bytes([header[2], header[3]]),
        flags: number(&header[8..12])?,
        mtu: mtu.and_then(|(_, value)| number(value)),
    })
}

/// `struct ifaddrmsg`.
fn address(body: &[u8]) -> Option<Address> {
    const ON_TRIAL: u32 = libc::IFA_F_TENTATIVE | libc::IFA_F_DADFAILED;
    let (header, rest) = body.split_first_chunk::<8>()?;
    let (mut local, mut other, mut flags) = (None, None, u32::from(header[2]));
    for (kind, value) in attributes(rest) {
        match kind {
            libc::IFA_LOCAL => local = ip(header[0], value),
            // The peer's, where there is a local one.
            libc::IFA_ADDRESS => other = ip(header[0], value),
            libc::IFA_FLAGS => flags = number(value).unwrap_or(flags),
            _ => {}
        }
    }
    // One that is on trial may be used where that is allowed for (RFC 4429).
    let usable = flags & ON_TRIAL == 0 || flags & libc::IFA_F_OPTIMISTIC != 0;
    Some(Address { index: number(&header[4..8])?, usable, address: local.or(other) })
}

/// `struct rtmsg`.
fn way(body: &[u8]) -> Option<Way> {
    let (header, rest) = body.split_first_chunk::<12>()?;
    let mut way = Way { kind: header[7], ..Way::default() };
    for (kind, value) in attributes(rest) {
        match kind {
            libc::RTA_OIF => way.index = number(value),
            libc::RTA_GATEWAY => way.gateway = ip(header[0], value),
            // A next hop of the other family: `struct rtvia`.
            libc::RTA_VIA => {
                way.gateway = value.split_first_chunk::<2>().and_then(|(family, address)| {
                    ip(u8::try_from(u16::from_ne_bytes(*family)).ok()?, address)
                });
            }
            libc::RTA_PREFSRC => way.source = ip(header[0], value),
            libc::RTA_METRICS => {
                let mtu = attributes(value).find(|(kind, _)| *kind == RTAX_MTU);
                way.mtu = mtu.and_then(|(_, value)| number(value)).filter(|mtu| *mtu != 0);
            }
            _ => {}
        }
    }
    Some(way)
}

/// `RTAX_MTU` of linux/rtnetlink.h.
const RTAX_MTU: u16 = 2;

/// `struct ndmsg`.
fn neighbour(body: &[u8], removed: bool) -> Option<Neighbour> {
    let (header, rest) = body.split_first_chunk::<12>()?;
    let (mut address, mut mac) = (None, None);
    for (kind, value) in attributes(rest) {
        match kind {
            libc::NDA_DST => address = ip(header[0], value),
            libc::NDA_LLADDR => mac = value.try_into().ok(),
            _ => {}
        }
    }
    let state = u16::from_ne_bytes([header[8], header[9]]);
    let state = if removed { libc::NUD_NONE } else { state };
    Some(Neighbour { index: number(&header[4..8])?, address, state, mac })
}

/// Adds an attribute to a request.
pub fn attach(request: &mut Vec<u8>, kind: u16, value: &[u8]) {
    request.extend((value.len() as u16 + 4).to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend(value);
    request.resize(request.len().next_multiple_of(4), 0);
}

/// An address's family and bytes.
pub fn octets(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (libc::AF_INET as u8, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6 as u8, address.octets().to_vec()),
    }
}

#[cfg(test)]
#[path = "messages_tests.rs"]
mod tests;
