//! The example's server, in a process of this program's own.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use ::unet::Address;
use kv::client::{self, Client};
use kv::server::{self, ServeOptions};
use kv::service::Shared;
use kv::store::{Limits, Store};

use super::server::Server;
use crate::fault::{During, Fault};
use crate::systems::unet;
use crate::task::Wait;

/// The hidden subcommand under which this program serves a store.
const COMMAND: &str = "kv-server";
/// What it says when it serves.
const READY: &str = "ready\n";
/// More than the largest run puts: ten million keys with values of a hundred bytes.
const MEMORY: usize = 8 << 30;

/// Starts a server on a core.
pub fn start(cpu: usize, wait: Wait, channels: bool) -> Result<(Server, Address), Fault> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("shm:unet-bench-kv-{}-{number}", std::process::id());
    let program = std::env::current_exe().during("finding this program's own file")?;
    let mut command = Command::new(program);
    command.args([COMMAND, &name, "--wait", &wait.to_string()]);
    if channels {
        command.arg("--channels");
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut server = Server::start(command, cpu)?;
    let mut line = String::new();
    if let Some(output) = server.output() {
        BufReader::new(output).read_line(&mut line).during("hearing of the store's server")?;
    }
    if line != READY {
        return Err(Fault::Other(format!("the store's server could not begin: {line}")));
    }
    let address = name.parse().map_err(|error| Fault::Other(format!("{name}: {error}")))?;
    Ok((server, address))
}

/// A client of it.
pub fn open(address: &Address, wait: Wait, window: u16) -> Result<Client, Fault> {
    let opened = client::open(std::slice::from_ref(address), unet::wait(wait), window);
    opened.map_err(|error| Fault::Other(format!("the store cannot be reached: {error}")))
}

/// Is the server, until standard input closes.
pub fn serve(address: &Address, wait: Wait, channels: bool) -> Result<(), Fault> {
    std::thread::spawn(|| {
        // Nothing is ever written to it: this ends with whoever started this process.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let limits = Limits { memory: MEMORY, ..Limits::default() };
    let store = Arc::new(Shared::new(Store::new(limits)));
    let address = std::slice::from_ref(address);
    let ready = || print!("{READY}");
    let never = AtomicBool::new(false);
    let options = ServeOptions { wait: unet::wait(wait), channels };
    let served = server::serve(address, &store, options, &never, ready);
    served.map_err(|error| {
        println!("{error}");
        Fault::Other(error.to_string())
    })
}
