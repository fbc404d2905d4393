//! What the kernel knows about the way to a destination: whether there is one, and how wide.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use unet::device::DeviceError;

use crate::calls;

/// Bytes of the headers before a payload.
const HEADERS_V4: usize = 20 + 8;
const HEADERS_V6: usize = 40 + 8;
/// The most bytes of an IPv4 packet, and of what follows the header of an IPv6 packet.
const LENGTH_FIELD: usize = 65535;

/// The most payload that a UDP datagram has.
pub(crate) const fn largest_payload(v6: bool) -> usize {
    if v6 { LENGTH_FIELD - 8 } else { LENGTH_FIELD - HEADERS_V4 }
}

/// A socket that is connected for a moment, to ask about the way. It receives nothing that matters.
#[derive(Debug)]
pub(crate) struct Probe {
    socket: OwnedFd,
    v6: bool,
}

impl Probe {
    /// One that asks from a local address.
    pub fn open(mut local: SocketAddr) -> Result<Self, Errno> {
        let v6 = local.is_ipv6();
        let family = if v6 { AddressFamily::INET6 } else { AddressFamily::INET };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, None)?;
        if !local.ip().is_unspecified() {
            local.set_port(0);
            rustix::net::bind(&socket, &local)?;
        }
        Ok(Self { socket, v6 })
    }

    /// The most payload that gets to a destination in one datagram, now.
    ///
    /// # Cost
    /// Three system calls.
    pub fn max_payload(&self, to: SocketAddr) -> Result<usize, DeviceError> {
        if to.is_ipv6() != self.v6 {
            return Err(DeviceError::Unreachable);
        }
        rustix::net::connect(&self.socket, &to).map_err(failure)?;
        let (level, name, headers) = if self.v6 {
            (libc::IPPROTO_IPV6, libc::IPV6_MTU, HEADERS_V6)
        } else {
            (libc::IPPROTO_IP, libc::IP_MTU, HEADERS_V4)
        };
        let mtu = calls::option(&self.socket, level, name);
        // So that the next destination is not looked for from this one's source.
        rustix::net::connect_unspec(&self.socket).map_err(failure)?;
        let mtu = usize::try_from(mtu.map_err(failure)?).unwrap_or(0);
        Ok(mtu.saturating_sub(headers).min(largest_payload(self.v6)))
    }
}

/// What a refusal of the kernel's says about the device.
pub(crate) fn failure(errno: Errno) -> DeviceError {
    match errno {
        Errno::NETDOWN => DeviceError::Down,
        Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::ADDRNOTAVAIL | Errno::INVAL => {
            DeviceError::Unreachable
        }
        Errno::NODEV => DeviceError::Gone,
        other => DeviceError::Kernel(other),
    }
}
