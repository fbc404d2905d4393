//! `cargo xtask bench --instructions`: what an operation costs in instructions, which do not depend
//! on the machine's mood.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::packages::on_path;
use crate::speed::adapter::EXAMPLE;
use crate::workspace::Workspace;
use crate::{bench, process};

const LIMIT: Duration = Duration::from_secs(600);
/// The functions of the program that are counted, with all that they call.
const LOOP: &str = "instructions::measured*";
/// Operations of the shorter run, and how many more the longer has.
const WARM: u32 = 1_000;
const MORE: u32 = 10_000;
/// Packets of a burst in the adapter's program.
const BURST: u32 = 32;

/// What is counted: the program's word for it, what it is, and what is taken off it.
const ROWS: &[(&str, &str, Option<&str>)] = &[
    ("send", "U-Net send, 8 B", None),
    ("message", "U-Net receive by an endpoint, 8 B", Some("send")),
    ("hand-off", "4 KiB buffer: allocate, send, receive, give back, take back", None),
    ("adjacent", "16 MiB in four adjacent buffers: the same", None),
    ("no-layers", "a message into a graph, out of its device, and back", None),
    ("ten-layers", "ten layers with a header of 8 B, down and up", Some("no-layers")),
    ("null-call", "null LRPC, both sides", None),
    ("call-32", "LRPC with 32 B in and out, both sides", None),
    ("started-call", "null LRPC, started and taken apart", None),
    ("service-call", "the same through a service's stub", None),
    ("service-text", "30 B of text in and out through a service's stub", None),
    ("channel-call", "a call of 8 B by the protocol, over a channel of this host", None),
    ("channel-calls", "the same, eight begun together", None),
];

/// The example that is counted for messages over networks, its words, and what they are.
const LINK: &str = "link_cost";
const LINK_ROWS: &[(&str, &str)] = &[
    ("send", "sent"),
    ("endpoint", "sent, and received by an endpoint"),
    ("round-trip", "the same, and back to a channel"),
    ("vain-channel", "a vain look of a channel's"),
    ("vain-endpoint", "a vain look of an endpoint's"),
    ("spin-channel", "a round trip with ten vain looks of the channel's as it waits"),
    ("spin-endpoint", "sent, and received after ten vain looks of the endpoint's as it waits"),
];

fn needs_valgrind() -> Result<()> {
    if on_path("valgrind") {
        return Ok(());
    }
    bail!(
        "valgrind counts the instructions and is not here: install it, as with `apt-get install valgrind`"
    );
}

/// Builds the program, counts, and prints a table for the book.
pub fn run(workspace: &Workspace) -> Result<()> {
    needs_valgrind()?;
    process::run(&mut workspace.cargo(["build", "--release", "--bin", "instructions"]), LIMIT)?;
    let program = workspace.target.join("release/instructions");
    let mut counted: Vec<(&str, f64)> = Vec::new();
    println!("\n| operation | instructions |\n|---|---|");
    for (word, what, without) in ROWS {
        let few = count(&program, word, WARM)?;
        let many = count(&program, word, WARM + MORE)?;
        let each = many.saturating_sub(few) as f64 / f64::from(MORE);
        let rest = without.and_then(|word| counted.iter().find(|(known, _)| *known == word));
        if many < u64::from(MORE) {
            bail!("no instruction of `{what}` was counted: callgrind did not find `{LOOP}`");
        }
        let shown = each - rest.map_or(0.0, |(_, of)| *of);
        counted.push((word, each));
        println!("| {what} | {shown:.0} |");
    }
    Ok(())
}

/// The instructions of a null call by LRPC, by hand and through a service's stub, as records.
pub fn stub(program: &Path) -> Result<Value> {
    needs_valgrind()?;
    let mut records = Vec::new();
    for word in ["started-call", "service-call"] {
        let more = count(program, word, WARM + MORE)?.saturating_sub(count(program, word, WARM)?);
        let each = more as f64 / f64::from(MORE);
        records.push(json!({"system": word, "payload_bytes": 0, "mean_ns": each}));
    }
    Ok(json!({"records": records}))
}

