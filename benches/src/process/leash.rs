//! A listening server that this program starts, and that ends with it.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use unet::NetworkAddress;

use crate::cpus::{self, Cpus};
use crate::fault::{During, Failure, Fault};
use crate::network::netns;
use crate::process::control::Control;
use crate::process::ending;
use crate::process::server::{PATIENCE, Reply};

/// A server process that leaves when its standard input closes, which it does with this one.
pub struct Leash {
    child: Child,
    control: Control,
}

impl Leash {
    /// Starts `unet-bench serve` at the address, in a namespace; gives the port that it listens at.
    pub fn start(uri: &NetworkAddress, space: &str, cpus: Cpus) -> Result<(Self, u16), Failure> {
        cpus::roam()?;
        let (control, theirs) = Control::pair()?;
        let program = std::env::current_exe().during("finding this program's own file")?;
        let cores = format!("{},{}", cpus.client, cpus.server);
        let mut command = Command::new(program);
        command.args(["serve", &uri.to_string(), "--leashed", "--cpus", &cores]);
        if space != netns::HERE {
            command.args(["--netns", space]);
        }
        command.stdin(Stdio::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        // Ctrl-C at the terminal is for the client alone, which then ends its server.
        let child = command.process_group(0).spawn().during("starting the server")?;
        let pid = Pid::from_child(&child);
        let process: OwnedFd =
            pidfd_open(pid, PidfdFlags::empty()).during("watching the server process")?;
        ending::adopt(child.id(), process.as_fd())?;
        let leash = Self { child, control };
        let port = leash.port()?;
        Ok((leash, port))
    }

    fn port(&self) -> Result<u16, Failure> {
        if !self.control.readable_within(PATIENCE)? {
            return Err(Fault::Silent.into());
        }
        match self.control.receive()?.0 {
            Reply::Port(port) => Ok(port),
            // It is a sentence already.
            Reply::Failed(why) => Err(Failure::Run(why)),
            other => Err(Fault::Other(format!("the server gave an odd answer: {other:?}")).into()),
        }
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        // It looks at its leash between clients: there is none any more.
        self.control.shut_down();
        let _ = self.child.kill();
        let _ = self.child.wait();
        ending::disown(self.child.id());
    }
}
