//! The benchmark CLI: what a null RPC, a round trip and a stream of messages cost between two
//! processes on this machine, beside the machine's own floor and the kernel's mechanisms.
#![forbid(unsafe_code)]

use std::time::Duration;

use clap::Parser;
use clap::error::ErrorKind;
use indicatif::{ProgressBar, ProgressStyle};

use cli::{Cli, Command};
use clock::Stamps;
use cpus::Cpus;
use fault::Failure;
use host::Host;
use limits::Floors;
use measure::Lab;
use plan::{Measurement, Plan};
use process::{ending, serve};
use report::Report;

mod cli;
mod clock;
mod cpus;
mod fault;
mod host;
mod limits;
mod measure;
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
        Some(Command::Serve { cpu }) => match serve::run(cpu) {
            Ok(()) => Ok(()),
            // The client has been told, and tells the user.
            Err(_) => std::process::exit(1),
        },
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
    let plan = Plan::make(cli.command.as_ref(), options, cpus)?;
    let mut notes: Vec<String> = cpus.remark(options.cpus).into_iter().collect();
    notes.extend(plan.left_out.iter().map(|sentence| format!("Left out: {sentence}")));
    for note in &notes {
        eprintln!("unet-bench: {note}");
    }
    ending::on_signals()?;
    let progress = progress(plan.measurements.len());
    let stamps = Stamps::calibrate();
    let floors = floors(cli, cpus, &progress)?;
    let lab = Lab { cpus, stamps: &stamps, duration: plan.duration };
    let records = plan.measurements.iter().map(|what| {
        progress.set_message(label(what));
        let record = measure::run(&lab, what);
        progress.inc(1);
        record
    });
    let records = records.collect::<Result<Vec<_>, _>>()?;
    progress.finish_and_clear();
    let host = Host::describe(cores, cpus, &stamps, floors, notes);
    let mut report = Report { host, records };
    report.compare_scale();
    report.show(options.format, options.out.as_deref())
}

fn floors(cli: &Cli, cpus: Cpus, progress: &ProgressBar) -> Result<Floors, Failure> {
    let (long, short) = FLOOR_TIMES;
    let most = match cli.command {
        None | Some(Command::Limits) => long,
        Some(_) => short,
    };
    let time = cli.options.duration.unwrap_or(most).min(most);
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
    for system in systems::all() {
        println!("{:16} {:16} {}", system.name(), system.transport(), system.about());
    }
}
