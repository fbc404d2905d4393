//! An agent between the two ends, for mediated access: `unetd`'s controller in a process of its own, which
//! this program starts for one measurement and which ends with it.

use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, geteuid, pidfd_open};
use unet::NetworkAddress;
use unetd::Policy;

use crate::cpus;
use crate::fault::{During, Fault};
use crate::process::control::Control;
use crate::process::ending;
use crate::process::server::{PATIENCE, Reply};

/// The hidden subcommand under which this program is the agent.
pub const COMMAND: &str = "agent-process";

/// How long a turn waits where nothing happens, as in the daemon.
const TURN: Duration = Duration::from_millis(100);

/// A running agent, in the network namespace of the thread that started it.
pub struct Agent {
    child: Child,
    control: Control,
    name: String,
}

impl Agent {
    /// Starts it on a core, with the device that the address names and the way in which it says that it is
    /// opened; waits until it is there.
    pub fn start(address: &NetworkAddress, name: &str, cpu: usize) -> Result<Self, Fault> {
        let (control, theirs) = Control::pair()?;
        let program = std::env::current_exe().during("finding this program's own file")?;
        let child = Command::new(program)
            .args([COMMAND, &cpu.to_string(), name, &device(address)])
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C at the terminal is for the client alone, which then ends its agent.
            .process_group(0)
            .spawn()
            .during("starting the agent")?;
        let agent = Self { child, control, name: name.to_owned() };
        let pid = Pid::from_child(&agent.child);
        let process: OwnedFd = pidfd_open(pid, PidfdFlags::empty()).during("watching the agent")?;
        ending::adopt(agent.child.id(), process.as_fd())?;
        if !agent.control.readable_within(PATIENCE)? {
            return Err(Fault::Silent);
        }
        match agent.control.receive()?.0 {
            Reply::Done => Ok(agent),
            Reply::Failed(why) => Err(Fault::Other(why)),
            other => Err(Fault::Other(format!("the agent gave an odd answer: {other:?}"))),
        }
    }

    /// An address on its device, by way of it.
    pub fn address(&self, to: &NetworkAddress) -> NetworkAddress {
        let options = vec![("via".to_owned(), self.name.clone())];
        NetworkAddress { options, ..to.clone() }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.control.shut_down();
        let _ = self.child.kill();
        let _ = self.child.wait();
        ending::disown(self.child.id());
    }
}

/// The device of an address, as a policy names it: how it is opened behind the question mark.
fn device(address: &NetworkAddress) -> String {
    let options = address.without_via().options;
    let options: Vec<_> = options.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mark = if options.is_empty() { "" } else { "?" };
    format!("{}:{}{mark}{}", address.scheme, address.device, options.join("&"))
}

/// What the agent lends: one device, to this user, to go anywhere.
fn policy(name: &str, device: &str) -> String {
    let lent = device.split('?').next().unwrap_or(device);
    let user = geteuid().as_raw();
    format!(
        "names = [{name:?}]\n\
         [[device]]\nopen = {device:?}\n\
         [[allow]]\nuser = {user}\ndevices = [{lent:?}]\nconnect = [\"0.0.0.0/0:*\", \"[::]/0:*\"]\n"
    )
}

/// Is the agent until the client closes the control socket, which is the standard input.
pub fn run(cpu: usize, name: &str, device: &str) -> Result<Infallible, Fault> {
    let control = Control::from_stdin()?;
    let watched = control.try_clone()?;
    thread::spawn(move || {
        watched.wait_for_hang_up();
        std::process::exit(0);
    });
    let begun = cpus::pin(cpu).and_then(|()| begin(name, device));
    let mut agent = match begun {
        Ok(agent) => agent,
        Err(fault) => {
            control.send(&Reply::Failed(fault.to_string()), &[])?;
            return Err(fault);
        }
    };
    control.send(&Reply::Done, &[])?;
    loop {
        agent.turn(TURN);
    }
}

fn begin(name: &str, device: &str) -> Result<unetd::Agent, Fault> {
    let failed = |error: &dyn std::fmt::Display| Fault::Other(format!("the agent: {error}"));
    let policy = Policy::parse(&policy(name, device)).map_err(|error| failed(&error))?;
    unetd::Agent::start(policy, drivers::linked()).map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::address::network;

    #[test]
    fn the_device_is_lent_as_the_address_says_that_it_is_opened() {
        for (address, lent) in [
            ("xdp:lab-b0@10.77.0.2:9000?mode=generic&via=x", "xdp:lab-b0?mode=generic"),
            ("xdp:eth0/1@10.77.0.2:9000", "xdp:eth0/1"),
            ("udp:[fd77::2]:9000?path=sockets", "udp:?path=sockets"),
        ] {
            let named = device(&network(address).unwrap());
            assert_eq!(named, lent);
            let policy = Policy::parse(&policy("one", &named)).unwrap();
            assert_eq!(policy.names, ["one"]);
            assert_eq!(policy.devices.len(), 1);
        }
        let refused = Policy::parse(&policy("one", "nothing")).unwrap_err();
        assert!(refused.what.contains("names no device"), "{refused}");
    }
}
