//! One way: the receiver counts, and its count is the result.

use std::time::{Duration, Instant};

use crate::cpus::switches_away;
use crate::fault::Fault;
use crate::measure::halves::{MESSAGES_PER_STAMP, Received, Sends};
use crate::measure::spread::Spread;
use crate::measure::{Lab, Outcome, batches, warm_up};
use crate::process::server::{Answered, Reply, Request, Server};
use crate::task::Task;

/// How long the receiver may take to work off what was sent, and to say what it counted.
const PATIENCE: Duration = Duration::from_secs(10);
/// After this long without an answer, the end of the phase may have been lost.
const REPEAT: Duration = Duration::from_millis(20);
/// Messages of this size and more take longer than a stamp: each is stamped.
const STAMPED_SINGLY: usize = 4096;

/// Measures a client's half, with a server that receives and such as pass on before it; `between` samples the floor while the server is idle.
pub fn measure(
    lab: &Lab<'_>,
    half: &mut dyn Sends,
    task: &Task,
    servers: &[Server],
    between: &mut dyn FnMut() -> Result<(), Fault>,
) -> Result<Outcome, Fault> {
    let timed = lab.duration / 2;
    let per_stamp = if task.payload < STAMPED_SINGLY { MESSAGES_PER_STAMP } else { 1 };
    phase(half, servers, None, warm_up(lab.duration))?;
    between()?;
    let (sent, whole) = phase(half, servers, None, timed)?;
    between()?;
    let (_, stamped) = phase(half, servers, Some(per_stamp), timed)?;
    between()?;
    if whole.messages == 0 || stamped.spread.is_empty() {
        return Err(Fault::Other(
            "too few messages arrived to time them; give it longer with --duration".into(),
        ));
    }
    let mut remarks = Vec::new();
    // What was lost behind the last arrival leaves no gap: only both ends' counts tell it.
    let lost = match half.lossy() {
        true => sent.saturating_sub(whole.first + whole.messages),
        false => whole.lost,
    };
    if lost > 0 {
        let share = 100.0 * lost as f64 / sent as f64;
        remarks
            .push(format!("{share:.1} % of the messages were lost, and only the others counted"));
    }
    if per_stamp > 1 {
        remarks.push(format!("percentiles are of means over {per_stamp} arrivals"));
    }
    Ok(Outcome {
        beside_per_sec: 0.0,
        iterations: whole.messages,
        mean_ns: whole.elapsed_ns / whole.messages as f64,
        spread: Spread::from_buckets(&stamped.spread),
        switches: whole.switches + stamped.switches,
        copied: whole.copied,
        inner: None,
        losses: half.lossy().then_some((sent, lost)),
        remarks,
    })
}

fn phase(
    half: &mut dyn Sends,
    servers: &[Server],
    per_stamp: Option<u64>,
    time: Duration,
) -> Result<(u64, Received), Fault> {
    let Some((server, relays)) = servers.split_last() else { return Err(Fault::PeerGone) };
    server.ask(&Request::Receive(per_stamp), &[])?;
    server.expect_ready()?;
    for relay in relays {
        relay.ask(&Request::Echo, &[])?;
        relay.expect_ready()?;
    }
    half.begin();
    let (before, copied) = (switches_away()?, half.copied());
    let (sent, _) = batches(time, 1, |count| half.run(count))?;
    let mut others =
        Answered { switches: switches_away()? - before, copied: half.copied() - copied };
    half.finish()?;
    for relay in relays {
        let theirs = relay.expect_answered()?;
        others.switches += theirs.switches;
        others.copied += theirs.copied;
    }
    let asked = Instant::now();
    let lossy = half.lossy();
    loop {
        match server.reply_within(if lossy { REPEAT } else { PATIENCE })? {
            Some(Reply::Received(mut received)) => {
                received.switches += others.switches;
                received.copied += others.copied;
                return Ok((sent, received));
            }
            Some(reply) => {
                return Err(Fault::Other(format!("the server gave an odd answer: {reply:?}")));
            }
            None if lossy && asked.elapsed() < PATIENCE => half.finish()?,
            None => return Err(Fault::Silent),
        }
    }
}
