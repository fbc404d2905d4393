//! The server: the calls of many clients, one after the other.

mod callers;
mod executing;
mod handling;
mod later;
mod serving;
mod session;

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use unet::{
    Address, ChannelId, Counter, Delivery, Endpoint, EndpointError, EndpointOptions, ListenError,
    ListenOptions, Wait,
};

use self::callers::Callers;
pub use self::handling::{Context, Decline, Handler, Reply};
pub use self::later::Later;
use self::later::{Answer, Answers};
use self::session::Session;
use super::clock::{Clock, NoRandom, draw};
use super::sleeping::Sleep;
use crate::protocol::{Identity, Limits, ServiceId, Timers};

/// What a server offers, and how it waits.
#[derive(Clone, Debug)]
pub struct ServiceOptions {
    /// What is served: a client must ask for the same.
    pub service: ServiceId,
    /// The epoch that it begins in.
    pub epoch: u64,
    /// What is taken of each client, and how much at once. The size of a fragment is what the channel carries, at
    /// most.
    pub limits: Limits,
    /// Of the patience: how long a client may take until it asks for a session, or reads what it is sent, and until
    /// its half-sent request gives way to another.
    pub timers: Timers,
    /// The most clients at once; further ones are refused.
    pub clients: usize,
    /// The most calls of all clients that are answered later, at once; and of one client as many as its limits
    /// have as backlog.
    pub later: usize,
    /// How its thread waits.
    pub wait: Wait,
    /// How it listens: among others, the users that may connect, and the drivers of networks.
    pub listen: ListenOptions,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self {
            service: ServiceId::default(),
            epoch: 1,
            limits: Limits { fragment: u32::MAX, ..Limits::default() },
            timers: Timers::default(),
            clients: 1024,
            later: 1024,
            wait: Wait::default(),
            listen: ListenOptions::default(),
        }
    }
}

/// Why a service is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Its endpoint could not be made.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// It cannot listen at one of its addresses.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The kernel refused.
    #[error("the kernel refused to make what a service waits on: {0}")]
    Kernel(Errno),
    /// There is no random number for its incarnation.
    #[error(transparent)]
    Random(#[from] NoRandom),
}

/// What a service has dropped and refused, by reason, since it began. The book's chapter on the protocol has the
/// table. Other processes find it in the page of counters, as of the last second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets that have no header, and messages that are no packets.
    pub malformed: u64,
    /// Packets of no request of their session.
    pub foreign: u64,
    /// Packets of clients that have no session.
    pub sessionless: u64,
    /// Openings that were rejected.
    pub rejected: u64,
    /// Clients that could not be accepted, or that speak another protocol: LRPC, say.
    pub unaccepted: u64,
    /// Clients that asked for no session in time, or did not read for as long, and were closed.
    pub idle: u64,
    /// Calls that handlers refused.
    pub refused: u64,
    /// Calls that began and had no reply, panics among them.
    pub failed: u64,
    /// Replies that were longer than their client takes.
    pub too_large: u64,
    /// Sessions that were given up, since their channel did not carry a packet as long as agreed.
    pub unsendable: u64,
    /// Answers that came when their client, or its session, had gone.
    pub late: u64,
}

/// A server of one service, at any number of addresses. Owned by one thread, which serves by what it calls of
/// it.
///
/// Each client has a channel and, over it, one session. What a client does costs the others at most a turn: a
/// message taken and answered, or sixteen packets sent. A client whose channel ends has ended: its calls that are
/// being executed go on, and their replies go nowhere.
pub struct Service {
    endpoint: Endpoint,
    sleep: Sleep,
    /// Where messages are put. Not here while one is looked at, which may be for as long as a handler takes.
    receipt: Option<Box<Receipt>>,
    /// How many handlers wait while others are run.
    depth: u32,
    /// By the index of their channels.
    sessions: Vec<Option<Session>>,
    /// Those that had more to send than a turn, or than there was room for.
    sending: VecDeque<usize>,
    answers: Arc<Answers>,
    given: Vec<Answer>,
    /// How many calls are answered later.
    later: usize,
    identity: Identity,
    options: ServiceOptions,
    clock: Clock,
    now: u64,
    /// Whether it listens for clients of this host only.
    is_near: bool,
    /// This thread has slept: what is taken until then may have waited for it to wake.
    woken_until: u64,
    callers: Callers<ChannelId>,
    /// Whether the descriptor's timer is set.
    is_timed: bool,
    /// When to look for clients to be let go of.
    sweep: u64,
    counts: Counts,
}

/// A message, and space for what it unpacks to.
#[derive(Default)]
struct Receipt {
    delivery: Delivery,
    space: Vec<u8>,
}

