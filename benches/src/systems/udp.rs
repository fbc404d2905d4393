//! UDP over the loopback device, both sockets connected to each other.

use std::os::fd::OwnedFd;

use std::net::{Ipv4Addr, UdpSocket};

use crate::fault::{During, Fault};
use crate::process::server::Server;
use crate::systems::kernel::{self, Ends};
use crate::systems::{ClientHalf, Ready, ServerHalf, System};
use crate::task::{Bench, Task, Wait};

/// UDP over the loopback device.
pub struct Udp;

impl System for Udp {
    fn name(&self) -> &'static str {
        "udp"
    }

    fn transport(&self) -> &'static str {
        "udp:127.0.0.1"
    }

    fn about(&self) -> &'static str {
        "the kernel's UDP over loopback"
    }

    fn payload(&self, _: Bench, asked: usize) -> usize {
        kernel::payload(asked)
    }

    fn refuses(&self, bench: Bench, payload: usize, _: Wait) -> Option<String> {
        if payload > LARGEST {
            return Some(format!("carries at most {LARGEST} bytes in a datagram"));
        }
        kernel::refuses(bench)
    }

    fn remark(&self, bench: Bench, asked: usize) -> Option<String> {
        kernel::remark(bench, asked)
    }

    fn client(&self, task: &Task, server: &Server) -> Result<ClientHalf, Fault> {
        let make = || {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).during("making a UDP socket")?;
            // A lost datagram must not hold a sleeping side for ever.
            socket.set_read_timeout(Some(kernel::PATIENCE)).during("setting a timeout")?;
            Ok::<_, Fault>(socket)
        };
        let (ours, theirs) = (make()?, make()?);
        for (from, to) in [(&ours, &theirs), (&theirs, &ours)] {
            let address = to.local_addr().during("asking for a UDP port")?;
            from.connect(address).during("connecting a UDP socket")?;
        }
        let (ours, theirs) = (Ends::of_socket(ours.into())?, Ends::of_socket(theirs.into())?);
        kernel::client(task, server, ours, theirs, true)
    }

    fn server(
        &self,
        task: &Task,
        fds: Vec<OwnedFd>,
        ready: Ready<'_>,
    ) -> Result<ServerHalf, Fault> {
        kernel::server(task, fds, ready, true)
    }
}

/// The most that UDP over IPv4 carries in one datagram.
const LARGEST: usize = 65_507;
