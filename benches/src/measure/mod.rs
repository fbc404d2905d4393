//! How a measurement runs: warm-up, whole-run mean, stamped run, and the floor around them.

use std::time::{Duration, Instant};

use crate::clock::Stamps;
use crate::cpus::{Cpus, pin};
use crate::fault::{Failure, Fault};
use crate::limits::{Copier, Yardstick};
use crate::measure::halves::Inner;
use crate::measure::spread::Spread;
use crate::network::way::Way;
use crate::plan::Measurement;
use crate::process::server::Server;
use crate::record::{Record, Reference};
use crate::systems::{ClientHalf, System};
use crate::task::{Bench, Task, Wait};

mod across;
pub mod halves;
pub mod load;
mod one_way;
mod round_trip;
pub mod schedule;
pub mod spread;
mod sweep;

/// What every measurement of a run shares.
pub struct Lab<'a> {
    /// The cores.
    pub cpus: Cpus,
    /// The clock.
    pub stamps: &'a Stamps,
    /// The time for the timed phases of one measurement; of a load, for one step.
    pub duration: Duration,
    /// The way to the server, where it is across a network.
    pub way: Option<&'a Way>,
    /// The loads to offer, in percent of the capacity.
    pub shares: &'a [f64],
    /// Told when a step of a load begins.
    pub step: &'a dyn Fn(&str),
}

/// What became of a measurement.
pub enum Ran {
    /// It was made.
    Records(Vec<Record>),
    /// There is no connection to be had, for a reason.
    NotOpened(Fault),
}

/// What a phase found, whichever way the messages went.
struct Outcome {
    iterations: u64,
    mean_ns: f64,
    spread: Spread,
    /// How often either thread was switched away from in the timed phases.
    switches: u64,
    /// Bytes of payload that all sides together copied in the run that gave the mean.
    copied: u64,
    /// The part that is the question, if it is not the whole.
    inner: Option<Inner>,
    /// Bytes a second that others carried beside.
    beside_per_sec: f64,
    /// Messages that were sent and that were lost, where any can be lost.
    losses: Option<(u64, u64)>,
    remarks: Vec<String>,
}

/// Samples of the yardsticks before, between and after the timed phases.
struct Samples {
    floor: Vec<f64>,
    reference: Option<(Yardstick, Vec<f64>)>,
}

impl Samples {
    fn new(wait: Wait) -> Self {
        // What sleeps is compared with what the kernel's own sleep and wake-up cost.
        let reference = (wait == Wait::Park).then(|| (Yardstick::Eventfd, Vec::new()));
        Self { floor: Vec::new(), reference }
    }

    fn take(&mut self, cpus: Cpus, server: &Server) -> Result<(), Fault> {
        self.floor.push(Yardstick::floor(cpus).sample(cpus, server)?);
        if let Some((yardstick, samples)) = &mut self.reference {
            samples.push(yardstick.sample(cpus, server)?);
        }
        Ok(())
    }
}

impl Samples {
    /// The yardstick that fits: of sleeping, or of yielding where a core is shared.
    fn reference(&self, cpus: Cpus) -> Option<Reference> {
        let (yardstick, taken) = match &self.reference {
            Some((yardstick, taken)) => (*yardstick, taken),
            None if cpus.same_core() => (Yardstick::Yield, &self.floor),
            None => return None,
        };
        Some(Reference { name: yardstick.name(), nanoseconds: around(taken) })
    }
}

/// The two samples around the whole-run mean stand for it.
fn around(samples: &[f64]) -> f64 {
    samples.iter().take(2).sum::<f64>() / samples.iter().take(2).count() as f64
}

/// The time for one sample of what a measurement is compared with.
const RIVAL_TIME: Duration = Duration::from_millis(100);

/// The time for one sample of a copy.
const COPY_TIME: Duration = Duration::from_millis(25);

/// Between phases of the machine a cache line's way gets several times longer, within one not.
const STRADDLES: f64 = 2.0;

/// Runs one measurement between this process and a server process of its own.
pub fn run(lab: &Lab<'_>, what: &Measurement) -> Result<Ran, Failure> {
    if let Some(way) = lab.way {
        return across::run(lab, way, what);
    }
    // A measurement in one domain has a server all the same: floors are sampled with it.
    let others = 1..what.domains.max(2);
    let servers = others.map(|position| Server::start(lab.cpus.of_domain(position, what.domains)));
    let servers = servers.collect::<Result<Vec<_>, _>>()?;
    pin(lab.cpus.client)?;
    let records = measure(lab, what, &servers).map_err(|fault| {
        // Who died first is whom the others miss.
        servers[servers.len() - 1].explain(fault)
    })?;
    Ok(Ran::Records(records))
}

/// What both sides are told.
fn task(lab: &Lab<'_>, what: &Measurement) -> Task {
    Task {
        system: what.system.name().to_owned(),
        bench: what.bench,
        payload: what.payload(),
        wait: what.wait,
        same_core: lab.cpus.same_core() || what.domains > 2,
        idle_bindings: what.idle_bindings,
        domains: what.domains,
        position: 0,
        rendezvous: rendezvous(),
        port: 0,
        agent_cpu: 0,
        calls: what.calls.unwrap_or_default(),
    }
}

