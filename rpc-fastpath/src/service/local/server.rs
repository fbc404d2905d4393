//! The server's side: a handler behind the methods of its service.

use std::io;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use lrpc::{ExportError, ExportOptions, Progress};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use segment::wait::{Step, Waiter};
use unet::{Address, EndpointError, Wait};

use super::deliveries::Deliveries;
use super::methods::Exporting;
use crate::service::contract::{Served, Service};
use crate::service::handling::let_go;
use crate::service::running::Running;
use crate::service::workers::{Limits, Workers};

/// How to serve.
pub struct ServerOptions {
    /// How the service is exported.
    pub export: ExportOptions,
    /// Threads for methods that are marked slow. None are started for a service without such.
    pub workers: usize,
    /// Calls that wait for a worker; beyond, they are refused. Each holds a copy of its arguments, which
    /// are as large as the client's buffers: at most 16 MiB.
    pub backlog: usize,
    /// Calls that one client may have with the workers, running and waiting; beyond, they are refused.
    /// A client that binds twice counts twice.
    pub backlog_of_a_client: usize,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self { export: ExportOptions::default(), workers: 1, backlog: 64, backlog_of_a_client: 16 }
    }
}

/// A served service. Owned by one thread, which serves all its clients at the cost of the active ones;
/// slow methods are run by workers.
///
/// A handler that panics fails its call, and no other: [`lrpc::UnknownReason::Failed`]; so does a
/// `Serialize` of its result. Where a `Deserialize` panics the call is refused.
///
/// Dropping the server waits for the calls that workers run, and answers them; those that wait for a
/// worker, and slow ones that arrive, are refused ([`lrpc::Reason::Stopping`]). Until then it serves the
/// other methods, since what a worker runs may call them.
pub struct Server<S: Service> {
    inner: lrpc::Server<S>,
    slow: Option<Arc<Deliveries<S>>>,
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
        let slow = if S::METHODS.iter().any(|method| method.slow) {
            let limits = Limits {
                in_all: options.backlog.saturating_add(options.workers.max(1)),
                of_a_client: options.backlog_of_a_client,
            };
            let start =
                |fd: BorrowedFd<'_>| Deliveries::of(Workers::start(options.workers, limits)?, fd);
            let kernel = |error: io::Error| {
                let refused = Errno::from_io_error(&error).unwrap_or(Errno::AGAIN);
                EndpointError::Kernel(refused)
            };
            Some(Arc::new(inner.with_fd(start).map_err(kernel)?))
        } else {
            None
        };
        let handler = Arc::new(handler);
        let Exporting { inner, slow, .. } = S::methods(Exporting { inner, slow, handler });
        Ok(Self { inner, slow, wait })
    }

    /// Serves the next call, if there is one. `true` if something was done.
    #[inline(always)]
    pub fn poll(&self) -> bool {
        turn(&self.inner, self.slow.as_deref())
    }

    /// Waits for the next call by the wait strategy, and serves it. `false` if none came in time.
    #[inline]
    pub fn serve_timeout(&self, timeout: Duration) -> bool {
        match &self.slow {
            Some(slow) if slow.workers.are_busy() => self.serve_beside(slow, timeout),
            _ => self.inner.serve_timeout(timeout),
        }
    }

    /// The same, while workers may finish.
    #[cold]
    fn serve_beside(&self, slow: &Deliveries<S>, timeout: Duration) -> bool {
        let mut waiter = Waiter::new(self.wait, false, Some(timeout));
        loop {
            if self.poll() {
                return true;
            }
            match waiter.step(1, || false) {
                Step::Again => {}
                Step::TimedOut => return false,
                Step::Park => {
                    if slow.arm(&self.inner) {
                        let timeout = waiter.remaining().and_then(|time| time.try_into().ok());
                        let watch = PollFd::from_borrowed_fd(slow.fd(), PollFlags::IN);
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
        Running::start(move |stop| self.serve_until(stop))
    }

    /// The exported interface: its clients, counters, and how many calls it served.
    pub fn exported(&self) -> &lrpc::Server<S> {
        &self.inner
    }

    /// Announces that the thread will wait for the server's descriptor, in an event loop. `false` if
    /// there is something to serve: then call [`Server::poll`], do not wait.
    pub fn arm(&self) -> bool {
        match &self.slow {
            Some(slow) => slow.arm(&self.inner),
            None => self.inner.arm(),
        }
    }

    /// Passes the server's descriptor to `with`: after [`Server::arm`] returned true it becomes
    /// readable when there is something to serve.
    pub fn with_fd<T>(&self, with: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        match &self.slow {
            Some(slow) => with(slow.fd()),
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

impl<S: Service> Drop for Server<S> {
    fn drop(&mut self) {
        const LOOK: Duration = Duration::from_millis(1);
        let Some(slow) = &self.slow else { return };
        slow.workers.stop();
        // What workers run may call this server, and wait for it.
        while !slow.workers.have_ended() {
            // Only `ExportOptions::admit` panics here: its client is not admitted, and a worker may wait.
            let _ = catch_unwind(AssertUnwindSafe(|| self.serve_timeout(LOOK))).map_err(let_go);
        }
        slow.send(&self.inner);
    }
}

impl<S: Service> std::fmt::Debug for Server<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("workers", &self.slow.is_some()).finish_non_exhaustive()
    }
}

/// Sends what workers have finished, and serves the next call.
#[inline(always)]
pub(super) fn turn<S: Service>(server: &lrpc::Server<S>, slow: Option<&Deliveries<S>>) -> bool {
    let sent = slow.is_some_and(|slow| slow.send(server));
    server.poll() || sent
}
