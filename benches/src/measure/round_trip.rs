//! Round trips: the whole run's mean, then every operation stamped.

use std::time::{Duration, Instant};

use crate::cpus::switches_away;
use crate::fault::Fault;
use crate::measure::halves::{Losses, RoundTrips};
use crate::measure::spread::Spread;
use crate::measure::{Lab, Outcome, batches, warm_up};
use crate::process::server::{Answered, Request, Server};

/// Round trips at the start of every phase that are not timed: the server has just woken.
const LEAD: u64 = 8;
/// They are fewer if they take longer than this.
const LEAD_TIME: Duration = Duration::from_millis(20);

/// Measures a client's half, with servers that answer or pass on; `between` samples the floor while the server is idle.
pub fn measure(
    lab: &Lab<'_>,
    half: &mut dyn RoundTrips,
    servers: &[Server],
    between: &mut dyn FnMut() -> Result<(), Fault>,
) -> Result<Outcome, Fault> {
    let timed = lab.duration / 2;
    phase(half, servers, |half| batches(warm_up(lab.duration), 1, |count| half.run(count)))?;
    between()?;
    // What the warm-up counted is none of the run's.
    let _ = (half.inner(lab.stamps), half.losses(), half.carried());
    let (((iterations, elapsed), losses, carried), whole) = phase(half, servers, |half| {
        let done = batches(timed, 1, |count| half.run(count))?;
        Ok((done, half.losses(), half.carried()))
    })?;
    let inner = half.inner(lab.stamps);
    between()?;
    let mut spread = Spread::new();
    let (_, stamped) = phase(half, servers, |half| {
        batches(timed, 1, |count| half.run_stamped(count, lab.stamps, &mut spread))
    })?;
    between()?;
    let Losses { messages: lost, waited } = losses.unwrap_or_default();
    let mean_ns = elapsed.saturating_sub(waited).as_nanos() as f64 / iterations as f64;
    let remark = || {
        let waited = waited.as_millis();
        format!(
            "messages without an answer were sent again, {lost} were lost; the {waited} ms of waiting \
             are not in the mean"
        )
    };
    Ok(Outcome {
        iterations,
        mean_ns,
        spread,
        switches: whole.switches + stamped.switches,
        copied: whole.copied,
        inner,
        beside_per_sec: carried as f64 / elapsed.as_secs_f64(),
        losses: losses.map(|_| (iterations + lost, lost)),
        remarks: (!waited.is_zero()).then(remark).into_iter().collect(),
    })
}

/// One phase: what `act` returns, and what was counted on all sides meanwhile.
fn phase<T>(
    half: &mut dyn RoundTrips,
    servers: &[Server],
    act: impl FnOnce(&mut dyn RoundTrips) -> Result<T, Fault>,
) -> Result<(T, Answered), Fault> {
    for server in servers {
        server.ask(&Request::Echo, &[])?;
        server.expect_ready()?;
    }
    let begun = Instant::now();
    for _ in 0..LEAD {
        half.run(1)?;
        if begun.elapsed() > LEAD_TIME {
            break;
        }
    }
    let (before, copied) = (switches_away()?, half.copied());
    let result = act(half)?;
    let mut all = Answered { switches: switches_away()? - before, copied: half.copied() - copied };
    half.finish()?;
    for server in servers {
        let theirs = server.expect_answered()?;
        all.switches += theirs.switches;
        all.copied += theirs.copied;
    }
    Ok((result, all))
}
