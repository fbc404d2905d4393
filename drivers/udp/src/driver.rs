//! Opening a device: by address, or directly.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;
use unet::device::{Datagrams, Driver, OpenError, Opening};

use crate::options::{Path, UdpOptions};
use crate::port::Port;
use crate::sockets::Sockets;
use crate::uring::{self, Uring};

/// The driver of the scheme `udp`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Udp;

impl Udp {
    /// The driver.
    pub fn new() -> Self {
        Self
    }
}

impl Driver for Udp {
    fn scheme(&self) -> &'static str {
        "udp"
    }

    fn open(&self, opening: &Opening<'_>) -> Result<Box<dyn Datagrams>, OpenError> {
        let options = UdpOptions::parse(opening)?;
        let v6 = opening.local.map_or_else(
            || opening.remote.is_some_and(|remote| remote.is_ipv6()),
            |local| local.is_ipv6(),
        );
        let any = if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let client = opening.remote.is_some() && opening.port == 0;
        let local = SocketAddr::new(opening.local.unwrap_or(any), opening.port);
        open_as(local, options, client)
    }
}

/// Opens a device at a local address; port 0 is any that is free.
///
/// # Errors
/// [`OpenError`]. A path that was asked for and cannot be had is one.
///
/// # Cost
/// Some ten system calls.
pub fn open(local: SocketAddr, options: UdpOptions) -> Result<Box<dyn Datagrams>, OpenError> {
    open_as(local, options, false)
}

/// A client's plain socket is connected to its server, as long as it has only one.
fn open_as(
    local: SocketAddr,
    options: UdpOptions,
    client: bool,
) -> Result<Box<dyn Datagrams>, OpenError> {
    let options = options.checked()?;
    let rings = match options.path {
        Path::Sockets => None,
        Path::IoUring => Some(uring::rings(options.buffers).map_err(refusal)?),
        Path::PreferIoUring => match uring::rings(options.buffers) {
            Ok(rings) => Some(rings),
            Err(errno) if options.zero_copy => return Err(refusal(errno)),
            Err(errno) => {
                tracing::info!(
                    %errno,
                    why = why(errno),
                    "udp goes by plain sockets, not by io_uring: each look for datagrams is a \
                     system call, and nothing is sent without a copy"
                );
                None
            }
        },
    };
    let port = Port::open(local, &options, client && rings.is_none())?;
    tracing::debug!(local = %port.local, path = if rings.is_some() { "io-uring" } else { "sockets" }, "udp opened");
    Ok(match rings {
        Some(rings) => Box::new(Uring::new(port, rings, options.zero_copy)?),
        None => Box::new(Sockets::new(port)?),
    })
}

fn why(errno: Errno) -> &'static str {
    match errno {
        Errno::PERM | Errno::ACCESS => DISABLED,
        Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP => TOO_OLD,
        _ => "the kernel has no memory or no descriptor left for io_uring",
    }
}

fn refusal(errno: Errno) -> OpenError {
    match errno {
        Errno::PERM | Errno::ACCESS => OpenError::NotPermitted(DISABLED),
        Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP => OpenError::Unsupported(TOO_OLD),
        errno => OpenError::Kernel { step: "set up io_uring", errno },
    }
}

const DISABLED: &str = "io_uring is disabled here, by kernel.io_uring_disabled or a seccomp filter: \
                        allow it, or take path=sockets";
const TOO_OLD: &str = "the kernel's io_uring is missing or older than 6.0: take path=sockets";
