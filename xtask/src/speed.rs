//! The Speed table: what each row is measured by, what it aims at and what it must reach.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

pub use rows::{INVOCATIONS, ROWS, Row};

pub mod adapter;
pub mod network;
mod rows;
#[cfg(test)]
mod tests;

/// One run of `unet-bench`, by a name that the rows refer to.
pub struct Invocation {
    pub name: &'static str,
    pub args: &'static [&'static str],
    /// It is made once a round, and not in every turn: it compares nothing but with itself.
    pub once: bool,
}

impl Invocation {
    /// The arguments of a turn: every other one measures the systems the other way round, since who comes
    /// later meets a warmer machine.
    pub fn args(&self, turn: usize) -> Vec<String> {
        let mut args: Vec<String> = self.args.iter().map(|&arg| arg.to_owned()).collect();
        if !turn.is_multiple_of(2)
            && let Some(at) = args.iter().position(|arg| arg == "--system")
            && let Some(systems) = args.get_mut(at + 1)
        {
            *systems = systems.split(',').rev().collect::<Vec<_>>().join(",");
        }
        args
    }
}

/// A table: the runs that are made and the rows that are read from them.
pub struct Set {
    pub invocations: &'static [Invocation],
    pub rows: &'static [Row],
    /// The adapter's cost is measured along.
    pub adapter: bool,
    /// How many times in a round what is compared is measured, by turns: a machine changes its pace within
    /// seconds, and what is compared should not.
    pub turns: usize,
    /// How long each measurement runs, unless it is said.
    pub duration: &'static str,
}

/// What is measured within a host.
pub const HOST: Set =
    Set { invocations: INVOCATIONS, rows: ROWS, adapter: false, turns: 1, duration: "2s" };
/// What is measured across the lab's network.
pub const NETWORK: Set = Set {
    invocations: network::INVOCATIONS,
    rows: network::ROWS,
    adapter: true,
    turns: 10,
    duration: "300ms",
};

/// A record: by the run that printed it, its system's name, and what tells it from others.
pub struct Pick {
    run: &'static str,
    system: &'static str,
    which: Which,
}

/// Which of a system's records in one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    /// The one with this many bytes in a message.
    Payload(u64),
    /// The one at this place, counted from zero: records come in the order that was asked for.
    Place(usize),
}

const fn payload(run: &'static str, system: &'static str, bytes: u64) -> Pick {
    Pick { run, system, which: Which::Payload(bytes) }
}

const fn place(run: &'static str, system: &'static str, place: usize) -> Pick {
    Pick { run, system, which: Which::Place(place) }
}

/// How a row's figure comes from records.
pub enum Figure {
    /// `ratio_to_floor`, the floor being measured in the same run.
    ToFloor(Pick),
    /// Messages a second, in millions.
    MillionsPerSecond(Pick),
    /// The mean of one record as a multiple of another's.
    Means(Pick, Pick),
    /// The mean of a record as a multiple of a floor of the machine, by the floor's name.
    ToLimit(Pick, &'static str),
    /// The 99.9th percentile as a multiple of the median.
    Tail(Pick),
    /// The mean as a multiple of what the record itself is compared with, by turns in the same run.
    ToReference(Pick),
    /// The same upside down: the rate as a share of the reference's.
    OfReference(Pick),
    /// What a record's mean has more than another's, in nanoseconds, for each of so many parts.
    Each(Pick, Pick, f64),
    /// Bytes that were copied in a hop, which must be counted.
    Copied(Pick),
    /// The median of one record as a multiple of another's: other work that takes a core away for a while
    /// is in every mean.
    Medians(Pick, Pick),
    /// The lesser of two figures.
    Lesser(&'static Figure, &'static Figure),
    /// Of a system's records in a run with a load: the goodput at the greatest load as a share of the peak.
    Overloaded(&'static str, &'static str),
}

/// A limit on a figure.
#[derive(Clone, Copy)]
pub enum Bound {
    AtMost(f64),
    AtLeast(f64),
    /// As [`Bound::AtMost`] where there are so many cores; with fewer the figure is reported as it is.
    AtMostWithCores(f64, usize),
    /// The row's other half has it.
    Open,
    /// Nothing fails: it has to be explained where the aim is missed.
    Explain,
}

impl Bound {
    fn met(self, figure: f64, cores: usize) -> bool {
        match self {
            Bound::AtMostWithCores(..) if self.lacks_cores(cores).is_some() => true,
            Bound::AtMost(limit) | Bound::AtMostWithCores(limit, _) => figure <= limit,
            Bound::AtLeast(limit) => figure >= limit,
            Bound::Open | Bound::Explain => true,
        }
    }

