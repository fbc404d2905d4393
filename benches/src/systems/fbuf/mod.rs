//! Buffers handed over between domains: to one, along a path, secured, guarded, and read.
//!
//! The payload is filled when a connection is set up, and not touched afterwards but where that is
//! the question. The sequence number travels in the slot and is checked wherever it arrives.

use std::fmt::Display;
use std::os::fd::OwnedFd;

use unet::{
    Address, Arrival, Channel, ChannelId, Class, CloseReason, Delivery, Endpoint, EndpointOptions,
    Event, Geometry, Incoming, ListenOptions, SendError,
};

use crate::fault::Fault;
use crate::process::server::{Request, Server};
use crate::systems::unet::wait;
use crate::systems::{ClientHalf, Ready, Rival, ServerHalf, System};
use crate::task::{Bench, Task, Wait};

mod alone;
mod pair;
mod path;
mod read;
mod secured;
mod stream;

/// The tag of a message.
const MESSAGE: u16 = 0;
/// The tag of the message that ends a phase, and of its answer.
const END: u16 = 1;
/// The largest buffer of the default classes; larger messages are ropes.
const LARGEST: usize = 4 << 20;
/// Bytes of a huge page.
const HUGE_PAGE: usize = 2 << 20;

/// What is done with the buffers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Handed over, there and back.
    Volatile,
    /// The same, a message beyond the default classes as a rope of single buffers.
    Rope,
    /// Handed over one way, as many under way as there are buffers.
    Stream,
    /// The same, and the last domain reads all bytes.
    Read,
    /// Received and copied out of the originator's reach.
    Secured,
    /// Handed over with the originator's write access taken away, on pages of 4 KiB.
    Guarded,
    /// The same, on pages of 2 MiB.
    GuardedHuge,
}

/// One way to deal with buffers.
pub struct Fbufs {
    mode: Mode,
    name: &'static str,
    about: &'static str,
}

/// All of them.
pub fn all() -> impl Iterator<Item = &'static dyn System> {
    const fn one(mode: Mode, name: &'static str, about: &'static str) -> Fbufs {
        Fbufs { mode, name, about }
    }
    static ALL: [Fbufs; 7] = [
        one(Mode::Volatile, "fbuf/volatile", "buffers handed over, there and back"),
        one(Mode::Rope, "fbuf/rope", "the same, of 16 MiB in four parts"),
        one(Mode::Stream, "fbuf/stream", "buffers handed over one way, several under way"),
        one(Mode::Read, "fbuf/read", "the same, all bytes read by the last domain"),
        one(Mode::Secured, "fbuf/secured", "received buffers secured by a copy"),
        one(Mode::Guarded, "fbuf/guarded", "buffers guarded by mprotect(2), pages of 4 KiB"),
        one(Mode::GuardedHuge, "fbuf/guarded-huge", "buffers guarded, pages of 2 MiB"),
    ];
    ALL.iter().map(|system| system as &'static dyn System)
}

