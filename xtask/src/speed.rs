//! The Speed table: what each row is measured by, what it aims at and what it must reach.

use serde_json::Value;

pub use figure::{FAILED, Figure};
use figure::{Pick, median, payload, place};
pub use rows::{INVOCATIONS, ROWS, Row};

pub mod adapter;
pub mod calls;
pub mod dpdk;
mod figure;
pub mod network;
mod rows;
#[cfg(test)]
mod tests;

/// One run of `unet-bench`, by a name that the rows refer to.
pub struct Invocation {
    pub name: &'static str,
    /// One each, or several with spaces between.
    pub args: &'static [&'static str],
    /// It is made once a round, and not in every turn: it compares nothing but with itself.
    pub once: bool,
}

impl Invocation {
    /// Whether it runs between the hosts of a lab.
    pub fn needs_lab(&self) -> bool {
        self.args.iter().any(|args| args.contains("--netns"))
    }

    /// Whether it leaves an XDP program at the lab's interfaces: DPDK's ports do when their process ends.
    pub fn leaves_a_program(&self) -> bool {
        self.args.iter().any(|args| args.contains("net_af_xdp"))
    }

    /// The arguments of a turn: every other one measures the systems the other way round, since who comes
    /// later meets a warmer machine.
    pub fn args(&self, turn: usize) -> Vec<String> {
        let words = self.args.iter().flat_map(|args| args.split_whitespace());
        let mut args: Vec<String> = words.map(str::to_owned).collect();
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
    /// What is measured along by other programs than `unet-bench`.
    pub along: Option<Along>,
    /// A run that cannot be made is a row that is not measured, and the others are.
    pub lenient: bool,
    /// How many times in a round what is compared is measured, by turns: a machine changes its pace within
    /// seconds, and what is compared should not.
    pub turns: usize,
    /// How long each measurement runs, unless it is said.
    pub duration: &'static str,
}

/// Another program than `unet-bench`, run once a round.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Along {
    /// The adapter's cost.
    Adapter,
    /// The instructions of a call, by hand and through a service's stub.
    Stub,
}

impl Along {
    /// The name of the run that rows refer to.
    pub fn run(self) -> &'static str {
        match self {
            Along::Adapter => adapter::RUN,
            Along::Stub => STUB,
        }
    }
}

/// The run of [`Along::Stub`].
pub const STUB: &str = "instructions";

/// What is measured within a host.
pub const HOST: Set = Set {
    invocations: INVOCATIONS,
    rows: ROWS,
    along: None,
    lenient: false,
    turns: 1,
    duration: "2s",
};
/// What calls cost: within a host, over the loopback device, across the lab's network, and with losses.
pub const CALLS: Set = Set {
    invocations: calls::INVOCATIONS,
    rows: calls::ROWS,
    along: Some(Along::Stub),
    lenient: true,
    turns: 10,
    duration: "300ms",
};
/// What is measured across the lab's network.
pub const NETWORK: Set = Set {
    invocations: network::INVOCATIONS,
    rows: network::ROWS,
    along: Some(Along::Adapter),
    lenient: false,
    turns: 20,
    duration: "300ms",
};

/// What is measured over ports of DPDK.
pub const DPDK: Set = Set {
    invocations: dpdk::INVOCATIONS,
    rows: dpdk::ROWS,
    along: None,
    lenient: true,
    turns: 20,
    duration: "300ms",
};

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

/// The rounds' figures of a row in one line, and whether the row meets what it must on so many cores: by
/// the median, since one round in a slow phase of the host says nothing about the code.
pub fn judge(row: &Row, figures: &[f64], cores: usize) -> (String, bool) {
    let median = median(figures.to_vec());
    let met = row.must.met(median, cores);
    let verdict = match (met, row.aim.met(median, cores), row.must.lacks_cores(cores)) {
        _ if matches!((row.aim, row.must), (Bound::Open, Bound::Open)) => String::new(),
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
    (line.trim_end().to_owned(), met)
}