    /// How many cores it takes, where that is more than there are.
    fn lacks_cores(self, cores: usize) -> Option<usize> {
        match self {
            Bound::AtMostWithCores(_, needed) if needed > cores => Some(needed),
            _ => None,
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Bound::AtMost(limit) | Bound::AtMostWithCores(limit, _) => write!(f, "≤ {limit}"),
            Bound::AtLeast(limit) => write!(f, "≥ {limit}"),
            Bound::Open => f.write_str("–"),
            Bound::Explain => f.write_str("explain"),
        }
    }
}

/// What one turn printed: the records, by the name of the run.
pub type Turn = Vec<(&'static str, Value)>;

/// The turns of one round.
pub type Round = Vec<Turn>;

/// The middle one, or the upper of the two: there is one at least.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

impl Figure {
    /// The figure of one round: the median of its pairs of turns, of which one is in each order.
    pub fn of(&self, round: &Round) -> Result<f64> {
        if let Figure::Lesser(one, other) = self {
            return Ok(one.of(round)?.min(other.of(round)?));
        }
        let turns: Vec<f64> = round.iter().map(|turn| self.read(turn)).collect::<Result<_>>()?;
        let mean = |pair: &[f64]| pair.iter().sum::<f64>() / pair.len() as f64;
        let pairs: Vec<f64> = turns.chunks(2).map(mean).collect();
        if pairs.is_empty() { bail!("nothing was measured") } else { Ok(median(pairs)) }
    }

    /// The figure of one turn.
    fn read(&self, turn: &Turn) -> Result<f64> {
        match self {
            Figure::ToFloor(one) => number(one.find(turn)?, "ratio_to_floor"),
            Figure::MillionsPerSecond(one) => Ok(number(one.find(turn)?, "ops_per_sec")? / 1e6),
            Figure::Means(one, other) => {
                Ok(number(one.find(turn)?, "mean_ns")? / number(other.find(turn)?, "mean_ns")?)
            }
            Figure::ToLimit(one, limit) => {
                Ok(number(one.find(turn)?, "mean_ns")? / one.limit(turn, limit)?)
            }
            Figure::ToReference(one) => {
                let record = one.find(turn)?;
                Ok(number(record, "mean_ns")? / number(record, "reference_ns")?)
            }
            Figure::OfReference(one) => {
                let record = one.find(turn)?;
                Ok(number(record, "reference_ns")? / number(record, "mean_ns")?)
            }
            Figure::Each(one, other, parts) => {
                let (one, other) = (one.find(turn)?, other.find(turn)?);
                Ok((number(one, "mean_ns")? - number(other, "mean_ns")?) / parts)
            }
            Figure::Copied(one) => {
                let copied = one.find(turn)?["copied_per_hop"].as_f64();
                copied.context("a record does not say how many bytes were copied")
            }
            Figure::Medians(one, other) => {
                Ok(number(one.find(turn)?, "p50_ns")? / number(other.find(turn)?, "p50_ns")?)
            }
            // Of whole rounds: the better in each turn would be better than either.
            Figure::Lesser(..) => bail!("a lesser figure is one of a round"),
            Figure::Overloaded(run, system) => overloaded(turn, run, system),
            Figure::Tail(one) => {
                let record = one.find(turn)?;
                Ok(number(record, "p999_ns")? / number(record, "p50_ns")?)
            }
        }
    }
}

/// A system's records in a run.
fn records<'a>(turn: &'a Turn, run: &'a str, system: &'a str) -> impl Iterator<Item = &'a Value> {
    let printed = turn.iter().filter(move |(name, _)| *name == run);
    let records =
        printed.flat_map(|(_, printed)| printed["records"].as_array().into_iter().flatten());
    records.filter(move |record| record["system"] == system)
}

