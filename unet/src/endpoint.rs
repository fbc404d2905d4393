//! An endpoint: many channels and listeners, received from at the cost of the active ones.
//!
//! Every look takes a message from the next active channel in turn; a vain one glances at one quiet
//! channel. Where no look is vain, some quiet ones are glanced at every two milliseconds. A channel
//! that yields nothing for a while becomes quiet; one that was glanced at in time, or whose doorbell
//! rang, becomes active. Before it parks, the endpoint arms the doorbells that are not armed yet;
//! quiet ones stay armed from the last time. So both a look and a park cost O(active).

mod attempts;
mod holding;
mod links;
mod opening;
mod receiving;
mod sleeping;

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use fbufs::Path;
use rustix::io::Errno;
use segment::control::BindError;
use segment::counters::{Counter, Counters};
use segment::memory::CreateError;
use segment::wait::{Pulse, Wait};

use crate::channel::{Channel, CloseReason, Way};
use crate::device::OpenError;
use crate::endpoint::attempts::Attempt;
pub use crate::endpoint::attempts::AttemptId;
use crate::endpoint::links::{LinkEntry, leave_link};
use crate::endpoint::opening::LentPort;
use crate::handshake::{AcceptError, ConnectError, Refusal};
use crate::incoming::{Incoming, Welcome};
use crate::listening::Listening;
use crate::local::LocalChannel;
use crate::readiness::{BATCH, Readiness, Source};
use crate::{Address, Delivery};

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
#[non_exhaustive]
pub enum Event {
    /// A message on a channel.
    Message(ChannelId, Delivery),
    /// A client asks to be accepted.
    Incoming(Incoming),
    /// A channel is closed, and everything that came on it has been received. Its id means nothing
    /// any more.
    Closed(ChannelId, CloseReason),
    /// What became of a connection that was begun ([`Endpoint::begin_connect`]).
    Connected(AttemptId, Result<ChannelId, ConnectError>),
    /// An agent does not listen for this endpoint at the address any more: it has ended, or its policy was
    /// changed. Listen anew.
    NotListening(Address, CloseReason),
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
    /// The network's device could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The agent that is to mediate did not agree.
    #[error("by the agent: {0}")]
    Agent(ConnectError),
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

impl Entry {
    fn local(&self) -> Option<&LocalChannel> {
        self.channel.as_ref().and_then(Channel::local)
    }

