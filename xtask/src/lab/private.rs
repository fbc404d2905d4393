//! A network namespace of one's own, where the lab collides with nothing, and what may be done there.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::geteuid;

use super::hosts;
use crate::process::capture;

/// How this process gets a namespace.
pub struct Entrance {
    /// It must first become root of a user namespace.
    mapped: bool,
    /// It has the rights of root over the kernel itself, which BPF needs.
    pub root: bool,
}

impl Entrance {
    /// Finds out.
    ///
    /// # Errors
    /// What is missing, and how to get it.
    pub fn find() -> Result<Entrance> {
        let mapped = !geteuid().is_root();
        let ids = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let entrance = Entrance { mapped, root: !mapped && maps_everybody(&ids) };
        let mut probe = entrance.unshare();
        probe.args(["ip", "link", "set", "lo", "up"]);
        capture(&mut probe, Duration::from_secs(10)).context(
            "the lab needs a network namespace of its own, and it cannot be made: as root, the \
             process lacks CAP_SYS_ADMIN and CAP_NET_ADMIN (in a container, start it with \
             `--cap-add SYS_ADMIN --cap-add NET_ADMIN`); else type `sudo sysctl \
             kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0`, \
             or run this with sudo",
        )?;
        Ok(entrance)
    }

    /// This program's `lab inside …` in new namespaces, which are gone with the last process there.
    pub fn inside(&self) -> Result<Command> {
        let mut command = self.unshare();
        command.args(["setpriv", "--pdeathsig", "KILL"]).arg(std::env::current_exe()?);
        command.args(["lab", "inside"]);
        Ok(command)
    }

    fn unshare(&self) -> Command {
        let mut command = Command::new("unshare");
        let user: &[&str] = if self.mapped { &["--user", "--map-root-user"] } else { &[] };
        command.args(user).args(["--net", "--mount"]);
        command
    }
}

/// Whether these are the identities of the first user namespace, where numbers mean themselves.
fn maps_everybody(uid_map: &str) -> bool {
    uid_map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Makes `/run`, with the names of the namespaces in it, this namespace's own, and loopback work.
pub fn furnish() -> Result<()> {
    hosts::run("mount -t tmpfs -o mode=755 lab /run").context("/run cannot be made private")?;
    hosts::run("ip link set lo up")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_of_a_user_namespace_is_not_taken_for_root() {
        assert!(maps_everybody("         0          0 4294967295\n"));
        assert!(!maps_everybody("         0       1000          1\n"));
        assert!(!maps_everybody("         0     100000 4294867295\n"));
        assert!(!maps_everybody(""));
    }
}
