//! The bare loops: over each kind of network the least that a program can do there, what nothing over it can be
//! faster than. Frames are written once; of each message only its number is written and read.

#[cfg(feature = "dpdk")]
pub mod dpdk;
mod frame;
mod halves;
pub mod xdp;

use crate::systems::{ClientHalf, ServerHalf};
use crate::task::Task;

use frame::HEADERS;
use halves::{Client, Mirror};

/// A port whose frames are written, but for a number in each.
trait Bare {
    /// Whether a program of its kind pauses between two looks.
    const PAUSES: bool;
    /// Sends frames of a length, with numbers from `first` on; `count`, or as many as there is room for: how many.
    fn send(&mut self, first: u64, count: u32, len: u32) -> u32;
    /// Receives frames: how many, each with its number.
    fn receive(&mut self, each: impl FnMut(u64)) -> u32;
    /// Receives frames, and sends those back that are to be answered: how many came.
    fn answer(&mut self, len: u32, each: impl FnMut(u64) -> bool) -> u32;
}

/// The client's half over a port.
fn client_half(port: impl Bare + 'static, task: &Task) -> ClientHalf {
    let client = Client::new(port, HEADERS + task.payload);
    match task.bench.one_way() {
        true => ClientHalf::OneWay(Box::new(client)),
        false => ClientHalf::Echo(Box::new(client)),
    }
}

/// The server's half over a port.
fn server_half(port: impl Bare + 'static, task: &Task) -> ServerHalf {
    let server = Mirror::new(port, HEADERS + task.payload);
    match task.bench.one_way() {
        true => ServerHalf::OneWay(Box::new(server)),
        false => ServerHalf::Echo(Box::new(server)),
    }
}
