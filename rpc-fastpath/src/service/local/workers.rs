//! Threads for the methods that are marked slow, with a bounded backlog.
//!
//! A worker runs the handler; what it returns is sent by the server's thread, which alone may touch the
//! endpoint. An epoll instance watches that endpoint and the workers' eventfd, so that the server has
//! one descriptor to wait for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};

use crate::service::contract::Service;

/// What a worker does.
type Job<S> = Box<dyn FnOnce() -> Done<S> + Send>;
/// What the server's thread does with the result.
pub(super) type Done<S> = Box<dyn FnOnce(&lrpc::Server<S>) + Send>;

pub(super) struct Workers<S> {
    /// `None` once the threads are to end.
    jobs: Option<SyncSender<Job<S>>>,
    done: Mutex<Receiver<Done<S>>>,
    /// Jobs of which the result is not sent yet.
    outstanding: AtomicUsize,
    bell: Arc<OwnedFd>,
    both: OwnedFd,
    threads: Vec<JoinHandle<()>>,
}

impl<S: Service> Workers<S> {
    /// Starts so many threads, at least one, for a server with that descriptor.
    pub fn start(count: usize, backlog: usize, server: BorrowedFd<'_>) -> io::Result<Self> {
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let both = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&both, server, EventData::new_u64(0), EventFlags::IN)?;
        epoll::add(&both, &bell, EventData::new_u64(1), EventFlags::IN)?;
        let (jobs, taken) = sync_channel(backlog);
        let (give, done) = channel();
        let taken = Arc::new(Mutex::new(taken));
        let mut workers = Self {
            jobs: Some(jobs),
            done: Mutex::new(done),
            outstanding: AtomicUsize::new(0),
            bell,
            both,
            threads: Vec::new(),
        };
        for _ in 0..count.max(1) {
            let (taken, give) = (Arc::clone(&taken), give.clone());
            let bell = Arc::clone(&workers.bell);
            let thread = std::thread::Builder::new().name("slow methods".into());
            workers.threads.push(thread.spawn(move || work(&taken, &give, &bell))?);
        }
        Ok(workers)
    }

    /// Hands a job over. `false` if as many wait as may.
    pub fn submit(&self, job: Job<S>) -> bool {
        let taken = self.jobs.as_ref().is_some_and(|jobs| jobs.try_send(job).is_ok());
        if taken {
            // The thread that submits also delivers.
            self.outstanding.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// Whether results are still to come.
    #[inline(always)]
    pub fn are_busy(&self) -> bool {
        self.outstanding.load(Ordering::Relaxed) > 0
    }

    /// Sends the results that are there. `true` if there were any.
    #[inline(always)]
    pub fn deliver(&self, server: &lrpc::Server<S>) -> bool {
        self.are_busy() && self.deliver_all(server)
    }

    fn deliver_all(&self, server: &lrpc::Server<S>) -> bool {
        let mut any = false;
        while let Some(done) = self.next() {
            self.outstanding.fetch_sub(1, Ordering::Relaxed);
            done(server);
            any = true;
        }
        any
    }

    fn next(&self) -> Option<Done<S>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).try_recv().ok()
    }

    /// Announces that this thread will wait for the common descriptor. `false` if there is something
    /// to do.
    pub fn arm(&self, server: &lrpc::Server<S>) -> bool {
        // What is rung for after this is heard; what was done before is delivered here.
        let mut count = [0; 8];
        let _ = rustix::io::read(&*self.bell, &mut count);
        !self.deliver(server) && server.arm()
    }

    /// What becomes readable when a call arrives, or a worker has finished.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.both.as_fd()
    }
}

fn work<S>(jobs: &Mutex<Receiver<Job<S>>>, give: &Sender<Done<S>>, bell: &OwnedFd) {
    loop {
        // The lock is held while waiting: one worker waits for a job, the others for the lock.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        if give.send(job()).is_err() {
            return;
        }
        // It overflows only if nobody looks, and then it is readable already.
        let _ = rustix::io::write(bell, &1u64.to_ne_bytes());
    }
}

impl<S> Drop for Workers<S> {
    /// Waits for the jobs under way.
    fn drop(&mut self) {
        drop(self.jobs.take());
        for thread in self.threads.drain(..) {
            // It does not panic: a job catches its handler's.
            let _ = thread.join();
        }
    }
}