impl System for Fbufs {
    fn name(&self) -> &'static str {
        self.name
    }

    fn transport(&self) -> &'static str {
        "shm:"
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn payload(&self, _: Bench, asked: usize) -> usize {
        asked.max(size_of::<u64>())
    }

    fn answers(&self, bench: Bench) -> bool {
        bench == Bench::Fbuf
    }

    fn fits(&self, payload: usize) -> bool {
        match self.mode {
            Mode::Rope => payload > LARGEST,
            Mode::Volatile => true,
            Mode::GuardedHuge => (1 << 20..=LARGEST).contains(&payload),
            Mode::Stream | Mode::Read | Mode::Secured | Mode::Guarded => {
                (4 << 10..=LARGEST).contains(&payload)
            }
        }
    }

    fn refuses(&self, _: Bench, payload: usize, _: Wait) -> Option<String> {
        let huge = self.mode == Mode::GuardedHuge && !pair::huge_pages_left(payload);
        huge.then(|| "needs huge pages, such as `sysctl vm.nr_hugepages=16` sets aside".to_owned())
    }

    fn remark(&self, _: Bench, asked: usize) -> Option<String> {
        let buffers = asked.div_ceil(LARGEST);
        Some(match self.mode {
            Mode::Volatile if buffers > 1 => format!("{buffers} adjacent buffers of 4 MiB"),
            Mode::Volatile => return None,
            Mode::Rope => format!("rope of {buffers} buffers of 4 MiB"),
            Mode::Stream | Mode::Read => {
                format!("at most {} messages under way", stream::window(asked))
            }
            Mode::Secured => "the originator fills the buffer before each hand-off".to_owned(),
            Mode::Guarded => "the whole hand-off, guarded on pages of 4 KiB".to_owned(),
            Mode::GuardedHuge => "the whole hand-off, guarded on pages of 2 MiB".to_owned(),
        })
    }

    fn domains(&self) -> (usize, usize) {
        match self.mode {
            Mode::Volatile => (1, 4),
            Mode::Stream => (2, 4),
            Mode::Read => (2, 4),
            Mode::Rope | Mode::Secured | Mode::Guarded | Mode::GuardedHuge => (2, 2),
        }
    }

    fn hops(&self, domains: usize) -> usize {
        match self.mode {
            // From the producer's code to the consumer's.
            Mode::Volatile if domains == 1 => 1,
            Mode::Volatile | Mode::Rope => 2 * (domains - 1),
            Mode::Stream => domains - 1,
            // What counts is the rate at which messages are read.
            Mode::Read => 1,
            // There, and an answer in a slot, which is not what is asked for.
            Mode::Secured | Mode::Guarded | Mode::GuardedHuge => 1,
        }
    }

    fn counts_copies(&self) -> bool {
        true
    }

    fn rival(&self, task: &Task) -> Result<Option<Rival>, Fault> {
        match self.mode {
            Mode::Read => read::rival(task.payload).map(Some),
            Mode::Guarded | Mode::GuardedHuge => secured::rival(task.payload).map(Some),
            _ => Ok(None),
        }
    }

    fn client_along(&self, task: &Task, servers: &[Server]) -> Result<ClientHalf, Fault> {
        // Whoever is connected to must listen first; whoever connects does so when it is asked.
        for (at, server) in servers.iter().enumerate() {
            let task = Task { position: at + 1, ..task.clone() };
            server.ask(&Request::Open(task), &[])?;
            server.expect_ready()?;
        }
        let half = match (self.mode, task.domains) {
            (Mode::Volatile, 1) => ClientHalf::Echo(Box::new(alone::Alone::new(task)?)),
            (Mode::Volatile, 3..) => ClientHalf::Echo(Box::new(path::Source::connect(task)?)),
            (Mode::Volatile | Mode::Rope | Mode::Guarded | Mode::GuardedHuge, _) => {
                ClientHalf::Echo(Box::new(pair::Client::connect(task, self.mode)?))
            }
            (Mode::Stream | Mode::Read, _) => {
                ClientHalf::OneWay(Box::new(stream::Source::connect(task)?))
            }
            (Mode::Secured, _) => ClientHalf::Echo(Box::new(secured::Client::connect(task)?)),
        };
        for server in servers {
            server.expect_done()?;
        }
        Ok(half)
    }

    fn client(&self, task: &Task, server: &Server) -> Result<ClientHalf, Fault> {
        self.client_along(task, std::slice::from_ref(server))
    }

    fn server(&self, task: &Task, _: Vec<OwnedFd>, ready: Ready<'_>) -> Result<ServerHalf, Fault> {
        let listener = Listener::new(task, self.mode)?;
        ready()?;
        let last = task.position + 1 == task.domains;
        Ok(match self.mode {
            Mode::Volatile if task.domains > 2 && last => {
                ServerHalf::Echo(Box::new(path::Sink::accept(listener, task)?))
            }
            Mode::Volatile if task.domains > 2 => {
                ServerHalf::Echo(Box::new(path::Relay::accept(listener, task)?))
            }
            Mode::Volatile | Mode::Rope | Mode::Guarded | Mode::GuardedHuge => {
                ServerHalf::Echo(Box::new(pair::Mirror::accept(listener, task, self.mode)?))
            }
            Mode::Stream | Mode::Read if last => {
                let reads = self.mode == Mode::Read;
                ServerHalf::OneWay(Box::new(stream::Sink::accept(listener, task, reads)?))
            }
            Mode::Stream | Mode::Read => {
                ServerHalf::Echo(Box::new(stream::Relay::accept(listener, task)?))
            }
            Mode::Secured => ServerHalf::Echo(Box::new(secured::Writer::accept(listener, task)?)),
        })
    }
}

/// The address of one of the domains.
pub fn address(task: &Task, position: usize) -> Result<Address, Fault> {
    format!("shm:{}-{position}", task.rendezvous).parse().map_err(|error| failed("naming", &error))
}

