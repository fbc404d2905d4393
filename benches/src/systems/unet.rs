//! U-Net: a channel through shared memory, taken as a user takes it, with its default geometry.
//!
//! What fits into a slot travels there; what does not is handed over as a buffer, whose bytes
//! nobody touches except for `bandwidth`, where they are copied in and out. The sequence number is
//! the first word in the slot; a tag marks the message that ends a phase.

use std::os::fd::OwnedFd;
use std::time::Duration;

use unet::{
    Address, AllocError, Arrival as Incoming, Channel, ChannelId, CloseReason, ConnectOptions,
    Delivery, Endpoint, EndpointOptions, Event, ListenOptions, MAX_INLINE, Offer, SendError,
};

use crate::fault::Fault;
use crate::measure::halves::{Arrival, Echo, EchoServer, Receiver, Sender};
use crate::process::server::{Request, Server};
use crate::systems::{ClientHalf, Ready, ServerHalf, System};
use crate::task::{Bench, Task, Wait};

/// Our own endpoints and channels.
pub struct Unet;

/// The tag of a message.
const MESSAGE: u16 = 0;
/// The tag of the message that ends a phase.
pub const END: u16 = 1;
/// How long a buffer may stay with the peer.
const PATIENCE: Duration = Duration::from_secs(5);

impl System for Unet {
    fn name(&self) -> &'static str {
        "unet"
    }

    fn transport(&self) -> &'static str {
        "shm:"
    }

    fn about(&self) -> &'static str {
        "U-Net channels: slots, and buffers handed over"
    }

    fn payload(&self, bench: Bench, asked: usize) -> usize {
        // Beside buffers it is the smallest message that they are compared with.
        let asked = if bench == Bench::Fbuf { 0 } else { asked };
        asked.max(size_of::<u64>())
    }

    fn answers(&self, bench: Bench) -> bool {
        !matches!(bench, Bench::Sweep | Bench::Beside)
    }

    fn refuses(&self, _: Bench, _: usize, _: Wait) -> Option<String> {
        None
    }

    fn remark(&self, bench: Bench, asked: usize) -> Option<String> {
        let payload = self.payload(bench, asked);
        match bench {
            Bench::NullRpc | Bench::Scale => {
                Some(format!("a channel has no procedures: a message of {payload} bytes, echoed"))
            }
            Bench::Fbuf => Some("unet: half of a round trip in slots, no buffers".to_owned()),
            Bench::Rtt if payload > MAX_INLINE => {
                Some("unet: buffers are handed over, their bytes not touched".to_owned())
            }
            _ => None,
        }
    }

    fn client(&self, task: &Task, server: &Server) -> Result<ClientHalf, Fault> {
        server.ask(&Request::Open(task.clone()), &[])?;
        server.expect_ready()?;
        let connect = || {
            let mut options = ConnectOptions::default();
            options.channel.wait = wait(task.wait);
            Channel::connect(&address(task)?, options)
                .map_err(|error| Fault::Other(format!("connecting failed: {error}")))
        };
        let channel = connect()?;
        let idle = (0..task.idle_bindings).map(|_| connect()).collect::<Result<_, _>>()?;
        server.expect_done()?;
        let message = Delivery::default();
        let client =
            Client { channel, parcel: Parcel::new(task), message, sequence: 0, _idle: idle };
        Ok(match task.bench.one_way() {
            true => ClientHalf::OneWay(Box::new(client)),
            false => ClientHalf::Echo(Box::new(client)),
        })
    }

    fn server(&self, task: &Task, _: Vec<OwnedFd>, ready: Ready<'_>) -> Result<ServerHalf, Fault> {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            Fault::Other(format!("{what} failed: {error}"))
        };
        let options = EndpointOptions { wait: wait(task.wait), ..EndpointOptions::default() };
        let mut endpoint =
            Endpoint::new(options).map_err(|error| failed("making an endpoint", &error))?;
        endpoint
            .listen(&address(task)?, ListenOptions::default())
            .map_err(|error| failed("listening", &error))?;
        ready()?;
        let mut accepted = 0;
        while accepted <= task.idle_bindings {
            match endpoint.recv() {
                Event::Incoming(incoming) => {
                    endpoint.accept(incoming, &[]).map_err(|error| failed("accepting", &error))?;
                    accepted += 1;
                }
                Event::Closed(_, reason) => return Err(closed(reason)),
                _ => {}
            }
        }
        let message = Delivery::default();
        let mirror = Mirror { endpoint, parcel: Parcel::new(task), message, expected: 0 };
        Ok(match task.bench.one_way() {
            true => ServerHalf::OneWay(Box::new(mirror)),
            false => ServerHalf::Echo(Box::new(mirror)),
        })
    }
}

