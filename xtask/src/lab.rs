//! `cargo xtask lab`: our protocols against the Linux kernel and the usual tools, in a network
//! namespace of their own.
//!
//! The task runs itself again inside a new namespace, where nothing is but what it makes, and which
//! is gone with the last process in it. Every process there is killed by the kernel when the one that
//! started it ends, however that comes: so nothing is left even after Ctrl-C. Whoever is root gets a
//! namespace at once, everybody else one of a user namespace, where they may make devices.

mod capture;
mod tools;
mod world;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::geteuid;

use crate::process::{capture, run as run_process};
use crate::steps::{Context, Done};
use crate::test::{FAILPOINTS, LIMIT};

/// What the whole lab may take.
const LAB_LIMIT: Duration = Duration::from_secs(90);

/// The host that is judged.
const HOST: &str = "tap_host";

#[derive(clap::Args)]
pub struct Args {
    /// Inside the namespace: the host to judge
    #[arg(long, hide = true, value_name = "PROGRAM")]
    inside: Option<PathBuf>,
    /// Inside the namespace: where the captures go
    #[arg(long, hide = true, value_name = "FOLDER", default_value = ".")]
    captures: PathBuf,
}

/// Runs the lab.
pub fn run(args: &Args) -> Result<()> {
    if let Some(program) = &args.inside {
        return inside(program, &args.captures);
    }
    crate::packages::provide()?;
    match check(&Context::load()?)? {
        Done::Passed(note) => println!("{note}"),
        Done::Skipped(why) => bail!("{why}"),
    }
    Ok(())
}

/// The check `lab`.
pub fn check(context: &Context) -> Result<Done> {
    let enter = match way_in() {
        Ok(enter) => enter,
        Err(why) => return Ok(Done::Skipped(format!("{why:#}"))),
    };
    let workspace = &context.workspace;
    let mut build = workspace.cargo(["build", "--workspace", "--example", HOST]);
    run_process(build.args(FAILPOINTS), LIMIT)?;
    let captures = workspace.target.join("lab");
    std::fs::create_dir_all(&captures)?;
    let begin = Instant::now();
    let mut lab = Command::new("unshare");
    lab.args(enter).args(["setpriv", "--pdeathsig", "KILL"]);
    lab.arg(std::env::current_exe()?).arg("lab").arg("--inside");
    lab.arg(workspace.target.join("debug/examples").join(HOST));
    lab.arg("--captures").arg(&captures);
    let said = run_process(&mut lab, LAB_LIMIT)?;
    let checks = said.stdout.lines().filter(|line| line.starts_with("ok ")).count();
    if checks < tools::FEWEST {
        bail!("only {checks} checks of {} were made", tools::FEWEST);
    }
    Ok(Done::Passed(format!("{checks} checks in {:.0} s", begin.elapsed().as_secs_f64())))
}

/// With which arguments `unshare` makes a namespace here.
///
/// # Errors
/// What is missing, and how to get it.
fn way_in() -> Result<&'static [&'static str]> {
    File::options().read(true).write(true).open("/dev/net/tun").context(
        "the lab makes a TAP device, and /dev/net/tun cannot be opened: type `sudo modprobe tun`, \
         and `sudo chmod 666 /dev/net/tun` if you are not root (in a container, start it with \
         `--device /dev/net/tun`)",
    )?;
    let enter: &[&str] =
        if geteuid().is_root() { &["--net"] } else { &["--user", "--map-root-user", "--net"] };
    let mut probe = Command::new("unshare");
    probe.args(enter).args(["ip", "link", "set", "lo", "up"]);
    capture(&mut probe, Duration::from_secs(10)).context(
        "the lab needs a network namespace of its own, and it cannot be made: as root, the process \
         lacks CAP_SYS_ADMIN and CAP_NET_ADMIN (in a container, start it with `--cap-add \
         SYS_ADMIN --cap-add NET_ADMIN`); else type `sudo sysctl kernel.unprivileged_userns_clone=1 \
         kernel.apparmor_restrict_unprivileged_userns=0`, or run this with sudo",
    )?;
    Ok(enter)
}

/// The lab itself.
fn inside(program: &Path, captures: &Path) -> Result<()> {
    let pcap = captures.join("lab.pcap");
    let mut world = world::World::new(program, &pcap)?;
    tools::judge()?;
    let counts = world.end()?;
    capture::judge(&pcap, &captures.join("spoilt.pcap"))?;
    tools::judge_counts(&counts)
}
