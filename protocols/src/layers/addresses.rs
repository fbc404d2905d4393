//! The forms in which descriptions write addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::Options;
use crate::description::OptionError;

/// An Ethernet address, as in `02:00:00:00:00:01`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkAddress(pub [u8; 6]);

impl LinkAddress {
    /// To everybody.
    pub(super) const BROADCAST: [u8; 6] = [0xff; 6];

    /// The option `mac`, which cannot be left out and is no group's.
    pub(super) fn from_options(options: &Options) -> Result<[u8; 6], OptionError> {
        let mac = options.get::<LinkAddress>("mac", "a unicast one like 02:00:00:00:00:01")?;
        Ok(mac.ok_or(OptionError::Missing { name: "mac" })?.0)
    }
}

impl FromStr for LinkAddress {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or(())?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| ())?;
        }
        let unicast = bytes[0] & 1 == 0 && bytes != [0; 6];
        if unicast && parts.next().is_none() { Ok(Self(bytes)) } else { Err(()) }
    }
}

/// Whether a link address is a group's.
#[inline]
pub(super) fn is_group(link: [u8; 6]) -> bool {
    link[0] & 1 == 1
}

/// An own address with the length of its network's prefix, as in `192.0.2.7/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subnet<A> {
    pub address: A,
    bits: u32,
}

fn split<A: FromStr>(text: &str, longest: u32) -> Option<(A, u32)> {
    let (address, bits) = text.split_once('/')?;
    let bits = bits.parse().ok().filter(|bits| *bits <= longest)?;
    Some((address.parse().ok()?, bits))
}

fn is_host(address: IpAddr) -> bool {
    !address.is_unspecified() && !address.is_multicast() && !address.is_loopback()
}

impl FromStr for Subnet<Ipv4Addr> {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, bits) = split::<Ipv4Addr>(text, 32).ok_or(())?;
        let subnet = Self { address, bits };
        let usable = is_host(address.into()) && !subnet.is_broadcast(address);
        if usable { Ok(subnet) } else { Err(()) }
    }
}

impl FromStr for Subnet<Ipv6Addr> {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, bits) = split::<Ipv6Addr>(text, 128).ok_or(())?;
        if is_host(address.into()) { Ok(Self { address, bits }) } else { Err(()) }
    }
}

impl Subnet<Ipv4Addr> {
    fn mask(&self) -> u32 {
        u32::MAX.checked_shl(32 - self.bits).unwrap_or(0)
    }

    /// Whether an address is in this network.
    #[inline]
    pub(super) fn contains(&self, other: Ipv4Addr) -> bool {
        (other.to_bits() ^ self.address.to_bits()) & self.mask() == 0
    }

    /// Whether an address means everybody: on this link, or in this network (RFC 919, RFC 922). A
    /// network of two or less has no such address (RFC 3021).
    #[inline]
    pub(super) fn is_broadcast(&self, other: Ipv4Addr) -> bool {
        let whole = self.bits < 31 && self.contains(other) && other.to_bits() | self.mask() == !0;
        other.is_broadcast() || whole
    }
}

impl Subnet<Ipv6Addr> {
    /// Whether an address is in this network.
    #[inline]
    pub(super) fn contains(&self, other: Ipv6Addr) -> bool {
        let mask = u128::MAX.checked_shl(128 - self.bits).unwrap_or(0);
        (other.to_bits() ^ self.address.to_bits()) & mask == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_addresses_are_read_and_nonsense_and_groups_are_refused() {
        assert_eq!("02:00:00:00:00:fe".parse(), Ok(LinkAddress([2, 0, 0, 0, 0, 0xfe])));
        for wrong in ["", "02:00", "02:00:00:00:00:00:01", "2:0:0:0:0:1", "zz:00:00:00:00:01"] {
            assert_eq!(wrong.parse::<LinkAddress>(), Err(()), "{wrong}");
        }
        assert_eq!("33:33:00:00:00:01".parse::<LinkAddress>(), Err(()));
        assert_eq!("00:00:00:00:00:00".parse::<LinkAddress>(), Err(()));
    }

    #[test]
    fn a_subnet_knows_its_neighbors_and_its_broadcast_address() {
        let subnet: Subnet<Ipv4Addr> = "192.0.2.7/25".parse().expect("it is one");
        assert!(subnet.contains(Ipv4Addr::new(192, 0, 2, 100)));
        assert!(!subnet.contains(Ipv4Addr::new(192, 0, 2, 200)));
        assert!(subnet.is_broadcast(Ipv4Addr::new(192, 0, 2, 127)));
        assert!(!subnet.is_broadcast(Ipv4Addr::new(192, 0, 2, 255)));
        assert!(subnet.is_broadcast(Ipv4Addr::BROADCAST));
        let pair: Subnet<Ipv4Addr> = "192.0.2.7/31".parse().expect("it is one");
        assert!(!pair.is_broadcast(Ipv4Addr::new(192, 0, 2, 7)));
        let all: Subnet<Ipv4Addr> = "192.0.2.7/0".parse().expect("it is one");
        assert!(all.contains(Ipv4Addr::new(1, 2, 3, 4)));
        for wrong in ["192.0.2.7", "192.0.2.7/33", "224.0.0.1/24", "192.0.2.255/24", "0.0.0.0/8"] {
            assert!(wrong.parse::<Subnet<Ipv4Addr>>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_subnet_of_version_6_has_any_prefix() {
        let subnet: Subnet<Ipv6Addr> = "2001:db8::7/64".parse().expect("it is one");
        assert!(subnet.contains("2001:db8::ffff:1".parse().expect("an address")));
        assert!(!subnet.contains("2001:db8:0:1::7".parse().expect("an address")));
        assert!("ff02::1/16".parse::<Subnet<Ipv6Addr>>().is_err());
        assert!("::/0".parse::<Subnet<Ipv6Addr>>().is_err());
    }
}
