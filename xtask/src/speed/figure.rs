//! How a row's figure comes from what the runs printed.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{Round, Turn};

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

pub const fn payload(run: &'static str, system: &'static str, bytes: u64) -> Pick {
    Pick { run, system, which: Which::Payload(bytes) }
}

pub const fn place(run: &'static str, system: &'static str, place: usize) -> Pick {
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
    /// A field of a record, times a factor.
    Field(Pick, &'static str, f64),
    /// A field of one record as a multiple of a field of another.
    Fields((Pick, &'static str), (Pick, &'static str)),
    /// What a field of one record has more than the same of another, times a factor.
    FieldsApart(Pick, Pick, &'static str, f64),
    /// Of a system's records in a run with a load: the p99 at the greatest load, as a multiple of the time in
    /// which so many calls are served at capacity.
    Queued(&'static str, &'static str, f64),
    /// Of the same: how many of the calls that were due at the greatest load were refused.
    Refused(&'static str, &'static str),
    /// The lesser of two figures.
    Lesser(&'static Figure, &'static Figure),
    /// Of a system's records in a run with a load: the goodput at the greatest load as a share of the peak.
    Overloaded(&'static str, &'static str),
}

/// The middle one, or the upper of the two: there is one at least.
pub fn median(mut figures: Vec<f64>) -> f64 {
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

    /// The runs that it is read from.
    pub fn runs(&self) -> Vec<&'static str> {
        match self {
            Figure::ToFloor(one)
            | Figure::MillionsPerSecond(one)
            | Figure::Tail(one)
            | Figure::ToReference(one)
            | Figure::OfReference(one)
            | Figure::Copied(one)
            | Figure::Field(one, ..)
            | Figure::ToLimit(one, _) => vec![one.run],
            Figure::Means(one, other)
            | Figure::Medians(one, other)
            | Figure::FieldsApart(one, other, ..)
            | Figure::Fields((one, _), (other, _))
            | Figure::Each(one, other, _) => vec![one.run, other.run],
            Figure::Lesser(one, other) => [one.runs(), other.runs()].concat(),
            Figure::Overloaded(run, _) | Figure::Queued(run, ..) | Figure::Refused(run, _) => {
                vec![run]
            }
        }
    }

    /// The figure of one turn.
    pub(super) fn read(&self, turn: &Turn) -> Result<f64> {
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
            Figure::Field(one, field, factor) => Ok(one.number(turn, field)? * factor),
            Figure::Fields((one, field), (other, of)) => {
                Ok(one.number(turn, field)? / other.number(turn, of)?)
            }
            Figure::FieldsApart(one, other, field, factor) => {
                Ok((one.number(turn, field)? - other.number(turn, field)?) * factor)
            }
            Figure::Queued(run, system, calls) => {
                let last = greatest(turn, run, system)?;
                let served = calls / number(last, "capacity_per_sec")? * 1e9;
                Ok(number(last, "p99_ns")? / served)
            }
            Figure::Refused(run, system) => {
                let last = greatest(turn, run, system)?;
                let count = |field: &str| last[field].as_f64().context("a record has no counts");
                let refused = count("refused")?;
                Ok(refused / (count("sent")? + refused + count("late")?))
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

/// The record of the greatest load.
fn greatest<'a>(turn: &'a Turn, run: &'a str, system: &'a str) -> Result<&'a Value> {
    const LEAST: f64 = 200.0;
    let last = records(turn, run, system).last();
    let last = last.with_context(|| missing(turn, run, "no load"))?;
    match number(last, "offered_percent")? {
        offered if offered >= LEAST => Ok(last),
        offered => bail!("the run `{run}` offered a load of {offered} %, not {LEAST} %"),
    }
}

/// Why a run lacks what is looked for.
fn missing(turn: &Turn, run: &str, what: &str) -> String {
    let printed = turn.iter().find(|(name, _)| *name == run).map(|(_, printed)| printed);
    if let Some(why) = printed.and_then(|printed| printed[FAILED].as_str()) {
        return why.to_owned();
    }
    let notes = printed.and_then(|printed| printed["host"]["notes"].as_array());
    let notes = notes.into_iter().flatten().filter_map(Value::as_str);
    let left_out: Vec<&str> = notes.filter(|note| note.starts_with("Left out")).collect();
    [&[&*format!("the run `{run}` printed {what}")], &left_out[..]].concat().join(". ")
}

/// The field of what stands in place of a run's output that could not be made: why.
pub const FAILED: &str = "failed";

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
        found.with_context(|| missing(turn, run, &format!("no record of {system} with {which:?}")))
    }

    /// A field of it, which a record can lack where something was left out.
    fn number(&self, turn: &Turn, field: &str) -> Result<f64> {
        let record = self.find(turn)?;
        if record[field].is_null() {
            bail!(missing(turn, self.run, &format!("no {field} of {}", self.system)));
        }
        number(record, field)
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
