//! The kernel's side of a port that is ours: a UDP socket that holds it and reads nothing.
//!
//! It keeps other processes from binding the port on the interface, and keeps the kernel from answering
//! "port unreachable" to what comes in on a queue that is not ours. Its filter refuses every packet, so
//! that none takes up memory; they are counted as that socket's drops in /proc/net/udp.
//!
//! # Invariants
//!
//! 1. The filter lives until the kernel has copied it, which is before setsockopt returns.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::sockopt::set_ipv6_v6only;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with};
use unet::device::OpenError;

use crate::socket::set_option;

const BIND_TO_INTERFACE: i32 = 62;

/// A port of an interface that is kept.
#[derive(Debug)]
pub struct Reservation {
    socket: OwnedFd,
    port: u16,
}

impl Reservation {
    /// Keeps a port; one that is free, if 0.
    ///
    /// # Errors
    /// [`OpenError::AddressInUse`], [`OpenError::Kernel`].
    ///
    /// # Cost
    /// Six system calls.
    pub fn new(interface: u32, port: u16) -> Result<Self, OpenError> {
        match Self::of_family(interface, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))) {
            // A kernel without IPv6.
            Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => {
                Self::of_family(interface, SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
            }
            other => other,
        }
        .map_err(|errno| match errno {
            Errno::ADDRINUSE => OpenError::AddressInUse,
            Errno::ACCESS => OpenError::NotPermitted(
                "a port below 1024 needs CAP_NET_BIND_SERVICE: use a higher one",
            ),
            errno => OpenError::Kernel { step: "reserve the UDP port", errno },
        })
    }

    fn of_family(interface: u32, address: SocketAddr) -> Result<Self, Errno> {
        let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(family, SocketType::DGRAM, flags, None)?;
        if address.is_ipv6() {
            set_ipv6_v6only(&socket, false)?;
        }
        set_option(socket.as_fd(), libc::SOL_SOCKET, BIND_TO_INTERFACE, interface as i32)?;
        refuse_all(&socket)?;
        bind(&socket, &address)?;
        let bound = SocketAddr::try_from(getsockname(&socket)?)?;
        Ok(Self { socket, port: bound.port() })
    }

    /// One that another process made, and whose socket it passed on.
    pub fn adopt(socket: OwnedFd, port: u16) -> Self {
        Self { socket, port }
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl AsFd for Reservation {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn refuse_all(socket: &OwnedFd) -> Result<(), Errno> {
    // `return 0`: none of the packet is kept.
    let mut refuse = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0 };
    let filter = libc::sock_fprog { len: 1, filter: &raw mut refuse };
    // SAFETY: a program of one instruction (invariant 1).
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if set == 0 { Ok(()) } else { Err(crate::bpf::last_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_port_is_nobody_elses_until_it_is_let_go() {
        let kept = Reservation::new(1, 0).expect("a port is free");
        assert_ne!(kept.port(), 0);
        let again = Reservation::new(1, kept.port()).map(|_| ());
        assert_eq!(again, Err(OpenError::AddressInUse));
        let address = (Ipv4Addr::LOCALHOST, kept.port());
        assert!(std::net::UdpSocket::bind(address).is_err());
        drop(kept);
        std::net::UdpSocket::bind(address).expect("it is free again");
    }
}
