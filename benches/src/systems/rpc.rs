//! The RPC fast path: calls by the network protocol, over shared memory as over a network, through
//! `rpc_fastpath::endpoint` as a user takes it, with bytes as arguments.
//!
//! What a call returns is what it was called with, and the client checks the sequence number in it, where there
//! is room for one; the call's own number is checked by the connection.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rpc_fastpath::endpoint::{
    Bytes, Connection, ConnectionOptions, Content, Context, Decline, How, Outcome, Refusal, Reply,
    Service, ServiceOptions,
};
use unet::{Address, MAX_INLINE, NetworkAddress, NetworkOptions};

use crate::fault::Fault;
use crate::measure::halves::{Echo, EchoLoop};
use crate::network::Place;
use crate::process::server::{Request, Server};
use crate::systems::network::{Announce, Network};
use crate::systems::unet::wait;
use crate::systems::{ClientHalf, Ready, ServerHalf, System};
use crate::task::{Bench, Task, Wait};

/// Calls by the network protocol.
pub struct Rpc {
    across: bool,
}

/// Over shared memory.
pub static HERE: Rpc = Rpc { across: false };
/// Over the network that the address names.
pub static ACROSS: Rpc = Rpc { across: true };

const ECHO: u16 = 1;
const FINISH: u16 = 2;

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

    fn payload(&self, _: Bench, asked: usize) -> usize {
        asked
    }

    fn answers(&self, bench: Bench) -> bool {
        matches!(bench, Bench::NullRpc | Bench::Rtt)
    }

    fn refuses(&self, _: Bench, _: usize, _: Wait) -> Option<String> {
        None
    }

    fn remark(&self, _: Bench, asked: usize) -> Option<String> {
        (!self.across && asked > MAX_INLINE)
            .then(|| "rpc: arguments are copied in, secured by a copy, and copied back".to_owned())
    }

    fn network(&self) -> Option<&dyn Network> {
        self.across.then_some(self as &dyn Network)
    }

    fn client(&self, task: &Task, server: &Server) -> Result<ClientHalf, Fault> {
        server.ask(&Request::Open(task.clone()), &[])?;
        server.expect_ready()?;
        let client = Client::new(&here(task)?, task)?;
        server.expect_done()?;
        Ok(ClientHalf::Echo(Box::new(client)))
    }

    fn server(&self, task: &Task, _: Vec<OwnedFd>, ready: Ready<'_>) -> Result<ServerHalf, Fault> {
        let server = Called::new(&here(task)?, task)?;
        ready()?;
        server.awaiting_client()
    }
}

impl Network for Rpc {
    fn keeps_bounds(&self) -> bool {
        true
    }

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
        let client = Client::new(&address, task)?;
        server.expect_done()?;
        Ok(ClientHalf::Echo(Box::new(client)))
    }

    fn serve(
        &self,
        task: &Task,
        place: &Place,
        announce: Announce<'_>,
    ) -> Result<ServerHalf, Fault> {
        let server = Called::new(&Address::Network(place.address.clone()), task)?;
        announce(place.address.port)?;
        server.awaiting_client()
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

struct Client {
    connection: Connection,
    arguments: Vec<u8>,
    sequence: u64,
}

impl Client {
    fn new(address: &Address, task: &Task) -> Result<Self, Fault> {
        let mut options = ConnectionOptions { wait: wait(task.wait), ..Default::default() };
        options.connect.network = network();
        let connection = Connection::open(address, options)
            .map_err(|error| Fault::Other(format!("connecting to {address} failed: {error}")))?;
        Ok(Self { connection, arguments: vec![0; task.payload], sequence: 0 })
    }
}

#[cold]
fn failed(outcome: Outcome<u64>) -> Fault {
    Fault::Other(format!("a call failed: {outcome:?}"))
}

/// The sequence number of a message, or the one that is due where there is no room for one.
#[inline(always)]
fn sequence(bytes: Bytes<'_>, due: u64) -> u64 {
    let mut word = [0; 8];
    match bytes.as_slice() {
        Some([]) => due,
        Some(bytes) => bytes.first_chunk().map_or(0, |word| u64::from_le_bytes(*word)),
        None => bytes.copy_to(0, &mut word).map_or(0, |()| u64::from_le_bytes(word)),
    }
}

impl Echo for Client {
    #[inline]
    fn round_trip(&mut self) -> Result<(), Fault> {
        self.sequence += 1;
        if let Some(first) = self.arguments.first_chunk_mut() {
            *first = self.sequence.to_le_bytes();
        }
        let (due, arguments) = (self.sequence, Content::from(&self.arguments[..]));
        let read = |outcome: Outcome<Bytes<'_>>| outcome.map(|reply| sequence(reply, due));
        match self.connection.call_and(ECHO, arguments, How::default(), read) {
            Outcome::Executed(found) if found == due => Ok(()),
            Outcome::Executed(found) => Err(Fault::OutOfOrder { expected: due, found }),
            other => Err(failed(other)),
        }
    }

    fn finish(&mut self) -> Result<(), Fault> {
        // The server leaves its loop with the first that arrives; the reply may be lost, and nobody repeats it.
        match self.connection.call(FINISH, b"", How::default()) {
            Outcome::Executed(_) | Outcome::Unknown(_) => Ok(()),
            other => Err(failed(other.map(|_| 0))),
        }
    }
}

struct Called {
    service: Service,
    space: Vec<u8>,
}

impl Called {
    fn new(address: &Address, task: &Task) -> Result<Self, Fault> {
        let mut options = ServiceOptions { wait: wait(task.wait), ..Default::default() };
        options.listen.network = network();
        let service = Service::listen(std::slice::from_ref(address), options)
            .map_err(|error| Fault::Other(format!("listening at {address} failed: {error}")))?;
        Ok(Self { service, space: Vec::new() })
    }

    /// Serves until the client has its session, which it asks for now.
    fn awaiting_client(mut self) -> Result<ServerHalf, Fault> {
        const LOOK: std::time::Duration = std::time::Duration::from_millis(100);
        while self.service.clients() == 0 {
            self.service.poll_timeout(
                &mut |_: &Context, _: Bytes<'_>, _: &mut Reply<'_>| Err(NOT_YET),
                LOOK,
            );
        }
        Ok(ServerHalf::Echo(Box::new(self)))
    }
}

const NOT_YET: Decline = Decline::Refuse(Refusal::ShuttingDown);

impl EchoLoop for Called {
    fn run(&mut self) -> Result<(), Fault> {
        let finished = AtomicBool::new(false);
        let Self { service, space } = self;
        let mut answer = |context: &Context, arguments: Bytes<'_>, reply: &mut Reply<'_>| {
            match context.method {
                ECHO => reply.write(arguments.whole(space)?),
                _ => finished.store(true, Ordering::Relaxed),
            }
            Ok(())
        };
        service.serve(&mut answer, &finished);
        Ok(())
    }
}
