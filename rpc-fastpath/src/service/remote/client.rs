//! The client's side: a connection that calls methods.

mod waiting;

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;
use std::time::{Duration, Instant};

use lrpc::{Outcome, Progress, Reason, UnknownReason};
use rustix::io::Errno;
use unet::{Address, AllocError, FbufMut, Message, Wait};

use super::RemotePending;
use super::buffers::Buffers;
use super::bulk::join;
use super::calls::{Again, Calls, Received, Request, keep};
use crate::endpoint::{Connection, ConnectionOptions, How, OpenError, SessionEnd, Token};
use crate::service::contract::{Caller, Method, Service, id_of};
use crate::service::form::Form;
use crate::service::handling::let_go;
use crate::service::serving::within;

/// How a client over channels is opened.
#[derive(Clone, Debug)]
pub struct RemoteOptions {
    /// Of its connection. What it says of the service is not heard: that is the type's to say.
    pub connection: ConnectionOptions,
    /// How often an idempotent call is made again, at most, when its session or its server was lost.
    pub retries: u32,
}

impl Default for RemoteOptions {
    fn default() -> Self {
        Self { connection: ConnectionOptions::default(), retries: 3 }
    }
}

/// Calls a service over channels, at the first of its addresses that gives a session, and at another one when
/// that is lost. Used by one thread at a time, which is the compiler's to see.
///
/// Nothing runs by itself: whoever calls, waits, asks, or awaits moves everything on, and the replies of other calls
/// are kept for them. No code of the user's (`Serialize`, `Deserialize`, a waker) runs while the client is in
/// use, so all of it may call on the client; a panic of it unwinds out of the call, and the client remains usable.
///
/// A call of a method that is marked idempotent is made again, within its deadline and at most
/// [`RemoteOptions::retries`] times, when its session or its server was lost and nobody knows whether it was
/// executed. Others never are. A method's deadline ends its calls, however they are waited for.
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>() {}
/// shared::<rpc_fastpath::service::Remote<()>>();
/// ```
pub struct Remote<S> {
    /// Borrowed by no function that runs code of the user's meanwhile.
    inner: RefCell<Inner>,
    /// For what is encoded; empty while it is in use.
    scratch: Cell<Vec<u8>>,
    /// A duplicate of the connection's, so that it can be lent.
    fd: OwnedFd,
    retries: u32,
    wait: Wait,
    _service: PhantomData<fn() -> S>,
}

struct Inner {
    connection: Connection,
    calls: Calls,
    buffers: Buffers,
    /// Whom to wake, before whoever moved the client on returns.
    wakers: Vec<Waker>,
    /// Whether somebody waits for the descriptor.
    is_armed: bool,
    /// Whether calls have ended since [`Remote::progress`] was last asked.
    news: bool,
    /// How many calls wait while their server is served.
    serving: usize,
}

impl<S: Service> Remote<S> {
    /// Connects to the service at any of these addresses, those of this host first, and waits until there is a
    /// session.
    ///
    /// # Errors
    /// [`OpenError`]: where a server is there and has another service, version or layout, `Session` with the
    /// rejection that says so.
    pub fn open(addresses: &[Address], options: RemoteOptions) -> Result<Self, OpenError> {
        let remote = Self::begin(addresses, options)?;
        remote.inner.borrow_mut().connection.await_session()?;
        Ok(remote)
    }

    /// As [`Remote::open`], and does not wait: what is called waits for the session, as long as the patience
    /// lasts.
    ///
    /// # Errors
    /// [`OpenError`], where the kernel gives not what it takes.
    pub fn begin(addresses: &[Address], options: RemoteOptions) -> Result<Self, OpenError> {
        let RemoteOptions { mut connection, retries } = options;
        connection.service = id_of::<S>();
        let wait = connection.wait;
        let connection = Connection::begin(addresses, connection)?;
        let fd = connection.as_fd().try_clone_to_owned();
        let kernel =
            |error| OpenError::Kernel(Errno::from_io_error(&error).unwrap_or(Errno::MFILE));
        let fd = fd.map_err(kernel)?;
        let inner = Inner {
            connection,
            calls: Calls::default(),
            buffers: Buffers::default(),
            wakers: Vec::new(),
            is_armed: false,
            news: false,
            serving: 0,
        };
        let (inner, scratch) = (RefCell::new(inner), Cell::default());
        Ok(Self { inner, scratch, fd, retries, wait, _service: PhantomData })
    }

    /// Why the last session ended, until there is another one.
    pub fn session_end(&self) -> Option<SessionEnd> {
        self.inner.borrow().connection.session_end()
    }

