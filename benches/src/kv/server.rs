//! A store's process: on the server's core, and ended with this program.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command};
use std::time::Duration;

use nix::time::{clock_getcpuclockid, clock_gettime};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::cpus;
use crate::fault::{During, Fault};
use crate::process::ending;

/// A running store. Killed when dropped, and when this program ends.
pub struct Server(Child);

impl Server {
    /// Starts it on a core, to which the calling thread is bound as well.
    pub fn start(mut command: Command, cpu: usize) -> Result<Self, Fault> {
        // What a process starts is bound to the core that it is bound to.
        cpus::pin(cpu)?;
        // Ctrl-C at the terminal is for this program alone, which then ends its server.
        let child = command.process_group(0).spawn().during("starting the store's server")?;
        let server = Self(child);
        let pid = Pid::from_child(&server.0);
        let process: OwnedFd =
            pidfd_open(pid, PidfdFlags::empty()).during("watching the store's server")?;
        ending::adopt(server.0.id(), process.as_fd())?;
        Ok(server)
    }

    /// What it writes, once.
    pub fn output(&mut self) -> Option<ChildStdout> {
        self.0.stdout.take()
    }

    /// Processor time that all its threads have used, in user and in system mode.
    pub fn cpu_time(&self) -> Result<Duration, Fault> {
        let clock = clock_getcpuclockid(nix::unistd::Pid::from_raw(self.0.id() as i32));
        let time = clock.and_then(clock_gettime);
        Ok(time.during("asking for the processor time of the store's server")?.into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
        ending::disown(self.0.id());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_works_uses_processor_time() {
        let mut command = Command::new("sh");
        command.args(["-c", "while :; do :; done"]);
        let server = Server::start(command, cpus::usable().unwrap()[0]).unwrap();
        let before = server.cpu_time().unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while server.cpu_time().unwrap() < before + Duration::from_millis(50) {
            assert!(std::time::Instant::now() < deadline, "it does not count");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