fn measure(lab: &Lab<'_>, what: &Measurement, servers: &[Server]) -> Result<Vec<Record>, Fault> {
    let server = &servers[0];
    let system: &dyn System = what.system;
    let task = task(lab, what);
    let others = &servers[..what.domains - 1];
    let client = system.client_along(&task, others)?;
    let mut samples = Samples::new(what.wait);
    let mut rival = system.rival(&task)?;
    let mut rivals = Vec::new();
    let mut copier = (what.bench == Bench::Bandwidth).then(|| Copier::new(what.payload()));
    let mut copies = (Vec::new(), Vec::new());
    let mut between = || {
        samples.take(lab.cpus, server)?;
        if let Some(rival) = &mut rival {
            // On the core of whoever does there what is compared.
            pin(lab.cpus.of_domain(what.domains - 1, what.domains))?;
            rivals.push((rival.sample)(RIVAL_TIME));
            pin(lab.cpus.client)?;
        }
        if let Some(copier) = &mut copier {
            copies.0.push(copier.warm(COPY_TIME));
            copies.1.push(copier.cold(COPY_TIME));
        }
        Ok(())
    };
    let outcome = match client {
        ClientHalf::Echo(mut half) => round_trip::measure(lab, half.as_mut(), others, &mut between),
        ClientHalf::OneWay(mut half) => {
            one_way::measure(lab, half.as_mut(), &task, others, &mut between)
        }
        ClientHalf::Load(mut half) => {
            let mut records = sweep::measure(lab, what, half.as_mut(), server, true)?;
            records.iter_mut().for_each(Record::write_note);
            return Ok(records);
        }
    }?;
    let mut record = Record::new(what, &outcome.spread, outcome.iterations, outcome.mean_ns);
    if what.bench == Bench::Fbuf {
        record.set_hops(what, outcome.copied);
        record.compare_within(outcome.inner, rival.map(|rival| (rival.name, around(&rivals))));
    }
    if copier.is_some() {
        record.compare_with_copies(around(&copies.0), around(&copies.1));
    }
    record.compare_with_floor(around(&samples.floor));
    record.set_beside(outcome.beside_per_sec);
    record.remarks.extend(system.remark(what.bench, what.asked));
    record.remarks.extend(outcome.remarks);
    record.remarks.extend(straddle(&samples.floor));
    // Who yields or sleeps gives the core away itself: only of a spinning side it tells something.
    if what.wait == Wait::Spin && !lab.cpus.same_core() && what.domains > 1 {
        record.interruptions = outcome.switches;
    }
    if !what.bench.one_way() && what.bench != Bench::Fbuf {
        record.reference = samples.reference(lab.cpus);
    }
    record.write_note();
    Ok(vec![record])
}

/// Says when the machine changed under the run.
fn straddle(samples: &[f64]) -> Option<String> {
    let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
    let most = samples.iter().copied().fold(0.0, f64::max);
    (most > STRADDLES * least).then(|| {
        format!(
            "straddles two phases of the machine: its floor went between {least:.0} and {most:.0} \
             ns, so run it again"
        )
    })
}

/// A word that no other run on this machine uses while this one lives.
fn rendezvous() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("unet-bench-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Runs batches for about the given time and returns how many operations and how long they took.
///
/// Batches grow until one takes long enough for the look at the clock not to matter.
fn batches(
    time: Duration,
    mut batch: u64,
    mut run: impl FnMut(u64) -> Result<(), Fault>,
) -> Result<(u64, Duration), Fault> {
    const LONG_ENOUGH: Duration = Duration::from_micros(500);
    const LARGEST: u64 = 1 << 20;
    let started = Instant::now();
    let mut done = 0;
    loop {
        let before = started.elapsed();
        run(batch)?;
        done += batch;
        let now = started.elapsed();
        if now >= time {
            return Ok((done, now));
        }
        if now - before < LONG_ENOUGH && batch < LARGEST {
            batch *= 2;
        }
    }
}

/// The share of the duration that a phase before the timed ones takes.
fn warm_up(duration: Duration) -> Duration {
    duration / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_that_doubles_is_told() {
        assert_eq!(straddle(&[50.0, 55.0, 60.0]), None);
        assert!(straddle(&[50.0, 401.0, 52.0]).unwrap().contains("between 50 and 401 ns"));
    }

    #[test]
    fn the_floor_of_a_mean_is_taken_around_it() {
        assert_eq!(around(&[50.0, 60.0, 400.0]), 55.0);
    }

    #[test]
    fn batches_last_as_long_as_asked() {
        let time = Duration::from_millis(5);
        let mut counted = 0;
        let (done, took) = batches(time, 1, |count| {
            counted += count;
            std::thread::sleep(Duration::from_micros(10));
            Ok(())
        })
        .unwrap();
        assert_eq!(done, counted);
        assert!(took >= time);
    }
}
