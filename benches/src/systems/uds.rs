//! A connected pair of Unix stream sockets.

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::fault::{During, Fault};
use crate::systems::kernel::{Ends, Kernel};

/// A pair of Unix stream sockets.
pub static UDS: Kernel = Kernel {
    name: "uds",
    transport: "unix:",
    about: "the kernel's Unix stream sockets",
    datagrams: false,
    connect,
};

fn connect() -> Result<(Ends, Ends), Fault> {
    let (unix, stream) = (AddressFamily::UNIX, SocketType::STREAM);
    let (ours, theirs) = socketpair(unix, stream, SocketFlags::CLOEXEC, None)
        .during("making a pair of Unix sockets")?;
    let (ours, theirs) = (Ends::of_socket(ours)?, Ends::of_socket(theirs)?);
    Ok((ours, theirs))
}
