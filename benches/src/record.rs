//! One line of the results.

use serde::Serialize;

use crate::measure::halves::Inner;
use crate::measure::spread::Spread;
use crate::plan::Measurement;
use crate::report::units;
use crate::task::{Bench, Calls, Carries, Wait};

/// What one measurement found. Times are nanoseconds an operation: a round trip, or one message
/// that arrived where messages go one way.
#[derive(Debug, Serialize)]
pub struct Record {
    /// The question.
    pub bench: Bench,
    /// The system.
    pub system: &'static str,
    /// Its transport.
    pub transport: String,
    /// How both sides waited.
    pub wait: Wait,
    /// Bytes in a message.
    pub payload_bytes: usize,
    /// Operations in the run that gave the mean.
    pub iterations: u64,
    /// The shortest, by stamps, as are all percentiles.
    pub min_ns: f64,
    /// Half took no longer.
    pub p50_ns: f64,
    /// Nine in ten took no longer.
    pub p90_ns: f64,
    /// All but one in a hundred.
    pub p99_ns: f64,
    /// All but one in a thousand.
    pub p999_ns: f64,
    /// The longest.
    pub max_ns: f64,
    /// The whole run's time by its operations, without stamps.
    pub mean_ns: f64,
    /// Operations a second, from the mean.
    pub ops_per_sec: f64,
    /// Payload a second, counted in one direction; of a call beside bulk flows, what those carried.
    pub bytes_per_sec: f64,
    /// The floor around this run; across a network, the fastest bare loop over the same kind of network
    /// in this run, if there was one.
    pub floor_ns: Option<f64>,
    /// `mean_ns / floor_ns`. For messages one way: how many round trips of the floor a message takes;
    /// across a network, how many messages one way.
    pub ratio_to_floor: Option<f64>,
    /// How many domains a message visited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domains: Option<usize>,
    /// How many hops one timed operation was; all times are of one hop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hops: Option<usize>,
    /// Bytes of payload that were copied in a hop, as the library's counters say; absent where there
    /// is nothing to count them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copied_per_hop: Option<f64>,
    /// What it is compared with beside the floor, in this run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference_name: Option<&'static str>,
    /// The mean of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference_ns: Option<f64>,
    /// What one thread takes to copy as many bytes once within its memory, around this run; of bandwidths.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy_ns: Option<f64>,
    /// The same to a place that is in no cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cold_copy_ns: Option<f64>,
    /// Messages that were sent, where they can be lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<u64>,
    /// Those of them that did not arrive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    /// How calls were made, where they are the question.
    #[serde(flatten)]
    pub calls: Option<Calls>,
    /// The load, where one was offered.
    #[serde(flatten)]
    pub load: Option<Load>,
    /// What to know about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The parts of the note that are not the comparison with `reference`.
    #[serde(skip)]
    pub remarks: Vec<String>,
    /// A yardstick that fits this way of waiting better than the floor.
    #[serde(skip)]
    pub reference: Option<Reference>,
    /// The scheme of a network whose floor this is.
    #[serde(skip)]
    pub bare: Option<&'static str>,
    /// How often other work took one of two cores in the timed phases.
    #[serde(skip)]
    pub interruptions: u64,
    /// The whole distribution, picoseconds and counts, for pictures.
    #[serde(skip)]
    pub spread: Vec<(u64, u64)>,
    /// Idle bindings beside this one.
    #[serde(skip)]
    pub idle_bindings: usize,
}

/// What was offered, and what became of it. Times are latencies, counted from the moment that a
/// message was due.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Load {
    /// Of the capacity.
    pub offered_percent: f64,
    /// Messages that were due a second.
    pub offered_per_sec: f64,
    /// Messages a second that arrive in a flood.
    pub capacity_per_sec: f64,
    /// Messages a second that arrived, the echoes where there are any.
    pub goodput_per_sec: f64,
    /// Messages that the source's queue had no room for.
    pub refused: u64,
    /// Messages that were due and not tried: the source was behind.
    pub late: u64,
    /// Echoes that the server's queue had no room for.
    pub echo_refused: u64,
    /// Which way was timed: `one-way` or `echo`.
    pub latency: &'static str,
    /// Where the literature has this load: `sure` up to 20 %, `lucky` up to 40 %.
    pub band: Option<&'static str>,
}

impl Load {
    /// The safe band of a load that networks are said to bear: 20 % surely, 40 % with luck.
    pub fn band(percent: f64) -> Option<&'static str> {
        match percent {
            p if p <= 20.0 => Some("sure"),
            p if p <= 40.0 => Some("lucky"),
            _ => None,
        }
    }
}

/// What a run that sleeps or yields is compared with.
#[derive(Debug)]
pub struct Reference {
    /// The yardstick's name.
    pub name: &'static str,
    /// Its round trip around this run.
    pub nanoseconds: f64,
}

