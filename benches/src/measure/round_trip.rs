//! Round trips: the whole run's mean, then every operation stamped.

use crate::cpus::switches_away;
use crate::fault::Fault;
use crate::measure::halves::RoundTrips;
use crate::measure::spread::Spread;
use crate::measure::{Lab, Outcome, batches, warm_up};
use crate::process::server::{Request, Server};

/// Round trips at the start of every phase that are not timed: the server has just woken.
const LEAD: u64 = 8;

/// Measures a client's half; `between` samples the floor while the server is idle.
pub fn measure(
    lab: &Lab<'_>,
    half: &mut dyn RoundTrips,
    server: &Server,
    between: &mut dyn FnMut() -> Result<(), Fault>,
) -> Result<Outcome, Fault> {
    let timed = lab.duration / 2;
    phase(half, server, |half| batches(warm_up(lab.duration), 1, |count| half.run(count)))?;
    between()?;
    let ((iterations, elapsed), whole) =
        phase(half, server, |half| batches(timed, 1, |count| half.run(count)))?;
    between()?;
    let mut spread = Spread::new();
    let (_, stamped) = phase(half, server, |half| {
        batches(timed, 1, |count| half.run_stamped(count, lab.stamps, &mut spread))
    })?;
    between()?;
    let mean_ns = elapsed.as_nanos() as f64 / iterations as f64;
    Ok(Outcome { iterations, mean_ns, spread, switches: whole + stamped, remarks: Vec::new() })
}

/// One phase: what `act` returns, and how often either thread was switched away from.
fn phase<T>(
    half: &mut dyn RoundTrips,
    server: &Server,
    act: impl FnOnce(&mut dyn RoundTrips) -> Result<T, Fault>,
) -> Result<(T, u64), Fault> {
    server.ask(&Request::Echo, &[])?;
    server.expect_ready()?;
    half.run(LEAD)?;
    let before = switches_away()?;
    let result = act(half)?;
    let ours = switches_away()? - before;
    half.finish()?;
    let theirs = server.expect_answered()?;
    Ok((result, ours + theirs))
}