fn address(task: &Task) -> Result<Address, Fault> {
    format!("shm:{}", task.rendezvous)
        .parse()
        .map_err(|error| Fault::Other(format!("the rendezvous is no address: {error}")))
}

/// Our way of waiting, for one of our own systems.
pub fn wait(wait: Wait) -> unet::Wait {
    match wait {
        Wait::Spin => unet::Wait::Spin,
        Wait::Adaptive => unet::Wait::Adaptive,
        Wait::Park => unet::Wait::Park,
    }
}

/// Tells why a channel closed.
#[cold]
pub fn closed(reason: CloseReason) -> Fault {
    match reason {
        CloseReason::PeerClosed | CloseReason::PeerDied => Fault::PeerGone,
        other => Fault::Other(format!("the channel closed: {other}")),
    }
}

/// Tells why a message was not sent.
#[cold]
pub fn unsent(error: SendError) -> Fault {
    match error {
        SendError::Closed(reason) => closed(reason),
        other => Fault::Other(format!("sending failed: {other}")),
    }
}

/// Tells why no buffer was to be had.
#[cold]
fn unallocated(error: AllocError) -> Fault {
    Fault::Other(format!("no buffer: {error}"))
}

/// How messages of one size are sent and looked at.
pub struct Parcel {
    /// A message that fits into a slot, or empty.
    inline: Vec<u8>,
    /// The size of a buffer, or zero.
    buffer: usize,
    /// Private memory that buffers are filled from and copied to.
    content: Option<Vec<u8>>,
}

impl Parcel {
    /// For messages of the task's size.
    pub fn new(task: &Task) -> Self {
        let fits = task.payload <= MAX_INLINE;
        Self {
            inline: vec![0; if fits { task.payload } else { 0 }],
            buffer: if fits { 0 } else { task.payload },
            content: (!fits && task.bench == Bench::Bandwidth).then(|| vec![1; task.payload]),
        }
    }

    /// Sends one message, waiting for room.
    #[inline(always)]
    pub fn send(&mut self, channel: &mut Channel, sequence: u64) -> Result<(), Fault> {
        if self.buffer > 0 {
            return self.hand_over(channel, sequence);
        }
        if let Some(first) = self.inline.first_chunk_mut() {
            *first = sequence.to_le_bytes();
        }
        channel.send(&self.inline).map_err(unsent)
    }

    #[inline]
    fn hand_over(&mut self, channel: &mut Channel, sequence: u64) -> Result<(), Fault> {
        let mut fbuf = match channel.alloc(self.buffer) {
            Ok(fbuf) => fbuf,
            Err(AllocError::Exhausted) => channel
                .alloc_timeout(self.buffer, PATIENCE)
                .map_err(unallocated)?
                .ok_or(Fault::Silent)?,
            Err(error) => return Err(unallocated(error)),
        };
        if let Some(content) = &self.content {
            fbuf.copy_from_slice(content);
        }
        channel.send_fbuf(MESSAGE, fbuf.freeze(), &sequence.to_le_bytes()).map_err(unsent)
    }

    /// Sends the message that ends a phase.
    fn send_end(channel: &mut Channel) -> Result<(), Fault> {
        Self::send_end_after(channel, 0)
    }

    /// As [`Self::send_end`], with how many messages were sent before.
    pub fn send_end_after(channel: &mut Channel, sent: u64) -> Result<(), Fault> {
        let word = sent.to_le_bytes();
        while channel.try_send_tagged(END, &word).map_err(unsent)? == Offer::Full(()) {
            std::thread::yield_now();
        }
        Ok(())
    }

