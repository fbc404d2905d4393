//! The judges: programs that we did not write, each of which has to be content.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::world::{DEVICE, ip, tool};
use crate::process::capture;

/// With fewer checks something was forgotten.
pub const FEWEST: usize = 30;

const IPV4: &str = "192.0.2.2";
const IPV6: &str = "2001:db8::2";
const LINK: &str = "02:00:00:00:00:02";

const LIMIT: Duration = Duration::from_secs(10);
/// Pings at flood rate to each version: the next goes out when the last has come back.
const FLOOD: u32 = 100_000;
const FLOOD_LIMIT: Duration = Duration::from_secs(60);

/// Lets every tool judge.
pub fn judge() -> Result<()> {
    let link_local = format!("fe80::ff:fe00:2%{DEVICE}");
    // The last that fit into a frame and the first that do not; one fragmented both ways; and one
    // that is nearly as long as can be.
    for (address, sizes) in [
        (IPV4, [56, 512, 1400, 1472, 1473, 8192, 60_000]),
        (IPV6, [56, 512, 1400, 1452, 1453, 8192, 60_000]),
    ] {
        sizes.iter().try_for_each(|size| ping(address, &["-c", "20"], *size, 20, LIMIT))?;
    }
    ping(&link_local, &["-c", "20"], 56, 20, LIMIT)?;
    neighbors()?;
    for address in [IPV4, IPV6] {
        for len in [1, 1400, 8192] {
            echo(address, len)?;
        }
        closed_port(address)?;
        dig(address, "host.example", "A", "NOERROR", IPV4)?;
        dig(address, "host.example", "AAAA", "NOERROR", IPV6)?;
        dig(address, "nobody.example", "A", "", "")?;
    }
    ping(IPV4, &["-f", "-c", &FLOOD.to_string()], 56, FLOOD, FLOOD_LIMIT)?;
    ping(IPV6, &["-f", "-c", "10000"], 56, 10_000, FLOOD_LIMIT)?;
    ping(IPV6, &["-f", "-c", "1000"], 8192, 1000, FLOOD_LIMIT)?;
    ping(IPV4, &["-f", "-c", "1000"], 8192, 1000, FLOOD_LIMIT)
}

/// Prints what held; the lines are counted.
pub fn passed(what: &str) {
    println!("ok {what}");
}

/// Every ping is answered, with what it carried: `ping` compares that itself.
fn ping(address: &str, how: &[&str], size: u32, count: u32, limit: Duration) -> Result<()> {
    let mut ping = tool("ping");
    ping.args(["-n", "-q", "-W", "2"]).args(how).args(["-s", &size.to_string()]);
    if !how.contains(&"-f") {
        ping.args(["-i", "0.01"]);
    }
    let start = Instant::now();
    let said = capture(ping.arg(address), limit)
        .with_context(|| format!("pings of {size} bytes to {address} were lost"))?
        .stdout;
    let all = format!("{count} packets transmitted, {count} received, 0% packet loss");
    if !said.contains(&all) || said.contains("errors") || said.contains("duplicates") {
        bail!("pings of {size} bytes to {address} were lost:\n{said}");
    }
    let took = start.elapsed().as_secs_f64();
    passed(&format!("ping {address} {size} bytes: {count} of {count} in {took:.1} s"));
    Ok(())
}

/// The kernel has our link address, and asks for it again when it has forgotten it.
fn neighbors() -> Result<()> {
    for (version, address) in [("-4", IPV4), ("-6", IPV6)] {
        ip(&format!("{version} neighbour flush dev {DEVICE}"))?;
        ping(address, &["-c", "1"], 56, 1, LIMIT)?;
        let known = ip(&format!("{version} neighbour show {address} dev {DEVICE}"))?;
        if !known.contains(LINK) {
            bail!("the kernel does not know who has {address}: {known}");
        }
        passed(&format!("the kernel finds {address} at {LINK}"));
    }
    Ok(())
}

/// `nc` gets back what it sent in one datagram.
fn echo(address: &str, len: usize) -> Result<()> {
    let text = "0123456789abcdef".repeat(len.div_ceil(16));
    let sent = &text[..len];
    let mut nc = tool("sh");
    nc.args(["-c", "printf %s \"$1\" | nc -u -w 1 \"$0\" 7", address, sent]);
    let came = capture(&mut nc, LIMIT)?.stdout;
    if came.trim_end() != sent {
        bail!("nc sent {len} bytes to {address} and got {} back", came.trim_end().len());
    }
    passed(&format!("nc {address} {len} bytes come back"));
    Ok(())
}

/// The kernel takes our word that nobody listens at a port.
fn closed_port(address: &str) -> Result<()> {
    let start = Instant::now();
    let mut nc = tool("sh");
    nc.args(["-c", "echo x | nc -u -w 5 \"$0\" 9; echo status $?", address]);
    let said = capture(&mut nc, LIMIT)?.stdout;
    // It waits for five seconds for an answer, unless the kernel says that none can come.
    if said.contains("status 0") && start.elapsed() > Duration::from_secs(4) {
        bail!("nc was not told that port 9 of {address} is closed");
    }
    passed(&format!("nc {address} hears that a port is closed"));
    Ok(())
}

/// `dig` understands our answer; an empty `status` means that the name must not exist.
fn dig(server: &str, name: &str, kind: &str, status: &str, address: &str) -> Result<()> {
    let mut dig = tool("dig");
    dig.args(["+tries=1", "+timeout=2", "+norecurse"]).arg(format!("@{server}"));
    let said = capture(dig.args([name, kind]), LIMIT)?.stdout;
    let status = if status.is_empty() { "NXDOMAIN" } else { status };
    let answered = said.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.starts_with(&["host.example."]) && words.ends_with(&[kind, address])
    });
    let complaint = said.contains("WARNING") || said.contains("malformed");
    if !said.contains(&format!("status: {status}")) || answered == address.is_empty() || complaint {
        bail!("dig is not content with {server} about {name} {kind}:\n{said}");
    }
    passed(&format!("dig @{server} {name} {kind}: {status}"));
    Ok(())
}

/// The host's own counts agree: nothing was dropped but what had to be.
pub fn judge_counts(counts: &str) -> Result<()> {
    println!("{}", counts.trim_end());
    // Frames of the kernel to groups in which we are not, and datagrams to the closed ports.
    let expected = ["ether dropped: NotForUs", "udp dropped: NoSession"];
    let dropped = |line: &&str| line.contains("dropped");
    let unexpected: Vec<&str> = counts
        .lines()
        .filter(dropped)
        .filter(|line| !expected.iter().any(|expected| line.starts_with(expected)))
        .collect();
    if !unexpected.is_empty() {
        bail!("the host dropped what it should have taken:\n{}", unexpected.join("\n"));
    }
    if !counts.contains("ipv4 reassembled") || !counts.contains("ipv6 reassembled") {
        bail!("the host says nothing of having put fragments together:\n{counts}");
    }
    passed("the host dropped nothing that was for it");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_that_nobody_expects_are_refused() {
        let counts = "ipv4 reassembled 1\nipv6 reassembled 1\n";
        assert!(judge_counts(&format!("{counts}ether dropped: NotForUs 3\n")).is_ok());
        assert!(judge_counts(&format!("{counts}ipv4 dropped: Checksum 1\n")).is_err());
        assert!(judge_counts("").is_err());
    }
}
