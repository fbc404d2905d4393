//! The socket: bound, and set up.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use unet::device::OpenError;

use crate::calls;
use crate::options::UdpOptions;
use crate::peer::Peer;

/// The kernel's queues where nothing else was asked for.
const QUEUE_BYTES: usize = 1 << 20;

/// How often a port that was free is tried, until it is not taken before it is bound to.
const ATTEMPTS: u32 = 16;

/// Opens a socket and binds it: so that it keeps its port when it is connected and disconnected, or else so
/// that another may stand beside it ([`beside`]).
pub(crate) fn open(
    local: SocketAddr,
    options: &UdpOptions,
    keeps_port: bool,
) -> Result<OwnedFd, OpenError> {
    if !keeps_port {
        let socket = unbound(local, options)?;
        if let Err(errno) = stays_first(&socket) {
            tracing::debug!(%errno, "while a second udp socket is set up, what comes may overtake");
        }
        bind(&socket, local)?;
        return Ok(socket);
    }
    if local.port() != 0 {
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

/// Whoever shares its port with the socket takes nothing but what comes from where it is connected to: not
/// between being bound and being connected either. It is not bound yet, and shares its port with nobody.
fn stays_first(socket: &OwnedFd) -> Result<(), Errno> {
    share_port(socket, true)?;
    let kept = calls::keep_to_first(socket);
    share_port(socket, false)?;
    kept
}

fn share_port(socket: &OwnedFd, shares: bool) -> Result<(), Errno> {
    calls::set_option(socket, libc::SOL_SOCKET, libc::SO_REUSEPORT, shares.into())
}

/// Opens a second socket at the address of one that [`open`] opened, connected to a peer: what comes from
/// there arrives at the second one from now on. Nobody else can share the port but while this runs, and then
/// only who has the same user. The thread must be in the first one's network.
pub(crate) fn beside(
    first: &OwnedFd,
    local: SocketAddr,
    options: &UdpOptions,
    to: SocketAddr,
) -> Result<(OwnedFd, Peer), OpenError> {
    let second = unbound(local, options)?;
    let network = |socket| {
        calls::network(socket).map_err(|errno| refusal("tell the socket's network", errno))
    };
    if network(first)? != network(&second)? {
        return Err(OpenError::Unsupported("this thread is in another network namespace by now"));
    }
    let share = |shares| {
        let both = share_port(first, shares).and(share_port(&second, shares));
        both.map_err(|errno| refusal("share the socket's port", errno))
    };
    let bound = share(true).and_then(|()| bind(&second, local)).and_then(|()| {
        Peer::connect(&second, to).map_err(|errno| refusal("connect the socket", errno))
    });
    share(false)?;
    bound.map(|peer| (second, peer))
}

fn open_at(local: SocketAddr, options: &UdpOptions) -> Result<OwnedFd, OpenError> {
    let socket = unbound(local, options)?;
    bind(&socket, local)?;
    Ok(socket)
}

/// Opens a socket. IPv6 ones carry IPv6 only.
fn unbound(local: SocketAddr, options: &UdpOptions) -> Result<OwnedFd, OpenError> {
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
    Ok(socket)
}

fn bind(socket: &OwnedFd, local: SocketAddr) -> Result<(), OpenError> {
    rustix::net::bind(socket, &local).map_err(|errno| match errno {
        Errno::ADDRINUSE | Errno::ADDRNOTAVAIL => OpenError::AddressInUse,
        Errno::ACCESS => OpenError::NotPermitted(
            "ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE",
        ),
        errno => refusal("bind the socket", errno),
    })
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
