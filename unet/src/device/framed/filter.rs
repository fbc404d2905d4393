//! What a frame must be to be taken in.

use std::net::IpAddr;

/// How much of what arrives is checked against UDP's checksum.
///
/// A virtual link, such as a veth, does not compute it for what the kernel's sockets send: it leaves the
/// sum of the pseudo-header in its place, for hardware that never comes. Such a packet has not been on a
/// wire; but one packet in 65,536 that has been damaged there looks like that too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Verify {
    /// It must be right.
    Strict,
    /// It must be right, or the sum of the pseudo-header alone.
    #[default]
    OrPartial,
    /// Not at all: the device has verified it, or something within the payload says whether it is whole.
    Not,
}

/// What a frame must be to be taken in.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The Ethernet address that it must be for.
    pub mac: [u8; 6],
    /// The port that it must be for.
    pub port: u16,
    /// Whether its checksum must be right.
    pub verify: Verify,
    /// Whether it may have no checksum over IPv6 (RFC 6935). Over IPv4 it may.
    pub zero_over_v6: bool,
    v4: Vec<[u8; 4]>,
    v6: Vec<[u8; 16]>,
}

/// The most local addresses that are looked at.
pub const MAX_ADDRESSES: usize = 256;

impl Filter {
    /// For an Ethernet address and a port; for no address of IP yet.
    pub fn new(mac: [u8; 6], port: u16) -> Self {
        Self { mac, port, ..Self::default() }
    }

    /// Sets the addresses that it may be for, the first ones of each family.
    pub fn set_addresses(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        self.v4.clear();
        self.v6.clear();
        for address in addresses {
            match address {
                IpAddr::V4(address) if self.v4.len() < MAX_ADDRESSES => {
                    self.v4.push(address.octets());
                }
                IpAddr::V6(address) if self.v6.len() < MAX_ADDRESSES => {
                    self.v6.push(address.octets());
                }
                _ => {}
            }
        }
    }

    #[inline(always)]
    pub(super) fn has_v4(&self, address: &[u8; 4]) -> bool {
        self.v4.contains(address)
    }

    #[inline(always)]
    pub(super) fn has_v6(&self, address: &[u8; 16]) -> bool {
        self.v6.contains(address)
    }
}
