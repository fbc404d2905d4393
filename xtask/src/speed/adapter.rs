//! What the adapter between frames and datagrams costs a packet: the example `framed_cost` of `unet`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::process;

/// The name of the run that rows refer to.
pub const RUN: &str = "adapter";
/// The example's name.
pub const EXAMPLE: &str = "framed_cost";
const LIMIT: Duration = Duration::from_secs(120);
/// Bytes of a packet's payload.
const PAYLOAD: u64 = 64;

/// Runs the example.
pub fn measure(program: &Path) -> Result<Value> {
    let mut command = Command::new(program);
    command.arg(PAYLOAD.to_string());
    records(&process::capture(&mut command, LIMIT)?.stdout)
}

/// As records: `IPv4/send`, `device/receive` and so on, of the middle burst, nanoseconds a packet.
fn records(printed: &str) -> Result<Value> {
    let mut records = Vec::new();
    for line in printed.lines() {
        let Some((who, times)) = line.split_once(" B: ") else { continue };
        let Some(who) = who.split_whitespace().next() else { continue };
        for part in times.split("), ") {
            let mut words = part.split_whitespace();
            let (Some(way), Some(time)) = (words.next(), words.next()) else { continue };
            let time: f64 = time.parse()?;
            let system = format!("{who}/{way}");
            records.push(json!({"system": system, "payload_bytes": PAYLOAD, "mean_ns": time}));
        }
    }
    if records.is_empty() {
        bail!("`{EXAMPLE}` printed no times:\n{printed}");
    }
    Ok(json!({"records": records}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_example_prints() {
        let printed = "device 64 B: send 4.6 ns (mean 4.8), receive 11.6 ns (mean 12.0) a packet\n  \
                       IPv4 64 B: send 20.1 ns (mean 21.4), receive 30.2 ns (mean 31.0) a packet\n";
        let read = records(printed).expect("times are there");
        let found = |system: &str| {
            let all = read["records"].as_array().expect("a list");
            all.iter().find(|record| record["system"] == system).map(|it| it["mean_ns"].clone())
        };
        assert_eq!(found("device/receive"), Some(json!(11.6)));
        assert_eq!(found("IPv4/send"), Some(json!(20.1)));
        assert!(records("nothing").is_err());
    }
}
