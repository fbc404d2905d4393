//! Two domains: each hands the other a buffer of its own, and gives the other's back.

use std::time::{Duration, Instant};

use unet::{
    AllocError, Channel, ConnectOptions, Delivery, FbufMut, Message, Offer, Pool, SendError,
};

use super::{
    END, HUGE_PAGE, LARGEST, Listener, MESSAGE, Mode, Upstream, address, check, closed, failed,
    geometry, number, unsent,
};
use crate::fault::Fault;
use crate::measure::halves::{Echo, EchoServer};
use crate::systems::unet::wait;
use crate::task::Task;

/// How long a buffer may stay with the peer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether as many huge pages are free as one process's segment takes.
pub fn huge_pages_left(payload: usize) -> bool {
    let pages = |name: &str| -> Option<usize> {
        let info = std::fs::read_to_string("/proc/meminfo").ok()?;
        info.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    };
    // Both sides have a segment, and each its control pages beside three buffers.
    let needed = 2 * (3 * payload.div_ceil(HUGE_PAGE) + 1);
    pages("HugePages_Free:").is_some_and(|free| free >= needed)
}

/// What messages of one size consist of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// One buffer.
    Buffer,
    /// One buffer, guarded while it is away.
    Guarded,
    /// Adjacent buffers.
    Run,
    /// A part for each buffer.
    Rope,
}

/// How messages of one size are handed over.
struct Parcel {
    bytes: usize,
    shape: Shape,
}

impl Parcel {
    fn new(task: &Task, mode: Mode) -> Self {
        let classes = geometry(mode, task.payload).classes;
        let fits = classes.iter().any(|class| class.buffer_bytes as usize >= task.payload);
        let shape = match mode {
            Mode::Guarded | Mode::GuardedHuge => Shape::Guarded,
            Mode::Rope => Shape::Rope,
            _ if fits => Shape::Buffer,
            _ => Shape::Run,
        };
        Self { bytes: task.payload, shape }
    }

    #[inline(always)]
    fn send(&self, channel: &mut Channel, sequence: u64) -> Result<(), Fault> {
        let fbuf = match self.shape {
            Shape::Rope => return self.send_rope(channel, sequence),
            Shape::Run => match channel.alloc_adjacent(self.bytes) {
                Some(fbuf) => fbuf,
                None => wait_for_run(channel, self.bytes)?,
            },
            Shape::Buffer | Shape::Guarded => match channel.alloc(self.bytes) {
                Ok(fbuf) => fbuf,
                Err(error) => wait_for_buffer(channel, self.bytes, error)?,
            },
        };
        if self.shape == Shape::Guarded {
            return send_guarded(channel, fbuf, sequence);
        }
        channel.send_fbuf(MESSAGE, fbuf.freeze(), &sequence.to_le_bytes()).map_err(unsent)
    }

    #[inline(never)]
    fn send_rope(&self, channel: &mut Channel, sequence: u64) -> Result<(), Fault> {
        let message = loop {
            match channel.with_pool(|pool| rope(pool, self.bytes)) {
                Ok(message) => break message,
                Err(AllocError::Exhausted) if channel.closed().is_none() => std::hint::spin_loop(),
                Err(error) => return Err(failed("allocating", &error)),
            }
        };
        send(channel, MESSAGE, message, sequence)
    }
}

/// A message of single buffers of the largest class.
fn rope(pool: &mut Pool, bytes: usize) -> Result<Message, AllocError> {
    let mut message = Message::new();
    while message.len() < bytes {
        message.append(pool.alloc((bytes - message.len()).min(LARGEST))?.into());
    }
    Ok(message)
}

/// Sends a message, waiting for room.
#[inline(always)]
pub fn send(channel: &mut Channel, tag: u16, message: Message, sequence: u64) -> Result<(), Fault> {
    channel.send_message(tag, message, &sequence.to_le_bytes()).map_err(unsent)
}

#[inline(always)]
fn send_guarded(channel: &mut Channel, fbuf: FbufMut, sequence: u64) -> Result<(), Fault> {
    match channel.try_send_guarded(MESSAGE, fbuf.freeze(), &sequence.to_le_bytes()) {
        Ok(Offer::Taken) => Ok(()),
        Ok(Offer::Full(_)) => Err(Fault::Other("the queue is full of one message".into())),
        Err(SendError::Closed(reason)) => Err(closed(reason)),
        Err(error) => Err(failed("guarding", &error)),
    }
}

