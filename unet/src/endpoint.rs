//! An endpoint: many channels and listeners, received from at the cost of the active ones.
//!
//! Every look takes a message from the next active channel in turn, and glances at one quiet channel.
//! A channel that yields nothing for a while becomes quiet; one that was glanced at in time, or whose
//! doorbell rang, becomes active. Before it parks, the endpoint arms the doorbells that are not
//! armed yet; quiet ones stay armed from the last time. So both a look and a park cost O(active).

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::io::Errno;
use segment::control::{BindError, Listener};
use segment::counters::{Counter, Counters};
use segment::memory::CreateError;
use segment::wait::{LOOKS, Pulse, Step, Wait, Waiter};

use crate::channel::{Channel, CloseReason};
use crate::handshake::{
    AcceptError, ConnectError, ConnectOptions, Incoming, ListenOptions, connect,
};
use crate::listening::Listening;
use crate::readiness::{Readiness, Source};
use crate::{Address, Message};

/// How an endpoint is built.
#[derive(Clone, Copy, Debug)]
pub struct EndpointOptions {
    /// How its thread waits.
    pub wait: Wait,
    /// How many channels it holds at most; further clients are refused.
    pub max_channels: usize,
}

impl Default for EndpointOptions {
    fn default() -> Self {
        Self { wait: Wait::default(), max_channels: 4096 }
    }
}

/// Names a channel of an endpoint. A closed channel's id is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChannelId {
    index: u32,
    generation: u32,
}

impl ChannelId {
    /// A small number, unique among the endpoint's channels of the moment.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// What an endpoint receives.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // The large one is the frequent one.
pub enum Event {
    /// A message on a channel.
    Message(ChannelId, Message),
    /// A client asks to be accepted.
    Incoming(Incoming),
    /// A channel is closed, and everything that came on it has been received. Its id means nothing
    /// any more.
    Closed(ChannelId, CloseReason),
}

/// What arrived, where the message itself was received into one of the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// A message, on this channel.
    Message(ChannelId),
    /// Something else: [`Endpoint::take_event`] has it.
    Other,
}

/// Why an endpoint could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// The page of counters could not be made.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The kernel refused.
    #[error("the kernel refused to make an endpoint: {0}")]
    Kernel(Errno),
}

/// Why a name could not be listened at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The name could not be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The geometry is out of its bounds.
    #[error("the geometry of the channels is out of its bounds")]
    Geometry,
    /// The kernel refused.
    #[error("the kernel refused to watch the name: {0}")]
    Kernel(Errno),
}

struct Entry {
    generation: u32,
    channel: Option<Channel>,
    vain_looks: u32,
    place: Place,
    armed: bool,
    /// Whether it is in the endpoint's list of the unarmed.
    unarmed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Active,
    Quiet,
}

/// Vain looks after which a channel counts as quiet, if others are active.
const QUIET_AFTER: u32 = 4096;

/// Looks at the one active channel between two glances at quiet ones.
const LOOKS_BEFORE_GLANCE: u32 = 4;

/// Channels and listeners of one thread.
pub struct Endpoint {
    entries: Vec<Entry>,
    vacant: Vec<u32>,
    active: Vec<u32>,
    quiet: Vec<u32>,
    /// Channels that fell quiet since the last park, each once.
    unarmed: Vec<u32>,
    turn: usize,
    glance: usize,
    pub(crate) listening: Listening,
    pub(crate) readiness: Readiness,
    ready: Vec<Source>,
    pub(crate) events: VecDeque<Event>,
    pulse: Pulse,
    asleep: bool,
    wait: Wait,
    max_channels: usize,
    pub(crate) counters: Counters,
}

impl Endpoint {
    /// Makes an endpoint without channels.
    ///
    /// # Errors
    /// [`EndpointError`] when memory or descriptors are short.
    pub fn new(options: EndpointOptions) -> Result<Self, EndpointError> {
        Ok(Self {
            entries: Vec::new(),
            vacant: Vec::new(),
            active: Vec::new(),
            quiet: Vec::new(),
            unarmed: Vec::new(),
            turn: 0,
            glance: 0,
            listening: Listening::default(),
            readiness: Readiness::new().map_err(|errno| match errno {
                Errno::MFILE | Errno::NFILE => CreateError::OutOfDescriptors.into(),
                other => EndpointError::Kernel(other),
            })?,
            ready: Vec::new(),
            events: VecDeque::new(),
            pulse: Pulse::default(),
            asleep: false,
            wait: options.wait,
            max_channels: options.max_channels,
            counters: Counters::of_endpoint()?,
        })
    }

