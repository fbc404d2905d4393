//! The device, the host behind it, and the capture of everything between.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::process::capture;

/// The device's name on our side.
pub const DEVICE: &str = "unet0";
/// How long a set-up or an end may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A tool that is killed when we end.
pub fn tool(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]);
    command
}

/// What runs while the tools judge.
pub struct World {
    host: Child,
    said: BufReader<ChildStdout>,
    dumpcap: Child,
    dumpcap_said: BufReader<ChildStderr>,
}

impl World {
    /// Starts the host, gives the kernel's side its addresses, and captures into `pcap`.
    pub fn new(program: &Path, pcap: &Path) -> Result<World> {
        let mut host = tool(&program.to_string_lossy());
        host.arg(DEVICE).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut host = host.spawn().context("the host could not be started")?;
        let mut said = BufReader::new(host.stdout.take().context("its output was not piped")?);
        let mut line = String::new();
        said.read_line(&mut line)?;
        if !line.contains(DEVICE) {
            bail!("the host did not make its device; it says why above");
        }
        for line in [
            "link set lo up",
            // So that the kernel takes no time to see whether somebody else has its address.
            &format!("link set {DEVICE} addrgenmode none"),
            &format!("link set {DEVICE} address 02:00:00:00:00:01"),
            &format!("address add 192.0.2.1/24 dev {DEVICE}"),
            &format!("address add 2001:db8::1/64 dev {DEVICE} nodad"),
            &format!("address add fe80::ff:fe00:1/64 dev {DEVICE} nodad"),
            &format!("link set {DEVICE} up"),
        ] {
            ip(line)?;
        }
        // The kernel's own sums are to be in the capture too. The device may not know the feature.
        let _ = tool("ethtool").args(["-K", DEVICE, "tx", "off"]).output();
        // tcpdump would be better known, but insists on changing its user, which a user namespace
        // refuses.
        let mut dumpcap = tool("dumpcap");
        dumpcap.args(["-q", "-P", "-i", DEVICE, "-B", "64", "-w"]).arg(pcap);
        let mut dumpcap = dumpcap.stderr(Stdio::piped()).spawn().context("no dumpcap")?;
        let mut dumpcap_said =
            BufReader::new(dumpcap.stderr.take().context("its output was not piped")?);
        let mut heard = String::new();
        while !heard.contains("File:") {
            if dumpcap_said.read_line(&mut heard)? == 0 {
                bail!("dumpcap ended before it captured anything: {heard}");
            }
        }
        Ok(World { host, said, dumpcap, dumpcap_said })
    }

    /// Ends both, and answers what the host counted.
    pub fn end(&mut self) -> Result<String> {
        // dumpcap gets what it captured in blocks, the last of them after a second.
        std::thread::sleep(Duration::from_millis(1500));
        if let Some(pid) = i32::try_from(self.dumpcap.id()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::INT)?;
        }
        wait(&mut self.dumpcap, "dumpcap")?;
        let mut said = String::new();
        self.dumpcap_said.read_to_string(&mut said)?;
        // Of what it received and dropped, the second number.
        let complete =
            said.lines().any(|line| line.contains("received/dropped") && line.contains("/0 ("));
        if !complete {
            bail!("the capture is not complete:\n{said}");
        }
        drop(self.host.stdin.take());
        wait(&mut self.host, "the host")?;
        let mut counts = String::new();
        self.said.read_to_string(&mut counts)?;
        Ok(counts)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for child in [&mut self.host, &mut self.dumpcap] {
            // They may have ended, which is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// `ip` with these words.
pub fn ip(words: &str) -> Result<String> {
    let mut ip = tool("ip");
    Ok(capture(ip.args(words.split_whitespace()), PATIENCE)?.stdout)
}

fn wait(child: &mut Child, name: &str) -> Result<()> {
    let start = Instant::now();
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => bail!("{name} ended with {status}"),
            None if start.elapsed() > PATIENCE => bail!("{name} does not end"),
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}
