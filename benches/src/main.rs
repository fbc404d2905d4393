//! The benchmark CLI: what a null RPC, a round trip and a stream of messages cost between two
//! processes on this machine, beside the machine's own floor and the kernel's mechanisms.
#![forbid(unsafe_code)]

use std::time::Duration;

use clap::Parser;
use clap::error::ErrorKind;
use indicatif::{ProgressBar, ProgressStyle};

use cli::{Cli, Command, Options};
use clock::Stamps;
use cpus::Cpus;
use fault::{Failure, Fault};
use host::Host;
use limits::Floors;
use measure::{Lab, Ran};
use network::{netns, way::Way};
use plan::{Measurement, Plan};
use process::{agent, ending, listen, serve, session};
use report::{Report, Stores};
use systems::System;
use task::{Bench, Wait};
use unet::NetworkAddress;

mod cli;
mod clock;
mod cpus;
mod fault;
mod host;
mod kv;
mod limits;
mod measure;
mod network;
mod plan;
mod process;
mod record;
mod report;
mod systems;
mod task;

/// The time for each floor where floors are the question, and where they are not.
const FLOOR_TIMES: (Duration, Duration) = (Duration::from_millis(600), Duration::from_millis(60));

fn main() {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error)
            if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) =>
        {
            error.exit()
        }
        Err(error) => ending::fail(&Failure::Usage(cli::sentence(&error))),
    };
    let result = match cli.command {
        Some(Command::ServerProcess { cpu, at }) => {
            let served = match at {
                Some(address) => session::run(cpu, address),
                None => serve::run(cpu),
            };
            // The client has been told, and tells the user.
            served.or_else(|_| std::process::exit(1))
        }
        Some(Command::AgentProcess { cpu, name, device }) => {
            // As above.
            match agent::run(cpu, &name, &device) {
                Err(_) => std::process::exit(1),
            }
        }
        Some(Command::Serve { uri, time, leashed }) => {
            serve_clients(uri, time, leashed, &cli.options)
        }
        Some(Command::KvServer { address, channels }) => {
            let wait = cli.options.wait.first().copied().unwrap_or(Wait::Spin);
            // As above.
            kv::serve(&address, wait, channels).or_else(|_| std::process::exit(1))
        }
        Some(Command::Kv(asked)) => compare_stores(&asked, &cli.options),
        Some(Command::Systems) => {
            list_systems();
            Ok(())
        }
        command => run(&Cli { command, ..cli }),
    };
    if let Err(failure) = result {
        ending::fail(&failure);
    }
}