    /// Binds a name; clients that ask for it arrive as [`Event::Incoming`]. Held until the endpoint
    /// is dropped, or its process ends in whatever way.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn listen(&mut self, address: &Address, options: ListenOptions) -> Result<(), ListenError> {
        if !options.channel.geometry.is_valid() {
            return Err(ListenError::Geometry);
        }
        let Address::Shm(name) = address;
        let listener = Listener::bind(name)?;
        self.listening.add(listener, options, &self.readiness).map_err(ListenError::Kernel)
    }

    /// Connects to a listener, and holds the channel. Waits until the listener has decided: not for
    /// a name of this same thread.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn connect(
        &mut self,
        address: &Address,
        mut options: ConnectOptions,
    ) -> Result<ChannelId, ConnectError> {
        options.channel.wait = self.wait;
        let channel = connect(address, options)?;
        self.adopt(channel).map_err(ConnectError::from)
    }

    /// Accepts a client; `private` goes back to it with the welcome.
    ///
    /// # Errors
    /// [`AcceptError`]; the client is refused then, and the refusal counted.
    pub fn accept(&mut self, incoming: Incoming, private: &[u8]) -> Result<ChannelId, AcceptError> {
        let accepted = incoming
            .accept(self.wait, private)
            .and_then(|channel| self.adopt(channel).map_err(AcceptError::Kernel));
        if let Err(error) = &accepted {
            self.counters.add(
                match error {
                    AcceptError::Segment(_) => Counter::RefusedSegment,
                    AcceptError::PeerGone => Counter::HandshakeFailed,
                    _ => Counter::RefusedResources,
                },
                1,
            );
        }
        accepted
    }

    /// Refuses a client, with a code.
    pub fn refuse(&mut self, incoming: Incoming, code: u32) {
        self.counters.add(Counter::RefusedByApplication, 1);
        incoming.refuse(code);
    }

    fn adopt(&mut self, channel: Channel) -> Result<ChannelId, Errno> {
        let index = self.vacant.pop().unwrap_or_else(|| {
            self.entries.push(Entry {
                generation: 0,
                channel: None,
                vain_looks: 0,
                place: Place::Active,
                armed: false,
                unarmed: false,
            });
            (self.entries.len() - 1) as u32
        });
        let watched =
            self.readiness.watch(channel.socket(), Source::Socket(index)).and_then(|()| {
                channel
                    .pidfd()
                    .map_or(Ok(()), |pidfd| self.readiness.watch(pidfd, Source::Death(index)))
            });
        if let Err(errno) = watched {
            self.vacant.push(index);
            return Err(errno);
        }
        let entry = &mut self.entries[index as usize];
        entry.channel = Some(channel);
        entry.place = Place::Active;
        entry.vain_looks = 0;
        entry.armed = false;
        self.active.push(index);
        Ok(ChannelId { index, generation: entry.generation })
    }

    /// A channel, to send on. `None` once it is closed and [`Event::Closed`] was received.
    ///
    /// # Cost
    /// A few loads; a store where the channel was quiet and is active from now on.
    #[inline(always)]
    pub fn channel_mut(&mut self, id: ChannelId) -> Option<&mut Channel> {
        let entry = self.entries.get(id.index as usize)?;
        if entry.generation != id.generation {
            return None;
        }
        if entry.armed {
            // The caller may wait on the channel itself, which disarms it.
            self.rouse(id.index);
        }
        self.entries[id.index as usize].channel.as_mut()
    }

    /// Closes a channel. What it had received and nobody took is dropped and counted.
    pub fn close(&mut self, id: ChannelId) {
        if let Some(channel) = self.channel_mut(id) {
            let mut lost = 0;
            let bound = 1 << 16;
            let mut message = Message::default();
            while lost < bound && matches!(channel.pop(&mut message), Ok(true)) {
                lost += 1;
            }
            self.counters.add(Counter::LostAtClose, lost);
            self.remove(id.index);
        }
    }

    fn remove(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        let Some(channel) = entry.channel.take() else { return };
        self.readiness.forget(channel.socket());
        if let Some(pidfd) = channel.pidfd() {
            self.readiness.forget(pidfd);
        }
        let list = if entry.place == Place::Active { &mut self.active } else { &mut self.quiet };
        list.retain(|other| *other != index);
        // An id that would repeat is retired with its entry.
        if let Some(next) = entry.generation.checked_add(1) {
            entry.generation = next;
            self.vacant.push(index);
        }
    }

    /// How many channels there are.
    pub fn channels(&self) -> usize {
        self.active.len() + self.quiet.len()
    }

    /// Whether another client could be accepted, if those that are not decided on were.
    pub(crate) fn has_space(&self, undecided: usize) -> bool {
        self.channels() + undecided < self.max_channels
    }

    /// The endpoint's own counters: refused and failed connections. Each channel has its own.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Takes the next event, if there is one.
    ///
    /// # Cost
    /// A cache line for each active channel until one has a message, one more for a quiet one. Every
    /// two milliseconds, one system call.
    #[inline(always)]
    pub fn try_recv(&mut self) -> Option<Event> {
        let mut message = Message::default();
        match self.try_recv_into(&mut message)? {
            Arrival::Message(id) => Some(Event::Message(id, message)),
            Arrival::Other => self.take_event(),
        }
    }

    /// As [`Endpoint::try_recv`], with a message received into one of the caller's: the fastest way,
    /// for nothing is moved.
    ///
    /// # Cost
    /// As [`Endpoint::try_recv`].
    #[inline(always)]
    pub fn try_recv_into(&mut self, message: &mut Message) -> Option<Arrival> {
        if let Some(arrival) = self.look(message) {
            return Some(arrival);
        }
        if self.pulse.tick() || self.asleep {
            self.asleep = false;
            self.service(Some(Duration::ZERO));
            return self.look(message);
        }
        None
    }

    /// Takes an event that is no message: see [`Arrival::Other`].
    pub fn take_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    #[inline(always)]
    fn look(&mut self, message: &mut Message) -> Option<Arrival> {
        if !self.events.is_empty() {
            return Some(Arrival::Other);
        }
        for _ in 0..self.active.len() {
            if self.turn >= self.active.len() {
                self.turn = 0;
            }
            let index = self.active[self.turn];
            self.turn += 1;
            let entry = &mut self.entries[index as usize];
            let Some(channel) = entry.channel.as_mut() else { continue };
            match channel.pop(message) {
                Ok(true) => {
                    entry.vain_looks = 0;
                    let generation = entry.generation;
                    if self.pulse.tick() {
                        self.service(Some(Duration::ZERO));
                    }
                    return Some(Arrival::Message(ChannelId { index, generation }));
                }
                Ok(false) => {
                    entry.vain_looks += 1;
                    if entry.vain_looks > QUIET_AFTER && self.active.len() > 1 {
                        self.rest(index);
                    }
                }
                Err(reason) => {
                    self.closed(index, reason);
                    return Some(Arrival::Other);
                }
            }
        }
        self.glance();
        None
    }

    #[cold]
    fn closed(&mut self, index: u32, reason: CloseReason) {
        let id = ChannelId { index, generation: self.entries[index as usize].generation };
        self.remove(index);
        self.events.push_back(Event::Closed(id, reason));
    }

    /// Looks at one quiet channel.
    #[inline(always)]
    fn glance(&mut self) {
        if self.quiet.is_empty() {
            return;
        }
        self.glance += 1;
        if self.glance >= self.quiet.len() {
            self.glance = 0;
        }
        let index = self.quiet[self.glance];
        let channel = self.entries[index as usize].channel.as_ref();
        if channel.is_some_and(Channel::is_ready) {
            self.rouse(index);
        }
    }

    #[cold]
    fn rest(&mut self, index: u32) {
        self.active.retain(|other| *other != index);
        let entry = &mut self.entries[index as usize];
        entry.place = Place::Quiet;
        self.quiet.push(index);
        if !entry.unarmed {
            entry.unarmed = true;
            self.unarmed.push(index);
        }
    }

    #[cold]
    fn rouse(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        entry.vain_looks = 0;
        if entry.armed
            && let Some(channel) = &mut entry.channel
        {
            channel.sleeper.disarm();
            entry.armed = false;
        }
        if entry.place == Place::Quiet {
            entry.place = Place::Active;
            self.quiet.retain(|other| *other != index);
            self.active.push(index);
        }
    }

    /// Takes the next event; waits for it by the endpoint's wait strategy.
    ///
    /// # Cost
    /// While messages come quickly, or the strategy is to spin: no system call but one every two
    /// milliseconds.
    #[inline(always)]
    pub fn recv(&mut self) -> Event {
        let mut message = Message::default();
        loop {
            match self.recv_into(&mut message) {
                Arrival::Message(id) => return Event::Message(id, message),
                Arrival::Other => {}
            }
            if let Some(event) = self.take_event() {
                return event;
            }
        }
    }

    /// As [`Endpoint::recv`], with a message received into one of the caller's.
    ///
    /// # Cost
    /// As [`Endpoint::recv`].
    #[inline(always)]
    pub fn recv_into(&mut self, message: &mut Message) -> Arrival {
        if let Some(arrival) = self.try_recv_into(message) {
            return arrival;
        }
        loop {
            if let Some(arrival) = self.recv_waiting(message, None) {
                return arrival;
            }
        }
    }

    /// As [`Endpoint::recv`]; `None` if nothing came in time.
    ///
    /// # Cost
    /// As [`Endpoint::recv`], and a look at the clock.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Option<Event> {
        let mut message = Message::default();
        match self.recv_timeout_into(&mut message, timeout)? {
            Arrival::Message(id) => Some(Event::Message(id, message)),
            Arrival::Other => self.take_event(),
        }
    }

    /// As [`Endpoint::recv_into`]; `None` if nothing came in time.
    ///
    /// # Cost
    /// As [`Endpoint::recv`], and a look at the clock.
    pub fn recv_timeout_into(
        &mut self,
        message: &mut Message,
        timeout: Duration,
    ) -> Option<Arrival> {
        match self.try_recv_into(message) {
            Some(arrival) => Some(arrival),
            None => self.recv_waiting(message, Some(timeout)),
        }
    }

    #[inline(always)]
    fn recv_waiting(
        &mut self,
        message: &mut Message,
        timeout: Option<Duration>,
    ) -> Option<Arrival> {
        let mut waiter = Waiter::new(self.wait, self.shares_core(), timeout);
        loop {
            // The one active channel is looked at most; each quiet one is still glanced at in time.
            let looks = if self.quiet.is_empty() { LOOKS } else { LOOKS_BEFORE_GLANCE };
            let hot = match self.active[..] {
                [index] => self.entries[index as usize].channel.as_ref(),
                _ => None,
            };
            let step = match hot {
                Some(channel) => waiter.step(looks, || channel.is_ready()),
                None => waiter.step(1, || false),
            };
            match step {
                Step::Again => {}
                Step::Park => self.park(waiter.remaining()),
                Step::TimedOut => return None,
            }
            if let Some(arrival) = self.try_recv_into(message) {
                return Some(arrival);
            }
        }
    }

    /// Whether the peer that is most likely to speak next runs on this thread's core.
    #[inline(always)]
    fn shares_core(&mut self) -> bool {
        let Some(index) = self.active.get(self.turn.saturating_sub(1)) else { return false };
        let channel = self.entries[*index as usize].channel.as_mut();
        channel.is_some_and(|channel| channel.cores.shared())
    }

    fn park(&mut self, timeout: Option<Duration>) {
        if self.arm() {
            // A connecting client that says nothing must be let go in time.
            let patience = self.listening.patience();
            let timeout = match (timeout, patience) {
                (Some(timeout), Some(patience)) => Some(timeout.min(patience)),
                (timeout, patience) => timeout.or(patience),
            };
            self.service(timeout);
            self.asleep = false;
        }
    }

    /// Announces that this thread will wait for the endpoint's descriptor. `false` if there is
    /// something to be received already: then do that, do not wait.
    ///
    /// For epoll, io_uring and async runtimes: after `true`, wait until the descriptor is readable,
    /// then call [`Endpoint::try_recv`] until it has nothing, then `arm` again.
    ///
    /// The descriptor stays readable as long as something is left to be taken from the kernel. Who
    /// watches it for changes only (edge-triggered) must have found it not readable before waiting.
    ///
    /// # Cost
    /// A store for each channel that was active since the last time, and one system call.
    pub fn arm(&mut self) -> bool {
        // Quiet channels are armed already, except those that fell quiet since the last time.
        let mut candidates = std::mem::take(&mut self.unarmed);
        for index in &candidates {
            self.entries[*index as usize].unarmed = false;
        }
        candidates.extend_from_slice(&self.active);
        let mut last = None;
        for index in &candidates {
            let entry = &mut self.entries[*index as usize];
            if let Some(channel) = entry.channel.as_mut().filter(|_| !entry.armed) {
                channel.publish_totals();
                channel.sleeper.arm();
                entry.armed = true;
                last = Some(*index);
            }
        }
        if let Some(channel) = last.and_then(|index| self.entries[index as usize].channel.as_ref())
        {
            channel.sleeper.settle();
        }
        for index in &candidates {
            let channel = self.entries[*index as usize].channel.as_ref();
            if channel.is_some_and(Channel::is_ready) {
                self.rouse(*index);
            }
        }
        candidates.clear();
        self.unarmed = candidates;
        let active = &self.active;
        let is_ready = |index: &u32| !self.entries[*index as usize].armed;
        if !self.events.is_empty() || active.iter().any(is_ready) {
            // An active channel is never armed: who pops from an armed one would miss its next bell.
            for index in &self.active {
                let entry = &mut self.entries[*index as usize];
                if let Some(channel) = entry.channel.as_mut().filter(|_| entry.armed) {
                    channel.sleeper.disarm();
                    entry.armed = false;
                }
            }
            return false;
        }
        // All are quiet now, and stay armed until their doorbell rings.
        for index in self.active.drain(..) {
            self.entries[index as usize].place = Place::Quiet;
            self.quiet.push(index);
        }
        self.asleep = true;
        true
    }

    /// Takes from the kernel what has happened: doorbells, deaths, connections.
    #[cold]
    pub(crate) fn service(&mut self, timeout: Option<Duration>) {
        let mut ready = std::mem::take(&mut self.ready);
        self.readiness.wait(timeout, &mut ready);
        for source in ready.drain(..) {
            match source {
                Source::Listener(index) => self.accept_connections(index),
                Source::Handshake(index) => self.continue_handshake(index),
                Source::Socket(index) => {
                    if let Some(channel) = self.entries[index as usize].channel.as_mut() {
                        channel.service_socket();
                        self.rouse(index);
                    }
                }
                Source::Death(index) => {
                    if let Some(channel) = self.entries[index as usize].channel.as_mut() {
                        channel.check_liveness();
                        self.rouse(index);
                    }
                }
            }
        }
        self.ready = ready;
        self.expire_handshakes();
    }
}

