//! A connected pair of Unix stream sockets.

use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::fault::{During, Fault};
use crate::process::server::Server;
use crate::systems::kernel::{self, Ends};
use crate::systems::{ClientHalf, Ready, ServerHalf, System};
use crate::task::{Bench, Task, Wait};

/// A pair of Unix stream sockets.
pub struct Uds;

impl System for Uds {
    fn name(&self) -> &'static str {
        "uds"
    }

    fn transport(&self) -> &'static str {
        "unix:"
    }

    fn about(&self) -> &'static str {
        "the kernel's Unix stream sockets"
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
        let (unix, stream) = (AddressFamily::UNIX, SocketType::STREAM);
        let (ours, theirs) = socketpair(unix, stream, SocketFlags::CLOEXEC, None)
            .during("making a pair of Unix sockets")?;
        let (ours, theirs) = (Ends::of_socket(ours)?, Ends::of_socket(theirs)?);
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
