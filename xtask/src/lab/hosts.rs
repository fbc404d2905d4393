//! The hosts of the lab, made out of whatever is there, judged and removed.

use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value;

use super::shape::{SWITCH, Shape, addresses, everything, name, place};
use crate::process::capture;

/// How long one step may take, and how long the links may take to come up.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a lab came to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Up {
    /// It was there and is untouched.
    Kept,
    /// It was made, for this reason.
    Made(String),
}

impl Shape {
    /// Why what is there is not this lab, complete and usable.
    pub fn problem(&self) -> Option<String> {
        for name in everything() {
            let wanted = self.names().any(|host| host == name);
            let wanted = wanted || (name == SWITCH && self.hosts > 2);
            match place(&name).symlink_metadata() {
                Ok(_) if !wanted => return Some(format!("{name} is there")),
                Err(_) if wanted => return Some(format!("{name} is not there")),
                _ => {}
            }
        }
        (0..self.hosts).find_map(|number| self.flaw(number))
    }

    /// What is wrong with a host's device.
    fn flaw(&self, number: u8) -> Option<String> {
        let host = name(number);
        let Ok(device) = device(&host) else { return Some(format!("{host} has no {host}0")) };
        let has = |key: &str, value: u64| device[key].as_u64() == Some(value);
        let queues = u64::from(self.queues);
        let there: Vec<&str> = device["addr_info"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|address| address["local"].as_str())
            .collect();
        let flaw = if Shape::written_on(&device).as_ref() != Some(self) {
            "half made or has other parameters"
        } else if !has("mtu", self.mtu.into()) {
            "given another MTU"
        } else if !has("num_tx_queues", queues) || !has("num_rx_queues", queues) {
            "given other queues"
        } else if addresses(number).iter().any(|(address, _)| !there.contains(&address.as_str())) {
            "without one of its addresses"
        } else if device["operstate"] != "UP" {
            "down"
        } else {
            return None;
        };
        Some(format!("{host}0 is {flaw}"))
    }

    /// What the lab that is there was made for.
    pub fn found() -> Option<Shape> {
        Shape::written_on(&device(&name(0)).ok()?)
    }

    fn written_on(device: &Value) -> Option<Shape> {
        Shape::read(device["ifalias"].as_str()?.split(',')).ok()
    }
}

/// Makes the lab, unless it is there.
///
/// # Errors
/// When a step fails: it is named. What was made stays, and goes with [`down`] or the next [`up`].
pub fn up(shape: &Shape) -> Result<Up> {
    let Some(why) = shape.problem() else { return Ok(Up::Kept) };
    down()?;
    for step in shape.steps() {
        run(&step)?;
    }
    let start = Instant::now();
    while let Some(problem) = shape.problem() {
        if start.elapsed() > PATIENCE {
            bail!("the lab was made and is not as it should be: {problem}");
        }
        sleep(Duration::from_millis(5));
    }
    Ok(Up::Made(why))
}

/// Removes whatever there is of a lab, and answers which namespaces that were.
///
/// # Errors
/// When a namespace's name cannot be removed.
pub fn down() -> Result<Vec<String>> {
    let there: Vec<String> =
        everything().filter(|name| place(name).symlink_metadata().is_ok()).collect();
    for name in &there {
        // A process may keep the namespace, but not the device. What is half made may have none.
        let _ = attempt(&format!("ip -n {name} link delete {name}0"));
    }
    for name in &there {
        run(&format!("ip netns delete {name}"))?;
    }
    Ok(there)
}

/// Runs one step.
///
/// # Errors
/// When it fails; why, stands on the standard error output.
pub fn run(step: &str) -> Result<String> {
    Ok(capture(&mut command(step), PATIENCE)?.stdout)
}

/// Runs one step that may well fail, and says nothing of why.
pub fn attempt(step: &str) -> Result<String> {
    Ok(capture(command(step).stderr(Stdio::null()), PATIENCE)?.stdout)
}

fn command(step: &str) -> Command {
    let mut words = step.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    command
}

/// What the kernel says of a host's device.
pub fn device(host: &str) -> Result<Value> {
    let said = attempt(&format!("ip -n {host} -details -json address show dev {host}0"))?;
    let mut said: Value = serde_json::from_str(&said)?;
    Ok(said[0].take())
}
