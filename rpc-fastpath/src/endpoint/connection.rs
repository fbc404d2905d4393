//! The client: calls a service wherever it is, and learns what became of each call.

mod calls;
mod driving;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use unet::{AllocError, ConnectError, ConnectOptions, EndpointError, FbufMut, Message, Wait};

use self::driving::Driver;
pub(super) use self::driving::{buffer, fragment};
use super::clock::NoRandom;
use super::content::{Bytes, Content};
use crate::protocol::{
    Failure, Limits, Outcome, QueryError, Refusal, RequestId, ServiceId, SessionEnd, Terms, Timers,
};

/// Names a call of a [`Connection`]: never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub(super) u64);

/// What a client asks for, and how it waits.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    /// What is called: the server's must be the same.
    pub service: ServiceId,
    /// The epoch that the server shall be in; zero for any.
    pub epoch: u64,
    /// What is taken, and how much at once. The size of a fragment is what the channel carries, at most.
    pub limits: Limits,
    /// How long to wait for what.
    pub timers: Timers,
    /// How its thread waits.
    pub wait: Wait,
    /// How channels are made: among others, the drivers of networks.
    pub connect: ConnectOptions,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            service: ServiceId::default(),
            epoch: 0,
            limits: Limits { fragment: u32::MAX, ..Limits::default() },
            timers: Timers::default(),
            wait: Wait::default(),
            connect: ConnectOptions::default(),
        }
    }
}

/// How a call is made.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// When the reply is of no use any more: the call is not begun after this, and ends. What passes on
    /// the way, or in the ring until the server takes the call, the server does not know of; and a one-way
    /// call that the server has taken in time is begun all the same, when its turn comes.
    pub deadline: Option<Instant>,
    /// The longest reply that is taken.
    pub max_reply: u32,
    /// No reply is wanted: the call ends when it was handed to its handler.
    pub one_way: bool,
}

impl Default for How {
    fn default() -> Self {
        Self { deadline: None, max_reply: u32::MAX, one_way: false }
    }
}

/// The end of a call: each has one, and one more for each time that its outcome was asked for.
#[derive(Debug)]
pub struct End<'a> {
    /// Which call.
    pub token: Token,
    /// Its number, if it had one: by it the outcome can be asked for.
    pub request: Option<RequestId>,
    /// How it ended. The reply is lent until the function returns that it is given to.
    pub outcome: Outcome<Bytes<'a>>,
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Its endpoint could not be made.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The kernel refused.
    #[error("the kernel refused to make what a connection waits on: {0}")]
    Kernel(Errno),
    /// There is no random number for its session.
    #[error(transparent)]
    Random(#[from] NoRandom),
    /// No address led to a server.
    #[error("no address led to a server: {0}")]
    Connect(ConnectError),
    /// The server gave no session.
    #[error(transparent)]
    Session(SessionEnd),
}

impl From<Errno> for OpenError {
    fn from(errno: Errno) -> Self {
        Self::Kernel(errno)
    }
}

/// A client of one service. Owned by one thread, which moves it on by whatever it calls of it.
///
/// It keeps a channel to one of the service's addresses and a session over it, and makes others when they
/// end: at once the first time, then after pauses that double and differ. What was sent in a session that was
/// lost ends as unknown, what was not as refused; what is begun while there is none waits for the next one, for
/// as long as the patience lasts. Where a server gives no session and there is another address, that one is next.
pub struct Connection {
    driver: Driver,
    /// Ends of other calls, that came while one was waited for.
    early: VecDeque<(Token, Option<RequestId>, Outcome<Vec<u8>>)>,
}

impl Connection {
    /// Begins: the channel and the session come while it is used. Names of hosts are looked up at once.
    ///
    /// # Errors
    /// [`OpenError`], where the kernel gives not what it takes.
    pub fn begin(
        addresses: &[unet::Address],
        options: ConnectionOptions,
    ) -> Result<Self, OpenError> {
        Ok(Self { driver: Driver::new(addresses, options)?, early: VecDeque::new() })
    }

