//! The program: a server, a client, and a load generator.
#![forbid(unsafe_code)]

use std::error::Error;
use std::io::{Read, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use kv::client::{self, GetError, get, open, put};
use kv::load::{Calls, Measured, Pace, Workload, WorkloadOptions, drive, fill};
use kv::server::ServeOptions;
use kv::service::Shared;
use kv::store::{Limits, Store};
use serde_bytes::Bytes;
use unet::{Address, Wait};

use cli::{At, Cli, Client, Command, Load};

mod cli;

/// Operations that are drawn before they come again.
const DRAWN: usize = 1 << 18;

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kv: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Box<dyn Error>> {
    let client = match command {
        Command::Serve { addresses, memory, max_value, wait, channels } => {
            let options = ServeOptions { wait: wait.into(), channels };
            return serve(&addresses, Limits { value: max_value, memory }, options);
        }
        Command::Client(client) => client,
    };
    let At { address } = client.at();
    // Who loads polls; who asks once sleeps when it takes long.
    let wait = if let Client::Load(_) = client { Wait::Spin } else { Wait::Adaptive };
    let store = open(std::slice::from_ref(address), wait, client.window());
    let store = store.map_err(|why| format!("{address} cannot be reached: {why}"))?;
    act(&client, &store)
}

fn act(command: &Client, store: &client::Client) -> Result<(), Box<dyn Error>> {
    match command {
        Client::Get { key, .. } => {
            let value = get(store, key.as_bytes()).executed()??;
            std::io::stdout().write_all(&value)?;
        }
        Client::Put { key, value, .. } => {
            let mut bytes = value.clone().into_bytes();
            if value == "-" {
                bytes.clear();
                std::io::stdin().read_to_end(&mut bytes)?;
            }
            let revision = put(store, key.as_bytes(), &bytes).executed()??;
            println!("revision {revision}");
        }
        Client::Delete { key, .. } => {
            let deleted = store.delete(Bytes::new(key.as_bytes())).executed()?;
            println!("revision {}", deleted.ok_or(GetError::Missing)?);
        }
        Client::Scan { from, limit, .. } => scan(store, from, *limit)?,
        Client::Usage { .. } => {
            let usage = store.usage().executed()?;
            println!("{} keys, {} bytes, revision {}", usage.keys, usage.bytes, usage.revision);
        }
        Client::Load(load) => offer(store, load)?,
    }
    Ok(())
}

fn serve(
    addresses: &[Address],
    limits: Limits,
    options: ServeOptions,
) -> Result<(), Box<dyn Error>> {
    let store = Arc::new(Shared::new(Store::new(limits)));
    let ready = || {
        for address in addresses {
            println!("serving at {address}");
        }
    };
    // Ctrl-C ends the process: nothing of a store outlives its server.
    Ok(kv::server::serve(addresses, &store, options, &AtomicBool::new(false), ready)?)
}

fn scan(store: &client::Client, from: &str, limit: u32) -> Result<(), Box<dyn Error>> {
    let (mut from, mut left) = (from.as_bytes().to_vec(), limit);
    let mut out = std::io::stdout().lock();
    loop {
        let page = store.scan(Bytes::new(&from), left).executed()?;
        left = left.saturating_sub(page.entries.len() as u32);
        for entry in page.entries {
            write!(out, "{}\t", entry.key.escape_ascii())?;
            match entry.value {
                Some(value) => writeln!(out, "{}", value.escape_ascii())?,
                None => writeln!(out, "({} bytes)", entry.len)?,
            }
        }
        match page.next {
            Some(next) if left > 0 => from = next.into_vec(),
            _ => return Ok(()),
        }
    }
}

fn offer(store: &client::Client, load: &Load) -> Result<(), Box<dyn Error>> {
    let Load { mix, keys, value, seed, .. } = *load;
    let options = WorkloadOptions { mix, keys, value, operations: DRAWN, seed };
    let workload = Workload::draw(options);
    let mut calls = Calls::new(store, value);
    let window = usize::from(load.window);
    fill(&mut calls, &workload, window)?;
    let offered = kv::load::Load {
        window,
        pace: load.rate.map_or(Pace::Closed, Pace::Open),
        duration: load.duration,
    };
    let measured = drive(&mut calls, &workload, offered, 0)?;
    report(options.mix, &measured);
    Ok(())
}

fn report(mix: kv::load::Mix, measured: &Measured) {
    let microseconds = |quantile| measured.latency.value_at_quantile(quantile) as f64 / 1e3;
    println!("mix {mix}: {} operations, {:.0} a second", measured.done, measured.rate());
    println!(
        "latency p50 {:.1} µs, p99 {:.1} µs, p99.9 {:.1} µs, max {:.1} µs",
        microseconds(0.5),
        microseconds(0.99),
        microseconds(0.999),
        measured.latency.max() as f64 / 1e3,
    );
    if measured.refused + measured.late > 0 {
        println!("refused {}, due and not begun {}", measured.refused, measured.late);
    }
}
