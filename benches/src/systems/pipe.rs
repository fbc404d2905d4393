//! Two kernel pipes, one in each direction.

use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, pipe_with};

use crate::fault::{During, Fault};
use crate::process::server::Server;
use crate::systems::kernel::{self, Ends};
use crate::systems::{ClientHalf, Ready, ServerHalf, System};
use crate::task::{Bench, Task, Wait};

/// Two pipes, one in each direction.
pub struct Pipe;

impl System for Pipe {
    fn name(&self) -> &'static str {
        "pipe"
    }

    fn transport(&self) -> &'static str {
        "pipe:"
    }

    fn about(&self) -> &'static str {
        "the kernel's pipes, one in each direction"
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
        let make = || pipe_with(PipeFlags::CLOEXEC).during("making a pipe");
        let (from_client, to_server) = make()?;
        let (from_server, to_client) = make()?;
        let ours = Ends { incoming: from_server, outgoing: to_server };
        let theirs = Ends { incoming: from_client, outgoing: to_client };
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
