//! Echo and one way over a channel that may lose messages.
//!
//! Sequence numbers go on from phase to phase, so that what comes late is known for what it is; the
//! message that ends a phase says how many were sent before it.

use std::time::{Duration, Instant};

use unet::{Arrival as Incoming, Channel, ChannelId, Delivery, Endpoint, Event};

use super::{parcel, words};
use crate::fault::Fault;
use crate::measure::halves::{Arrival, Echo, EchoServer, Receiver, Sender};
use crate::systems::unet::{END, Parcel, closed};
use crate::task::{Task, Wait};

/// How long a side waits for a message that may be lost.
const PATIENCE: Duration = Duration::from_secs(3);
/// Looks in vain between two at the clock: a look may be a system call.
const LOOKS: u32 = 1 << 14;

/// The client's half.
pub struct Client {
    channel: Channel,
    parcel: Parcel,
    message: Delivery,
    sequence: u64,
    spins: bool,
}

impl Client {
    /// Puts a channel to use.
    pub fn new(channel: Channel, task: &Task) -> Self {
        let spins = task.wait == Wait::Spin;
        Self { channel, parcel: parcel(task), message: Delivery::default(), sequence: 0, spins }
    }

    #[inline(always)]
    fn receive(&mut self) -> Result<(), Fault> {
        if self.spins {
            let mut begun: Option<Instant> = None;
            loop {
                for _ in 0..LOOKS {
                    if self.channel.try_recv_into(&mut self.message).map_err(closed)? {
                        return Ok(());
                    }
                    std::hint::spin_loop();
                }
                if begun.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                    return Err(Fault::Silent);
                }
            }
        }
        self.message = self.channel.recv_timeout(PATIENCE).map_err(closed)?.ok_or(Fault::Silent)?;
        Ok(())
    }
}

impl Echo for Client {
    #[inline]
    fn round_trip(&mut self) -> Result<(), Fault> {
        self.sequence += 1;
        self.parcel.send(&mut self.channel, self.sequence)?;
        self.receive()?;
        match Parcel::sequence(&self.message) {
            Some(found) if found == self.sequence => Ok(()),
            found => {
                Err(Fault::OutOfOrder { expected: self.sequence, found: found.unwrap_or_default() })
            }
        }
    }

    fn finish(&mut self) -> Result<(), Fault> {
        Parcel::send_end_after(&mut self.channel, self.sequence)?;
        self.receive()
    }
}

impl Sender for Client {
    fn begin(&mut self) {}

    #[inline]
    fn send(&mut self) -> Result<(), Fault> {
        self.parcel.send(&mut self.channel, self.sequence)?;
        self.sequence += 1;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Fault> {
        Parcel::send_end_after(&mut self.channel, self.sequence)
    }

    fn lossy(&self) -> bool {
        true
    }
}

/// The server's half.
pub struct Mirror {
    endpoint: Endpoint,
    parcel: Parcel,
    message: Delivery,
    /// How many were sent before this phase.
    begun: u64,
    expected: u64,
    lost: u64,
}

impl Mirror {
    /// Puts an endpoint to use that has its one channel.
    pub fn new(endpoint: Endpoint, task: &Task) -> Self {
        let (parcel, message) = (parcel(task), Delivery::default());
        Self { endpoint, parcel, message, begun: 0, expected: 0, lost: 0 }
    }

    #[inline(always)]
    fn next(&mut self) -> Result<ChannelId, Fault> {
        loop {
            match self.endpoint.recv_into(&mut self.message) {
                Incoming::Message(from) => return Ok(from),
                Incoming::Other => attend(&mut self.endpoint)?,
            }
        }
    }

    /// Counts on to a sequence number, if it is none that was counted before.
    #[inline(always)]
    fn count_to(&mut self, found: u64) {
        if found < self.expected {
            // It comes late, and was counted as lost.
            self.lost = self.lost.saturating_sub(1);
            return;
        }
        self.lost = self.lost.saturating_add(found - self.expected);
        self.expected = found.saturating_add(1);
    }
}

/// Deals with what is no message: a client is there already, and others are refused.
#[cold]
pub fn attend(endpoint: &mut Endpoint) -> Result<(), Fault> {
    match endpoint.take_event() {
        Some(Event::Closed(_, reason)) => return Err(closed(reason)),
        Some(Event::Incoming(stranger)) => endpoint.refuse(stranger, 0),
        Some(Event::Message(..)) | None => {}
    }
    Ok(())
}

impl EchoServer for Mirror {
    #[inline]
    fn answer(&mut self) -> Result<bool, Fault> {
        let from = self.next()?;
        let channel = self.endpoint.channel_mut(from).ok_or(Fault::PeerGone)?;
        // The message's buffer goes back when the next one is asked for.
        match Parcel::sequence(&self.message) {
            Some(sequence) => self.parcel.send(channel, sequence).map(|()| true),
            None => Parcel::send_end_after(channel, 0).map(|()| false),
        }
    }
}

impl Receiver for Mirror {
    fn begin(&mut self) -> Result<(), Fault> {
        (self.begun, self.lost) = (self.expected, 0);
        Ok(())
    }

    #[inline]
    fn receive(&mut self) -> Result<Arrival, Fault> {
        loop {
            self.next()?;
            if let Some(found) = Parcel::sequence(&self.message) {
                self.count_to(found);
                self.parcel.open(&self.message)?;
                return Ok(Arrival::Messages(1));
            }
            let word = words(&self.message).and_then(|words| words.first_chunk());
            let sent = word.map_or(self.expected, |word| u64::from_le_bytes(*word));
            // The last phase's end may come more than once. Each phase has a message, at least.
            if self.message.tag() == END && sent > self.begun {
                self.lost = self.lost.saturating_add(sent.saturating_sub(self.expected));
                self.expected = self.expected.max(sent);
                return Ok(Arrival::End);
            }
        }
    }

    fn lost(&self) -> u64 {
        self.lost
    }
}
