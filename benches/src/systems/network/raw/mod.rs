//! The bare loops: over each kind of network the least that a program can do there, what nothing over it can be
//! faster than. Frames are written once; of each message only its number is written and read.

#[cfg(feature = "dpdk")]
pub mod dpdk;
mod frame;
mod halves;
pub mod xdp;

use crate::fault::Fault;
use crate::network::Place;
use crate::process::server::{Request, Server};
use crate::systems::network::{Announce, Network};
use crate::systems::{ClientHalf, ServerHalf, System};
use crate::task::{Bench, Task, Wait};

use frame::{HEADERS, MAX_PAYLOAD};
use halves::{Client, Mirror};

/// A kind of network, and how a bare loop goes over it.
pub trait Kind: Sync {
    /// What the system is called.
    const NAME: &'static str;
    /// The scheme of the addresses that it is for.
    const SCHEME: &'static str;
    const ABOUT: &'static str;
    #[allow(private_bounds, reason = "nobody else has one")]
    type Port: Bare + 'static;

    /// Opens a port at the address, with frames to the other end.
    fn open(task: &Task, place: &Place) -> Result<Self::Port, Fault>;

    /// Waits until the other end, which has opened its port, can be reached.
    fn meet(port: &mut Self::Port) -> Result<(), Fault> {
        let _ = port;
        Ok(())
    }
}

/// The bare loop over a kind of network.
pub struct Raw<K>(pub K);

impl<K: Kind> System for Raw<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn transport(&self) -> &'static str {
        "by address"
    }

    fn about(&self) -> &'static str {
        K::ABOUT
    }

    fn payload(&self, _: Bench, asked: usize) -> usize {
        asked.max(size_of::<u64>())
    }

    fn refuses(&self, _: Bench, payload: usize, _: Wait) -> Option<String> {
        (payload > MAX_PAYLOAD).then(|| format!("carries at most {MAX_PAYLOAD} bytes in a frame"))
    }

    fn remark(&self, _: Bench, _: usize) -> Option<String> {
        Some(format!("{}: frames are written once; of a message only its number is", K::NAME))
    }

    fn answers(&self, bench: Bench) -> bool {
        matches!(bench, Bench::Rtt | Bench::Rate)
    }

    fn waits(&self) -> Option<&'static [Wait]> {
        Some(&[Wait::Spin])
    }

    fn largest(&self) -> usize {
        MAX_PAYLOAD
    }

    fn network(&self) -> Option<&dyn Network> {
        Some(self)
    }
}

impl<K: Kind> Network for Raw<K> {
    fn bare(&self) -> Option<&'static str> {
        Some(K::SCHEME)
    }

    fn crosses(&self, address: &unet::NetworkAddress) -> bool {
        address.scheme == K::SCHEME
    }

    fn connect(&self, task: &Task, place: &Place, server: &Server) -> Result<ClientHalf, Fault> {
        server.ask(&Request::Open(task.clone()), &[])?;
        server.expect_port()?;
        let mut port = self.open(task, place)?;
        K::meet(&mut port)?;
        server.expect_done()?;
        Ok(client_half(port, task))
    }

    fn serve(
        &self,
        task: &Task,
        place: &Place,
        announce: Announce<'_>,
    ) -> Result<ServerHalf, Fault> {
        if !self.answers(task.bench) || task.payload > MAX_PAYLOAD {
            let name = K::NAME;
            return Err(Fault::Other(format!("{name} has round trips and a rate, of one frame")));
        }
        let mut port = self.open(task, place)?;
        announce(place.address.port)?;
        K::meet(&mut port)?;
        Ok(server_half(port, task))
    }
}

impl<K: Kind> Raw<K> {
    fn open(&self, task: &Task, place: &Place) -> Result<K::Port, Fault> {
        if self.crosses(&place.address) {
            K::open(task, place)
        } else {
            Err(failed::<K>(place, &format!("it is for {}:DEVICE@HOST:PORT", K::SCHEME)))
        }
    }
}

/// Why no port was opened.
fn failed<K: Kind>(place: &Place, why: &dyn std::fmt::Display) -> Fault {
    Fault::Other(format!("opening {} at {} failed: {why}", K::NAME, place.address))
}

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
