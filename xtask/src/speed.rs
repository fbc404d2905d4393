//! The Speed table: what each row is measured by, what it aims at and what it must reach.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

pub use rows::{INVOCATIONS, ROWS, Row};

pub mod adapter;
pub mod network;
mod rows;

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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn turn() -> Turn {
        let rtt = json!({"host": {}, "records": [
            {"system": "unet", "payload_bytes": 8, "mean_ns": 90.0, "p50_ns": 88, "p999_ns": 132, "ratio_to_floor": 1.8},
            {"system": "unet", "payload_bytes": 4096, "mean_ns": 110.0, "ratio_to_floor": null,
             "reference_ns": 99.0, "copied_per_hop": 0.0},
        ]});
        let limits = json!({"host": {"floors": {"yield_one_core_ns": 45.0}}, "records": []});
        vec![("rtt", rtt), ("limits", limits)]
    }

    fn small() -> Pick {
        payload("rtt", "unet", 8)
    }

    #[test]
    fn reads_each_kind_of_figure_from_the_records() {
        assert_eq!(Figure::ToFloor(small()).read(&turn()).expect("there"), 1.8);
        assert_eq!(Figure::Tail(small()).read(&turn()).expect("there"), 1.5);
        assert_eq!(Figure::Means(small(), small()).read(&turn()).expect("there"), 1.0);
        let large = || payload("rtt", "unet", 4096);
        let ratio = Figure::ToReference(large()).read(&turn()).expect("there");
        assert!((ratio - 110.0 / 99.0).abs() < 1e-9);
        let share = Figure::OfReference(large()).read(&turn()).expect("there");
        assert!((share - 0.9).abs() < 1e-9);
        assert_eq!(Figure::Each(large(), small(), 10.0).read(&turn()).expect("there"), 2.0);
        assert_eq!(Figure::Copied(large()).read(&turn()).expect("there"), 0.0);
        assert!(Figure::Copied(small()).read(&turn()).is_err());
        assert_eq!(
            Figure::ToLimit(small(), "yield_one_core_ns").read(&turn()).expect("there"),
            2.0
        );
    }

    #[test]
    fn a_missing_record_or_figure_is_an_error_and_never_a_pass() {
        let missing = Figure::ToFloor(payload("null-rpc", "lrpc", 0));
        let missing = missing.read(&turn()).expect_err("not there").to_string();
        assert!(missing.contains("no record of lrpc with Payload(0)"), "{missing}");
        assert!(Figure::ToFloor(payload("rtt", "unet", 4096)).read(&turn()).is_err());
        let unknown =
            Figure::ToLimit(small(), "warp_ns").read(&turn()).expect_err("not there").to_string();
        assert!(unknown.contains("nor `limits` printed warp_ns"), "{unknown}");
    }

    #[test]
    fn a_rounds_figure_is_the_median_of_pairs_of_turns() {
        let turn = |mean: f64| {
            let record = json!({"system": "unet", "payload_bytes": 8, "ratio_to_floor": mean});
            vec![("rtt", json!({"records": [record]}))]
        };
        let figure = Figure::ToFloor(small());
        // Who comes first is the slower one, whatever it is.
        let round = vec![turn(1.5), turn(0.5), turn(9.0), turn(1.0), turn(1.25), turn(0.75)];
        assert_eq!(figure.of(&round).expect("there"), 1.0);
        assert!(figure.of(&vec![turn(1.0), Turn::new()]).is_err());
        assert!(figure.of(&Round::new()).is_err());
    }

    #[test]
    fn every_other_turn_measures_the_other_way_round() {
        let run =
            Invocation { name: "rtt", args: &["rtt", "--system", "unet,raw,udp"], once: false };
        assert_eq!(run.args(0), ["rtt", "--system", "unet,raw,udp"]);
        assert_eq!(run.args(1), ["rtt", "--system", "udp,raw,unet"]);
    }

    #[test]
    fn judges_by_the_median_of_the_rounds() {
        let row = &ROWS[0];
        let (line, met) = judge(row, &[1.6, 9.0, 1.5], 2);
        assert!(met && line.ends_with("aim met"), "{line}");
        let (line, met) = judge(row, &[2.0, 2.0, 2.0], 2);
        assert!(met && line.ends_with("met, aim missed"), "{line}");
        let (line, met) = judge(row, &[1.6, 9.0, 9.0], 2);
        assert!(!met && line.ends_with("MISSED"), "{line}");
    }

    #[test]
    fn a_row_that_needs_more_cores_is_reported_and_not_judged() {
        let bound = Bound::AtMostWithCores(1.4, 3);
        let row = Row {
            what: "mediated",
            figure: Figure::Tail(small()),
            unit: "× direct",
            aim: bound,
            must: bound,
        };
        let (line, met) = judge(&row, &[2.5], 2);
        assert!(met && line.contains("2.50"), "{line}");
        assert!(line.ends_with("not judged: 3 cores are needed, here are 2"), "{line}");
        let (line, met) = judge(&row, &[2.5], 3);
        assert!(!met && line.ends_with("MISSED"), "{line}");
        let (line, met) = judge(&row, &[1.3], 4);
        assert!(met && line.ends_with("aim met"), "{line}");
    }

    #[test]
    fn goodput_under_overload_is_a_share_of_the_peak() {
        let step = |percent: f64, goodput: f64| json!({"system": "unet", "offered_percent": percent, "goodput_per_sec": goodput});
        let steps = |steps: &[Value]| vec![("sweep", json!({"records": steps}))];
        let figure = Figure::Overloaded("sweep", "unet");
        let whole = steps(&[step(50.0, 5e5), step(100.0, 1e6), step(150.0, 8e5)]);
        assert!((figure.read(&whole).expect("there") - 0.8).abs() < 1e-9);
        assert!(figure.read(&steps(&[step(50.0, 5e5), step(100.0, 1e6)])).is_err());
        assert!(figure.read(&steps(&[])).is_err());
    }

    #[test]
    fn the_lesser_figure_counts_and_must_be_there() {
        static BOTH: [Figure; 2] = [
            Figure::Medians(payload("rtt", "unet", 8), payload("rtt", "unet", 8)),
            Figure::Tail(payload("rtt", "unet", 8)),
        ];
        static GONE: Figure = Figure::Tail(payload("rtt", "unet", 1));
        let round = vec![turn()];
        assert_eq!(Figure::Lesser(&BOTH[0], &BOTH[1]).of(&round).expect("there"), 1.0);
        assert!(Figure::Lesser(&BOTH[0], &GONE).of(&round).is_err());
    }

    /// The runs that a figure is read from.
    fn runs(figure: &Figure) -> Vec<&'static str> {
        match figure {
            Figure::ToFloor(one)
            | Figure::MillionsPerSecond(one)
            | Figure::Tail(one)
            | Figure::ToReference(one)
            | Figure::OfReference(one)
            | Figure::Copied(one)
            | Figure::ToLimit(one, _) => vec![one.run],
            Figure::Means(one, other)
            | Figure::Medians(one, other)
            | Figure::Each(one, other, _) => vec![one.run, other.run],
            Figure::Lesser(one, other) => [runs(one), runs(other)].concat(),
            Figure::Overloaded(run, _) => vec![run],
        }
    }

    #[test]
    fn every_row_refers_to_a_run_that_is_made() {
        for set in [HOST, NETWORK] {
            let made = |run| {
                let adapter = set.adapter && run == adapter::RUN;
                adapter || set.invocations.iter().any(|made| made.name == run)
            };
            for row in set.rows {
                for run in runs(&row.figure) {
                    assert!(made(run), "{}: {run}", row.what);
                }
            }
        }
    }
}
