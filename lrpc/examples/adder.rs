//! A service that adds, and a client of it.
//!
//! ```sh
//! cargo run --release --example adder -- serve shm:adder
//! cargo run --release --example adder -- add shm:adder 2 3
//! ```

use std::error::Error;
use std::time::Instant;

use lrpc::{BindOptions, Binding, ExportOptions, Outcome, Server};
use unet::Address;

lrpc::interface! {
    /// What both programs know.
    pub Adder = "adder", version 1 {
        /// The sum of both; declined if it is too large for a number.
        Add([u64; 2]) -> u64;
    }
}

/// The code with which a sum that is too large is declined.
const TOO_LARGE: u16 = 1;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", address] => serve(&address.parse()?),
        ["add", address, a, b] => add(&address.parse()?, [a.parse()?, b.parse()?]),
        _ => Err("say `serve shm:NAME`, or `add shm:NAME A B`".into()),
    }
}

fn serve(address: &Address) -> Result<(), Box<dyn Error>> {
    let server = Server::<Adder>::export(address, ExportOptions::default())?
        .on::<Add>(|_, [a, b]| a.checked_add(b).ok_or(TOO_LARGE));
    println!("serving at {address}");
    server.serve_until(|| false);
    Ok(())
}

fn add(address: &Address, numbers: [u64; 2]) -> Result<(), Box<dyn Error>> {
    let adder = Binding::<Adder>::bind(address, BindOptions::default())?;
    let start = Instant::now();
    match adder.call::<Add>(&numbers) {
        Outcome::Executed(sum) => println!("{sum} ({:?})", start.elapsed()),
        Outcome::Refused(why) => println!("not added: {why}"),
        Outcome::Unknown(why) => println!("nobody knows whether it was added: {why}"),
    }
    Ok(())
}
