//! Socket addresses as the kernel writes and reads them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// A `sockaddr_in` or a `sockaddr_in6`, by its family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(4))]
pub(crate) struct Name {
    family: u16,
    port: [u8; 2],
    /// The IPv4 address; or the flow's label, the IPv6 address and the scope.
    rest: [u8; 24],
}

const _: () = assert!(size_of::<Name>() == size_of::<libc::sockaddr_in6>());
const _: () = assert!(align_of::<Name>() == align_of::<libc::sockaddr_in6>());

const V4: u16 = libc::AF_INET as u16;
const V6: u16 = libc::AF_INET6 as u16;

impl Name {
    pub const EMPTY: Self = Self { family: 0, port: [0; 2], rest: [0; 24] };

    pub fn of(address: SocketAddr) -> Self {
        let mut name = Self { port: address.port().to_be_bytes(), ..Self::EMPTY };
        match address {
            SocketAddr::V4(v4) => {
                name.family = V4;
                name.rest[..4].copy_from_slice(&v4.ip().octets());
            }
            SocketAddr::V6(v6) => {
                name.family = V6;
                name.rest[4..20].copy_from_slice(&v6.ip().octets());
                name.rest[20..].copy_from_slice(&v6.scope_id().to_ne_bytes());
            }
        }
        name
    }

    /// Its bytes, as the kernel counts them.
    #[inline(always)]
    pub fn len(&self) -> u32 {
        Self::len_of(self.family == V6) as u32
    }

    /// The bytes of a name of either family.
    #[inline(always)]
    pub const fn len_of(v6: bool) -> usize {
        if v6 { size_of::<libc::sockaddr_in6>() } else { size_of::<libc::sockaddr_in>() }
    }

    /// Reads what the kernel wrote; what is missing is zero.
    #[inline(always)]
    pub fn read(bytes: &[u8]) -> Self {
        let mut all = [0; size_of::<Self>()];
        let len = bytes.len().min(all.len());
        all[..len].copy_from_slice(&bytes[..len]);
        let [f0, f1, p0, p1, rest @ ..] = all;
        Self { family: u16::from_ne_bytes([f0, f1]), port: [p0, p1], rest }
    }

    /// `None` where the family is neither.
    #[inline(always)]
    pub fn address(&self) -> Option<SocketAddr> {
        let port = u16::from_be_bytes(self.port);
        let rest = &self.rest;
        match self.family {
            V4 => {
                let ip = Ipv4Addr::new(rest[0], rest[1], rest[2], rest[3]);
                Some(SocketAddr::from((ip, port)))
            }
            V6 => {
                let ip: [u8; 16] = rest[4..20].try_into().ok()?;
                let scope = u32::from_ne_bytes(rest[20..].try_into().ok()?);
                Some(SocketAddrV6::new(Ipv6Addr::from(ip), port, 0, scope).into())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_survives_its_name() {
        for text in ["10.1.2.3:4567", "[2001:db8::7]:1", "[fe80::1%3]:65535"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(Name::of(address).address(), Some(address));
        }
    }

    #[test]
    fn a_name_of_no_known_family_is_no_address() {
        assert_eq!(Name::EMPTY.address(), None);
        assert_eq!(Name::read(&[0xFF; 40]).address(), None);
        assert_eq!(Name::read(&[]).address(), None);
    }
}
