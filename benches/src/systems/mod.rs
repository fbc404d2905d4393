//! The ways to talk that are compared, one file each.
//!
//! A system is two halves of a connection, made in two processes. A half implements one operation
//! (see [`crate::measure::halves`]); the loops around it are written once and instantiated for each
//! system, so that no dynamic call lies between two operations.

use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::fault::Fault;
use crate::measure::halves::{EchoLoop, ReceiveLoop, RoundTrips, Sends};
use crate::measure::load::{Absorbs, Offers};
use crate::process::server::Server;
use crate::task::{Bench, MAX_MESSAGE, Task, Wait};

mod copy;
mod fbuf;
#[cfg(feature = "peers")]
mod iceoryx2;
mod kernel;
mod layers;
mod lrpc;
pub mod network;
#[cfg(feature = "peers")]
mod peers;
mod pipe;
mod rpc;
mod service;
mod tcp;
mod udp;
mod uds;
pub mod unet;

/// One way for two processes to talk.
pub trait System: Sync {
    /// Its name on the command line and in records.
    fn name(&self) -> &'static str;
    /// The transport that records name.
    fn transport(&self) -> &'static str;
    /// One line for the list of systems.
    fn about(&self) -> &'static str;
    /// The message size that is used when `asked` is asked for.
    fn payload(&self, bench: Bench, asked: usize) -> usize;
    /// Says why this cannot be measured, in a clause that follows the system's name.
    fn refuses(&self, bench: Bench, payload: usize, wait: Wait) -> Option<String>;
    /// What a reader must know to read the result right.
    fn remark(&self, bench: Bench, asked: usize) -> Option<String>;
    /// Whether it answers a question at all; what does not is not in its list.
    fn answers(&self, bench: Bench) -> bool {
        !matches!(bench, Bench::Fbuf | Bench::Sweep | Bench::Beside)
    }
    /// The largest message that it can be asked for.
    fn largest(&self) -> usize {
        MAX_MESSAGE
    }
    /// Whether a rate, a bandwidth or a load is of calls, each with its reply.
    fn makes_calls(&self) -> bool {
        false
    }
    /// The ways of waiting that it has, where they are not the user's choice.
    fn waits(&self) -> Option<&'static [Wait]> {
        None
    }
    /// As a system that crosses a network.
    fn network(&self) -> Option<&dyn network::Network> {
        None
    }
    /// Whether messages of that size tell anything of it.
    fn fits(&self, _payload: usize) -> bool {
        true
    }
    /// In how many domains a message can be: the least and the most.
    fn domains(&self) -> (usize, usize) {
        (2, 2)
    }
    /// How many hops one of its operations is.
    fn hops(&self, domains: usize) -> usize {
        2 * (domains - 1)
    }
    /// Whether the bytes that it copies are counted.
    fn counts_copies(&self) -> bool {
        false
    }
    /// What it is compared with beside the floor, to be sampled by this process.
    fn rival(&self, _: &Task) -> Result<Option<Rival>, Fault> {
        Ok(None)
    }
    /// As [`System::client`], where messages visit more domains than two, or just one.
    fn client_along(&self, task: &Task, servers: &[Server]) -> Result<ClientHalf, Fault> {
        match servers {
            [server] => self.client(task, server),
            _ => Err(Fault::Other(format!("{} joins two processes", self.name()))),
        }
    }
    /// Sets up a connection to the server process and gives the client's half.
    fn client(&self, _: &Task, _: &Server) -> Result<ClientHalf, Fault> {
        Err(Fault::Other(format!("{} joins the ends of a network", self.name())))
    }
    /// In the server process: gives the server's half, calling `ready` once a client may connect.
    fn server(&self, _: &Task, _: Vec<OwnedFd>, _: Ready<'_>) -> Result<ServerHalf, Fault> {
        Err(Fault::Other(format!("{} joins the ends of a network", self.name())))
    }
}

/// A yardstick of a system's own.
pub struct Rival {
    /// Its name, which follows a number of times.
    pub name: &'static str,
    /// Measures for about the time: nanoseconds for what the system takes a hop or a message for.
    pub sample: Box<dyn FnMut(Duration) -> f64>,
}

/// Tells the client that it may connect.
pub type Ready<'a> = &'a mut dyn FnMut() -> Result<(), Fault>;

/// The client's half of a connection.
pub enum ClientHalf {
    /// Sends and waits for the answer.
    Echo(Box<dyn RoundTrips>),
    /// Sends only.
    OneWay(Box<dyn Sends>),
    /// Offers a load.
    Load(Box<dyn Offers>),
}

/// The server's half of a connection.
pub enum ServerHalf {
    /// Answers.
    Echo(Box<dyn EchoLoop>),
    /// Counts what arrives.
    OneWay(Box<dyn ReceiveLoop>),
    /// Takes a load in.
    Load(Box<dyn Absorbs>),
}

/// Every system in this build, in the order of the tables.
pub fn all() -> Vec<&'static dyn System> {
    let mut all: Vec<&'static dyn System> = vec![
        &lrpc::Lrpc,
        &rpc::HERE,
        &service::Stub,
        &unet::Unet,
        #[cfg(feature = "peers")]
        &iceoryx2::PublishSubscribe,
        #[cfg(feature = "peers")]
        &iceoryx2::RequestResponse,
        &pipe::PIPE,
        &uds::UDS,
        &udp::UDP,
        &tcp::TCP,
    ];
    #[cfg(feature = "peers")]
    all.extend(peers::ALL.iter().map(|peer| peer as &dyn System));
    all.extend(fbuf::all());
    all.extend(copy::all());
    all.extend(layers::all());
    all
}

/// The system of exactly this name.
pub fn by_name(name: &str) -> Option<&'static dyn System> {
    all().into_iter().find(|system| system.name() == name)
}

/// The systems that a word on the command line means, or a sentence about why there are none.
pub fn named(word: &str) -> Result<Vec<&'static dyn System>, String> {
    let found = among(all(), word);
    if !found.is_empty() {
        return Ok(found);
    }
    if network::all().iter().any(|system| system.name() == word) {
        return Err(format!(
            "the system `{word}` crosses a network: name one, as in --transport udp:127.0.0.1:9000 \
             or --to udp:HOST:PORT"
        ));
    }
    if PEERS.contains(&word) {
        return Err(format!(
            "the system `{word}` is not in this build: build with the feature `peers`, as in \
             `cargo run --release --features peers --bin unet-bench -- null-rpc --system {word}`"
        ));
    }
    let known: Vec<_> = all().iter().map(|system| system.name()).collect();
    Err(format!("there is no system `{word}`; choose from {}", known.join(", ")))
}

/// Those with a name, or with its first part.
fn among(all: Vec<&'static dyn System>, word: &str) -> Vec<&'static dyn System> {
    let family = |name: &str| name.split_once('/').is_some_and(|(first, _)| first == word);
    all.into_iter().filter(|s| s.name() == word || family(s.name())).collect()
}

/// Systems that the feature `peers` links.
const PEERS: &[&str] = &[
    "iceoryx2",
    "iceoryx2/pubsub",
    "iceoryx2/reqres",
    "tonic-unix",
    "tonic-tcp",
    "tarpc",
    "capnp",
];
