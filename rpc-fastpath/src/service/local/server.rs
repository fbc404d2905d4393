//! The server's side: a handler behind the methods of its service.

use std::cell::Cell;
use std::io;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use lrpc::{Answer, ExportError, ExportOptions, Fbuf, Later, Progress, Reason};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use segment::wait::{Step, Waiter};
use unet::{Address, AllocError, EndpointError, FbufMut, Message, Wait};

use super::source::{OnServer, OnWorker};
use super::workers::{Done, Workers};
use super::{Call, copied, has_passed};
use crate::service::contract::{Handled, Method, Registry, Served, Service};
use crate::service::form::Form;

/// How to serve.
pub struct ServerOptions {
    /// How the service is exported.
    pub export: ExportOptions,
    /// Threads for methods that are marked slow. None are started for a service without such.
    pub workers: usize,
    /// Calls that wait for a worker; beyond, they are refused.
    pub backlog: usize,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self { export: ExportOptions::default(), workers: 1, backlog: 64 }
    }
}

/// A served service. Owned by one thread, which serves all its clients at the cost of the active ones;
/// slow methods are run by workers.
///
/// A handler that panics fails its call, and no other: [`lrpc::UnknownReason::Failed`]. Dropping the
/// server waits for the workers' calls under way.
pub struct Server<S> {
    inner: lrpc::Server<S>,
    workers: Option<Arc<Workers<S>>>,
    wait: Wait,
}

impl<S: Service> Server<S> {
    /// Exports a service at an address, served by `handler`.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn export<H>(
        address: &Address,
        handler: H,
        options: ServerOptions,
    ) -> Result<Self, ExportError>
    where
        S: Served<H>,
        H: Send + Sync + 'static,
    {
        let wait = options.export.wait;
        let inner = lrpc::Server::export(address, options.export)?;
        let workers = if S::METHODS.iter().any(|method| method.slow) {
            let start = |fd: BorrowedFd<'_>| Workers::start(options.workers, options.backlog, fd);
            let kernel = |error: io::Error| {
                let refused = Errno::from_io_error(&error).unwrap_or(Errno::AGAIN);
                EndpointError::Kernel(refused)
            };
            Some(Arc::new(inner.with_fd(start).map_err(kernel)?))
        } else {
            None
        };
        let handler = Arc::new(handler);
        let exported = S::methods(Exporting { inner, workers, handler });
        Ok(Self { inner: exported.inner, workers: exported.workers, wait })
    }

    /// Serves the next call, if there is one. `true` if something was done.
    #[inline(always)]
    pub fn poll(&self) -> bool {
        turn(&self.inner, self.workers.as_deref())
    }

    /// Waits for the next call by the wait strategy, and serves it. `false` if none came in time.
    #[inline]
    pub fn serve_timeout(&self, timeout: Duration) -> bool {
        match &self.workers {
            Some(workers) if workers.are_busy() => self.serve_beside(workers, timeout),
            _ => self.inner.serve_timeout(timeout),
        }
    }

    /// The same, while workers may finish.
    #[cold]
    fn serve_beside(&self, workers: &Workers<S>, timeout: Duration) -> bool {
        let mut waiter = Waiter::new(self.wait, false, Some(timeout));
        loop {
            if self.poll() {
                return true;
            }
            match waiter.step(1, || false) {
                Step::Again => {}
                Step::TimedOut => return false,
                Step::Park => {
                    if workers.arm(&self.inner) {
                        let timeout = waiter.remaining().and_then(|time| time.try_into().ok());
                        let watch = PollFd::from_borrowed_fd(workers.fd(), PollFlags::IN);
                        // An interrupted sleep is a vain one.
                        let _ = poll(&mut [watch], timeout.as_ref());
                    }
                }
            }
        }
    }

    /// Serves until `stop` returns true, which is asked between calls and some ten times a second.
    pub fn serve_until(&self, mut stop: impl FnMut() -> bool) {
        const LOOK: Duration = Duration::from_millis(100);
        while !stop() {
            self.serve_timeout(LOOK);
        }
    }

    /// Serves in a thread of its own, until the returned handle is dropped.
    pub fn spawn(self) -> Running {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || self.serve_until(|| told.load(Ordering::Relaxed)));
        Running { stop, thread: Some(thread) }
    }

    /// The exported interface: its clients, counters, and how many calls it served.
    pub fn exported(&self) -> &lrpc::Server<S> {
        &self.inner
    }

    /// Announces that the thread will wait for the server's descriptor, in an event loop. `false` if
    /// there is something to serve: then call [`Server::poll`], do not wait.
    pub fn arm(&self) -> bool {
        match &self.workers {
            Some(workers) => workers.arm(&self.inner),
            None => self.inner.arm(),
        }
    }

    /// Passes the server's descriptor to `with`: after [`Server::arm`] returned true it becomes
    /// readable when there is something to serve.
    pub fn with_fd<T>(&self, with: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        match &self.workers {
            Some(workers) => with(workers.fd()),
            None => self.inner.with_fd(with),
        }
    }
}

