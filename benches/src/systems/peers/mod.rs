//! Other projects' RPC from the registry, as their users take it: a runtime in each process, on all cores, and a
//! null call with a word as its argument and the same word as its reply.
//!
//! The client binds the server's socket and passes it on, so that no port is taken twice and nothing is left in
//! a file system. The server's runtime answers by itself; the thread that is asked for it only waits for the end.

mod caller;
mod capnp;
mod tarpc;
mod tonic;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::sync::mpsc::{Receiver, Sender, channel};

use tokio::runtime::Runtime;

use crate::cpus;
use crate::fault::{During, Fault};
use crate::measure::halves::{EchoLoop, RoundTrips};
use crate::process::server::{Request, Server};
use crate::systems::{ClientHalf, Ready, ServerHalf, System};
use crate::task::{Bench, Task, Wait};

/// One of them.
pub struct Peer {
    name: &'static str,
    transport: &'static str,
    about: &'static str,
    remark: &'static str,
    unix: bool,
    client: fn(Way) -> Result<Box<dyn RoundTrips>, Fault>,
    server: fn(Listener, Sender<()>) -> Result<Serving, Fault>,
}

const MULTI: &str = "both sides in tokio's multi-thread runtime, on all cores";

/// All of them.
pub static ALL: [Peer; 4] = [
    Peer {
        name: "tonic-unix",
        transport: "uds:",
        about: "gRPC of the crate tonic, over a Unix socket",
        remark: MULTI,
        unix: true,
        client: tonic::client,
        server: tonic::server,
    },
    Peer {
        name: "tonic-tcp",
        transport: "tcp:",
        about: "gRPC of the crate tonic, over TCP",
        remark: MULTI,
        unix: false,
        client: tonic::client,
        server: tonic::server,
    },
    Peer {
        name: "tarpc",
        transport: "tcp:",
        about: "the crate tarpc with bincode, over TCP",
        remark: MULTI,
        unix: false,
        client: tarpc::client,
        server: tarpc::server,
    },
    Peer {
        name: "capnp",
        transport: "tcp:",
        about: "Cap'n Proto RPC of the crate capnp-rpc, over TCP",
        remark: "both sides in one thread each, on all cores, since capnp-rpc has no other way",
        unix: false,
        client: capnp::client,
        server: capnp::server,
    },
];

/// The word that ends the server's phase.
const END: u64 = u64::MAX;

/// Where the server listens.
enum Way {
    Tcp(SocketAddr),
    Unix(UnixAddr),
}

/// Where it listens, at the server.
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// What answers, as long as this is there.
#[expect(
    dead_code,
    reason = "a runtime serves until it is dropped, a thread until the process ends"
)]
enum Serving {
    Runtime(Runtime),
    Thread,
}

impl System for Peer {
    fn name(&self) -> &'static str {
        self.name
    }

    fn transport(&self) -> &'static str {
        self.transport
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn payload(&self, _: Bench, _: usize) -> usize {
        size_of::<u64>()
    }

    fn answers(&self, bench: Bench) -> bool {
        bench == Bench::NullRpc
    }

    fn refuses(&self, _: Bench, _: usize, wait: Wait) -> Option<String> {
        (wait != Wait::Park)
            .then(|| "sleeps as its runtime does: it has --wait park only".to_owned())
    }

    fn remark(&self, _: Bench, _: usize) -> Option<String> {
        Some(format!("{}: {}", self.name, self.remark))
    }

    fn client(&self, task: &Task, server: &Server) -> Result<ClientHalf, Fault> {
        const BINDING: &str = "binding the server's socket";
        let (way, socket) = if self.unix {
            let address = UnixAddr::from_abstract_name(&task.rendezvous).during(BINDING)?;
            let listener = UnixListener::bind_addr(&address).during(BINDING)?;
            (Way::Unix(address), OwnedFd::from(listener))
        } else {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).during(BINDING)?;
            (Way::Tcp(listener.local_addr().during(BINDING)?), OwnedFd::from(listener))
        };
        server.ask(&Request::Open(task.clone()), &[socket.as_fd()])?;
        server.expect_ready()?;
        server.expect_done()?;
        // The server's alone from now on, so that its end is the end of the connection.
        drop(socket);
        cpus::roaming(|| (self.client)(way)).map(ClientHalf::Echo)
    }

    fn server(&self, _: &Task, fds: Vec<OwnedFd>, ready: Ready<'_>) -> Result<ServerHalf, Fault> {
        let socket = fds.into_iter().next().ok_or_else(|| Fault::Other("no socket came".into()))?;
        let listener = match self.unix {
            true => Listener::Unix(UnixListener::from(socket)),
            false => Listener::Tcp(TcpListener::from(socket)),
        };
        let (finished, told) = channel();
        let serving = cpus::roaming(|| (self.server)(listener, finished))?;
        ready()?;
        Ok(ServerHalf::Echo(Box::new(Answering { _serving: serving, told })))
    }
}

/// What every server does with a call's argument.
fn answer(finished: &Sender<()>, word: u64) -> u64 {
    if word == END {
        // Nobody waits any more where the process ends.
        let _ = finished.send(());
    }
    word
}

struct Answering {
    _serving: Serving,
    told: Receiver<()>,
}

impl EchoLoop for Answering {
    fn run(&mut self) -> Result<(), Fault> {
        self.told.recv().map_err(|_| Fault::PeerGone)
    }
}

impl Listener {
    /// For a runtime: nothing blocks.
    fn prepare(self) -> io::Result<Self> {
        match &self {
            Self::Tcp(listener) => listener.set_nonblocking(true),
            Self::Unix(listener) => listener.set_nonblocking(true),
        }?;
        Ok(self)
    }

    /// Where it is one of TCP.
    fn tcp(self) -> Result<TcpListener, Fault> {
        match self {
            Self::Tcp(listener) => Ok(listener),
            Self::Unix(_) => Err(Fault::Other("it listens at TCP only".into())),
        }
    }
}

impl Way {
    /// A connection by TCP, without delay, for a runtime.
    fn tcp(&self) -> Result<TcpStream, Fault> {
        const CONNECTING: &str = "connecting to the server";
        let Self::Tcp(address) = self else {
            return Err(Fault::Other("it connects by TCP only".into()));
        };
        let stream = TcpStream::connect(address).during(CONNECTING)?;
        stream.set_nodelay(true).during(CONNECTING)?;
        stream.set_nonblocking(true).during(CONNECTING)?;
        Ok(stream)
    }
}

/// A connection by Unix socket, for a runtime.
fn unix(address: &UnixAddr) -> io::Result<UnixStream> {
    let stream = UnixStream::connect_addr(address)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// The library's own error, as ours.
fn failed(what: &'static str, error: impl std::fmt::Display) -> Fault {
    Fault::Other(format!("{what} failed: {error}"))
}

/// Tokio's default runtime, as `#[tokio::main]` makes it.
fn runtime() -> Result<Runtime, Fault> {
    Runtime::new().during("starting a runtime")
}
