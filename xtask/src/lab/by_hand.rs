//! The lab for whoever tries something by hand: made, looked at, entered and removed.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use rustix::process::geteuid;

use super::hosts::{self, Up, attempt};
use super::shape::{Shape, addresses, everything, link, place};

/// Makes the lab, unless it is there.
pub fn up(shape: &Shape) -> Result<()> {
    privileged()?;
    match hosts::up(shape)? {
        Up::Kept => println!("the lab is there already"),
        Up::Made(why) => println!("the lab is made anew ({why})"),
    }
    show(shape);
    Ok(())
}

/// Removes the lab.
pub fn down() -> Result<()> {
    privileged()?;
    let there: Vec<_> = everything().map(|host| (processes(&host), host)).collect();
    let removed = hosts::down()?;
    match removed.as_slice() {
        [] => println!("there is no lab"),
        names => println!("removed {}", names.join(", ")),
    }
    for (pids, host) in there.iter().filter(|(pids, _)| !pids.is_empty()) {
        println!("these processes go on in what was {host}, without a network: {pids}");
    }
    Ok(())
}

/// Says what there is.
///
/// # Errors
/// When there is no lab that can be used; the sentence says what is wrong with it.
pub fn status() -> Result<()> {
    privileged()?;
    let Some(shape) = Shape::found() else {
        bail!("there is no complete lab: `cargo xtask lab up` makes one");
    };
    if let Some(problem) = shape.problem() {
        bail!(
            "the lab cannot be used, since {problem}: `cargo xtask lab up {shape}` makes it anew"
        );
    }
    show(&shape);
    Ok(())
}

/// Becomes a command in a host.
pub fn exec(host: &str, command: &[OsString]) -> Result<()> {
    privileged()?;
    let host = full_name(host);
    if place(&host).symlink_metadata().is_err() {
        bail!(
            "there is no {host}: `cargo xtask lab up` makes the lab, `… lab status` names its hosts"
        );
    }
    let error = Command::new("ip").args(["netns", "exec", &host]).args(command).exec();
    Err(error).context("`ip` could not be started: install iproute2")
}

fn show(shape: &Shape) {
    println!("{shape}");
    for (number, host) in shape.names().enumerate() {
        let number = number as u8;
        let addresses = addresses(number).map(|(address, prefix)| format!("{address}/{prefix}"));
        let pids = processes(&host);
        let pids = if pids.is_empty() { String::new() } else { format!("  processes {pids}") };
        println!("{host}  {host}0  {}  {}{pids}", link(number), addresses.join("  "));
    }
}

/// The processes in a host, by number.
fn processes(host: &str) -> String {
    if place(host).symlink_metadata().is_err() {
        return String::new();
    }
    let said = attempt(&format!("ip netns pids {host}")).unwrap_or_default();
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `a` is short for `lab-a`.
fn full_name(host: &str) -> String {
    if host.starts_with("lab-") { host.to_owned() } else { format!("lab-{host}") }
}

fn privileged() -> Result<()> {
    if !geteuid().is_root() {
        let mut words = std::env::args();
        let program = words.next().unwrap_or_default();
        bail!(
            "the lab's hosts are network namespaces, which only root may make and enter: type `sudo \
             {program} {}` (`cargo xtask lab` without more needs no root)",
            words.collect::<Vec<_>>().join(" ")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_a_short_name() {
        assert_eq!(full_name("a"), "lab-a");
        assert_eq!(full_name("lab-switch"), "lab-switch");
        assert_eq!(full_name("switch"), "lab-switch");
    }
}