/// What the adapter between frames and datagrams adds to a packet, beside a device that hands back what it
/// was given; the mean of IPv4 and IPv6.
pub fn adapter(workspace: &Workspace) -> Result<()> {
    const PAYLOAD: &str = "64";
    needs_valgrind()?;
    bench::build_adapter(workspace)?;
    let program = workspace.target.join("release/examples").join(EXAMPLE);
    println!("\n| a packet of {PAYLOAD} B | instructions of the adapter |\n|---|---|");
    for (what, whole, device) in
        [("sent", "send_burst", "bare_send"), ("received", "receive_burst", "bare_receive")]
    {
        let each = |function: &str, loops: f64| -> Result<f64> {
            let function = format!("*::{function}*");
            let few = collect(&program, &[&function], PAYLOAD, WARM)?;
            let many = collect(&program, &[&function], PAYLOAD, WARM + MORE)?;
            let more = many.saturating_sub(few) as f64;
            if more == 0.0 {
                bail!("callgrind did not find `{function}`");
            }
            // The program sends whole bursts.
            let packets = (WARM + MORE) / BURST * BURST - WARM / BURST * BURST;
            Ok(more / f64::from(packets) / loops)
        };
        println!("| {what} | {:.0} |", each(whole, 2.0)? - each(device, 1.0)?);
    }
    link(workspace)
}

/// What a message costs between the application and the device: the example [`LINK`] of `unet`.
fn link(workspace: &Workspace) -> Result<()> {
    let example = ["build", "--release", "-p", "unet", "--example", LINK];
    process::run(&mut workspace.cargo(example), LIMIT)?;
    let program = workspace.target.join("release/examples").join(LINK);
    println!("\n| a message of 64 B, without its device | instructions |\n|---|---|");
    for (word, what) in LINK_ROWS {
        // The second pattern turns the counting off while the device works.
        let functions = [&format!("{LINK}::measured*"), "*::in_device_*"];
        let few = collect(&program, &functions, word, WARM)?;
        let many = collect(&program, &functions, word, WARM + MORE)?;
        if many < few + u64::from(MORE) {
            bail!("no instruction of `{what}` was counted");
        }
        println!("| {what} | {:.0} |", (many - few) as f64 / f64::from(MORE));
    }
    Ok(())
}

/// The instructions of a whole run.
fn count(program: &Path, what: &str, operations: u32) -> Result<u64> {
    collect(program, &[LOOP], what, operations)
}

/// The instructions in functions of these names, and in all that they call: but for those that are called by
/// one another, where the counting is turned off again.
fn collect(program: &Path, functions: &[&str], what: &str, operations: u32) -> Result<u64> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--log-fd=1"]);
    valgrind.args(functions.iter().map(|functions| format!("--toggle-collect={functions}")));
    valgrind.arg(program).args([what, &operations.to_string()]);
    collected(&process::capture(&mut valgrind, LIMIT)?.stdout)
}

/// Reads callgrind's last words: `==123== Collected : 4567`.
fn collected(log: &str) -> Result<u64> {
    let line = log.lines().rev().find_map(|line| line.split_once("Collected :"));
    let (_, count) = line.context("callgrind did not say how many instructions it collected")?;
    count.trim().parse().context("callgrind did not collect a number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_callgrind_says_last() {
        let log = "==7== Events    : Ir\n==7== Collected : 1234567\n==7== \n";
        assert_eq!(collected(log).expect("it is there"), 1_234_567);
        assert!(collected("==7== Events    : Ir\n").is_err());
    }

    #[test]
    fn what_is_taken_off_was_counted_before() {
        for (at, (_, _, without)) in ROWS.iter().enumerate() {
            let known = |word: &str| ROWS[..at].iter().any(|(known, ..)| *known == word);
            assert!(without.is_none_or(known));
        }
    }
}
