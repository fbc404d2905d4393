//! A device and the channels over it.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use fbufs::{FbufMut, Pool};
use segment::counters::{Counter, Counters};
use segment::memory::CreateError;
use segment::{Fault, Incarnation};

use super::NetworkOptions;
use super::maintenance::{PERIOD, STRANGERS};
use super::sequence::Window;
use crate::LinkCount;
use crate::channel::CloseReason;
use crate::device::{
    Capabilities, Datagrams, Destination, DeviceError, Outgoing, Received, Statistics,
};
use crate::handshake::Refusal;
use crate::wire::{self, Header, Kind};

/// The part of a device's receive buffers that one channel may fill with what nobody has taken: a peer that
/// floods starves itself, and not the others.
const SHARE: usize = 4;
/// And the part that all may fill together with more than a message each: many that flood leave the rest to
/// those that do not.
const CROWD: usize = 2;

/// The room before a message for a device's headers, with which it lies aligned: it is summed eight bytes an
/// instruction.
pub(super) fn aligned(headroom: usize) -> usize {
    headroom.saturating_add(7) & !7
}

/// A device and the channels over it.
pub(crate) struct Link {
    pub(super) device: Box<dyn Datagrams>,
    /// As they were when it was opened: only the MTU changes, which is asked for with each destination. The
    /// headroom is rounded up.
    pub(super) capabilities: Capabilities,
    pub(super) channels: Vec<Option<State>>,
    pub(super) vacant: Vec<u32>,
    /// Received, for channels that are there.
    pub(super) ready: VecDeque<Arrived>,
    /// How many buffers that is in all.
    pub(super) waiting: usize,
    /// How many of them one channel may have; and how many all, before each may have a message only.
    pub(super) share: usize,
    pub(super) crowd: usize,
    pub(super) outgoing: VecDeque<Outgoing>,
    /// How many the device has that may wait for a flush.
    pub(super) unkicked: usize,
    pub(super) received: Vec<Received>,
    /// The first pieces of a datagram whose last one is still to come.
    pub(super) pieces: Vec<FbufMut>,
    pub(super) happened: VecDeque<Happened>,
    /// Clients that were accepted, by what their hello named.
    pub(super) accepted: HashMap<Asking, u32>,
    /// Clients that wait for a decision, and the way to them.
    pub(super) undecided: Vec<(Asking, Destination)>,
    /// Clients that were refused, the last ones, and why: they may ask again because the answer was lost.
    pub(super) refused: VecDeque<(Asking, Refusal)>,
    pub(crate) listens: bool,
    /// Whether a listener answered since this was last looked at.
    pub(crate) answered: bool,
    pub(super) counters: Counters,
    pub(super) next_maintenance: Instant,
    /// When the channels are looked at.
    pub(super) next_period: Instant,
    /// How many times the device is maintained before that.
    pub(super) hurried: u8,
    /// How many answers to what no channel is for may still be sent in this period.
    pub(super) stale_left: u32,
    pub failed: Option<DeviceError>,
    pub(super) options: NetworkOptions,
}

/// A device of an endpoint's, and what was counted on it.
#[derive(Clone, Debug)]
pub struct LinkStatus {
    /// The local address; the port that was chosen, where any was asked for.
    pub local: SocketAddr,
    /// Whether clients are accepted on it.
    pub listens: bool,
    /// How many channels are over it.
    pub channels: usize,
    /// What the device is and can do.
    pub capabilities: Capabilities,
    /// What the device counted.
    pub statistics: Statistics,
    /// Its buffers: free, and in all.
    pub buffers: (usize, usize),
    /// Why it is of no more use, if so. It is let go of when its last channel is gone and the endpoint
    /// listens or connects again.
    pub failed: Option<DeviceError>,
    counts: [u64; Counter::ALL.len()],
}

impl LinkStatus {
    /// What was counted that is of no channel, and the sums of channels that are gone.
    pub fn get(&self, counter: Counter) -> u64 {
        let place = Counter::ALL.iter().position(|(other, _)| *other == counter);
        place.map_or(0, |place| self.counts[place])
    }
}