fn run(cli: &Cli) -> Result<(), Failure> {
    let options = &cli.options;
    let cores = cpus::usable()?.len();
    let cpus = Cpus::choose(options.cpus)?;
    let way = Way::open(options, cpus)?;
    let plan = Plan::make(cli.command.as_ref(), options, cpus, way.as_ref())?;
    let mut notes: Vec<String> = cpus.remark(options.cpus).into_iter().collect();
    notes.extend(plan.left_out.iter().map(|sentence| format!("Left out: {sentence}")));
    for note in &notes {
        eprintln!("unet-bench: {note}");
    }
    ending::on_signals()?;
    let progress = progress(plan.steps());
    let stamps = Stamps::calibrate();
    let floors = floors(cli.command.as_ref(), options, cpus, &progress)?;
    let mut records = Vec::new();
    for what in &plan.measurements {
        let label = label(what);
        progress.set_message(label.clone());
        let step = |step: &str| {
            progress.set_message(format!("{label}, {step}"));
            progress.inc(1);
        };
        let duration = plan.duration;
        let (way, shares) = (way.as_ref(), &plan.shares[..]);
        let lab = Lab { cpus, stamps: &stamps, duration, way, shares, step: &step };
        match measure::run(&lab, what)? {
            Ran::Records(more) => records.extend(more),
            Ran::NotOpened(why) if plan.named => {
                return Err(Failure::Run(format!(
                    "{} has no connection: {why}.",
                    what.system.name()
                )));
            }
            Ran::NotOpened(why) => leave_out(what, &why, &mut notes),
        }
        if what.bench != Bench::Sweep {
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    if records.is_empty() && !plan.measurements.is_empty() {
        return Err(Failure::Run(format!("Nothing could be measured. {}", notes.join(" "))));
    }
    let mut host = Host::describe(cores, cpus, &stamps, floors, notes);
    if way.is_some() {
        host.cross_a_network();
    }
    let mut report = Report { host, records };
    report.compare_scale();
    report.compare_networks();
    report.show(options.format, options.out.as_deref())
}

/// Notes, once for each system, that there was no connection to be had.
fn leave_out(what: &Measurement, why: &Fault, notes: &mut Vec<String>) {
    let note = format!("Left out: {} has no connection: {why}.", what.system.name());
    if !notes.contains(&note) {
        eprintln!("unet-bench: {note}");
        notes.push(note);
    }
}

fn serve_clients(
    uri: NetworkAddress,
    time: Option<Duration>,
    leashed: bool,
    options: &Options,
) -> Result<(), Failure> {
    let cpu = Cpus::choose(options.cpus)?.server;
    let space = match &options.netns[..] {
        [] => netns::HERE,
        [space] => space,
        _ => return Err(Failure::Usage("--netns names one namespace to serve in.".to_owned())),
    };
    listen::run(uri, space, cpu, time, leashed)
}

/// The key-value stores, which have tables of their own.
fn compare_stores(asked: &kv::Asked, options: &Options) -> Result<(), Failure> {
    let cores = cpus::usable()?.len();
    let cpus = Cpus::choose(options.cpus)?;
    let plan = kv::Plan::make(asked, options, cpus)?;
    let mut notes: Vec<String> = cpus.remark(options.cpus).into_iter().collect();
    notes.extend(plan.left_out.iter().cloned());
    for note in &notes {
        eprintln!("unet-bench: {note}");
    }
    ending::on_signals()?;
    let progress = progress(plan.steps());
    let stamps = Stamps::calibrate();
    let command = Command::Kv(asked.clone());
    let floors = floors(Some(&command), options, cpus, &progress)?;
    let records = plan.run(cpus, &progress)?;
    progress.finish_and_clear();
    let host = Host::describe(cores, cpus, &stamps, floors, notes);
    Stores { host, records }.show(options.format, options.out.as_deref())
}

fn floors(
    command: Option<&Command>,
    options: &Options,
    cpus: Cpus,
    progress: &ProgressBar,
) -> Result<Floors, Failure> {
    let (long, short) = FLOOR_TIMES;
    let most = match command {
        None | Some(Command::Limits) => long,
        Some(_) => short,
    };
    let time = options.duration.unwrap_or(most).min(most);
    Floors::measure(cpus, time, &mut |what| {
        progress.set_message(what.to_owned());
        progress.inc(1);
    })
}

/// A bar on a terminal, nothing elsewhere. It is drawn between measurements only, so that no
/// thread wakes up beside one.
fn progress(measurements: usize) -> ProgressBar {
    const FLOOR_STEPS: usize = 5;
    let progress = ProgressBar::new((measurements + FLOOR_STEPS) as u64);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len}  {msg}");
    progress.set_style(style.expect("the template is well-formed").progress_chars("█▌░"));
    ending::clears(&progress);
    progress
}

fn label(what: &Measurement) -> String {
    format!("{}: {}, {}, {} B", what.bench.name(), what.system.name(), what.wait, what.payload())
}

fn list_systems() {
    let list = |all: Vec<&'static dyn System>| {
        for system in all {
            println!("{:16} {:16} {}", system.name(), system.transport(), system.about());
        }
    };
    list(systems::all());
    println!("\nAcross a network (--transport udp:HOST:PORT, or --to):");
    list(systems::network::all());
}
