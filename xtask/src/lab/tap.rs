//! The part `protocols`: a TAP device with our host behind it, which the kernel and the usual tools
//! judge.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::private::Entrance;
use super::{capture, count, tools, world};
use crate::process::run;
use crate::steps::Done;
use crate::test::{FAILPOINTS, LIMIT, passed};
use crate::workspace::Workspace;

/// What the whole part may take.
const TAP_LIMIT: Duration = Duration::from_secs(90);

/// The host that is judged.
const HOST: &str = "tap_host";

/// Builds the host, and has it judged in a namespace of its own.
pub fn check(workspace: &Workspace, entrance: &Entrance) -> Result<Done> {
    if let Err(error) = File::options().read(true).write(true).open("/dev/net/tun") {
        return Ok(Done::Skipped(format!(
            "it makes a TAP device, and /dev/net/tun cannot be opened ({error}): type `sudo modprobe \
             tun`, and `sudo chmod 666 /dev/net/tun` if you are not root (in a container, start it \
             with `--device /dev/net/tun`)"
        )));
    }
    let mut build = workspace.cargo(["build", "--workspace", "--example", HOST]);
    run(build.args(FAILPOINTS), LIMIT)?;
    let captures = workspace.target.join("lab");
    std::fs::create_dir_all(&captures)?;
    let begin = Instant::now();
    let mut lab = entrance.inside()?;
    lab.arg("protocols").arg(workspace.target.join("debug/examples").join(HOST)).arg(&captures);
    let checks = count(&run(&mut lab, TAP_LIMIT)?, tools::FEWEST)?;
    passed(format!("{checks} checks in {:.0} s", begin.elapsed().as_secs_f64()))
}

/// The part itself, inside the namespace.
pub fn inside(program: &Path, captures: &Path) -> Result<()> {
    let pcap = captures.join("lab.pcap");
    let mut world = world::World::new(program, &pcap)?;
    tools::judge()?;
    let counts = world.end()?;
    capture::judge(&pcap, &captures.join("spoilt.pcap"))?;
    tools::judge_counts(&counts)
}