impl AsFd for Endpoint {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readiness.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ConnectOptions, ListenOptions};

    #[test]
    fn the_list_of_the_unarmed_does_not_grow_while_nobody_parks() {
        let name = format!("shm:unarmed-{}", std::process::id());
        let address: Address = name.parse().expect("the name is valid");
        let options = EndpointOptions { wait: Wait::Spin, ..EndpointOptions::default() };
        let mut endpoint = Endpoint::new(options).expect("an endpoint");
        endpoint.listen(&address, ListenOptions::default()).expect("the name is free");
        let connect = || Channel::connect(&address, ConnectOptions::default()).expect("connected");
        let mut clients: Vec<Channel> = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..3).map(|_| scope.spawn(connect)).collect();
            while endpoint.channels() < 3 {
                if let Event::Incoming(incoming) = endpoint.recv() {
                    endpoint.accept(incoming, b"").expect("accepted");
                }
            }
            clients.into_iter().map(|client| client.join().expect("connected")).collect()
        });
        for round in 0..50 {
            let client = &mut clients[round % 3];
            client.send(b"x").expect("there is room");
            assert!(matches!(endpoint.recv(), Event::Message(..)));
            // Until the others are quiet, and one glance more.
            for _ in 0..QUIET_AFTER + 8 {
                assert!(endpoint.look(&mut Message::default()).is_none());
            }
        }
        assert!(endpoint.unarmed.len() <= 3, "{} entries", endpoint.unarmed.len());
    }
}