impl<S: Service> Progress for Server<S> {
    fn poll(&self) -> bool {
        self.poll()
    }

    fn sleep(&self, sleep: &mut dyn FnMut(Option<BorrowedFd<'_>>)) {
        if self.arm() {
            self.with_fd(|fd| sleep(Some(fd)));
        }
    }
}

impl<S> std::fmt::Debug for Server<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("workers", &self.workers.is_some()).finish_non_exhaustive()
    }
}

/// A server in a thread of its own. Dropping it ends the server, within a tenth of a second and the
/// calls under way.
#[derive(Debug)]
#[must_use = "the server ends when this is dropped"]
pub struct Running {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It panics only by a bug of ours, and has said so.
            let _ = thread.join();
        }
    }
}

/// Sends what workers have finished, and serves the next call.
#[inline(always)]
pub(super) fn turn<S: Service>(server: &lrpc::Server<S>, workers: Option<&Workers<S>>) -> bool {
    let delivered = workers.is_some_and(|workers| workers.deliver(server));
    server.poll() || delivered
}

/// A server that is told its methods.
struct Exporting<S, H> {
    inner: lrpc::Server<S>,
    workers: Option<Arc<Workers<S>>>,
    handler: Arc<H>,
}

impl<S: Service, H: Send + Sync + 'static> Registry<H> for Exporting<S, H> {
    type Service = S;

    fn method<M: Handled<H, Interface = S>>(self) -> Self {
        let Self { inner, workers, handler } = self;
        let method = Methods::<S, H> { handler: Arc::clone(&handler), workers: workers.clone() };
        let inner = if M::SHAPE.slow {
            inner.on_answering::<M>(move |call, cell| method.hand_over::<M>(call, cell))
        } else {
            let scratch = Cell::new(Vec::new());
            inner.on_answering::<M>(move |call, cell| method.run::<M>(call, &cell, &scratch))
        };
        Self { inner, workers, handler }
    }
}

/// What serves a method.
struct Methods<S, H> {
    handler: Arc<H>,
    workers: Option<Arc<Workers<S>>>,
}

