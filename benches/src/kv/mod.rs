//! `unet-bench kv`: the example's key-value server beside Redis, with the same keys, values and
//! operations, each in a process of its own on the server's core.

use std::time::Duration;

use indicatif::ProgressBar;
use kv::load::{
    Calls, Load, LoadError, MIN_VALUE, Measured, Mix, Pace, Target, Workload, WorkloadOptions,
    drive, fill,
};

use crate::cli::{Format, Options};
use crate::cpus::{self, Cpus};
use crate::fault::{Failure, Fault};
use crate::network::address::Transport;
use crate::task::Wait;
use server::Server;

mod ours;
mod record;
mod redis;
mod server;

pub use ours::serve;
pub use record::Record;

/// Time for each measurement, unless the user says.
const DURATION: Duration = Duration::from_secs(1);
/// The share of it that is run before, unmeasured.
const WARM_UP: u32 = 4;
/// Operations that are drawn before they come again.
const DRAWN: usize = 1 << 18;

/// What is asked of the stores.
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub struct Asked {
    /// YCSB's mixes: A has 50 % updates, B 5 %, C none.
    #[arg(long, value_name = "MIX", value_delimiter = ',', default_value = "A,B,C")]
    #[arg(ignore_case = true)]
    mix: Vec<Mix>,
    /// How many keys, drawn by Zipf's law with an exponent of 0.99.
    #[arg(long, value_name = "N", default_value = "100000")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    keys: u32,
    /// How many operations are under way at once: of Redis, in one pipeline; by LRPC eight of a kind.
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,8")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=64))]
    window: Vec<u16>,
    /// Operations a second, as an open loop: latency counts from when an operation was due
    /// [default: a closed loop].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
}

/// The stores that can be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Store {
    Lrpc,
    Channels,
    RedisUnix,
    RedisTcp,
}

const STORES: &[(&str, Store)] = &[
    ("kv/lrpc", Store::Lrpc),
    ("kv/channels", Store::Channels),
    ("redis/unix", Store::RedisUnix),
    ("redis/tcp", Store::RedisTcp),
];

impl Store {
    fn is_ours(self) -> bool {
        matches!(self, Self::Lrpc | Self::Channels)
    }
}

/// What is to be measured.
pub struct Plan {
    stores: Vec<(&'static str, Store)>,
    asked: Asked,
    sizes: Vec<usize>,
    wait: Wait,
    duration: Duration,
    /// What is not, and why.
    pub left_out: Vec<String>,
}

impl Plan {
    /// Reads the command line.
    pub fn make(asked: &Asked, options: &Options, cpus: Cpus) -> Result<Self, Failure> {
        let usage = |sentence: &str| Failure::Usage(sentence.to_owned());
        if options.format == Format::Html {
            return Err(usage("The key-value stores have no page: use --format table or json."));
        }
        if options.to.is_some() || options.transport != Transport::Host {
            return Err(usage(
                "The key-value stores are on this host: leave --transport and --to.",
            ));
        }
        let wait = match options.wait[..] {
            [] if cpus.same_core() => Wait::Adaptive,
            [] => Wait::Spin,
            [wait] => wait,
            _ => return Err(usage("Give one --wait for the key-value server.")),
        };
        let sizes = match &options.size[..] {
            [] => vec![100],
            sizes => sizes.to_vec(),
        };
        if let Some(bytes) = sizes.iter().find(|bytes| !(MIN_VALUE..=1 << 20).contains(*bytes)) {
            let sentence = format!("A value of {bytes} bytes: give {MIN_VALUE} to 1M with --size.");
            return Err(Failure::Usage(sentence));
        }
        let mut stores = STORES.to_vec();
        if !options.system.is_empty() {
            let known = |name: &String| STORES.iter().any(|(other, _)| other == name);
            if let Some(name) = options.system.iter().find(|name| !known(name)) {
                let names: Vec<_> = STORES.iter().map(|(name, _)| *name).collect();
                let names = names.join(", ");
                let sentence = format!("There is no store `{name}`; --system can be {names}.");
                return Err(Failure::Usage(sentence));
            }
            stores.retain(|(name, _)| options.system.iter().any(|chosen| chosen == name));
        }
        let mut left_out = Vec::new();
        if !redis::is_here() && stores.iter().any(|(_, store)| !store.is_ours()) {
            stores.retain(|(_, store)| store.is_ours());
            let sentence = redis::HOW_TO_INSTALL.to_owned();
            if stores.is_empty() {
                return Err(Failure::Usage(sentence));
            }
            left_out.push(format!("Left out: redis/unix and redis/tcp. {sentence}"));
        }
        let duration = options.duration.unwrap_or(DURATION);
        Ok(Self { stores, asked: asked.clone(), sizes, wait, duration, left_out })
    }

