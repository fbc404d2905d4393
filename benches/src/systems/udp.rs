//! UDP over the loopback device, both sockets connected to each other.

use std::net::{Ipv4Addr, UdpSocket};

use crate::fault::{During, Fault};
use crate::systems::kernel::{Ends, Kernel, PATIENCE};

/// UDP over the loopback device.
pub static UDP: Kernel = Kernel {
    name: "udp",
    transport: "udp:127.0.0.1",
    about: "the kernel's UDP over loopback",
    datagrams: true,
    connect,
};

fn connect() -> Result<(Ends, Ends), Fault> {
    let make = || {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).during("making a UDP socket")?;
        // A lost datagram must not hold a sleeping side for ever.
        socket.set_read_timeout(Some(PATIENCE)).during("setting a timeout")?;
        Ok::<_, Fault>(socket)
    };
    let (ours, theirs) = (make()?, make()?);
    for (from, to) in [(&ours, &theirs), (&theirs, &ours)] {
        let address = to.local_addr().during("asking for a UDP port")?;
        from.connect(address).during("connecting a UDP socket")?;
    }
    let (ours, theirs) = (Ends::of_socket(ours.into())?, Ends::of_socket(theirs.into())?);
    Ok((ours, theirs))
}