    /// The sequence number of a message, or none where it ends a phase.
    #[inline(always)]
    pub fn sequence(message: &Delivery) -> Option<u64> {
        let first = message.inline().first_chunk()?;
        Some(u64::from_le_bytes(*first)).filter(|_| message.tag() != END)
    }

    /// Copies a buffer's bytes out, where that is the question.
    #[inline(always)]
    pub fn open(&mut self, message: &Delivery) -> Result<(), Fault> {
        if let Some(content) = &mut self.content {
            let copied = message.fbuf().is_some_and(|fbuf| fbuf.copy_to(0, content).is_ok());
            if !copied {
                return Err(Fault::Other("a message came without its buffer".into()));
            }
            std::hint::black_box(content);
        }
        Ok(())
    }
}

struct Client {
    channel: Channel,
    parcel: Parcel,
    message: Delivery,
    sequence: u64,
    _idle: Vec<Channel>,
}

impl Echo for Client {
    #[inline]
    fn round_trip(&mut self) -> Result<(), Fault> {
        self.sequence += 1;
        self.parcel.send(&mut self.channel, self.sequence)?;
        self.channel.recv_into(&mut self.message).map_err(closed)?;
        let found = Parcel::sequence(&self.message);
        match found {
            Some(found) if found == self.sequence => Ok(()),
            found => {
                Err(Fault::OutOfOrder { expected: self.sequence, found: found.unwrap_or_default() })
            }
        }
    }

    fn finish(&mut self) -> Result<(), Fault> {
        Parcel::send_end(&mut self.channel)?;
        self.channel.recv_into(&mut self.message).map_err(closed)
    }
}

impl Sender for Client {
    fn begin(&mut self) {
        self.sequence = 0;
    }

    #[inline]
    fn send(&mut self) -> Result<(), Fault> {
        self.parcel.send(&mut self.channel, self.sequence)?;
        self.sequence += 1;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Fault> {
        Parcel::send_end(&mut self.channel)
    }

    fn lossy(&self) -> bool {
        false
    }
}

struct Mirror {
    endpoint: Endpoint,
    parcel: Parcel,
    message: Delivery,
    expected: u64,
}

impl Mirror {
    /// Waits until the next message is in its place.
    #[inline(always)]
    fn next(&mut self) -> Result<ChannelId, Fault> {
        loop {
            match self.endpoint.recv_into(&mut self.message) {
                Incoming::Message(from) => return Ok(from),
                Incoming::Other => self.attend()?,
            }
        }
    }

    /// Deals with what is no message.
    #[cold]
    fn attend(&mut self) -> Result<(), Fault> {
        match self.endpoint.take_event() {
            Some(Event::Closed(_, reason)) => return Err(closed(reason)),
            Some(Event::Incoming(stranger)) => self.endpoint.refuse(stranger, 0),
            _ => {}
        }
        Ok(())
    }
}

impl EchoServer for Mirror {
    #[inline]
    fn answer(&mut self) -> Result<bool, Fault> {
        let from = self.next()?;
        let channel = self.endpoint.channel_mut(from).ok_or(Fault::PeerGone)?;
        // The message's buffer goes back when the next one is asked for.
        match Parcel::sequence(&self.message) {
            Some(sequence) => self.parcel.send(channel, sequence).map(|()| true),
            None => Parcel::send_end(channel).map(|()| false),
        }
    }
}

impl Receiver for Mirror {
    fn begin(&mut self) -> Result<(), Fault> {
        self.expected = 0;
        Ok(())
    }

    #[inline]
    fn receive(&mut self) -> Result<Arrival, Fault> {
        self.next()?;
        match Parcel::sequence(&self.message) {
            None => return Ok(Arrival::End),
            Some(found) if found == self.expected => self.expected += 1,
            Some(found) => return Err(Fault::OutOfOrder { expected: self.expected, found }),
        }
        self.parcel.open(&self.message)?;
        Ok(Arrival::Messages(1))
    }

    fn lost(&self) -> u64 {
        0
    }
}