impl Service {
    /// Listens at some addresses.
    ///
    /// # Errors
    /// [`ServeError`].
    pub fn listen(addresses: &[Address], options: ServiceOptions) -> Result<Self, ServeError> {
        let of_endpoint = EndpointOptions { wait: options.wait, max_channels: options.clients };
        let mut endpoint = Endpoint::new(of_endpoint)?;
        for address in addresses {
            endpoint.listen(address, options.listen.clone())?;
        }
        let answers = Answers::new().map_err(ServeError::Kernel)?;
        let sleep = Sleep::new(&endpoint, Some(&answers.bell)).map_err(ServeError::Kernel)?;
        let (service, epoch) = (options.service, options.epoch);
        Ok(Self {
            endpoint,
            sleep,
            receipt: None,
            depth: 0,
            sessions: Vec::new(),
            sending: VecDeque::new(),
            answers,
            given: Vec::new(),
            later: 0,
            identity: Identity { service, incarnation: draw()?, epoch },
            options,
            clock: Clock::new(),
            now: 0,
            woken_until: 0,
            callers: Callers::new(),
            is_near: addresses.iter().all(|address| matches!(address, Address::Shm(_))),
            is_timed: false,
            sweep: 0,
            counts: Counts::default(),
        })
    }

    /// What was dropped and refused.
    pub fn counts(&self) -> Counts {
        let mut counts = self.counts;
        for session in self.sessions.iter().flatten() {
            session.add_to(&mut counts);
        }
        counts
    }

    /// Writes down what was dropped and refused, in the endpoint's page of counters.
    #[cold]
    fn publish(&self) {
        let counts = self.counts();
        let counters = self.endpoint.counters();
        for (counter, count) in [
            (Counter::RpcMalformed, counts.malformed),
            (Counter::RpcForeign, counts.foreign),
            (Counter::RpcSessionless, counts.sessionless),
            (Counter::RpcRejected, counts.rejected),
            (Counter::RpcUnaccepted, counts.unaccepted),
            (Counter::RpcIdle, counts.idle),
            (Counter::RpcRefused, counts.refused),
            (Counter::RpcFailed, counts.failed),
            (Counter::RpcTooLarge, counts.too_large),
            (Counter::RpcUnsendable, counts.unsendable),
            (Counter::RpcLate, counts.late),
        ] {
            counters.set(counter, count);
        }
    }

    /// How many clients have a session.
    pub fn clients(&self) -> usize {
        self.sessions.iter().flatten().filter(|session| session.is_open()).count()
    }

    /// How many calls are being executed, to be answered later.
    pub fn later(&self) -> usize {
        self.later
    }

    /// Goes on to another epoch: what belongs to sessions of an earlier one is not begun any more, and their
    /// clients ask for new ones.
    pub fn enter_epoch(&mut self, epoch: u64) {
        self.identity.epoch = epoch;
        self.now = self.clock.now();
        for index in 0..self.sessions.len() {
            if let Some(session) = &mut self.sessions[index] {
                session.fence(self.now);
                self.send(index);
            }
        }
    }

    /// Serves what is there, and does what is due. Never waits. How much there was.
    ///
    /// # Cost
    /// A look at the active channels; a look at the clock for what there is, where all addresses are of this host
    /// at the kernel's last tick; over a network one after each call, by which the client tells a slow handler from
    /// a slow network; and one before each call that has a deadline. Idle clients cost nothing but a walk over all of
    /// them once in a second.
    #[inline]
    pub fn poll(&mut self, handler: &mut impl Handler) -> usize {
        self.serve_burst(handler)
    }

    /// Serves until `stop` is true, waiting by the wait strategy. It is looked at after every burst, of at most 64
    /// messages, and every tenth of a second.
    pub fn serve(&mut self, handler: &mut impl Handler, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            if self.serve_burst(handler) == 0 {
                self.serve_waiting(handler, Duration::from_millis(100));
            }
        }
    }

    /// As [`Service::poll`], and waits for something to come, at most so long.
    #[inline]
    pub fn poll_timeout(&mut self, handler: &mut impl Handler, timeout: Duration) -> usize {
        match self.serve_burst(handler) {
            0 => self.serve_waiting(handler, timeout),
            served => served,
        }
    }

    /// Sends on what clients have not taken yet, and refuses further calls ([`crate::protocol::Refusal::ShuttingDown`]):
    /// before the service is dropped. Of long replies a client tells what it has, so that they arrive whole, also where
    /// packets are lost; others are sent once. Waits for clients that were heard of within the suspicion, and at most
    /// for the patience ([`ServiceOptions::timers`]).
    pub fn drain(&mut self) {
        self.send_owed();
    }

    /// Announces that this thread will wait for the descriptor, as [`super::Connection::arm`] does.
    pub fn arm(&mut self) -> bool {
        // Who gives an answer rings from now on.
        if !self.answers.say_sleeps(true) || self.is_busy() || !self.endpoint.arm() {
            self.answers.say_sleeps(false);
            return false;
        }
        self.sleep.set_timer(self.due_after());
        self.is_timed = true;
        true
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // For who holds the page.
        self.publish();
    }
}

impl AsFd for Service {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sleep.as_fd()
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("identity", &self.identity).finish_non_exhaustive()
    }
}