/// Who asked: the address, and the channel and incarnation of the hello.
pub(crate) type Asking = (SocketAddr, u32, u64);

/// What happened on a link that is no message.
#[derive(Debug)]
pub(crate) enum Happened {
    /// A client asks, with these private bytes.
    Asked(Asking, Vec<u8>),
    /// A channel ended.
    Closed(u32, CloseReason),
}

/// What was received for a channel.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub channel: u32,
    pub tag: u16,
    pub inline: u8,
    /// The first piece, with the header.
    pub first: FbufMut,
    /// What follows it.
    pub rest: Option<Vec<FbufMut>>,
}

/// How far a channel's connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// A hello was sent.
    Asking,
    /// The listener said no.
    Refused(Refusal),
    /// Both sides know each other.
    Open,
}

/// A channel, as its link sees it.
pub(super) struct State {
    pub address: SocketAddr,
    pub to: Destination,
    pub own: Incarnation,
    pub phase: Phase,
    /// What stands in the header of each message: the peer's channel and incarnation, the policy.
    pub template: Header,
    pub peer: (u32, Incarnation),
    pub sent: u64,
    pub window: Window,
    /// The buffers of what was received and not taken yet.
    pub queued: usize,
    /// Whether something came since the last maintenance, and how many periods nothing did.
    pub heard: bool,
    pub silent_for: u32,
    pub closed: Option<CloseReason>,
    pub counters: Arc<Counters>,
    /// The peer's private bytes, and those that it was welcomed with.
    pub private: Vec<u8>,
    pub welcome: Vec<u8>,
    /// What its hello was, if it was accepted here.
    pub asking: Option<Asking>,
}

impl Link {
    pub fn new(
        mut device: Box<dyn Datagrams>,
        listens: bool,
        options: NetworkOptions,
    ) -> Result<Self, CreateError> {
        let mut capabilities = device.capabilities();
        capabilities.headroom = aligned(capabilities.headroom);
        let buffers = device.pool().total();
        Ok(Self {
            waiting: 0,
            share: (buffers / SHARE).max(1),
            crowd: buffers / CROWD,
            device,
            capabilities,
            channels: Vec::new(),
            vacant: Vec::new(),
            // The first burst finds room, too.
            ready: VecDeque::with_capacity(capabilities.burst),
            outgoing: VecDeque::with_capacity(capabilities.burst),
            unkicked: 0,
            received: Vec::with_capacity(capabilities.burst),
            pieces: Vec::new(),
            happened: VecDeque::new(),
            accepted: HashMap::new(),
            undecided: Vec::new(),
            refused: VecDeque::new(),
            listens,
            answered: false,
            counters: Counters::of_endpoint()?,
            next_maintenance: Instant::now() + PERIOD,
            next_period: Instant::now() + PERIOD,
            hurried: 0,
            stale_left: STRANGERS,
            failed: None,
            options,
        })
    }

    pub fn device(&mut self) -> &mut dyn Datagrams {
        &mut *self.device
    }

    pub fn pool(&mut self) -> &mut Pool {
        self.device.pool()
    }

    /// Whether the device is of no more use.
    pub fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// What was counted that is of no channel, and the sums of channels that are gone.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What a supervisor wants to know.
    pub fn status(&mut self) -> LinkStatus {
        let counts = Counter::ALL.map(|(counter, _)| self.counters.get(counter));
        LinkStatus {
            local: self.device.local(),
            listens: self.listens,
            channels: self.channels.iter().flatten().count(),
            capabilities: self.device.capabilities(),
            statistics: self.device.statistics(),
            buffers: (self.device.pool().free(), self.device.pool().total()),
            failed: self.failed,
            counts,
        }
    }

    pub(super) fn state(&mut self, channel: u32) -> Option<&mut State> {
        self.channels.get_mut(channel as usize)?.as_mut()
    }

