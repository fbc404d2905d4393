//! A channel: two processes joined by two segments.

mod ending;
mod lending;
mod receiving;
mod sending;
mod waiting;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use fbufs::{Holdings, Leases, Path, Pool, Quota};
use segment::control::{Frame, Sent, Socket};
use segment::counters::{Counter, Counters};
use segment::doorbell::{Bell, Sleeper};
use segment::geometry::{OwnSegment, PeerSegment};
use segment::memory::{OwnBytes, PeerBytes};
use segment::peer::{Credentials, Liveness};
use segment::ring::{Consumer, Producer};
use segment::wait::{Cores, Pulse, Wait};
use segment::{Fault, Incarnation};

use crate::Address;
use crate::delivery::Partial;
use crate::handshake::{ConnectError, ConnectOptions, connect};

/// Why a channel is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer closed it.
    #[error("the peer closed the channel")]
    PeerClosed,
    /// The peer's process has ended, or hung up without a word.
    #[error("the peer died")]
    PeerDied,
    /// The peer sent what an honest peer cannot send; the check that failed.
    #[error("the channel is poisoned: {0}")]
    Poisoned(Fault),
}

/// Why a message was not sent, for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The channel is closed.
    #[error(transparent)]
    Closed(#[from] CloseReason),
    /// The message is larger than anything this channel can carry.
    #[error("{len} bytes are more than this channel carries in one message ({limit})")]
    TooLarge {
        /// The message's length.
        len: usize,
        /// The largest possible.
        limit: usize,
    },
    /// The buffer was allocated from another channel.
    #[error("the buffer was allocated from another channel")]
    ForeignBuffer,
    /// The peer may never hold as much at once: raise its quota, or send less.
    #[error("the message is larger than what the peer may hold at once")]
    OverQuota,
    /// The buffer could not be guarded: it is shared, or does not consist of whole pages.
    #[error("the buffer cannot be guarded: it must be unshared and consist of whole pages")]
    NotGuarded,
    /// The deadline passed while the queue was full.
    #[error("there was no room until the deadline")]
    TimedOut,
}

/// What became of something offered: back-pressure is a result, not an error.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a full queue has taken nothing"]
pub enum Offer<T = ()> {
    /// It is on its way.
    Taken,
    /// There is no room now; it is given back.
    Full(T),
}

/// What a handshake ends with, to be joined.
pub(crate) struct Parts {
    pub socket: Socket,
    pub credentials: Credentials,
    pub liveness: Liveness,
    pub own: OwnSegment,
    pub peer: PeerSegment,
    pub incarnation: Incarnation,
    pub peer_incarnation: Incarnation,
    pub membarrier: bool,
    pub peer_membarrier: bool,
    pub wait: Wait,
    pub private: Vec<u8>,
    /// The regions that this side hands over buffers of, and those that the peer does.
    pub paths: (Path, Path),
    pub quota: Quota,
}

/// One side of a channel. Owned by one thread; dropping it closes the channel.
///
/// Who passes messages on holds the channel that they go out by in an [`crate::Endpoint`], or looks at
/// it now and then, by receiving or by [`Channel::lent`]: what comes back there goes back to the domains
/// before this one then. Where it sleeps for what comes in by one channel while what it passed on comes
/// back by another that stands alone, its originator waits until it wakes.
///
/// Closing takes back what the peer still holds: who has sent in buffers of a pool of its own waits until
/// nothing is lent, or the last messages read as revoked.
pub struct Channel {
    producer: Producer,
    consumer: Consumer,
    pub(crate) sleeper: Sleeper,
    pub(crate) cores: Cores,
    pub(crate) pulse: Pulse,
    pub(crate) wait: Wait,
    closed: Option<CloseReason>,
    /// How many cells may still be taken once it is closed.
    rest: u64,
    bell: Arc<Bell>,
    socket: Arc<Socket>,
    liveness: Liveness,
    pool: Pool,
    leases: Leases,
    /// How many parts came back, in all: who waits for one also sees those that were collected for
    /// another reason meanwhile.
    collected: u64,
    holdings: Holdings,
    partial: Partial,
    path: Path,
    area: OwnBytes,
    peer_area: PeerBytes,
    counters: Counters,
    credentials: Credentials,
    incarnations: (Incarnation, Incarnation),
    private: Vec<u8>,
    /// Kept open so that a tool of the same user finds the counters.
    own: OwnSegment,
}