impl<S: Service, H: Send + Sync + 'static> Methods<S, H> {
    /// Runs the handler on this thread.
    #[inline(always)]
    fn run<M: Handled<H, Interface = S>>(
        &self,
        call: &lrpc::Call<'_, S>,
        cell: &M::Arguments,
        scratch: &Cell<Vec<u8>>,
    ) -> Answer<M::Results> {
        let expires = M::TakesForm::expires(cell);
        if has_passed(expires) {
            return Answer::Refused(Reason::TooLate);
        }
        let source = OnServer { call, workers: self.workers.as_deref() };
        let context = Call::new(&source, expires);
        let given = if M::IN_PLACE {
            handled::<M, H>(&self.handler, &context, cell, None, None)
        } else if M::BULK_ARGUMENT {
            let bulk = call.take_bulk().map(Message::from);
            handled::<M, H>(&self.handler, &context, cell, None, bulk)
        } else {
            // A nested call of this method finds none, and allocates.
            let mut bytes = scratch.take();
            let spilled = call.take_bulk();
            let spilled = spilled.as_ref().and_then(|buffer| copied(buffer, &mut bytes));
            let given = handled::<M, H>(&self.handler, &context, cell, spilled, None);
            scratch.set(bytes);
            given
        };
        let (answer, buffer) = answer::<M>(given, |len| call.alloc(len));
        if let Some(buffer) = buffer {
            call.reply_with(buffer);
        }
        answer
    }

    /// Has a worker run the handler.
    fn hand_over<M: Handled<H, Interface = S>>(
        &self,
        call: &lrpc::Call<'_, S>,
        cell: M::Arguments,
    ) -> Answer<M::Results> {
        let Some(workers) = &self.workers else { return Answer::Refused(Reason::Overloaded) };
        let handler = Arc::clone(&self.handler);
        let (later, caller) = (call.later::<M>(), call.caller());
        let mut bytes = Vec::new();
        let spilled = call.take_bulk().is_some_and(|buffer| copied(&buffer, &mut bytes).is_some());
        let job = Box::new(move || {
            let expires = M::TakesForm::expires(&cell);
            let given = if has_passed(expires) {
                Err(Answer::Refused(Reason::TooLate))
            } else {
                let source = OnWorker { caller };
                let context = Call::new(&source, expires);
                let spilled = spilled.then_some(&bytes[..]);
                handled::<M, H>(&handler, &context, &cell, spilled, None)
            };
            let send = move |server: &lrpc::Server<S>| send_later::<M>(server, later, given);
            Box::new(send) as Done<S>
        });
        if workers.submit(job) { Answer::Later } else { Answer::Refused(Reason::Overloaded) }
    }
}

/// What a handler gave, or why it gave nothing.
type Given<M> = Result<(<M as Method>::Gives, Option<Message>), Answer<Nothing>>;
/// No handler has results of this type.
enum Nothing {}

/// Reads the arguments, and runs the handler.
#[inline(always)]
fn handled<M: Handled<H>, H>(
    handler: &H,
    call: &Call<'_>,
    cell: &M::Arguments,
    spilled: Option<&[u8]>,
    bulk: Option<Message>,
) -> Given<M> {
    let takes = M::TakesForm::unpack(cell, spilled);
    let takes = takes.ok_or(Answer::Refused(Reason::BadArguments))?;
    // What a handler that panics leaves behind is its own, as it is for a thread that panics.
    catch_unwind(AssertUnwindSafe(|| M::handle(handler, call, takes, bulk)))
        .map_err(|_| Answer::Failed)
}

/// What is sent for it, with the buffer beside it.
#[inline(always)]
fn answer<M: Method>(
    given: Given<M>,
    alloc: impl FnOnce(usize) -> Result<FbufMut, AllocError>,
) -> (Answer<M::Results>, Option<Fbuf>) {
    let (gives, bulk) = match given {
        Ok(given) => given,
        Err(Answer::Refused(reason)) => return (Answer::Refused(reason), None),
        Err(_) => return (Answer::Failed, None),
    };
    let beside_bulk = M::BULK_RESULT;
    let spill = |len| match beside_bulk {
        true => Err(AllocError::TooLarge { asked: len, largest: 0 }),
        false => alloc(len),
    };
    let (cell, spilled) = match M::GivesForm::pack(gives, crate::service::form::NEVER, spill) {
        Ok(packed) => packed,
        Err(Reason::TooLarge) => return (Answer::ResultsTooLarge, None),
        Err(_) => return (Answer::Failed, None),
    };
    match bulk.map_or(Ok(None), super::client::own_buffer) {
        Ok(bulk) => (Answer::Results(cell), spilled.or(bulk)),
        // Of another server, or of several parts.
        Err(_) => (Answer::Failed, None),
    }
}

fn send_later<M: Method>(server: &lrpc::Server<M::Interface>, later: Later<M>, given: Given<M>) {
    let (answer, buffer) = answer::<M>(given, |len| server.alloc_for(&later, len));
    server.answer_later(later, answer, buffer);
}