    /// How many measurements there are.
    pub fn steps(&self) -> usize {
        self.stores.len() * self.asked.mix.len() * self.asked.window.len() * self.sizes.len()
    }

    fn widest(&self) -> u16 {
        self.asked.window.iter().copied().max().unwrap_or(1)
    }

    /// Measures all of them.
    pub fn run(&self, cpus: Cpus, progress: &ProgressBar) -> Result<Vec<Record>, Failure> {
        let mut records = Vec::new();
        for &value in &self.sizes {
            for &mix in &self.asked.mix {
                let keys = self.asked.keys;
                let options = WorkloadOptions { mix, keys, value, operations: DRAWN, seed: 1 };
                let workload = Workload::draw(options);
                for &(name, store) in &self.stores {
                    progress.set_message(format!("kv: {name}, mix {mix}, {value} B"));
                    let run = Run { plan: self, name, store, options, workload: &workload };
                    records.extend(run.on(cpus)?);
                    progress.inc(self.asked.window.len() as u64);
                }
            }
        }
        record::compare(&mut records);
        Ok(records)
    }
}

/// One store under one workload.
struct Run<'a> {
    plan: &'a Plan,
    name: &'static str,
    store: Store,
    options: WorkloadOptions,
    workload: &'a Workload,
}

impl Run<'_> {
    /// Starts the store, and measures it with each window.
    fn on(&self, cpus: Cpus) -> Result<Vec<Record>, Failure> {
        let value = self.options.value;
        match self.store {
            Store::Lrpc | Store::Channels => {
                let (plan, channels) = (self.plan, self.store == Store::Channels);
                let (server, address) = ours::start(cpus.server, plan.wait, channels)?;
                cpus::pin(cpus.client)?;
                let client = ours::open(&address, plan.wait, plan.widest())?;
                self.windows(&server, &mut Calls::new(&client, value))
            }
            Store::RedisUnix | Store::RedisTcp => {
                let by_unix = self.store == Store::RedisUnix;
                let (server, mut target) = redis::start(cpus.server, by_unix, value)?;
                cpus::pin(cpus.client)?;
                self.windows(&server, &mut target)
            }
        }
    }

    fn windows(&self, server: &Server, target: &mut impl Target) -> Result<Vec<Record>, Failure> {
        let failed = |error: LoadError| Fault::Other(format!("{}: {error}", self.name));
        fill(target, self.workload, usize::from(self.plan.widest())).map_err(failed)?;
        let pace = self.plan.asked.rate.map_or(Pace::Closed, |rate| Pace::Open(f64::from(rate)));
        let mut records = Vec::new();
        for &window in &self.plan.asked.window {
            let duration = self.plan.duration;
            let load = Load { window: usize::from(window), pace, duration };
            let warm_up = Load { duration: duration / WARM_UP, ..load };
            let warm = drive(target, self.workload, warm_up, 0).map_err(failed)?;
            let before = server.cpu_time()?;
            let measured = drive(target, self.workload, load, warm.done).map_err(failed)?;
            let cpu = server.cpu_time()?.saturating_sub(before);
            records.push(self.record(window, &measured, cpu)?);
        }
        Ok(records)
    }

    fn record(&self, window: u16, measured: &Measured, cpu: Duration) -> Result<Record, Failure> {
        if measured.done == 0 || cpu.is_zero() {
            return Err(Failure::Run(format!("{} did nothing in that time.", self.name)));
        }
        let wait = if self.store.is_ours() { self.plan.wait } else { Wait::Park };
        Ok(Record::of(self.name, wait, &self.options, window, measured, cpu))
    }
}
