//! Threads for the methods that are marked slow, with a bounded backlog of which each client has a share.

use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use lrpc::Reason;
use unet::ChannelId;

use super::handling::let_go;

/// What a worker does, or makes of it if the server is about to end. It does not panic.
pub(super) type Job = Box<dyn FnOnce(Turn) + Send>;

/// What becomes of a job whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Run,
    Refuse,
}

/// How many calls there may be that run, wait, or are not answered yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub in_all: usize,
    pub of_a_client: usize,
}

pub(super) struct Workers {
    /// `None` once the threads are to end.
    jobs: Mutex<Option<Sender<Job>>>,
    places: Arc<Places>,
    stopping: Arc<AtomicBool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Workers {
    /// Starts so many threads, at least one.
    pub fn start(count: usize, limits: Limits) -> io::Result<Self> {
        let (jobs, taken) = channel();
        let taken = Arc::new(Mutex::new(taken));
        let places = Places { limits, taken: AtomicUsize::new(0), of_client: Mutex::default() };
        let workers = Self {
            jobs: Mutex::new(Some(jobs)),
            places: Arc::new(places),
            stopping: Arc::default(),
            threads: Mutex::default(),
        };
        for _ in 0..count.max(1) {
            let (taken, stopping) = (Arc::clone(&taken), Arc::clone(&workers.stopping));
            let thread = std::thread::Builder::new().name("slow methods".into());
            let thread = thread.spawn(move || work(&taken, &stopping))?;
            locked(&workers.threads).push(thread);
        }
        Ok(workers)
    }

    /// Hands over a job of that client, made if there is a place for it.
    ///
    /// # Errors
    /// `Stopping`, or `Overloaded`: there are as many jobs as may be, in all or of this client.
    pub fn submit(
        &self,
        client: ChannelId,
        job: impl FnOnce(Place) -> Result<Job, Reason>,
    ) -> Result<(), Reason> {
        let jobs = locked(&self.jobs);
        let jobs = jobs.as_ref().ok_or(Reason::Stopping)?;
        let place = Places::take(&self.places, client).ok_or(Reason::Overloaded)?;
        // The threads take jobs until there is no sender.
        jobs.send(job(place)?).map_err(|_| Reason::Stopping)
    }

    /// Whether calls have a place.
    #[inline(always)]
    pub fn are_busy(&self) -> bool {
        self.places.taken.load(Ordering::Relaxed) > 0
    }

    /// Takes no more jobs, has those refused that wait, and lets the threads end when what they run is
    /// over.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        drop(locked(&self.jobs).take());
    }

    /// Whether all threads have ended.
    pub fn have_ended(&self) -> bool {
        locked(&self.threads).iter().all(JoinHandle::is_finished)
    }
}

fn work(jobs: &Mutex<Receiver<Job>>, stopping: &AtomicBool) {
    loop {
        // The lock is held while waiting: one worker waits for a job, the others for the lock.
        let job = locked(jobs).recv();
        let Ok(job) = job else { return };
        let turn = if stopping.load(Ordering::Relaxed) { Turn::Refuse } else { Turn::Run };
        // An author's result may panic when it is dropped.
        catch_unwind(AssertUnwindSafe(|| job(turn))).unwrap_or_else(let_go);
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop();
        for thread in std::mem::take(&mut *locked(&self.threads)) {
            // It does not panic: a job catches its handler's.
            let _ = thread.join();
        }
    }
}

/// The places for calls, in all and by client.
struct Places {
    limits: Limits,
    /// Written under the lock.
    taken: AtomicUsize,
    of_client: Mutex<HashMap<ChannelId, usize>>,
}

impl Places {
    fn take(this: &Arc<Self>, client: ChannelId) -> Option<Place> {
        let mut of_client = locked(&this.of_client);
        let taken = this.taken.load(Ordering::Relaxed);
        let own = of_client.get(&client).copied().unwrap_or(0);
        if taken >= this.limits.in_all || own >= this.limits.of_a_client {
            return None;
        }
        of_client.insert(client, own + 1);
        this.taken.store(taken + 1, Ordering::Relaxed);
        Some(Place { client, places: Arc::clone(this) })
    }
}

/// The place of a call, until this is dropped.
pub(super) struct Place {
    client: ChannelId,
    places: Arc<Places>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut of_client = locked(&self.places.of_client);
        self.places.taken.fetch_sub(1, Ordering::Relaxed);
        match of_client.get_mut(&self.client) {
            Some(jobs) if *jobs > 1 => *jobs -= 1,
            _ => drop(of_client.remove(&self.client)),
        }
    }
}

/// What it guards is whole after each statement, whoever panics.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
