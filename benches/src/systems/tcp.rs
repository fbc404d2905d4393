//! TCP over the loopback device, without delay for small segments.

use std::net::{Ipv4Addr, TcpListener, TcpStream};

use crate::fault::{During, Fault};
use crate::systems::kernel::{Ends, Kernel};

/// TCP over the loopback device.
pub static TCP: Kernel = Kernel {
    name: "tcp",
    transport: "tcp:127.0.0.1",
    about: "the kernel's TCP over loopback, with TCP_NODELAY",
    datagrams: false,
    connect,
};

fn connect() -> Result<(Ends, Ends), Fault> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).during("listening on TCP")?;
    let address = listener.local_addr().during("listening on TCP")?;
    let ours = TcpStream::connect(address).during("connecting over TCP")?;
    let own = ours.local_addr().during("connecting over TCP")?;
    let theirs = loop {
        // Any process on this machine may connect meanwhile: only our own counts.
        let (stream, from) = listener.accept().during("accepting over TCP")?;
        if from == own {
            break stream;
        }
    };
    for stream in [&ours, &theirs] {
        stream.set_nodelay(true).during("setting TCP_NODELAY")?;
    }
    let (ours, theirs) = (Ends::of_socket(ours.into())?, Ends::of_socket(theirs.into())?);
    Ok((ours, theirs))
}
