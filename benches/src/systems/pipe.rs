//! Two kernel pipes, one in each direction.

use rustix::pipe::{PipeFlags, pipe_with};

use crate::fault::{During, Fault};
use crate::systems::kernel::{Ends, Kernel};

/// Two pipes, one in each direction.
pub static PIPE: Kernel = Kernel {
    name: "pipe",
    transport: "pipe:",
    about: "the kernel's pipes, one in each direction",
    datagrams: false,
    connect,
};

fn connect() -> Result<(Ends, Ends), Fault> {
    let make = || pipe_with(PipeFlags::CLOEXEC).during("making a pipe");
    let (from_client, to_server) = make()?;
    let (from_server, to_client) = make()?;
    let ours = Ends { incoming: from_server, outgoing: to_server };
    let theirs = Ends { incoming: from_client, outgoing: to_client };
    Ok((ours, theirs))
}