    fn local_mut(&mut self) -> Option<&mut LocalChannel> {
        self.channel.as_mut().and_then(Channel::local_mut)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Active,
    Quiet,
    /// Over a network: its link is looked at.
    Link,
    /// Its owner does not want anything of it now.
    Held,
}

/// Vain looks after which a channel counts as quiet, if others are active.
const QUIET_AFTER: u32 = 4096;

/// Looks at the one active channel between two glances at quiet ones.
const LOOKS_BEFORE_GLANCE: u32 = 4;

/// Quiet channels glanced at every two milliseconds where active ones leave no time for a vain look.
const GLANCES: usize = 64;

/// Channels and listeners of one thread.
pub struct Endpoint {
    entries: Vec<Entry>,
    vacant: Vec<u32>,
    active: Vec<u32>,
    quiet: Vec<u32>,
    /// Channels that fell quiet since the last park, each once.
    unarmed: Vec<u32>,
    turn: usize,
    /// Where the last message came from, whose buffer goes back first.
    last: usize,
    glance: usize,
    /// Devices, and the channels over them.
    links: Vec<LinkEntry>,
    link_turn: usize,
    /// The links are looked at before the channels of this host, whose messages do not end.
    links_due: bool,
    attempts: Vec<Option<Attempt>>,
    next_attempt: u64,
    /// Messages over networks since clients that ask were last heard before them.
    since_asked: u32,
    /// Ports that agents listen at for this endpoint.
    lent: Vec<LentPort>,
    /// How many channels are held.
    held: usize,
    /// Tells when a link is to be looked after, while the thread sleeps.
    timer: Option<OwnedFd>,
    pub(crate) listening: Listening,
    pub(crate) readiness: Readiness,
    ready: Vec<Source>,
    pub(crate) events: VecDeque<Event>,
    pulse: Pulse,
    asleep: bool,
    /// Whether it has slept since it was last asked.
    slept: bool,
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
            last: 0,
            glance: 0,
            links: Vec::new(),
            link_turn: 0,
            links_due: false,
            attempts: Vec::new(),
            next_attempt: 0,
            since_asked: 0,
            lent: Vec::new(),
            held: 0,
            timer: None,
            listening: Listening::default(),
            readiness: Readiness::new().map_err(|errno| match errno {
                Errno::MFILE | Errno::NFILE => CreateError::OutOfDescriptors.into(),
                other => EndpointError::Kernel(other),
            })?,
            ready: Vec::with_capacity(BATCH),
            events: VecDeque::new(),
            pulse: Pulse::default(),
            asleep: false,
            slept: false,
            wait: options.wait,
            max_channels: options.max_channels,
            counters: Counters::of_endpoint()?,
        })
    }

    /// Accepts a client; `private` goes back to it with the welcome.
    ///
    /// # Errors
    /// [`AcceptError`]; the client is refused then, and the refusal counted.
    pub fn accept(&mut self, incoming: Incoming, private: &[u8]) -> Result<ChannelId, AcceptError> {
        self.accept_along(incoming, private, &Path::default())
    }

    /// As [`Endpoint::accept`], with the regions whose buffers this side will hand over to the client,
    /// beside its segment's.
    ///
    /// # Errors
    /// [`AcceptError`]; the client is refused then, and the refusal counted.
    pub fn accept_along(
        &mut self,
        incoming: Incoming,
        private: &[u8],
        path: &Path,
    ) -> Result<ChannelId, AcceptError> {
        self.accept_with(incoming, private, path, None)
    }

    /// As [`Endpoint::accept`], for who passes on what the client sends, to where no message may be longer
    /// than `limit` bytes: the client is told.
    ///
    /// # Errors
    /// [`AcceptError`]; the client is refused then, and the refusal counted.
    pub fn accept_limited(
        &mut self,
        incoming: Incoming,
        private: &[u8],
        limit: u16,
    ) -> Result<ChannelId, AcceptError> {
        self.accept_with(incoming, private, &Path::default(), Some(limit))
    }

    fn accept_with(
        &mut self,
        incoming: Incoming,
        private: &[u8],
        path: &Path,
        limit: Option<u16>,
    ) -> Result<ChannelId, AcceptError> {
        let accepted = incoming
            .accept(Welcome { wait: self.wait, private, path, limit })
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

    /// Refuses a client, for any reason: for who passes on what somebody else decided.
    pub fn refuse_because(&mut self, incoming: Incoming, why: Refusal) {
        self.counters.add(Counter::RefusedByApplication, 1);
        incoming.refuse_because(why);
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
        let place = if channel.local().is_some() { Place::Active } else { Place::Link };
        let watched = match &channel.way {
            Way::Local(channel) => {
                self.readiness.watch(channel.socket(), Source::Socket(index)).and_then(|()| {
                    let watch = |pidfd| self.readiness.watch(pidfd, Source::Death(index));
                    channel.pidfd().map_or(Ok(()), watch)
                })
            }
            Way::Remote(channel) => {
                self.enter_link(channel, index);
                Ok(())
            }
        };
        if let Err(errno) = watched {
            self.vacant.push(index);
            return Err(errno);
        }
        // So that none of them grows when a channel is heard or falls quiet for the first time. Each
        // channel can be both unarmed and active when the endpoint prepares to sleep.
        let most = 2 * self.entries.len();
        for list in [&mut self.active, &mut self.quiet, &mut self.unarmed] {
            list.reserve(most.saturating_sub(list.len()));
        }
        let entry = &mut self.entries[index as usize];
        entry.channel = Some(channel);
        entry.place = place;
        entry.vain_looks = 0;
        entry.armed = false;
        if place == Place::Active {
            self.active.push(index);
        }
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
        if let Some(channel) = self.channel_mut(id).map(|channel| &mut channel.way) {
            let mut lost = 0;
            let bound = 1 << 16;
            let mut message = Delivery::default();
            // A link counts itself what nobody took.
            while let Way::Local(channel) = channel
                && lost < bound
                && matches!(channel.pop(&mut message), Ok(true))
            {
                lost += 1;
            }
            self.counters.add(Counter::LostAtClose, lost);
            self.remove(id.index);
        }
    }

    /// As [`Endpoint::close`], and tells the peer why, where it is of this host: for who passes on what befell
    /// the way behind it.
    pub fn close_because(&mut self, id: ChannelId, reason: CloseReason) {
        if let Some(Way::Local(channel)) = self.channel_mut(id).map(|channel| &channel.way) {
            channel.say_why(reason);
        }
        self.close(id);
    }

    fn remove(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        let Some(channel) = entry.channel.take() else { return };
        match (&channel.way, entry.place) {
            (Way::Local(channel), place) => {
                channel.publish_totals();
                self.counters.absorb(channel.counters());
                self.readiness.forget(channel.socket());
                if let Some(pidfd) = channel.pidfd() {
                    self.readiness.forget(pidfd);
                }
                match place {
                    Place::Active => self.active.retain(|other| *other != index),
                    Place::Held => self.held -= 1,
                    _ => self.quiet.retain(|other| *other != index),
                }
            }
            (Way::Remote(channel), _) => {
                leave_link(&mut self.links, channel);
                self.sweep_links();
            }
        }
        let entry = &mut self.entries[index as usize];
        // An id that would repeat is retired with its entry.
        if let Some(next) = entry.generation.checked_add(1) {
            entry.generation = next;
            self.vacant.push(index);
        }
    }

    /// How many channels there are.
    pub fn channels(&self) -> usize {
        let over_links: usize = self.links.iter().map(LinkEntry::channels).sum();
        self.active.len() + self.quiet.len() + self.held + over_links
    }

    /// Whether another client could be accepted, if those that are not decided on were.
    pub(crate) fn has_space(&self, undecided: usize) -> bool {
        self.channels() + self.connecting() + undecided < self.max_channels
    }

    /// The endpoint's own counters: refused and failed connections, and the sums of what the channels
    /// counted that it held and holds no more. Each channel that it holds has its own.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

impl AsFd for Endpoint {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readiness.as_fd()
    }
}