#[cold]
fn wait_for_run(channel: &mut Channel, bytes: usize) -> Result<FbufMut, Fault> {
    let deadline = Instant::now() + PATIENCE;
    while channel.closed().is_none() && Instant::now() < deadline {
        channel.lent();
        if let Some(fbuf) = channel.alloc_adjacent(bytes) {
            return Ok(fbuf);
        }
    }
    channel.closed().map_or(Err(Fault::Silent), |reason| Err(closed(reason)))
}

#[cold]
fn wait_for_buffer(
    channel: &mut Channel,
    bytes: usize,
    error: AllocError,
) -> Result<FbufMut, Fault> {
    match error {
        AllocError::Exhausted => channel
            .alloc_timeout(bytes, PATIENCE)
            .map_err(|error| failed("allocating", &error))?
            .ok_or(Fault::Silent),
        other => Err(failed("allocating", &other)),
    }
}

/// Writes to every buffer of that size that there is, so that no page is touched first later.
fn touch(channel: &mut Channel, bytes: usize) {
    channel.with_pool(|pool| {
        let mut all = Vec::new();
        let bytes = bytes.min(pool.largest());
        while let Ok(mut fbuf) = pool.alloc(bytes) {
            fbuf.fill(1);
            all.push(fbuf);
        }
    });
}

/// The side that begins.
pub struct Client {
    channel: Channel,
    parcel: Parcel,
    delivery: Delivery,
    sequence: u64,
}

impl Client {
    /// Connects to the other.
    pub fn connect(task: &Task, mode: Mode) -> Result<Self, Fault> {
        let mut options = ConnectOptions::default();
        options.channel.wait = wait(task.wait);
        options.channel.geometry = geometry(mode, task.payload);
        let channel = Channel::connect(&address(task, 1)?, options);
        let mut channel = channel.map_err(|error| failed("connecting", &error))?;
        touch(&mut channel, task.payload);
        let parcel = Parcel::new(task, mode);
        Ok(Self { channel, parcel, delivery: Delivery::default(), sequence: 0 })
    }
}

impl Echo for Client {
    #[inline]
    fn round_trip(&mut self) -> Result<(), Fault> {
        self.sequence += 1;
        self.parcel.send(&mut self.channel, self.sequence)?;
        self.channel.recv_into(&mut self.delivery).map_err(closed)?;
        check(&self.delivery, self.sequence)?;
        if self.parcel.shape == Shape::Guarded {
            // Until it is back and can be written again.
            while self.channel.lent().0 > 0 {
                std::hint::spin_loop();
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Fault> {
        send(&mut self.channel, END, Message::new(), self.sequence)?;
        self.channel.recv_into(&mut self.delivery).map_err(closed)
    }

    fn copied(&mut self) -> u64 {
        self.channel.copied()
    }
}

/// The side that answers.
pub struct Mirror {
    upstream: Upstream,
    parcel: Parcel,
    delivery: Delivery,
}

impl Mirror {
    /// Accepts the other.
    pub fn accept(listener: Listener, task: &Task, mode: Mode) -> Result<Self, Fault> {
        let mut upstream = listener.accept()?;
        touch(upstream.channel()?, task.payload);
        Ok(Self { upstream, parcel: Parcel::new(task, mode), delivery: Delivery::default() })
    }
}

impl EchoServer for Mirror {
    #[inline]
    fn answer(&mut self) -> Result<bool, Fault> {
        self.upstream.receive(&mut self.delivery)?;
        let (tag, sequence) = (self.delivery.tag(), number(&self.delivery));
        let channel = self.upstream.channel()?;
        if tag == END || self.parcel.shape == Shape::Guarded {
            // Only the side that begins guards: the answer is one in a slot.
            drop(self.delivery.take_message());
            send(channel, tag, Message::new(), sequence)?;
            return Ok(tag != END);
        }
        // The buffer that came goes back when the next message is asked for.
        self.parcel.send(channel, sequence).map(|()| true)
    }

    fn copied(&mut self) -> u64 {
        self.upstream.copied()
    }
}
