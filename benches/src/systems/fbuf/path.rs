//! Three or four domains: a message visits all of them, and so does the answer on its way back.
//!
//! The first and the last domain have a pool each, mapped in all the others before the first message;
//! those between pass on what they were handed, by its descriptor.

use unet::{AllocError, Channel, ConnectOptions, Delivery, Message, Path, Pool, PoolOptions};

use super::pair::send;
use super::{END, LARGEST, Listener, MESSAGE, Upstream, address, check, closed, failed, number};
use crate::fault::Fault;
use crate::measure::halves::{Echo, EchoServer};
use crate::systems::unet::wait;
use crate::task::Task;

/// A pool with the default classes, whose buffers of that size are filled.
pub fn filled_pool(options: PoolOptions, bytes: usize) -> Result<Pool, Fault> {
    let pool = Pool::new(options);
    let mut pool = pool.map_err(|error| failed("making a pool", &error))?;
    let mut all = Vec::new();
    let bytes = bytes.min(pool.largest());
    while let Ok(mut fbuf) = pool.alloc(bytes) {
        for (at, word) in fbuf.chunks_exact_mut(8).enumerate() {
            word.copy_from_slice(&(at as u64).to_ne_bytes());
        }
        all.push(fbuf);
    }
    drop(all);
    Ok(pool)
}

/// A pool for messages of that size. Buffers come home a round later for each domain between: a rope's
/// class has enough for four rounds, so that nobody waits for them.
fn pool(task: &Task) -> Result<Pool, Fault> {
    let mut options = PoolOptions::default();
    if let Some(last) = options.classes.last_mut().filter(|_| task.payload > LARGEST) {
        last.buffers = 24;
    }
    filled_pool(options, task.payload)
}

/// Connects to the next domain, which maps the path's regions before it accepts.
pub fn connect(task: &Task, path: Path) -> Result<Channel, Fault> {
    let mut options = ConnectOptions { path, regions: 7, ..ConnectOptions::default() };
    options.channel.wait = wait(task.wait);
    Channel::connect(&address(task, task.position + 1)?, options)
        .map_err(|error| failed("connecting", &error))
}

/// A message of this domain's own; waits for the buffers to come back.
#[inline(always)]
pub fn allocate(
    pool: &mut Pool,
    channel: &mut Channel,
    bytes: usize,
    yields: bool,
) -> Result<Message, Fault> {
    loop {
        let message = match pool.message(0, bytes, |_| {}) {
            Ok(message) => return Ok(message),
            Err(error) => error,
        };
        match (message, channel.closed()) {
            (AllocError::Exhausted, None) => {
                // What was given back to the channel is the pool's again.
                channel.lent();
                if yields {
                    std::thread::yield_now();
                }
            }
            (_, Some(reason)) => return Err(closed(reason)),
            (error, None) => return Err(failed("allocating", &error)),
        }
    }
}

/// The first domain.
pub struct Source {
    channel: Channel,
    pool: Pool,
    delivery: Delivery,
    bytes: usize,
    sequence: u64,
}

impl Source {
    /// Connects the whole path.
    pub fn connect(task: &Task) -> Result<Self, Fault> {
        let pool = pool(task)?;
        let path = Path::of(&pool).map_err(|error| failed("making a path", &error))?;
        let channel = connect(task, path)?;
        let delivery = Delivery::default();
        Ok(Self { channel, pool, delivery, bytes: task.payload, sequence: 0 })
    }
}

impl Echo for Source {
    #[inline]
    fn round_trip(&mut self) -> Result<(), Fault> {
        self.sequence += 1;
        let message = allocate(&mut self.pool, &mut self.channel, self.bytes, true)?;
        send(&mut self.channel, MESSAGE, message, self.sequence)?;
        self.channel.recv_into(&mut self.delivery).map_err(closed)?;
        check(&self.delivery, self.sequence)
    }

    fn finish(&mut self) -> Result<(), Fault> {
        send(&mut self.channel, END, Message::new(), self.sequence)?;
        self.channel.recv_into(&mut self.delivery).map_err(closed)
    }

    fn copied(&mut self) -> u64 {
        self.channel.copied() + self.pool.copied()
    }
}

/// A domain between two others.
pub struct Relay {
    upstream: Upstream,
    downstream: Channel,
    delivery: Delivery,
    back: Delivery,
}

impl Relay {
    /// Connects to the next domain with the path of the last one, and then accepts that.
    pub fn accept(mut listener: Listener, task: &Task) -> Result<Self, Fault> {
        let mut incoming = listener.incoming()?;
        let path = incoming.path().map_err(|error| failed("mapping the path", &error))?.clone();
        let downstream = connect(task, path)?;
        let id = listener
            .endpoint
            .accept_along(incoming, &[], downstream.path())
            .map_err(|error| failed("accepting", &error))?;
        let upstream = Upstream { endpoint: listener.endpoint, id };
        let (delivery, back) = (Delivery::default(), Delivery::default());
        Ok(Self { upstream, downstream, delivery, back })
    }
}

impl EchoServer for Relay {
    #[inline]
    fn answer(&mut self) -> Result<bool, Fault> {
        self.upstream.receive(&mut self.delivery)?;
        let (tag, sequence) = (self.delivery.tag(), number(&self.delivery));
        send(&mut self.downstream, tag, self.delivery.take_message(), sequence)?;
        self.downstream.recv_into(&mut self.back).map_err(closed)?;
        let back = self.back.take_message();
        let channel = self.upstream.channel()?;
        send(channel, tag, back, sequence)?;
        // What either side gave back goes back to where it came from.
        channel.lent();
        self.downstream.lent();
        Ok(tag != END)
    }

    fn copied(&mut self) -> u64 {
        self.upstream.copied() + self.downstream.copied()
    }
}

/// The last domain.
pub struct Sink {
    upstream: Upstream,
    pool: Pool,
    delivery: Delivery,
    bytes: usize,
}

impl Sink {
    /// Accepts the one before it.
    pub fn accept(mut listener: Listener, task: &Task) -> Result<Self, Fault> {
        let pool = pool(task)?;
        let path = Path::of(&pool).map_err(|error| failed("making a path", &error))?;
        let incoming = listener.incoming()?;
        let id = listener
            .endpoint
            .accept_along(incoming, &[], &path)
            .map_err(|error| failed("accepting", &error))?;
        let upstream = Upstream { endpoint: listener.endpoint, id };
        Ok(Self { upstream, pool, delivery: Delivery::default(), bytes: task.payload })
    }
}

impl EchoServer for Sink {
    #[inline]
    fn answer(&mut self) -> Result<bool, Fault> {
        self.upstream.receive(&mut self.delivery)?;
        let (tag, sequence) = (self.delivery.tag(), number(&self.delivery));
        let channel = self.upstream.channel()?;
        if tag == END {
            return send(channel, END, Message::new(), sequence).map(|()| false);
        }
        if self.delivery.message().len() != self.bytes {
            return Err(Fault::Other("a message has another length than it had".into()));
        }
        let message = allocate(&mut self.pool, channel, self.bytes, true)?;
        send(channel, MESSAGE, message, sequence).map(|()| true)
    }

    fn copied(&mut self) -> u64 {
        self.upstream.copied() + self.pool.copied()
    }
}
