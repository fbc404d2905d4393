//! The server's side: a handler behind the methods of its service, at any number of addresses.

use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use unet::Address;

use super::methods::{Listening, Methods};
use crate::endpoint::{self, ServeError, ServiceOptions};
use crate::service::contract::{Served, Service, id_of};
use crate::service::running::Running;
use crate::service::workers::{Limits, Workers};

/// How to serve over channels.
#[derive(Clone, Debug)]
pub struct RemoteServerOptions {
    /// How clients are taken, and how many. What it says of the service is not heard: that is the type's to say.
    pub service: ServiceOptions,
    /// Threads for methods that are marked slow. None are started for a service without such.
    pub workers: usize,
    /// Calls that wait for a worker; beyond, they are refused. Each holds a copy of its arguments, which are as long
    /// as the service's limits permit.
    pub backlog: usize,
    /// Calls that one client may have with the workers, running and waiting; beyond, they are refused.
    /// A client with two channels counts twice.
    pub backlog_of_a_client: usize,
}

impl Default for RemoteServerOptions {
    fn default() -> Self {
        let (workers, backlog, backlog_of_a_client) = (1, 64, 16);
        Self { service: ServiceOptions::default(), workers, backlog, backlog_of_a_client }
    }
}

/// A service that is served over channels. Owned by one thread, which serves all its clients; slow methods are run
/// by workers. Handlers are those of [`super::super::Server`], and are treated as there: a panic fails its call, and no
/// other; what is no value of its type is refused; dropping the server waits for what workers run,
/// and for clients that are taking a long reply ([`endpoint::Service::drain`]).
///
/// A handler that waits for another service keeps this one waiting, unless its method is marked slow, or it calls by
/// a client's `serving`: then calls are served within it, up to sixteen deep.
pub struct RemoteServer<S> {
    service: endpoint::Service,
    methods: Methods,
    workers: Option<Arc<Workers>>,
    _service: PhantomData<fn() -> S>,
}

impl<S: Service> RemoteServer<S> {
    /// Serves at some addresses, by `handler`.
    ///
    /// # Errors
    /// [`ServeError`].
    pub fn listen<H>(
        addresses: &[Address],
        handler: H,
        options: RemoteServerOptions,
    ) -> Result<Self, ServeError>
    where
        S: Served<H>,
        H: Send + Sync + 'static,
    {
        let RemoteServerOptions { mut service, workers, backlog, backlog_of_a_client } = options;
        service.service = id_of::<S>();
        let service = endpoint::Service::listen(addresses, service)?;
        let workers = if S::METHODS.iter().any(|method| method.slow) {
            let in_all = backlog.saturating_add(workers.max(1));
            let limits = Limits { in_all, of_a_client: backlog_of_a_client };
            let kernel = |error| Errno::from_io_error(&error).unwrap_or(Errno::AGAIN);
            let started = Workers::start(workers, limits);
            Some(Arc::new(started.map_err(|error| ServeError::Kernel(kernel(error)))?))
        } else {
            None
        };
        let listening = Listening {
            methods: Methods::default(),
            workers: workers.clone(),
            handler: Arc::new(handler),
            _service: PhantomData,
        };
        let methods = S::methods(listening).methods;
        Ok(Self { service, methods, workers, _service: PhantomData })
    }

    /// Serves what is there. Never waits. `true` if something was done.
    #[inline]
    pub fn poll(&mut self) -> bool {
        self.service.poll(&mut self.methods) > 0
    }

    /// As [`RemoteServer::poll`], and waits for something by the wait strategy. `false` if nothing came in time.
    #[inline]
    pub fn serve_timeout(&mut self, timeout: Duration) -> bool {
        self.service.poll_timeout(&mut self.methods, timeout) > 0
    }

    /// Serves until `stop` returns true, which is asked between bursts and some ten times a second.
    pub fn serve_until(&mut self, mut stop: impl FnMut() -> bool) {
        const LOOK: Duration = Duration::from_millis(100);
        while !stop() {
            self.serve_timeout(LOOK);
        }
    }

    /// Serves in a thread of its own, until the returned handle is dropped.
    pub fn spawn(mut self) -> Running
    where
        S: 'static,
    {
        Running::start(move |stop| self.serve_until(stop))
    }

    /// The service below: its clients, and what it dropped and refused.
    pub fn endpoint(&self) -> &endpoint::Service {
        &self.service
    }

    /// Goes on to another epoch, as [`endpoint::Service::enter_epoch`].
    pub fn enter_epoch(&mut self, epoch: u64) {
        self.service.enter_epoch(epoch);
    }

    /// Announces that the thread will wait for the server's descriptor ([`AsFd`]), in an event loop. `false` if
    /// there is something to serve: then call [`RemoteServer::poll`], do not wait.
    pub fn arm(&mut self) -> bool {
        self.service.arm()
    }
}

impl<S> AsFd for RemoteServer<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.service.as_fd()
    }
}

impl<S> Drop for RemoteServer<S> {
    fn drop(&mut self) {
        const LOOK: Duration = Duration::from_millis(1);
        if let Some(workers) = &self.workers {
            workers.stop();
            // What workers run may call this server, and wait for it.
            while !workers.have_ended() {
                self.service.poll_timeout(&mut self.methods, LOOK);
            }
            self.service.poll(&mut self.methods);
        }
        self.service.drain();
    }
}

impl<S> std::fmt::Debug for RemoteServer<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let workers = self.workers.is_some();
        f.debug_struct("RemoteServer").field("workers", &workers).finish_non_exhaustive()
    }
}
