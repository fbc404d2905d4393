//! The programs that the checks need: found, or installed from the distribution's packages, or named.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, bail};
use rustix::process::geteuid;

use crate::process;

/// A program, why it is needed, and the package that has it.
struct Need {
    program: &'static str,
    why: &'static str,
    apt: &'static str,
    dnf: &'static str,
}

const NEEDS: &[Need] = &[
    Need { program: "cc", why: "links programs", apt: "gcc", dnf: "gcc" },
    Need { program: "c++", why: "builds the fuzzer's engine", apt: "g++", dnf: "gcc-c++" },
    Need { program: "strace", why: "counts system calls", apt: "strace", dnf: "strace" },
    Need { program: "ip", why: "makes the lab's network", apt: "iproute2", dnf: "iproute" },
    Need { program: "ping", why: "judges in the lab", apt: "iputils-ping", dnf: "iputils" },
    Need { program: "nc", why: "judges in the lab", apt: "netcat-openbsd", dnf: "netcat" },
    Need { program: "dig", why: "judges in the lab", apt: "bind9-dnsutils", dnf: "bind-utils" },
    Need { program: "tshark", why: "judges in the lab", apt: "tshark", dnf: "wireshark-cli" },
    Need { program: "ethtool", why: "sets up the lab's device", apt: "ethtool", dnf: "ethtool" },
];

/// Components of the Rust toolchain that a minimal installation lacks.
const COMPONENTS: &[(&str, &str)] = &[("rustfmt", "cargo-fmt"), ("clippy", "cargo-clippy")];

const LIMIT: Duration = Duration::from_secs(300);

/// Sees to it that everything needed is there, and says what it found.
///
/// # Errors
/// When something is missing and may not be installed; the sentence holds the command to type.
pub fn provide() -> Result<String> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !on_path(need.program)).collect();
    if !missing.is_empty() {
        install(&missing)?;
    }
    let components: Vec<&str> = COMPONENTS
        .iter()
        .filter(|(_, program)| !on_path(program))
        .map(|(component, _)| *component)
        .collect();
    if !components.is_empty() {
        if !on_path("rustup") {
            bail!(
                "the Rust toolchain lacks {0}: install {0} as you installed Rust",
                components.join(" and ")
            );
        }
        process::run(Command::new("rustup").args(["component", "add"]).args(&components), LIMIT)?;
    }
    let programs = NEEDS
        .iter()
        .map(|need| need.program)
        .chain(COMPONENTS.iter().map(|(component, _)| *component));
    Ok(format!("{} are here", programs.collect::<Vec<_>>().join(", ")))
}

fn install(missing: &[&Need]) -> Result<()> {
    let apt = on_path("apt-get");
    let manager = if apt { "apt-get" } else { "dnf" };
    let packages: Vec<&str> =
        missing.iter().map(|need| if apt { need.apt } else { need.dnf }).collect();
    let wanted = missing
        .iter()
        .map(|need| format!("`{}` ({})", need.program, need.why))
        .collect::<Vec<_>>()
        .join(", ");
    if !apt && !on_path("dnf") {
        bail!("missing: {wanted}; install them with your distribution's packages");
    }
    let by_hand = format!("sudo {manager} install {}", packages.join(" "));
    let root = geteuid().is_root();
    if !root && !sudo_without_password() {
        bail!("missing: {wanted}; type `{by_hand}`, then start this again");
    }
    println!("missing: {wanted}; installing {}", packages.join(" "));
    let privileged = |args: &[&str]| {
        let mut command = if root { Command::new(manager) } else { Command::new("sudo") };
        if !root {
            command.args(["-n", manager]);
        }
        command.args(args).args(&packages).env("DEBIAN_FRONTEND", "noninteractive");
        process::run(&mut command, LIMIT)
    };
    let mut done = privileged(&["install", "-y"]);
    if done.is_err() && apt {
        // A fresh image has no package lists; fetching them first every time would be slow.
        let update = if root { vec!["apt-get"] } else { vec!["sudo", "-n", "apt-get"] };
        process::run(Command::new(update[0]).args(&update[1..]).arg("update"), LIMIT)?;
        done = privileged(&["install", "-y"]);
    }
    if let Err(error) = done {
        bail!("{wanted} could not be installed ({error}); type `{by_hand}`, then start this again");
    }
    Ok(())
}

fn sudo_without_password() -> bool {
    let mut sudo = Command::new("sudo");
    sudo.args(["-n", "true"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    sudo.status().is_ok_and(|status| status.success())
}

/// Whether a program of this name is in one of the folders of `PATH`.
pub fn on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| is_program(&folder.join(program)))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_programs_and_not_what_merely_has_a_name() {
        assert!(on_path("sh"));
        assert!(!on_path("a-program-that-nobody-has"));
        assert!(!is_program(Path::new("/etc/passwd")));
        assert!(!is_program(Path::new("/etc")));
    }
}