    /// Takes a place for a channel to an address.
    pub(super) fn add(
        &mut self,
        address: SocketAddr,
        to: Destination,
        own: Incarnation,
        template: Header,
    ) -> Result<u32, CreateError> {
        let state = State {
            address,
            to,
            own,
            phase: Phase::Asking,
            template,
            peer: (crate::wire::NO_CHANNEL, Incarnation(0)),
            sent: 0,
            window: Window::default(),
            queued: 0,
            heard: true,
            silent_for: 0,
            closed: None,
            counters: Arc::new(Counters::of_endpoint()?),
            private: Vec::new(),
            welcome: Vec::new(),
            asking: None,
        };
        let number = self.vacant.pop().unwrap_or_else(|| {
            self.channels.push(None);
            (self.channels.len() - 1) as u32
        });
        self.channels[number as usize] = Some(state);
        self.hurry();
        Ok(number)
    }

    /// Lets go of a channel: what nobody took of it is dropped and counted.
    pub(super) fn remove(&mut self, channel: u32) {
        let Some(state) = self.channels.get_mut(channel as usize).and_then(Option::take) else {
            return;
        };
        let before = self.ready.len();
        self.waiting -= state.queued;
        self.ready.retain(|arrived| arrived.channel != channel);
        let lost = (before - self.ready.len()) as u64 + self.take_back(state.to);
        self.happened
            .retain(|happened| !matches!(happened, Happened::Closed(c, _) if *c == channel));
        self.counters.absorb(&state.counters);
        self.counters.add(Counter::LostAtClose, lost);
        self.device.close(state.to);
        if let Some(asking) = state.asking {
            self.accepted.remove(&asking);
            // Its hello may still be under way a second time: nobody waits for the answer to that one.
            self.remember_refused(asking, Refusal::Application(0));
        }
        self.vacant.push(channel);
    }

    /// Takes what waits for a destination out of the queue, for its place may be another's soon: how many
    /// messages of the application's that was.
    pub(super) fn take_back(&mut self, to: Destination) -> u64 {
        let (mut messages, mut goes_on) = (0, false);
        let waiting = self.outgoing.len();
        self.outgoing.retain(|outgoing| {
            if outgoing.to != to {
                return true;
            }
            // Nothing but data has several pieces.
            let is_data = goes_on || wire::is_data(&outgoing.piece.bytes);
            goes_on = outgoing.piece.more;
            messages += u64::from(is_data && !goes_on);
            false
        });
        LinkCount::Unsent.add(&self.counters, waiting - self.outgoing.len());
        messages
    }

    /// Ends a channel, once.
    #[cold]
    pub(super) fn end(&mut self, channel: u32, reason: CloseReason) {
        let Some(state) = self.state(channel) else { return };
        if state.closed.is_none() {
            state.closed = Some(reason);
            self.happened.push_back(Happened::Closed(channel, reason));
        }
    }

    /// Ends a channel whose peer broke a rule, and tells it.
    #[cold]
    pub fn poison(&mut self, channel: u32) -> CloseReason {
        if let Some(state) = self.state(channel)
            && state.closed.is_none()
        {
            state.counters.fault(Fault::Protocol);
            self.send_to_peer(channel, Kind::Bye, &[]);
            self.end(channel, CloseReason::Poisoned(Fault::Protocol));
        }
        let closed = self.state(channel).and_then(|state| state.closed);
        closed.unwrap_or(CloseReason::PeerClosed)
    }

    /// The device is gone, and with it every channel.
    #[cold]
    pub(super) fn fail(&mut self, error: DeviceError) {
        if self.failed.is_none() {
            tracing::warn!(%error, "a device failed, and its channels with it");
            self.failed = Some(error);
        }
        for channel in 0..self.channels.len() as u32 {
            self.end(channel, CloseReason::DeviceFailed(error));
        }
    }
}

impl Arrived {
    /// How many buffers it has.
    #[inline(always)]
    pub fn buffers(&self) -> usize {
        1 + self.rest.as_ref().map_or(0, Vec::len)
    }
}

impl State {
    /// Whether an address is the peer's. Not its zone: a packet's header has none, so that only the kernel's
    /// sockets tell one.
    #[inline(always)]
    pub fn is_from(&self, from: SocketAddr) -> bool {
        self.address.port() == from.port() && self.address.ip() == from.ip()
    }
}
