//! A load, step by step: the capacity, and then a share of it after the other.

use std::time::Duration;

use crate::cpus::switches_away;
use crate::fault::Fault;
use crate::measure::Lab;
use crate::measure::load::{Absorb, Absorbed, Offered, Offers, Pace, Step, now_ns};
use crate::measure::schedule::Schedule;
use crate::measure::spread::Spread;
use crate::plan::Measurement;
use crate::process::server::{Request, Server};
use crate::record::{Load, Record};
use crate::task::Wait;

/// From the request for a step to its beginning: the server is at work by then.
const LEAD: Duration = Duration::from_millis(5);
/// How many messages may be under way when echoes are asked for the capacity: the best counts.
const WINDOWS: [u64; 3] = [1, 8, 64];

/// Measures with a client's half that offers and a server that takes in.
pub fn measure(
    lab: &Lab<'_>,
    what: &Measurement,
    half: &mut dyn Offers,
    server: &Server,
    echo: bool,
) -> Result<Vec<Record>, Fault> {
    let mut run = Run { half, server, echo, schedule: Schedule::new(), next: 0 };
    (lab.step)("capacity");
    run.step(Pace::Flood(echo.then_some(1)), lab.duration / 8)?;
    let probes = if echo { WINDOWS.map(Some).to_vec() } else { vec![None] };
    let mut capacity = 0.0_f64;
    for window in &probes {
        let time = lab.duration / probes.len() as u32;
        capacity = capacity.max(run.step(Pace::Flood(*window), time)?.goodput(time));
    }
    if capacity < 1.0 {
        return Err(Fault::Other("nothing arrives, so that no share can be offered".into()));
    }
    let mut records = Vec::new();
    for &share in lab.shares {
        (lab.step)(&format!("{share:.0} % of the capacity"));
        let rate = capacity * share / 100.0;
        let found = run.step(Pace::Drawn(rate), lab.duration)?;
        records.push(found.record(what, echo, capacity, share, lab.duration));
    }
    Ok(records)
}

struct Run<'a> {
    half: &'a mut dyn Offers,
    server: &'a Server,
    echo: bool,
    schedule: Schedule,
    /// The number of the next message.
    next: u64,
}

impl Run<'_> {
    fn step(&mut self, pace: Pace, time: Duration) -> Result<Found, Fault> {
        let from_ns = now_ns() + LEAD.as_nanos() as u64;
        let until_ns = from_ns + time.as_nanos() as u64;
        let (echo, first) = (self.echo, self.next);
        self.server.ask(&Request::Absorb(Absorb { echo, first, until_ns }), &[])?;
        self.server.expect_ready()?;
        let step = Step { pace, echo, first, from_ns, until_ns };
        let before = switches_away()?;
        let offered = self.half.offer(&step, &mut self.schedule)?;
        let switches = switches_away()? - before;
        self.server.ask(&Request::Stop, &[])?;
        let absorbed = self.server.expect_absorbed()?;
        self.server.expect_done()?;
        self.next += offered.numbered;
        Ok(Found { switches: switches + absorbed.switches, offered, absorbed, echo })
    }
}

/// What both sides saw of a step.
struct Found {
    offered: Offered,
    absorbed: Absorbed,
    echo: bool,
    /// How often either thread was switched away from.
    switches: u64,
}

impl Found {
    /// Messages that arrived, the echoes where there are any: in all, and before the end.
    fn delivered(&self) -> (u64, u64) {
        match self.echo {
            true => (self.offered.echoed, self.offered.in_time),
            false => (self.absorbed.received, self.absorbed.in_time),
        }
    }

    fn goodput(&self, time: Duration) -> f64 {
        self.delivered().1 as f64 / time.as_secs_f64()
    }

    fn record(
        &self,
        what: &Measurement,
        echo: bool,
        capacity: f64,
        share: f64,
        time: Duration,
    ) -> Record {
        let spread = match echo {
            true => Spread::from_buckets(&self.offered.spread.buckets()),
            false => Spread::from_buckets(&self.absorbed.spread),
        };
        let (delivered, _) = self.delivered();
        let offered = &self.offered;
        let mut record = Record::new(what, &spread, delivered, spread.mean_ns());
        let goodput = self.goodput(time);
        record.set_rate(goodput);
        record.remarks.extend(what.system.remark(what.bench, what.asked));
        if what.wait == Wait::Spin {
            record.interruptions = self.switches;
        }
        record.sent = Some(offered.sent);
        record.lost = Some(offered.sent.saturating_sub(delivered));
        record.load = Some(Load {
            offered_percent: share,
            offered_per_sec: capacity * share / 100.0,
            capacity_per_sec: capacity,
            goodput_per_sec: goodput,
            refused: offered.refused,
            late: offered.late,
            echo_refused: self.absorbed.refused,
            latency: if echo { "echo" } else { "one-way" },
            band: Load::band(share),
        });
        record
    }
}
