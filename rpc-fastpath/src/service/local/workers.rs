//! Threads for the methods that are marked slow, with a bounded backlog of which each client has a share.
//!
//! A worker runs the handler; what it returns is sent by the server's thread, which alone may touch the
//! endpoint. An epoll instance watches that endpoint and the workers' eventfd, so that the server has
//! one descriptor to wait for.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use lrpc::Reason;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use unet::ChannelId;

use crate::service::contract::Service;

/// What a worker does, or makes of it if the server is about to end.
pub(super) type Job<S> = Box<dyn FnOnce(Turn) -> Done<S> + Send>;
/// What the server's thread does with the result.
pub(super) type Done<S> = Box<dyn FnOnce(&lrpc::Server<S>) + Send>;

/// A thing of that client's.
type Of<T> = (ChannelId, T);

/// What becomes of a job whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Run,
    Refuse,
}

/// How many jobs there may be of which the result is not sent yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub in_all: usize,
    pub of_a_client: usize,
}

pub(super) struct Workers<S> {
    /// `None` once the threads are to end.
    jobs: Mutex<Option<Sender<Of<Job<S>>>>>,
    done: Mutex<Receiver<Of<Done<S>>>>,
    limits: Limits,
    /// Jobs of which the result is not sent yet, in all and by client.
    outstanding: AtomicUsize,
    of_client: Mutex<HashMap<ChannelId, usize>>,
    stopping: Arc<AtomicBool>,
    bell: Arc<OwnedFd>,
    both: OwnedFd,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl<S: 'static> Workers<S> {
    /// Starts so many threads, at least one, for a server with that descriptor.
    pub fn start(count: usize, limits: Limits, server: BorrowedFd<'_>) -> io::Result<Self> {
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let both = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&both, server, EventData::new_u64(0), EventFlags::IN)?;
        epoll::add(&both, &bell, EventData::new_u64(1), EventFlags::IN)?;
        let (jobs, taken) = channel();
        let (give, done) = channel();
        let taken = Arc::new(Mutex::new(taken));
        let workers = Self {
            jobs: Mutex::new(Some(jobs)),
            done: Mutex::new(done),
            limits,
            outstanding: AtomicUsize::new(0),
            of_client: Mutex::default(),
            stopping: Arc::default(),
            bell,
            both,
            threads: Mutex::default(),
        };
        for _ in 0..count.max(1) {
            let (taken, give) = (Arc::clone(&taken), give.clone());
            let (bell, stopping) = (Arc::clone(&workers.bell), Arc::clone(&workers.stopping));
            let thread = std::thread::Builder::new().name("slow methods".into());
            let thread = thread.spawn(move || work(&taken, &give, &bell, &stopping))?;
            locked(&workers.threads).push(thread);
        }
        Ok(workers)
    }

    /// Hands over a job of that client, made if there is a place for it.
    ///
    /// Only the server's thread takes places and gives them back, by delivering.
    ///
    /// # Errors
    /// `Stopping`, or `Overloaded`: there are as many jobs as may be, in all or of this client.
    pub fn submit(&self, client: ChannelId, job: impl FnOnce() -> Job<S>) -> Result<(), Reason> {
        let jobs = locked(&self.jobs);
        let jobs = jobs.as_ref().ok_or(Reason::Stopping)?;
        let outstanding = self.outstanding.load(Ordering::Relaxed);
        let mut of_client = locked(&self.of_client);
        let own = of_client.get(&client).copied().unwrap_or(0);
        if outstanding >= self.limits.in_all || own >= self.limits.of_a_client {
            return Err(Reason::Overloaded);
        }
        // The threads take jobs until there is no sender.
        jobs.send((client, job())).map_err(|_| Reason::Stopping)?;
        of_client.insert(client, own + 1);
        self.outstanding.store(outstanding + 1, Ordering::Relaxed);
        Ok(())
    }

    /// What becomes readable when a call arrives, or a worker has finished.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.both.as_fd()
    }
}

impl<S: Service> Workers<S> {
    /// Announces that this thread will wait for the common descriptor. `false` if there is something
    /// to do.
    pub fn arm(&self, server: &lrpc::Server<S>) -> bool {
        // What is rung for after this is heard; what was done before is delivered here.
        let mut count = [0; 8];
        let _ = rustix::io::read(&*self.bell, &mut count);
        !self.deliver(server) && server.arm()
    }
}

impl<S> Workers<S> {
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
        while let Some((client, done)) = self.next() {
            self.outstanding.fetch_sub(1, Ordering::Relaxed);
            let mut of_client = locked(&self.of_client);
            match of_client.get_mut(&client) {
                Some(jobs) if *jobs > 1 => *jobs -= 1,
                _ => drop(of_client.remove(&client)),
            }
            drop(of_client);
            done(server);
            any = true;
        }
        any
    }

    fn next(&self) -> Option<Of<Done<S>>> {
        locked(&self.done).try_recv().ok()
    }

    /// Takes no more jobs, has those refused that wait, and lets the threads end when what they run is
    /// over.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        drop(locked(&self.jobs).take());
    }

    /// Whether all threads have ended. What they have finished may still be undelivered.
    pub fn have_ended(&self) -> bool {
        locked(&self.threads).iter().all(JoinHandle::is_finished)
    }
}

fn work<S>(
    jobs: &Mutex<Receiver<Of<Job<S>>>>,
    give: &Sender<Of<Done<S>>>,
    bell: &OwnedFd,
    stopping: &AtomicBool,
) {
    loop {
        // The lock is held while waiting: one worker waits for a job, the others for the lock.
        let job = locked(jobs).recv();
        let Ok((client, job)) = job else { return };
        let turn = if stopping.load(Ordering::Relaxed) { Turn::Refuse } else { Turn::Run };
        if give.send((client, job(turn))).is_err() {
            return;
        }
        // It overflows only if nobody looks, and then it is readable already.
        let _ = rustix::io::write(bell, &1u64.to_ne_bytes());
    }
}

/// What it guards is whole after each statement, whoever panics.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S> Drop for Workers<S> {
    fn drop(&mut self) {
        self.stop();
        for thread in std::mem::take(&mut *locked(&self.threads)) {
            // It does not panic: a job catches its handler's.
            let _ = thread.join();
        }
    }
}