    /// As [`Connection::begin`], and waits until the session is there, or is known not to be.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(address: &unet::Address, options: ConnectionOptions) -> Result<Self, OpenError> {
        let mut connection = Self::begin(std::slice::from_ref(address), options)?;
        connection.await_session()?;
        Ok(connection)
    }

    /// Waits until there is a session, or none of the addresses gave one.
    ///
    /// # Errors
    /// [`OpenError`]. The connection goes on to try, with pauses.
    pub fn await_session(&mut self) -> Result<(), OpenError> {
        self.driver.await_session()
    }

    /// What was agreed, while there is a session.
    pub fn terms(&self) -> Option<&Terms> {
        self.driver.calls.terms()
    }

    /// Why the last session ended, until there is another one.
    pub fn session_end(&self) -> Option<SessionEnd> {
        self.driver.calls.end()
    }

    /// Whether nothing was heard of the server for longer than the suspicion lasts. No call ends by that.
    pub fn is_suspected(&self) -> bool {
        self.driver.calls.is_suspected()
    }

    /// How many calls have not ended.
    pub fn under_way(&self) -> usize {
        self.driver.calls.count() + self.early.len()
    }

    /// How many calls can be under way at once; further ones wait.
    pub fn window(&self) -> usize {
        self.driver.calls.session.machine.window()
    }

    /// How many packets were dropped that have no header.
    pub fn malformed(&self) -> u64 {
        self.driver.calls.malformed()
    }

    /// From the next session on, the epoch that the server shall be in.
    pub fn set_epoch(&mut self, epoch: u64) {
        self.driver.calls.set_epoch(epoch);
    }

    /// Begins a call. It goes out with the next [`Connection::poll`], or [`Connection::flush`].
    ///
    /// # Errors
    /// [`Refusal`]: the call has ended, not executed.
    ///
    /// # Cost
    /// Up to 40 bytes of arguments: no allocation. A look at the clock, if no other call is under way or there
    /// is a deadline; on one host, without a deadline, at the kernel's last tick.
    #[inline]
    pub fn start(
        &mut self,
        method: u16,
        arguments: impl Into<Content>,
        how: How,
    ) -> Result<Token, Refusal> {
        self.driver.start(None, method, arguments.into(), how)
    }

    /// As [`Connection::start`], for a call that has ended before, under the same name.
    pub(crate) fn start_again(
        &mut self,
        token: Token,
        method: u16,
        arguments: Content,
        how: How,
    ) -> Result<Token, Refusal> {
        self.driver.start(Some(token), method, arguments, how)
    }

    /// Sends what was begun.
    #[inline]
    pub fn flush(&mut self) {
        self.driver.glance_at_clock();
        self.driver.transmit();
    }

    /// Sends what was begun, takes what came, and does what is due. Never waits. How many calls ended, each of
    /// which was given to `each`.
    ///
    /// # Cost
    /// A look at the clock, on one host at the kernel's last tick, a look at the channel, and whatever there is to do.
    #[inline]
    pub fn poll(&mut self, mut each: impl FnMut(End<'_>)) -> usize {
        let mut ended = self.tell_early(&mut each);
        self.driver.poll(&mut |end| {
            ended += 1;
            each(end);
        });
        ended
    }

    /// As [`Connection::poll`], and waits until a call has ended, or for so long.
    pub fn poll_timeout(&mut self, timeout: Duration, mut each: impl FnMut(End<'_>)) -> usize {
        let until = Instant::now().checked_add(timeout);
        let mut ended = self.poll(&mut each);
        while ended == 0 {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                break;
            }
            self.driver.wait(left.unwrap_or(Duration::MAX), &mut |end| {
                ended += 1;
                each(end);
            });
        }
        ended
    }

    /// Calls and waits. What `read` makes of the end is given back; ends of other calls wait for the next
    /// [`Connection::poll`].
    ///
    /// # Cost
    /// With arguments and a reply of up to 40 bytes: over a network two looks at the clock, and what the
    /// channel costs.
    #[inline]
    pub fn call_and<R>(
        &mut self,
        method: u16,
        arguments: impl Into<Content>,
        how: How,
        read: impl FnOnce(Outcome<Bytes<'_>>) -> R,
    ) -> R {
        let token = match self.driver.start(None, method, arguments.into(), how) {
            Ok(token) => token,
            Err(why) => return read(Outcome::Refused(why)),
        };
        if self.driver.calls.count() > 1 {
            // The others may have been left alone for long.
            self.driver.glance_at_clock();
        }
        self.driver.transmit();
        let (mut read, mut done) = (Some(read), None);
        loop {
            self.driver.wait(
                Duration::MAX,
                &mut |end| match read.take_if(|_| end.token == token) {
                    Some(read) => done = Some(read(end.outcome)),
                    None => self.early.push_back((end.token, end.request, copied(end.outcome))),
                },
            );
            if let Some(done) = done {
                return done;
            }
        }
    }

    /// Calls, waits, and copies the reply. One that a server of this host took back while it was copied counts
    /// as [`Failure::Abandoned`].
    ///
    /// # Cost
    /// As [`Connection::call_and`], and an allocation for a reply that is not empty.
    pub fn call(&mut self, method: u16, arguments: &[u8], how: How) -> Outcome<Vec<u8>> {
        self.call_and(method, arguments, how, copied)
    }

    /// Asks for the outcome of a call that ended in doubt, which then ends once more.
    ///
    /// # Errors
    /// [`QueryError`]: nobody knows.
    pub fn query(&mut self, request: RequestId) -> Result<(), QueryError> {
        self.driver.query(request)
    }

    /// Arguments in buffers of the channel, to be handed over where the server is on this host. `fill` is given
    /// one buffer after the other.
    ///
    /// # Errors
    /// [`AllocError`]: no room now, or no channel.
    pub fn message(
        &mut self,
        len: usize,
        fill: impl FnMut(&mut [u8]),
    ) -> Result<Message, AllocError> {
        self.driver.message(len, fill)
    }

    /// A buffer of the channel's, to be written and handed over. `None` without a channel, or over a network,
    /// where nothing is handed over.
    pub(crate) fn alloc(&mut self, len: usize) -> Option<Result<FbufMut, AllocError>> {
        self.driver.alloc(len)
    }

    /// Makes the descriptor readable, for who waits for it: there is something to do, and it is to be armed anew.
    pub(crate) fn nudge(&mut self) {
        self.driver.nudge();
    }

    /// Announces that this thread will wait for the descriptor. `false` if there is something to do already:
    /// then poll, do not wait. After `true`, wait until it is readable, poll, and arm again; whoever begins or
    /// sends something meanwhile does so, too.
    ///
    /// # Cost
    /// As [`unet::Endpoint::arm`], and two system calls.
    pub fn arm(&mut self) -> bool {
        self.early.is_empty() && self.driver.arm()
    }

    /// Ends the session and all calls: their ends are given to `each`.
    pub fn close(mut self, mut each: impl FnMut(End<'_>)) {
        self.tell_early(&mut each);
        self.driver.close(&mut each);
    }

    fn tell_early(&mut self, each: &mut impl FnMut(End<'_>)) -> usize {
        let mut ended = 0;
        while let Some((token, request, outcome)) = self.early.pop_front() {
            ended += 1;
            let outcome = match &outcome {
                Outcome::Executed(reply) => Outcome::Executed(Bytes::from(&reply[..])),
                other => other.clone().map(|_| Bytes::from(&[][..])),
            };
            each(End { token, request, outcome });
        }
        ended
    }
}

/// An outcome that can be kept.
fn copied(outcome: Outcome<Bytes<'_>>) -> Outcome<Vec<u8>> {
    match outcome.map(|reply| reply.to_vec()) {
        Outcome::Executed(Err(_)) => Outcome::Failed(Failure::Abandoned),
        other => other.map(Result::unwrap_or_default),
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.driver.as_fd()
    }
}

impl From<OpenError> for io::Error {
    fn from(error: OpenError) -> Self {
        io::Error::other(error)
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("under_way", &self.under_way()).finish_non_exhaustive()
    }
}
