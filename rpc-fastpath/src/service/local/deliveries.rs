//! What workers have finished, on its way to the server's thread, which alone may touch the endpoint.
//!
//! An epoll instance watches that endpoint and the workers' eventfd, so that the server has one
//! descriptor to wait for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};

use crate::service::contract::Service;
use crate::service::workers::{Place, Workers, locked};

/// What the server's thread does with a result.
type Done<S> = Box<dyn FnOnce(&lrpc::Server<S>) + Send>;

/// Workers, and what they have finished.
pub(super) struct Deliveries<S> {
    pub workers: Workers,
    give: Sender<(Place, Done<S>)>,
    done: Mutex<Receiver<(Place, Done<S>)>>,
    bell: Arc<OwnedFd>,
    both: OwnedFd,
}

/// Where a worker puts what it has finished.
pub(super) struct Deliver<S> {
    give: Sender<(Place, Done<S>)>,
    bell: Arc<OwnedFd>,
}

impl<S> Deliver<S> {
    /// Has the server's thread do this; the call has its place until then.
    pub fn give(&self, place: Place, done: impl FnOnce(&lrpc::Server<S>) + Send + 'static) {
        if self.give.send((place, Box::new(done))).is_ok() {
            // It overflows only if nobody looks, and then it is readable already.
            let _ = rustix::io::write(&*self.bell, &1u64.to_ne_bytes());
        }
    }
}

impl<S> Deliveries<S> {
    /// Of these workers, for a server with that descriptor.
    pub fn of(workers: Workers, server: BorrowedFd<'_>) -> io::Result<Self> {
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let both = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&both, server, EventData::new_u64(0), EventFlags::IN)?;
        epoll::add(&both, &bell, EventData::new_u64(1), EventFlags::IN)?;
        let (give, done) = channel();
        Ok(Self { workers, give, done: Mutex::new(done), bell, both })
    }

    /// For a job.
    pub fn deliver(&self) -> Deliver<S> {
        Deliver { give: self.give.clone(), bell: Arc::clone(&self.bell) }
    }

    /// What becomes readable when a call arrives, or a worker has finished.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.both.as_fd()
    }

    /// Sends the results that are there. `true` if there were any.
    #[inline(always)]
    pub fn send(&self, server: &lrpc::Server<S>) -> bool {
        self.workers.are_busy() && self.send_all(server)
    }

    fn send_all(&self, server: &lrpc::Server<S>) -> bool {
        let mut any = false;
        while let Some((place, done)) = self.next() {
            drop(place);
            done(server);
            any = true;
        }
        any
    }

    fn next(&self) -> Option<(Place, Done<S>)> {
        locked(&self.done).try_recv().ok()
    }
}

impl<S: Service> Deliveries<S> {
    /// Announces that this thread will wait for the common descriptor. `false` if there is something
    /// to do.
    pub fn arm(&self, server: &lrpc::Server<S>) -> bool {
        // What is rung for after this is heard; what was done before is sent here.
        let mut count = [0; 8];
        let _ = rustix::io::read(&*self.bell, &mut count);
        !self.send(server) && server.arm()
    }
}