impl Channel {
    /// Connects to a listener; waits until it has decided.
    ///
    /// # Errors
    /// [`ConnectError`].
    ///
    /// # Cost
    /// Some twenty system calls, once; sleeps in the kernel while it waits.
    pub fn connect(address: &Address, options: ConnectOptions) -> Result<Self, ConnectError> {
        connect(address, options)
    }

    pub(crate) fn join(mut parts: Parts) -> Self {
        let (own, peer) = (&mut parts.own, &parts.peer);
        let socket = Arc::new(parts.socket);
        let fence = !(parts.membarrier && parts.peer_membarrier);
        let bell = Arc::new(Bell::attach(peer, fence));
        let counters = Counters::of_channel(own);
        counters.set(Counter::PeerPid, parts.credentials.pid.into());
        counters.set(Counter::PeerUid, parts.credentials.uid.into());
        let area = own.take_area().expect("the area is taken once, before the classes");
        let pool = Pool::in_segment(own);
        let leases = Leases::new(&pool, &parts.paths.0, peer, parts.quota);
        let path = parts.paths.1;
        let holdings = Holdings::new(own, peer, &path, bell.clone(), socket.clone());
        Self {
            producer: Producer::attach(own, peer),
            consumer: Consumer::attach(own, peer),
            sleeper: Sleeper::attach(own, parts.membarrier),
            cores: Cores::attach(own, peer),
            pulse: Pulse::default(),
            wait: parts.wait,
            closed: None,
            rest: 0,
            pool,
            leases,
            collected: 0,
            holdings,
            partial: Partial::default(),
            path,
            bell,
            socket,
            liveness: parts.liveness,
            area,
            peer_area: peer.area(),
            counters,
            credentials: parts.credentials,
            incarnations: (parts.incarnation, parts.peer_incarnation),
            private: parts.private,
            own: parts.own,
        }
    }

    pub(crate) fn send_welcome(&self, frame: &Frame, path: &Path) -> bool {
        let own = std::iter::once(self.own.as_fd());
        let descriptors: Vec<BorrowedFd<'_>> = own.chain(path.descriptors()).collect();
        self.socket.send(frame, &descriptors) == Sent::Yes
    }

    /// The peer says that it is gone. If it lies it is gone all the same: else every send would look.
    #[cold]
    fn farewell(&mut self) {
        self.check_liveness();
        self.end(CloseReason::PeerClosed);
    }

    /// Why the channel is closed, if it is.
    pub fn closed(&self) -> Option<CloseReason> {
        self.closed
    }

    /// Who is on the other side, by the kernel's word.
    pub fn credentials(&self) -> Credentials {
        self.credentials
    }

    /// This side's incarnation and the peer's.
    pub fn incarnations(&self) -> (Incarnation, Incarnation) {
        self.incarnations
    }

    /// The bytes that the peer sent with the handshake. The peer's word.
    pub fn private(&self) -> &[u8] {
        &self.private
    }

    /// This side's counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// This side's buffers: free, held by the peer, and in all. Free and held by the peer are
    /// brought up to date first.
    pub fn buffers(&mut self) -> (usize, usize, usize) {
        self.collect();
        (self.pool.free(), self.leases.lent(), self.pool.total())
    }

    /// How many of the peer's leases are held here: parts of messages that were not given back yet.
    pub fn held(&self) -> usize {
        self.holdings.held()
    }

    /// The regions that the peer hands over buffers of, beside its segment's, mapped: to be offered to
    /// the next domain.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes of payload this library copied on this side: into buffers of the segment's pool,
    /// and out of what the peer handed over.
    pub fn copied(&self) -> u64 {
        self.pool.copied() + self.holdings.copied()
    }

    /// This side's area: memory that the peer can read and the layer above divides.
    #[inline(always)]
    pub fn area_mut(&mut self) -> &mut OwnBytes {
        &mut self.area
    }

    /// The peer's area.
    #[inline(always)]
    pub fn peer_area(&self) -> &PeerBytes {
        &self.peer_area
    }

    /// This side's segment, to be given to a supervisor that reads the counters.
    pub fn segment(&self) -> BorrowedFd<'_> {
        self.own.as_fd()
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        (*self.socket).as_fd()
    }

    pub(crate) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.liveness.fd()
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.publish_totals();
        self.sleeper.close();
        self.socket.hang_up();
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel")
            .field("peer", &self.credentials)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}
