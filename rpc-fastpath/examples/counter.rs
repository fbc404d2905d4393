//! A service that counts by name, and a client of it: your first service.
//!
//! ```sh
//! cargo run --release --example counter -- serve shm:counter
//! cargo run --release --example counter -- add shm:counter apples 3
//! cargo run --release --example counter -- list shm:counter
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rpc_fastpath::service::{BindOptions, Outcome, Server, ServerOptions, service};
use serde::{Deserialize, Serialize};
use unet::Address;

/// Why something was not counted.
#[derive(Debug, Serialize, Deserialize)]
pub enum NotCounted {
    /// There are more already than there are numbers.
    TooMany,
}

/// What both programs know.
#[service(name = "counter", version = 1)]
pub trait Counter {
    /// Adds to a count, and gives the sum.
    #[deadline("1s")]
    fn add(&self, name: &str, by: u64) -> Result<u64, NotCounted>;
    /// All counts.
    #[idempotent]
    fn list(&self) -> Vec<(String, u64)>;
}

#[derive(Default)]
struct Counts(Mutex<BTreeMap<String, u64>>);

impl Counter for Counts {
    fn add(&self, name: &str, by: u64) -> Result<u64, NotCounted> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = counts.get(name).copied().unwrap_or(0);
        let sum = before.checked_add(by).ok_or(NotCounted::TooMany)?;
        counts.insert(name.to_owned(), sum);
        Ok(sum)
    }

    fn list(&self) -> Vec<(String, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(name, count)| (name.clone(), *count)).collect()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", address] => serve(&address.parse()?),
        ["add", address, name, by] => add(&address.parse()?, name, by.parse()?),
        ["list", address] => list(&address.parse()?),
        _ => Err("say `serve shm:NAME`, `add shm:NAME WHAT COUNT`, or `list shm:NAME`".into()),
    }
}

fn serve(address: &Address) -> Result<(), Box<dyn Error>> {
    let options = ServerOptions::default();
    let server = Server::<CounterService>::export(address, Counts::default(), options)?;
    println!("serving at {address}");
    server.serve_until(|| false);
    Ok(())
}

fn add(address: &Address, name: &str, by: u64) -> Result<(), Box<dyn Error>> {
    let counter = CounterClient::bind(address, BindOptions::default())?;
    let start = Instant::now();
    match counter.add(name, by) {
        Outcome::Executed(Ok(sum)) => println!("{sum} {name} ({:?})", start.elapsed()),
        Outcome::Executed(Err(why)) => println!("not counted: {why:?}"),
        Outcome::Refused(why) => println!("certainly not counted: {why}"),
        Outcome::Unknown(why) => println!("nobody knows whether it was counted: {why}"),
    }
    Ok(())
}

fn list(address: &Address) -> Result<(), Box<dyn Error>> {
    let counter = CounterClient::bind(address, BindOptions::default())?;
    for (name, count) in counter.list().executed()? {
        println!("{count} {name}");
    }
    Ok(())
}
