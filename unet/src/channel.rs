//! A channel: two processes joined by two segments.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use fbufs::{AllocError, Fbuf, FbufMut, PeerPool, Pool};
use segment::control::{Frame, Kind, Received, Sent, Socket};
use segment::counters::{Counter, Counters};
use segment::doorbell::{Bell, Listening, Sleeper};
use segment::failpoint;
use segment::geometry::{OwnSegment, PeerSegment};
use segment::memory::{OwnBytes, PeerBytes};
use segment::peer::{Credentials, Liveness};
use segment::ring::{Cell, Consumer, Producer, PushRefusal};
use segment::wait::{Cores, Pulse, Wait};
use segment::{Fault, Incarnation};

use crate::handshake::{ConnectError, ConnectOptions, connect};
use crate::message::{MAX_INLINE, MAX_INLINE_WITH_FBUF};
use crate::{Address, Message};

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
}

/// One side of a channel. Owned by one thread; dropping it closes the channel.
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
    peer_pool: PeerPool,
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
        Self {
            producer: Producer::attach(own, peer),
            consumer: Consumer::attach(own, peer),
            sleeper: Sleeper::attach(own, parts.membarrier),
            cores: Cores::attach(own, peer),
            pulse: Pulse::default(),
            wait: parts.wait,
            closed: None,
            rest: 0,
            pool: Pool::new(own, peer, parts.incarnation),
            peer_pool: PeerPool::new(own, peer, bell.clone(), socket.clone()),
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

    pub(crate) fn send_welcome(&self, frame: &Frame) -> bool {
        self.socket.send(frame, Some(self.own.as_fd())) == Sent::Yes
    }

    /// Sends bytes if there is room: in the slot if they fit, else in a buffer.
    ///
    /// # Errors
    /// [`SendError`], for good.
    ///
    /// # Cost
    /// Up to [`MAX_INLINE`] bytes: one cache line. More: one copy into a buffer. No system call
    /// unless the peer sleeps; no fence where membarrier(2) works.
    #[inline(always)]
    pub fn try_send(&mut self, bytes: &[u8]) -> Result<Offer, SendError> {
        self.try_send_tagged(0, bytes)
    }

    /// As [`Channel::try_send`], with a number for the receiver's layer.
    ///
    /// # Errors
    /// [`SendError`], for good.
    ///
    /// # Cost
    /// As [`Channel::try_send`].
    #[inline(always)]
    pub fn try_send_tagged(&mut self, tag: u16, bytes: &[u8]) -> Result<Offer, SendError> {
        let mut cell = Cell::new(tag);
        if cell.append(bytes) { self.offer(&cell) } else { self.try_send_copied(tag, bytes) }
    }

    /// Sends two pieces of bytes as one message in a slot, if there is room; for layers that put a
    /// header before what they are given.
    ///
    /// # Errors
    /// [`SendError`], for good: `TooLarge` beyond [`MAX_INLINE`] in all.
    ///
    /// # Cost
    /// One cache line, as [`Channel::try_send`].
    #[inline(always)]
    pub fn try_send_parts(
        &mut self,
        tag: u16,
        head: &[u8],
        rest: &[u8],
    ) -> Result<Offer, SendError> {
        let mut cell = Cell::new(tag);
        if cell.append(head) && cell.append(rest) {
            return self.offer(&cell);
        }
        Err(SendError::TooLarge { len: head.len() + rest.len(), limit: MAX_INLINE })
    }

    #[cold]
    fn try_send_copied(&mut self, tag: u16, bytes: &[u8]) -> Result<Offer, SendError> {
        if let Some(reason) = self.closed {
            return self.refuse_closed(reason);
        }
        let mut fbuf = match self.alloc(bytes.len()) {
            Ok(fbuf) => fbuf,
            Err(AllocError::TooLarge { asked, largest }) => {
                return Err(SendError::TooLarge { len: asked, limit: largest.max(MAX_INLINE) });
            }
            Err(AllocError::Fault(fault)) => return Err(self.poison(fault).into()),
            Err(_) => return Ok(Offer::Full(())),
        };
        fbuf.copy_from_slice(bytes);
        match self.try_send_fbuf(tag, fbuf.freeze(), &[])? {
            Offer::Taken => Ok(Offer::Taken),
            Offer::Full(_) => Ok(Offer::Full(())),
        }
    }

    /// Hands a buffer over, with up to [`MAX_INLINE_WITH_FBUF`] bytes beside it in the slot. The
    /// buffer is the peer's until the peer gives it back.
    ///
    /// # Errors
    /// [`SendError`], for good; the buffer is freed.
    ///
    /// # Cost
    /// One cache line, whatever the size.
    #[inline]
    pub fn try_send_fbuf(
        &mut self,
        tag: u16,
        fbuf: Fbuf,
        inline: &[u8],
    ) -> Result<Offer<Fbuf>, SendError> {
        failpoint::hit("handoff.1-buffer-taken");
        if inline.len() > MAX_INLINE_WITH_FBUF {
            self.counters.add(Counter::TooLarge, 1);
            return Err(SendError::TooLarge { len: inline.len(), limit: MAX_INLINE_WITH_FBUF });
        }
        let Ok(descriptor) = self.pool.lend(fbuf) else {
            return Err(SendError::ForeignBuffer);
        };
        failpoint::hit("handoff.2-lent");
        let mut cell = Cell::new(tag);
        let fits = cell.append_descriptor(descriptor.to_words()) && cell.append(inline);
        debug_assert!(fits, "the length was checked above");
        match self.offer(&cell) {
            Ok(Offer::Taken) => {
                failpoint::hit("handoff.3-published");
                Ok(Offer::Taken)
            }
            Ok(Offer::Full(())) => {
                let fbuf = self.pool.unlend(descriptor).expect("only a closing reclaims");
                Ok(Offer::Full(fbuf))
            }
            Err(error) => {
                // The offer may have found the channel closing, which took the buffer back already.
                drop(self.pool.unlend(descriptor));
                Err(error)
            }
        }
    }

    #[inline(always)]
    fn offer(&mut self, cell: &Cell) -> Result<Offer, SendError> {
        failpoint::hit("send.1-before-publish");
        if let Some(reason) = self.closed {
            return self.refuse_closed(reason);
        }
        match self.producer.try_push(cell) {
            Ok(()) => {}
            Err(refusal) => return self.refused(refusal),
        }
        failpoint::hit("send.2-published");
        self.ring();
        Ok(Offer::Taken)
    }

    #[cold]
    fn refused(&mut self, refusal: PushRefusal) -> Result<Offer, SendError> {
        match refusal {
            PushRefusal::Fault(fault) => Err(self.poison(fault).into()),
            PushRefusal::Full => {
                if self.pulse.tick() {
                    self.check_liveness();
                }
                match self.closed {
                    Some(reason) => self.refuse_closed(reason),
                    None => {
                        self.counters.add(Counter::QueueFull, 1);
                        Ok(Offer::Full(()))
                    }
                }
            }
        }
    }

    #[cold]
    fn refuse_closed(&mut self, reason: CloseReason) -> Result<Offer, SendError> {
        self.counters.add(Counter::Closed, 1);
        Err(reason.into())
    }

    /// Wakes the peer if it sleeps.
    #[inline(always)]
    fn ring(&mut self) {
        match self.bell.notify(&self.socket) {
            Listening::Awake => {}
            Listening::Rung => self.counters.add(Counter::DoorbellsRung, 1),
            Listening::Closed => self.farewell(),
        }
    }

    /// The peer says that it is gone. If it lies it is gone all the same: else every send would look.
    #[cold]
    fn farewell(&mut self) {
        self.check_liveness();
        self.end(CloseReason::PeerClosed);
    }

    /// Takes a buffer of this side's pool, to be written and handed over.
    ///
    /// # Errors
    /// [`AllocError`]; `Exhausted` is back-pressure.
    ///
    /// # Cost
    /// A few loads.
    #[inline]
    pub fn alloc(&mut self, len: usize) -> Result<FbufMut, AllocError> {
        let taken = self.pool.alloc(len);
        if let Err(error) = &taken {
            match error {
                AllocError::TooLarge { .. } => self.counters.add(Counter::TooLarge, 1),
                AllocError::Exhausted => self.counters.add(Counter::NoBuffer, 1),
                AllocError::Fault(fault) => drop(self.poison(*fault)),
                _ => {}
            }
        }
        taken
    }

    /// Takes the next message, if there is one. What the peer sent before it closed or died is
    /// still delivered; of a poisoned channel nothing is.
    ///
    /// # Errors
    /// [`CloseReason`], once nothing is left to be taken.
    ///
    /// # Cost
    /// One cache line read. Every two milliseconds of vain looks, two system calls for the peer's
    /// health.
    #[inline(always)]
    pub fn try_recv(&mut self) -> Result<Option<Message>, CloseReason> {
        let mut message = Message::default();
        Ok(self.try_recv_into(&mut message)?.then_some(message))
    }

    /// As [`Channel::try_recv`], into a message of the caller's: the fastest way, for nothing is
    /// moved. `false` if there was none; the message is empty or its old self then.
    ///
    /// # Errors
    /// [`CloseReason`], once nothing is left to be taken.
    ///
    /// # Cost
    /// As [`Channel::try_recv`].
    #[inline(always)]
    pub fn try_recv_into(&mut self, message: &mut Message) -> Result<bool, CloseReason> {
        let taken = self.pop(message)?;
        if !taken && self.pulse.tick() {
            self.check_liveness();
        }
        Ok(taken)
    }

    /// As [`Channel::try_recv_into`], for an owner that looks after the peer's health itself.
    #[inline(always)]
    pub(crate) fn pop(&mut self, message: &mut Message) -> Result<bool, CloseReason> {
        if let Some(reason) = self.closed {
            self.take_of_rest(reason)?;
        }
        match self.consumer.try_pop(message.cell_mut()) {
            Ok(true) => {}
            Ok(false) => return self.nothing_there(),
            Err(fault) => return Err(self.poison(fault)),
        }
        failpoint::hit("receive.1-popped");
        if self.consumer.just_published() {
            self.ring();
        }
        match message.complete(&self.peer_pool) {
            Ok(()) => Ok(true),
            Err(fault) => Err(self.poison(fault)),
        }
    }

    /// Allows one more cell of a closed channel, if its queue can have held one when it closed: a
    /// peer that hung up may still be writing.
    #[cold]
    fn take_of_rest(&mut self, reason: CloseReason) -> Result<(), CloseReason> {
        self.rest = self.rest.checked_sub(1).ok_or(reason)?;
        Ok(())
    }

    #[inline(always)]
    fn nothing_there(&mut self) -> Result<bool, CloseReason> {
        match self.closed {
            None => Ok(false),
            Some(reason) => {
                self.rest = 0;
                Err(reason)
            }
        }
    }

    /// Whether [`Channel::try_recv`] would return something else than nothing.
    #[inline(always)]
    pub fn is_ready(&self) -> bool {
        self.consumer.is_ready() || self.closed.is_some()
    }

    /// Whether a message would find a slot, or an error.
    pub(crate) fn has_room(&mut self) -> bool {
        self.closed.is_some() || self.producer.has_room() != Err(PushRefusal::Full)
    }

    /// Whether a buffer of `len` bytes would be found, or an error.
    pub(crate) fn has_buffer(&mut self, len: usize) -> bool {
        if self.closed.is_some() {
            return true;
        }
        match self.pool.alloc(len) {
            Err(AllocError::Exhausted) => false,
            Err(AllocError::Fault(fault)) => {
                // The pool tells it once, so it must not be lost here.
                self.poison(fault);
                true
            }
            _ => true,
        }
    }

    /// Asks the kernel whether the peer lives, and takes a doorbell off the socket. Called by the
    /// receiving methods every two milliseconds of polling.
    ///
    /// # Cost
    /// Two system calls.
    pub fn check_liveness(&mut self) {
        self.service_socket();
        if self.closed.is_none() && self.liveness.has_ended() {
            self.end(CloseReason::PeerDied);
        }
    }

    /// Takes one frame off the socket. `true` if it was a doorbell.
    pub(crate) fn service_socket(&mut self) -> bool {
        match self.socket.receive() {
            Received::Nothing => false,
            Received::Frame(frame, None) if frame.kind == Kind::Doorbell => {
                let due = self.sleeper.accept_ring(frame.value);
                if !due {
                    self.poison(Fault::Doorbell);
                }
                due
            }
            // Nobody sends descriptors on a channel, whether they find room or not.
            Received::Frame(..) | Received::Malformed(_) | Received::OutOfDescriptors => {
                self.poison(Fault::Control);
                false
            }
            Received::HungUp => {
                let closed = self.bell.peer_has_closed();
                self.end(if closed { CloseReason::PeerClosed } else { CloseReason::PeerDied });
                false
            }
        }
    }

    /// Closes the channel because the peer broke a rule: once, counted once.
    #[cold]
    pub(crate) fn poison(&mut self, fault: Fault) -> CloseReason {
        if self.closed.is_none() {
            self.counters.fault(fault);
            tracing::warn!(
                peer = self.credentials.pid,
                fault = fault.name(),
                "the channel is poisoned: {fault}"
            );
            self.end(CloseReason::Poisoned(fault));
            self.sleeper.close();
            self.socket.hang_up();
        }
        self.rest = 0;
        self.closed.expect("just closed")
    }

    /// Closes the channel because a layer above caught the peer breaking a rule.
    pub fn poison_protocol(&mut self) -> CloseReason {
        self.poison(Fault::Protocol)
    }

    #[cold]
    fn end(&mut self, reason: CloseReason) {
        if self.closed.is_none() {
            self.closed = Some(reason);
            self.rest = self.consumer.capacity();
            // What the peer returned before it went is taken as returned; a fault changes nothing.
            let _ = self.pool.collect();
            let reclaimed = self.pool.reclaim();
            self.counters.add(Counter::BuffersReclaimed, reclaimed as u64);
            self.publish_totals();
        }
    }

    pub(crate) fn publish_totals(&self) {
        self.counters.set(Counter::Sent, self.producer.sent());
        self.counters.set(Counter::Received, self.consumer.received());
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
        if let Err(fault) = self.pool.collect() {
            self.poison(fault);
        }
        (self.pool.free(), self.pool.lent(), self.pool.total())
    }

    /// How many of the peer's buffers are held here.
    pub fn held(&self) -> usize {
        self.peer_pool.held()
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
