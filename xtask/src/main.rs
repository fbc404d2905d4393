//! The task runner: everything that is done to this project is a sub-command here.

mod asan;
mod bench;
#[cfg(test)]
mod book;
mod ci;
mod doctor;
mod failpoints;
mod fuzz;
mod instructions;
mod inventory;
mod lab;
mod layers;
mod loom;
mod packages;
mod process;
mod speed;
mod steps;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Check everything: format, lints, layers, tests, models, fuzzing, sanitizer, docs, release
    Test(test::Args),
    /// `test`, with nothing skipped, then the checks that only a CI machine has the time for
    Ci,
    /// Measure the Speed table three times and say which rows meet what they must
    Bench(bench::Args),
    /// Refuse a dependency that points up or sideways, and `unsafe` outside its room
    Layers,
    /// Fuzz one target, or all of them in turn, for as long as you say
    Fuzz(fuzz::Args),
    /// Let the kernel and the usual tools judge our protocols and drivers, in network namespaces of
    /// their own, which can be had by hand too
    Lab(lab::Args),
    /// Kill clients and servers over and over in the lab, and see that every packet is accounted for
    Soak(lab::SoakArgs),
    /// Facts about this machine that decide what works on it and how fast
    Doctor,
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Test(args) => test::run(&args),
        Task::Ci => ci::run(),
        Task::Bench(args) => bench::run(&args),
        Task::Layers => layers::run(),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Lab(args) => lab::run(&args),
        Task::Soak(args) => lab::soak(&args),
        Task::Doctor => doctor::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