/// A fault with the library's own words.
#[cold]
pub fn failed(what: &str, error: &dyn Display) -> Fault {
    Fault::Other(format!("{what} failed: {error}"))
}

/// A channel's end.
#[cold]
pub fn closed(reason: CloseReason) -> Fault {
    match reason {
        CloseReason::PeerClosed | CloseReason::PeerDied => Fault::PeerGone,
        other => failed("the channel", &other),
    }
}

/// Why a message was not sent.
#[cold]
pub fn unsent(error: SendError) -> Fault {
    match error {
        SendError::Closed(reason) => closed(reason),
        other => failed("sending", &other),
    }
}

/// The number that came in the slot, which must be the one that is due.
#[inline(always)]
fn check(delivery: &Delivery, expected: u64) -> Result<(), Fault> {
    match number(delivery) {
        found if found == expected => Ok(()),
        found => Err(Fault::OutOfOrder { expected, found }),
    }
}

#[inline(always)]
fn number(delivery: &Delivery) -> u64 {
    delivery.inline().first_chunk().map_or(u64::MAX, |word| u64::from_le_bytes(*word))
}

/// A geometry whose pool has one class, of huge pages, where it must have one, else the default.
fn geometry(mode: Mode, payload: usize) -> Geometry {
    let mut geometry = Geometry::default();
    if mode == Mode::GuardedHuge {
        let buffer_bytes = payload.next_multiple_of(HUGE_PAGE) as u32;
        geometry.huge_pages = true;
        geometry.classes = Default::default();
        geometry.classes[0] = Class { buffer_bytes, buffers: 3 };
    }
    geometry
}

/// An endpoint that waits for the domain before this one.
struct Listener {
    endpoint: Endpoint,
}

impl Listener {
    fn new(task: &Task, mode: Mode) -> Result<Self, Fault> {
        let options = EndpointOptions { wait: wait(task.wait), ..EndpointOptions::default() };
        let mut endpoint =
            Endpoint::new(options).map_err(|error| failed("making an endpoint", &error))?;
        let mut options = ListenOptions { regions: 7, ..ListenOptions::default() };
        options.channel.geometry = geometry(mode, task.payload);
        endpoint
            .listen(&address(task, task.position)?, options)
            .map_err(|error| failed("listening", &error))?;
        Ok(Self { endpoint })
    }

    /// The first client.
    fn incoming(&mut self) -> Result<Incoming, Fault> {
        match self.endpoint.recv() {
            Event::Incoming(incoming) => Ok(incoming),
            Event::Closed(_, reason) => Err(closed(reason)),
            _ => Err(Fault::PeerGone),
        }
    }

    /// Accepts it, with nothing further to hand over buffers of.
    fn accept(mut self) -> Result<Upstream, Fault> {
        let incoming = self.incoming()?;
        let id =
            self.endpoint.accept(incoming, &[]).map_err(|error| failed("accepting", &error))?;
        Ok(Upstream { endpoint: self.endpoint, id })
    }
}

/// The domain before this one, held by an endpoint, as a server holds its clients.
struct Upstream {
    endpoint: Endpoint,
    id: ChannelId,
}

impl Upstream {
    /// Waits for the next message.
    #[inline(always)]
    fn receive(&mut self, delivery: &mut Delivery) -> Result<(), Fault> {
        loop {
            match self.endpoint.recv_into(delivery) {
                Arrival::Message(_) => return Ok(()),
                Arrival::Other => self.attend()?,
            }
        }
    }

    /// Takes the next message if it is there.
    #[inline(always)]
    fn try_receive(&mut self, delivery: &mut Delivery) -> Result<bool, Fault> {
        match self.endpoint.try_recv_into(delivery) {
            Some(Arrival::Message(_)) => Ok(true),
            Some(Arrival::Other) => self.attend().map(|()| false),
            None => Ok(false),
        }
    }

    #[cold]
    fn attend(&mut self) -> Result<(), Fault> {
        match self.endpoint.take_event() {
            Some(Event::Closed(_, reason)) => return Err(closed(reason)),
            Some(Event::Incoming(stranger)) => self.endpoint.refuse(stranger, 0),
            _ => {}
        }
        Ok(())
    }

    #[inline(always)]
    fn channel(&mut self) -> Result<&mut Channel, Fault> {
        self.endpoint.channel_mut(self.id).ok_or(Fault::PeerGone)
    }

    fn copied(&mut self) -> u64 {
        self.channel().map_or(0, |channel| channel.copied())
    }
}
