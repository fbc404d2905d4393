//! The RPC fast path: calls by the network protocol, over shared memory as over a network, through
//! `rpc_fastpath::endpoint` as a user takes it, with bytes as arguments.
//!
//! The call's own number is checked by the connection. What a call returns is checked here: its length, and the
//! sequence number in it, where there is room for one.
//!
//! | file | what |
//! |---|---|
//! | `single` | one call at a time |
//! | `window` | several under way, for rates and bandwidths |
//! | `offered` | calls that are begun when they are due, whatever becomes of the ones before |
//! | `beside` | one at a time, beside bulk flows over the same link |
//! | `served` | the server of all of them |
//! | `bulk` | bytes that show where they were cut or overwritten |

mod beside;
mod bulk;
mod offered;
mod served;
mod single;
mod window;

use std::os::fd::OwnedFd;

use rpc_fastpath::endpoint::{Connection, ConnectionOptions, Doubt, Limits, Outcome, Refusal};
use unet::{Address, MAX_INLINE, NetworkAddress, NetworkOptions};

use crate::fault::Fault;
use crate::measure::load::STAMP;
use crate::network::Place;
use crate::process::server::{Request, Server};
use crate::systems::network::{Announce, Network};
use crate::systems::unet::wait;
use crate::systems::{ClientHalf, Ready, ServerHalf, System};
use crate::task::{Bench, MAX_PAYLOAD, MAX_UNDER_WAY, Task, Wait};

use beside::Beside;
use offered::Offering;
use served::Called;
use single::Single;
use window::Window;

/// Calls by the network protocol.
pub struct Rpc {
    across: bool,
}

/// Over shared memory.
pub static HERE: Rpc = Rpc { across: false };
/// Over the network that the address names.
pub static ACROSS: Rpc = Rpc { across: true };

/// Gives its arguments back.
const ECHO: u16 = 1;
/// Ends the server's loop.
const FINISH: u16 = 2;
/// Takes bytes, and gives their number back.
const TAKE: u16 = 3;
/// Takes a number, and gives bytes with it.
const GIVE: u16 = 4;
/// Takes bytes, and does not look at them.
const STORE: u16 = 5;
/// Gives bytes that it has in buffers.
const FETCH: u16 = 6;

impl System for Rpc {
    fn name(&self) -> &'static str {
        "rpc"
    }

    fn transport(&self) -> &'static str {
        if self.across { "by address" } else { "shm:" }
    }

    fn about(&self) -> &'static str {
        "calls by the network protocol: at most once, exact outcomes"
    }

    fn payload(&self, bench: Bench, asked: usize) -> usize {
        match bench {
            Bench::Rate => asked.max(size_of::<u64>()),
            Bench::Sweep => asked.max(STAMP),
            Bench::Bandwidth => asked.max(bulk::LEAST),
            Bench::Beside => asked.max(1),
            _ => asked,
        }
    }

    fn answers(&self, bench: Bench) -> bool {
        bench != Bench::Fbuf
    }

    fn largest(&self) -> usize {
        MAX_PAYLOAD
    }

    fn makes_calls(&self) -> bool {
        true
    }

    fn refuses(&self, bench: Bench, _: usize, _: Wait) -> Option<String> {
        (bench == Bench::Scale).then(|| "has no idle bindings here".to_owned())
    }

    fn remark(&self, bench: Bench, asked: usize) -> Option<String> {
        (!self.across && !self.is_counted(bench) && asked > MAX_INLINE)
            .then(|| "rpc: arguments are copied in, secured by a copy, and copied back".to_owned())
    }

    fn network(&self) -> Option<&dyn Network> {
        self.across.then_some(self as &dyn Network)
    }

    fn client(&self, task: &Task, server: &Server) -> Result<ClientHalf, Fault> {
        server.ask(&Request::Open(task.clone()), &[])?;
        server.expect_ready()?;
        let client = client_half(&here(task)?, task, true)?;
        server.expect_done()?;
        Ok(client)
    }

    fn server(&self, task: &Task, _: Vec<OwnedFd>, ready: Ready<'_>) -> Result<ServerHalf, Fault> {
        let server = Called::new(&here(task)?, task)?;
        ready()?;
        Ok(server.awaiting_client())
    }
}