    /// Whether nothing was heard of the server for longer than the suspicion lasts. No call ends by that.
    pub fn is_suspected(&self) -> bool {
        self.inner.borrow().connection.is_suspected()
    }

    /// How many calls have not ended, those included that nobody waits for.
    pub fn under_way(&self) -> usize {
        self.inner.borrow().connection.under_way()
    }

    /// Takes what came, does what is due, and wakes the tasks whose calls have ended. `true` if calls have ended
    /// since the last time, whoever took their replies.
    pub fn progress(&self) -> bool {
        self.with(|inner| {
            inner.is_armed = false;
            inner.take();
            std::mem::take(&mut inner.news)
        })
    }

    /// Announces that this thread, or its event loop, will wait for the descriptor ([`AsFd`]). `false` if there is
    /// something to do already: then call [`Remote::progress`], do not wait. Who calls or asks meanwhile makes the
    /// descriptor readable, so that it is armed anew.
    pub fn arm(&self) -> bool {
        self.with(|inner| {
            inner.is_armed = !inner.news && inner.connection.arm();
            inner.is_armed
        })
    }

    /// Does something with the connection, then wakes whom that concerns.
    fn with<T>(&self, run: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.inner.borrow_mut();
        let done = run(&mut inner);
        if !inner.wakers.is_empty() {
            let wakers = std::mem::take(&mut inner.wakers);
            drop(inner);
            for waker in wakers {
                // One that panics takes nothing from the others, nor the outcome from who asked.
                let woken = catch_unwind(AssertUnwindSafe(|| waker.wake()));
                woken.unwrap_or_else(let_go);
            }
        }
        done
    }

    /// What is sent for a call.
    fn request<M: Method<Interface = S>>(
        &self,
        takes: M::Takes<'_>,
        bulk: Option<Message>,
        within: Option<Duration>,
    ) -> Result<Request, Reason> {
        // The author's code runs here, and may panic: then the next call allocates.
        let mut bytes = self.scratch.take();
        bytes.clear();
        let written = M::TakesForm::write(&takes, &mut bytes);
        let content = written.and_then(|()| {
            if !M::BULK_ARGUMENT {
                return Ok(bytes[..].into());
            }
            let mut inner = self.inner.borrow_mut();
            let joined = join(bulk.unwrap_or_default(), &bytes, |len| inner.connection.alloc(len));
            joined.map_err(|_| Reason::ForeignBuffer)
        });
        self.put_back(bytes);
        let deadline = within.and_then(|within| Instant::now().checked_add(within));
        let how = How { deadline, one_way: M::SHAPE.one_way, ..How::default() };
        Ok(Request { method: M::INDEX, content: content?, how })
    }

    /// What came back.
    pub(super) fn read<M: Method<Interface = S>>(
        &self,
        outcome: Outcome<Received>,
    ) -> Outcome<M::Output> {
        let received = match outcome {
            Outcome::Executed(received) => received,
            Outcome::Refused(reason) => return Outcome::Refused(reason),
            Outcome::Unknown(reason) => return Outcome::Unknown(reason),
        };
        let gives = received.head.as_slice().and_then(M::GivesForm::read);
        gives.map_or(Outcome::Unknown(UnknownReason::BadResults), |gives| {
            Outcome::Executed(M::join(gives, received.bulk))
        })
    }

    /// Starts a call that is wanted for so long.
    fn begin_within<M: Method<Interface = S>>(
        &self,
        takes: M::Takes<'_>,
        bulk: Option<Message>,
        within: Option<Duration>,
    ) -> Result<RemotePending<'_, M>, Reason> {
        let request = self.request::<M>(takes, bulk, within)?;
        let again = self.again::<M>(&request);
        let token = self.with(|inner| {
            inner.make_room();
            let Request { method, content, how } = request;
            let token = inner.connection.start(method, content, how)?;
            inner.calls.insert(token, M::BULK_RESULT, again);
            inner.connection.flush();
            Ok::<_, Reason>(token)
        })?;
        Ok(RemotePending::new(self, token))
    }

    fn again<M: Method>(&self, request: &Request) -> Option<Again> {
        M::SHAPE.idempotent.then(|| Again::new(request.clone(), self.retries))
    }

    fn put_back(&self, bytes: Vec<u8>) {
        // So that one large call occupies no memory for good.
        if bytes.capacity() <= crate::service::KEPT {
            self.scratch.set(bytes);
        }
    }
}

impl Inner {
    /// Somebody who waits for the descriptor is to look, and arm it anew.
    fn disturb(&mut self) {
        if std::mem::take(&mut self.is_armed) {
            self.connection.nudge();
        }
    }

