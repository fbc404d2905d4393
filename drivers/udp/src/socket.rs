//! The socket: bound, and set up.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use unet::device::OpenError;

use crate::calls;
use crate::options::UdpOptions;

/// The kernel's queues where nothing else was asked for.
const QUEUE_BYTES: usize = 1 << 20;

/// How often a port that was free is tried, until it is not taken before it is bound to.
const ATTEMPTS: u32 = 16;

/// Opens a socket and binds it; so that it keeps its port when it is connected and disconnected, if asked.
pub(crate) fn open(
    local: SocketAddr,
    options: &UdpOptions,
    keeps_port: bool,
) -> Result<OwnedFd, OpenError> {
    if !keeps_port || local.port() != 0 {
        return open_at(local, options);
    }
    // The kernel takes back a port of its own choice with the connection; one that was asked for it leaves.
    for _ in 1..ATTEMPTS {
        let chosen = self::local(&open_at(local, options)?)?.port();
        match open_at(SocketAddr::new(local.ip(), chosen), options) {
            Err(OpenError::AddressInUse) => {}
            result => return result,
        }
    }
    Err(OpenError::AddressInUse)
}

/// Opens a socket and binds it. IPv6 ones carry IPv6 only.
fn open_at(local: SocketAddr, options: &UdpOptions) -> Result<OwnedFd, OpenError> {
    let family = if local.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, None)
        .map_err(|errno| refusal("open a socket", errno))?;
    // Packets are never cut into fragments: the loss of one would be the loss of all.
    let (level, name) = if local.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)
            .map_err(|errno| refusal("set the socket's family", errno))?;
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER)
    } else {
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER)
    };
    calls::set_option(&socket, level, name, libc::IP_PMTUDISC_DO)
        .map_err(|errno| refusal("set path MTU discovery", errno))?;
    set_queues(&socket, options)?;
    if options.busy_poll > 0 {
        let micros = options.busy_poll as i32;
        calls::set_option(&socket, libc::SOL_SOCKET, libc::SO_BUSY_POLL, micros).map_err(
            |errno| match errno {
                Errno::PERM => OpenError::NotPermitted("busy-poll needs CAP_NET_ADMIN"),
                errno => refusal("set busy polling", errno),
            },
        )?;
    }
    rustix::net::bind(&socket, &local).map_err(|errno| match errno {
        Errno::ADDRINUSE | Errno::ADDRNOTAVAIL => OpenError::AddressInUse,
        Errno::ACCESS => OpenError::NotPermitted(
            "ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE",
        ),
        errno => refusal("bind the socket", errno),
    })?;
    Ok(socket)
}

fn set_queues(socket: &OwnedFd, options: &UdpOptions) -> Result<(), OpenError> {
    let failed = |errno| refusal("set the socket's queues", errno);
    // The kernel takes what its administrator allows.
    sockopt::set_socket_send_buffer_size(socket, QUEUE_BYTES).map_err(failed)?;
    let Some(bytes) = options.receive_bytes else {
        return sockopt::set_socket_recv_buffer_size(socket, QUEUE_BYTES).map_err(failed);
    };
    sockopt::set_socket_recv_buffer_size(socket, bytes as usize).map_err(failed)?;
    // It doubles the number, for its own bookkeeping.
    let set = sockopt::socket_recv_buffer_size(socket).map_err(failed)?;
    if set / 2 >= bytes as usize {
        return Ok(());
    }
    sockopt::set_socket_recv_buffer_size_force(socket, bytes as usize).map_err(
        |errno| match errno {
            Errno::PERM => OpenError::NotPermitted(
                "that many receive-bytes need a larger net.core.rmem_max, or CAP_NET_ADMIN",
            ),
            errno => refusal("set the socket's queues", errno),
        },
    )
}

/// The address that it was bound to.
pub(crate) fn local(socket: &OwnedFd) -> Result<SocketAddr, OpenError> {
    let name = rustix::net::getsockname(socket);
    let name = name.map_err(|errno| refusal("tell the socket's address", errno))?;
    SocketAddr::try_from(name).map_err(|errno| refusal("tell the socket's address", errno))
}

fn refusal(step: &'static str, errno: Errno) -> OpenError {
    OpenError::Kernel { step, errno }
}