impl Rpc {
    /// Whether calls are counted, many of them, rather than timed one by one.
    fn is_counted(&self, bench: Bench) -> bool {
        matches!(bench, Bench::Rate | Bench::Bandwidth | Bench::Sweep | Bench::Beside)
    }
}

impl Network for Rpc {
    fn bare(&self) -> Option<&'static str> {
        None
    }

    fn takes_nothing(&self) -> bool {
        true
    }

    fn connect(&self, task: &Task, place: &Place, server: &Server) -> Result<ClientHalf, Fault> {
        server.ask(&Request::Open(task.clone()), &[])?;
        server.expect_port()?;
        // A session may outlive the channel that it began on, and needs an address for the next.
        let host = place.remote.to_string();
        let address = Address::Network(NetworkAddress { host, ..place.address.clone() });
        let client = client_half(&address, task, false)?;
        server.expect_done()?;
        Ok(client)
    }

    fn serve(
        &self,
        task: &Task,
        place: &Place,
        announce: Announce<'_>,
    ) -> Result<ServerHalf, Fault> {
        let server = Called::new(&Address::Network(place.address.clone()), task)?;
        announce(place.address.port)?;
        Ok(server.awaiting_client())
    }
}

fn here(task: &Task) -> Result<Address, Fault> {
    format!("shm:{}", task.rendezvous)
        .parse()
        .map_err(|error| Fault::Other(format!("the rendezvous is no address: {error}")))
}

/// All drivers.
fn network() -> NetworkOptions {
    NetworkOptions { drivers: drivers::linked(), ..NetworkOptions::default() }
}

/// What a side takes: no more than is measured.
fn limits(task: &Task, usual: Limits) -> Limits {
    // Each call of the window keeps its arguments or its reply.
    let fits = (MAX_UNDER_WAY / task.payload.max(1)).clamp(1, usual.window.into());
    let window = match task.bench {
        Bench::NullRpc | Bench::Rtt => fits,
        _ => task.calls.window.next_power_of_two(),
    };
    let longest = task.payload.max(size_of::<u64>());
    let window = u16::try_from(window).unwrap_or(usual.window);
    Limits { window, max_message: u32::try_from(longest).unwrap_or(u32::MAX), ..usual }
}

fn connect(address: &Address, task: &Task) -> Result<Connection, Fault> {
    let mut options = ConnectionOptions { wait: wait(task.wait), ..Default::default() };
    options.limits = limits(task, options.limits);
    options.connect.network = network();
    Connection::open(address, options)
        .map_err(|error| Fault::Other(format!("connecting to {address} failed: {error}")))
}

fn client_half(address: &Address, task: &Task, is_here: bool) -> Result<ClientHalf, Fault> {
    if task.bench == Bench::Beside {
        return Ok(ClientHalf::Echo(Box::new(Beside::new(address, task)?)));
    }
    let connection = connect(address, task)?;
    Ok(match task.bench {
        Bench::Rate | Bench::Bandwidth => {
            ClientHalf::Echo(Box::new(Window::new(connection, task, is_here)))
        }
        Bench::Sweep => ClientHalf::Load(Box::new(Offering::new(connection, task))),
        _ => ClientHalf::Echo(Box::new(Single::new(connection, task))),
    })
}

#[cold]
fn failed<R: std::fmt::Debug>(outcome: Outcome<R>) -> Fault {
    match outcome {
        // Where the server is dead, its end says more.
        Outcome::Unknown(Doubt::SessionLost) => Fault::PeerGone,
        Outcome::Unknown(Doubt::NoAnswer) => Fault::Silent,
        Outcome::Refused(why) => Fault::Other(format!("a call was refused: {why}")),
        other => Fault::Other(format!("a call failed: {other:?}")),
    }
}

#[cold]
fn unbegun(why: Refusal) -> Fault {
    match why {
        Refusal::NoSession => Fault::PeerGone,
        why => Fault::Other(format!("a call was not begun: {why}")),
    }
}