    /// As `disturb`, for one more call: those that have ended make room.
    fn make_room(&mut self) {
        self.disturb();
        if self.connection.under_way() > 0 {
            self.take();
        }
    }

    fn look(&mut self, token: Token) -> Option<Outcome<Received>> {
        if !self.calls.has_ended(token) {
            self.disturb();
            self.take();
        }
        self.calls.take(token)
    }

    /// Takes what came.
    fn take(&mut self) {
        let Self { connection, calls, buffers, wakers, news, .. } = self;
        *news |= connection.poll(|end| wakers.extend(calls.on_end(end, buffers))) > 0;
        self.make_again();
    }

    /// Waits until a call has ended.
    fn wait(&mut self, most: Duration) {
        let Self { connection, calls, buffers, wakers, news, .. } = self;
        *news |= connection.poll_timeout(most, |end| wakers.extend(calls.on_end(end, buffers))) > 0;
        self.make_again();
    }

    #[inline(always)]
    fn make_again(&mut self) {
        while let Some((token, Request { method, content, how })) = self.calls.next_lost() {
            if let Err(why) = self.connection.start_again(token, method, content, how) {
                self.wakers.extend(self.calls.on_refusal(token, why));
            }
        }
    }

    /// Calls, and waits.
    fn call(
        &mut self,
        request: Request,
        has_bulk: bool,
        mut again: Option<Again>,
    ) -> Outcome<Received> {
        self.make_room();
        let Request { method, mut content, how } = request;
        let outcome = loop {
            let Self { connection, buffers, .. } = self;
            let outcome = connection
                .call_and(method, content, how, |outcome| keep(outcome, has_bulk, buffers));
            let Some(attempt) = &mut again else { break outcome };
            if let Some(outcome) = attempt.judge(outcome) {
                break outcome;
            }
            content = attempt.request.content.clone();
        };
        // The ends of others came meanwhile.
        if self.connection.under_way() > 0 {
            self.take();
        }
        outcome
    }
}

impl<S: Service> Caller<S> for Remote<S> {
    type Pending<'a, M: Method<Interface = S>> = RemotePending<'a, M>;

    fn call<M: Method<Interface = S>>(
        &self,
        takes: M::Takes<'_>,
        bulk: Option<Message>,
    ) -> Outcome<M::Output> {
        let request = match self.request::<M>(takes, bulk, M::SHAPE.deadline) {
            Ok(request) => request,
            Err(reason) => return Outcome::Refused(reason),
        };
        let again = self.again::<M>(&request);
        let outcome = self.with(|inner| inner.call(request, M::BULK_RESULT, again));
        self.read::<M>(outcome)
    }

    fn call_serving<M: Method<Interface = S>>(
        &self,
        takes: M::Takes<'_>,
        bulk: Option<Message>,
        server: &dyn Progress,
    ) -> Outcome<M::Output> {
        // All that wait have a place of the window; one that had none would wait for those, and they for it.
        let Some(_place) = self.place() else { return Outcome::Refused(Reason::TooDeep) };
        match self.begin_within::<M>(takes, bulk, within(M::SHAPE.deadline, server)) {
            Ok(pending) => pending.wait_serving(server),
            Err(reason) => Outcome::Refused(reason),
        }
    }

    fn start<M: Method<Interface = S>>(
        &self,
        takes: M::Takes<'_>,
        bulk: Option<Message>,
    ) -> Result<RemotePending<'_, M>, Reason> {
        self.begin_within::<M>(takes, bulk, M::SHAPE.deadline)
    }

    fn send<M: Method<Interface = S>>(
        &self,
        takes: M::Takes<'_>,
        bulk: Option<Message>,
    ) -> Result<(), Reason> {
        let Request { method, content, how } = self.request::<M>(takes, bulk, M::SHAPE.deadline)?;
        self.with(|inner| {
            inner.make_room();
            inner.connection.start(method, content, how)?;
            inner.connection.flush();
            Ok(())
        })
    }

    /// A buffer of the channel's where that leads to a process of this host, to be handed over; else one of this
    /// process's own, whose bytes are copied when they are sent.
    fn alloc(&self, len: usize) -> Result<FbufMut, AllocError> {
        self.with(|inner| {
            let mut own = inner.connection.alloc(len);
            if let Some(Err(AllocError::Exhausted)) = own {
                // What came since gives some back.
                inner.make_room();
                own = inner.connection.alloc(len);
            }
            own.unwrap_or_else(|| inner.buffers.alloc(len))
        })
    }
}

impl<S> AsFd for Remote<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl<S> std::fmt::Debug for Remote<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("retries", &self.retries).finish_non_exhaustive()
    }
}