impl Record {
    /// Puts the figures of one measurement together.
    pub fn new(what: &Measurement, spread: &Spread, iterations: u64, mean_ns: f64) -> Self {
        let payload_bytes = what.payload();
        let ops_per_sec = 1e9 / mean_ns;
        Self {
            bench: what.bench,
            system: what.system.name(),
            transport: what.system.transport().to_owned(),
            wait: what.wait,
            payload_bytes,
            iterations,
            min_ns: spread.min_ns(),
            p50_ns: spread.quantile_ns(0.5),
            p90_ns: spread.quantile_ns(0.9),
            p99_ns: spread.quantile_ns(0.99),
            p999_ns: spread.quantile_ns(0.999),
            max_ns: spread.max_ns(),
            mean_ns,
            ops_per_sec,
            bytes_per_sec: ops_per_sec * payload_bytes as f64,
            floor_ns: None,
            ratio_to_floor: None,
            domains: None,
            hops: None,
            copied_per_hop: None,
            reference_name: None,
            reference_ns: None,
            copy_ns: None,
            cold_copy_ns: None,
            sent: None,
            lost: None,
            calls: what.calls,
            load: None,
            bare: None,
            note: None,
            remarks: what.calls.map(|calls| describe(what.bench, calls)).into_iter().collect(),
            interruptions: 0,
            reference: None,
            spread: spread.buckets(),
            idle_bindings: what.idle_bindings,
        }
    }

    /// Makes times those of one hop, and enters what was copied.
    pub fn set_hops(&mut self, what: &Measurement, copied: u64) {
        let hops = what.system.hops(what.domains);
        let of_one = |time: &mut f64| *time /= hops as f64;
        [&mut self.min_ns, &mut self.p50_ns, &mut self.p90_ns, &mut self.p99_ns]
            .into_iter()
            .chain([&mut self.p999_ns, &mut self.max_ns, &mut self.mean_ns])
            .for_each(of_one);
        self.spread.iter_mut().for_each(|(time, _)| *time /= hops as u64);
        self.set_rates();
        self.domains = Some(what.domains);
        self.hops = Some(hops);
        if what.system.counts_copies() {
            self.copied_per_hop = Some(copied as f64 / (self.iterations as f64 * hops as f64));
        }
    }

    /// Enters what it is compared with in the same run; what was timed within the operations takes
    /// the place of the whole, which is told beside.
    pub fn compare_within(&mut self, inner: Option<Inner>, rival: Option<(&'static str, f64)>) {
        if let Some(inner) = inner {
            let whole = units::time(self.mean_ns);
            self.remarks
                .push(format!("times of the copy alone; a round trip with it took {whole}"));
            self.mean_ns = inner.mean_ns;
            self.set_rates();
        }
        if let Some((name, nanoseconds)) = inner.map(|inner| inner.reference).or(rival) {
            self.reference = Some(Reference { name, nanoseconds });
            self.reference_name = Some(name);
            self.reference_ns = Some(nanoseconds);
        }
    }

    /// Enters what the flows beside it carried.
    pub fn set_beside(&mut self, per_second: f64) {
        if self.bench == Bench::Beside {
            self.bytes_per_sec = per_second;
            let rate = units::byte_rate(per_second);
            self.remarks.push(format!("beside it {rate} of bulk"));
        }
    }

    /// Enters what copying as many bytes once takes.
    pub fn compare_with_copies(&mut self, warm_ns: f64, cold_ns: f64) {
        (self.copy_ns, self.cold_copy_ns) = (Some(warm_ns), Some(cold_ns));
        let [warm, cold] = [warm_ns, cold_ns].map(|copy| units::ratio(copy / self.mean_ns));
        self.remarks.push(format!(
            "{warm} of the rate at which one thread copies as much within its memory, {cold} of that to a \
             cold place"
        ));
    }

    fn set_rates(&mut self) {
        self.set_rate(1e9 / self.mean_ns);
    }

    /// Enters the floor.
    pub fn compare_with_floor(&mut self, floor_ns: f64) {
        self.floor_ns = Some(floor_ns);
        self.ratio_to_floor = Some(self.mean_ns / floor_ns);
    }

    /// Enters how many a second there were, where that is not the mean the other way round.
    pub fn set_rate(&mut self, per_second: f64) {
        self.ops_per_sec = per_second;
        self.bytes_per_sec = per_second * self.payload_bytes as f64;
    }

    /// Puts the note together from its parts.
    pub fn write_note(&mut self) {
        let mut parts = self.remarks.clone();
        if let Some(bytes) = self.copied_per_hop {
            parts.push(format!("bytes copied a hop: {}", bytes.round()));
        }
        if self.bench == Bench::Scale {
            parts.push(format!("{} further idle bindings", self.idle_bindings));
        }
        if self.interruptions > 0 {
            let times = self.interruptions;
            parts.push(format!("other work took one of the cores {times} times meanwhile"));
        }
        if let Some(Reference { name, nanoseconds }) = self.reference {
            let times = self.mean_ns / nanoseconds;
            parts.push(format!("{times:.2} × the {name} of {}", units::time(nanoseconds)));
        }
        self.note = (!parts.is_empty()).then(|| parts.join("; "));
    }
}

/// What to know of calls.
fn describe(bench: Bench, Calls { window, batch, carries, flows, in_place }: Calls) -> String {
    let bytes = match carries {
        Carries::Both => "calls, each with its reply",
        Carries::Request => "calls with the bytes in their arguments",
        Carries::Response if in_place => {
            "calls with the bytes in their replies, which are not read but at both ends"
        }
        Carries::Response => "calls with the bytes in their replies",
    };
    match bench {
        Bench::Beside if flows == 0 => "null calls with nothing beside".to_owned(),
        Bench::Beside => format!(
            "null calls beside {flows} clients of {bytes}, {window} of them under way for each; all \
             clients in one thread"
        ),
        Bench::Sweep => format!("{bytes}, {window} of them in the network at most"),
        _ => format!(
            "{bytes}: {window} under way, begun {batch} at a time; percentiles are of whole calls"
        ),
    }
}