fn overloaded(turn: &Turn, run: &str, system: &str) -> Result<f64> {
    const LEAST: f64 = 150.0;
    let mut last = None;
    let mut peak = 0.0_f64;
    for record in records(turn, run, system) {
        let (offered, goodput) =
            (number(record, "offered_percent")?, number(record, "goodput_per_sec")?);
        peak = peak.max(goodput);
        last = Some((offered, goodput));
    }
    match last {
        Some((offered, goodput)) if offered >= LEAST => Ok(goodput / peak),
        _ => bail!("the run `{run}` offered {system} no load of {LEAST} %"),
    }
}

impl Pick {
    fn find<'a>(&self, turn: &'a Turn) -> Result<&'a Value> {
        let Pick { run, system, which } = self;
        let mut records = records(turn, run, system);
        let found = match *which {
            Which::Payload(bytes) => {
                records.find(|record| record["payload_bytes"].as_u64() == Some(bytes))
            }
            Which::Place(place) => records.nth(place),
        };
        found.with_context(|| {
            format!("the run `{run}` printed no record of {system} with {which:?}")
        })
    }

    /// A floor among the facts of the machine: as this run saw it, else as the run of the floors did.
    fn limit(&self, turn: &Turn, limit: &str) -> Result<f64> {
        let seen = |run: &str| {
            let (_, printed) = turn.iter().find(|(name, _)| *name == run)?;
            field_anywhere(&printed["host"], limit)
        };
        let found = seen(self.run).or_else(|| seen("limits"));
        found
            .with_context(|| format!("neither the run `{}` nor `limits` printed {limit}", self.run))
    }
}

/// A number above zero of that name, at whatever depth.
fn field_anywhere(value: &Value, name: &str) -> Option<f64> {
    let fields = value.as_object()?;
    let here = fields.get(name).and_then(Value::as_f64).filter(|number| *number > 0.0);
    here.or_else(|| fields.values().find_map(|inner| field_anywhere(inner, name)))
}

fn number(record: &Value, field: &str) -> Result<f64> {
    match record[field].as_f64() {
        Some(number) if number > 0.0 && number.is_finite() => Ok(number),
        _ => bail!("a record's {field} is missing or not above zero: {record}"),
    }
}

/// The rounds' figures of a row in one line, and whether the row meets what it must on so many cores: by
/// the median, since one round in a slow phase of the host says nothing about the code.
pub fn judge(row: &Row, figures: &[f64], cores: usize) -> (String, bool) {
    let median = median(figures.to_vec());
    let met = row.must.met(median, cores);
    let verdict = match (met, row.aim.met(median, cores), row.must.lacks_cores(cores)) {
        (_, _, Some(needed)) => format!("not judged: {needed} cores are needed, here are {cores}"),
        (true, true, None) => "aim met".to_owned(),
        (true, false, None) => "met, aim missed".to_owned(),
        (false, _, None) => "MISSED".to_owned(),
    };
    let shown: Vec<String> = figures.iter().map(|figure| format!("{figure:>8.2}")).collect();
    let (aim, must) = (row.aim.to_string(), row.must.to_string());
    let line = format!(
        "{:<41} {:<17} {aim:>7} {must:>7} {}  {verdict}",
        row.what,
        row.unit,
        shown.join("")
    );
    (line, met)
}
