//! The programs that the checks need: found, or installed from the distribution's packages, or named.

use std::env;
use std::path::{Path, PathBuf};
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

/// A library that the DPDK driver is built with, and how it is seen that it is there.
struct Library {
    name: &'static str,
    known_by: Sign,
    apt: &'static str,
    dnf: &'static str,
}

/// Says that a library is there.
enum Sign {
    /// `pkg-config` knows it by this name.
    Config(&'static str),
    /// This program comes along with it.
    Program(&'static str),
    /// A file whose name begins so is where libraries are.
    File(&'static str),
}

/// What the checks do without where it cannot be had: then the DPDK driver says that it is missing, and its tests are
/// left out.
const WELCOME: &[Library] = &[
    Library {
        name: "libdpdk",
        known_by: Sign::Config("libdpdk"),
        apt: "libdpdk-dev",
        dnf: "dpdk-devel",
    },
    Library {
        name: "pkg-config",
        known_by: Sign::Program("pkg-config"),
        apt: "pkg-config",
        dnf: "pkgconf-pkg-config",
    },
    Library {
        name: "DPDK's programs",
        known_by: Sign::Program("dpdk-testpmd"),
        apt: "dpdk",
        dnf: "dpdk",
    },
    Library {
        name: "libclang",
        known_by: Sign::File("libclang"),
        apt: "libclang-dev",
        dnf: "clang-devel",
    },
];

/// Components of the Rust toolchain that a minimal installation lacks.
const COMPONENTS: &[(&str, &str)] = &[("rustfmt", "cargo-fmt"), ("clippy", "cargo-clippy")];

const LIMIT: Duration = Duration::from_secs(300);
/// As long for what can be done without.
const PATIENCE: Duration = Duration::from_secs(120);

/// Sees to it that everything needed is there, and says what it found.
///
/// # Errors
/// When something is missing and may not be installed; the sentence holds the command to type.
pub fn provide() -> Result<String> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !on_path(need.program)).collect();
    if !missing.is_empty() {
        let wanted: Vec<_> =
            missing.iter().map(|need| format!("`{}` ({})", need.program, need.why)).collect();
        let packages = missing.iter().map(|need| (need.apt, need.dnf)).collect::<Vec<_>>();
        install(&wanted.join(", "), &packages, LIMIT)?;
    }
    let dpdk = welcome();
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
    Ok(format!("{} are here; {dpdk}", programs.collect::<Vec<_>>().join(", ")))
}

/// Whether the DPDK driver can be built, and judged.
pub fn has_dpdk() -> bool {
    WELCOME.iter().all(Library::is_there)
}

/// Installs what the DPDK driver needs, where that may be. What became of it.
fn welcome() -> String {
    let missing: Vec<&Library> = WELCOME.iter().filter(|library| !library.is_there()).collect();
    if missing.is_empty() {
        return "DPDK, too".to_owned();
    }
    let wanted: Vec<_> = missing.iter().map(|library| library.name).collect();
    let packages: Vec<_> = missing.iter().map(|library| (library.apt, library.dnf)).collect();
    match install(&wanted.join(", "), &packages, PATIENCE) {
        Ok(()) => "DPDK was installed".to_owned(),
        Err(error) => format!("DPDK's tests are left out: {error}"),
    }
}

impl Library {
    fn is_there(&self) -> bool {
        match self.known_by {
            Sign::Config(name) => {
                let mut config = Command::new("pkg-config");
                config.args(["--exists", name]).stdout(Stdio::null()).stderr(Stdio::null());
                config.status().is_ok_and(|status| status.success())
            }
            Sign::Program(program) => on_path(program),
            Sign::File(begin) => library_folders().iter().any(|folder| {
                let names = folder.read_dir().into_iter().flatten().flatten();
                names.into_iter().any(|entry| {
                    let name = entry.file_name();
                    name.to_str()
                        .is_some_and(|name| name.starts_with(begin) && name.contains(".so"))
                })
            }),
        }
    }
}

/// Where distributions have LLVM's libraries.
fn library_folders() -> Vec<PathBuf> {
    let of_versions = Path::new("/usr/lib").read_dir().into_iter().flatten().flatten();
    let of_versions = of_versions.map(|entry| entry.path().join("lib"));
    let usual = ["/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"];
    of_versions.chain(usual.map(PathBuf::from)).collect()
}

fn install(wanted: &str, packages: &[(&str, &str)], limit: Duration) -> Result<()> {
    let apt = on_path("apt-get");
    let manager = if apt { "apt-get" } else { "dnf" };
    let packages: Vec<&str> =
        packages.iter().map(|(deb, rpm)| if apt { *deb } else { *rpm }).collect();
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
        process::run(&mut command, limit)
    };
    let mut done = privileged(&["install", "-y", "--no-install-recommends"]);
    if done.is_err() && apt {
        // A fresh image has no package lists; fetching them first every time would be slow.
        let update = if root { vec!["apt-get"] } else { vec!["sudo", "-n", "apt-get"] };
        process::run(Command::new(update[0]).args(&update[1..]).arg("update"), limit)?;
        done = privileged(&["install", "-y", "--no-install-recommends"]);
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
