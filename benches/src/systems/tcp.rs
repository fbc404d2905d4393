//! TCP over the loopback device, without delay for small segments.

use std::os::fd::OwnedFd;

use std::net::{Ipv4Addr, TcpListener, TcpStream};

use crate::fault::{During, Fault};
use crate::process::server::Server;
use crate::systems::kernel::{self, Ends};
use crate::systems::{ClientHalf, Ready, ServerHalf, System};
use crate::task::{Bench, Task, Wait};

/// TCP over the loopback device.
pub struct Tcp;

impl System for Tcp {
    fn name(&self) -> &'static str {
        "tcp"
    }

    fn transport(&self) -> &'static str {
        "tcp:127.0.0.1"
    }

    fn about(&self) -> &'static str {
        "the kernel's TCP over loopback, with TCP_NODELAY"
    }

    fn payload(&self, _: Bench, asked: usize) -> usize {
        kernel::payload(asked)
    }

    fn refuses(&self, bench: Bench, _: usize, _: Wait) -> Option<String> {
        kernel::refuses(bench)
    }

    fn remark(&self, bench: Bench, asked: usize) -> Option<String> {
        kernel::remark(bench, asked)
    }

    fn client(&self, task: &Task, server: &Server) -> Result<ClientHalf, Fault> {
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
        kernel::client(task, server, ours, theirs, false)
    }

    fn server(
        &self,
        task: &Task,
        fds: Vec<OwnedFd>,
        ready: Ready<'_>,
    ) -> Result<ServerHalf, Fault> {
        kernel::server(task, fds, ready, false)
    }
}
