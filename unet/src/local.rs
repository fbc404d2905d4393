//! A channel on this host: two processes joined by two segments.

mod ending;
mod lending;
mod receiving;
mod sending;
mod waiting;

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use fbufs::{Holdings, Leases, Path, Pool, Quota};
use segment::Incarnation;
use segment::control::{Frame, Sent, Socket};
use segment::counters::{Counter, Counters};
use segment::doorbell::{Bell, Sleeper};
use segment::geometry::{OwnSegment, PeerSegment};
use segment::memory::{OwnBytes, PeerBytes};
use segment::peer::{Credentials, Liveness};
use segment::ring::{Consumer, Producer};
use segment::wait::{Cores, Pulse, Wait};

use crate::channel::{CloseReason, Offer, SendError};
use crate::delivery::{MAX_INLINE, Partial};

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
    /// What goes on over a network: the other side's address, and the most bytes of one message.
    pub peer_address: Option<SocketAddr>,
    pub limit: Option<u16>,
}

/// One side of a channel on this host.
pub struct LocalChannel {
    producer: Producer,
    consumer: Consumer,
    pub(crate) sleeper: Sleeper,
    /// An event loop waits for the doorbell.
    watched: bool,
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
    peer_address: Option<SocketAddr>,
    /// The most bytes of one message.
    limit: usize,
    /// Kept open so that a tool of the same user finds the counters.
    own: OwnSegment,
}

impl LocalChannel {
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
            watched: false,
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
            peer_address: parts.peer_address,
            limit: parts.limit.map_or(usize::MAX, usize::from).max(MAX_INLINE),
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

    pub fn closed(&self) -> Option<CloseReason> {
        self.closed
    }

    pub fn credentials(&self) -> Credentials {
        self.credentials
    }

    pub fn incarnations(&self) -> (Incarnation, Incarnation) {
        self.incarnations
    }

    pub fn peer_address(&self) -> Option<SocketAddr> {
        self.peer_address
    }

    pub fn private(&self) -> &[u8] {
        &self.private
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    pub fn buffers(&mut self) -> (usize, usize, usize) {
        self.collect();
        (self.pool.free(), self.leases.lent(), self.pool.total())
    }

    pub fn held(&self) -> usize {
        self.holdings.held()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn copied(&self) -> u64 {
        self.pool.copied() + self.holdings.copied()
    }

    #[inline(always)]
    pub fn area_mut(&mut self) -> &mut OwnBytes {
        &mut self.area
    }

    #[inline(always)]
    pub fn peer_area(&self) -> &PeerBytes {
        &self.peer_area
    }

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

impl Drop for LocalChannel {
    fn drop(&mut self) {
        self.publish_totals();
        self.sleeper.close();
        self.socket.hang_up();
    }
}

impl std::fmt::Debug for LocalChannel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalChannel")
            .field("peer", &self.credentials)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}
