//! The service: one thread's turns over all connections.

mod deciding;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use driver_af_xdp::lent::message::Refused;
use rustix::event::{PollFd, PollFlags, poll};
use segment::control::{BindError, Listener, Received, timespec};
use unet::Credentials;
use unet::device::Mode;

use crate::report::{Lent, QueueRow};

use super::asking::{Asking, Heard};
use super::counts::Counts;
use super::grant::Grant;
use super::hooks::Hooks;
use super::permission::Permissions;
use super::store::{KeeperGone, Of, Store};

/// How many may ask at once, and how many of one user.
const MAX_ASKING: usize = 64;
const MAX_ASKING_OF_ONE: usize = 8;
/// How many queues are lent at most: each takes two descriptors here, and two of the keeper's.
const MAX_GRANTS: usize = 1024;
/// How many connections are taken in a turn.
const BURST: usize = 32;
/// How soon a queue is tried again that is to become free.
const RETRY: Duration = Duration::from_millis(10);
/// How long nobody is let in where no descriptor is left.
const DEAF: Duration = Duration::from_millis(50);

/// Why a service does not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The name cannot be had.
    #[error(transparent)]
    Name(#[from] BindError),
    /// There is no keeper.
    #[error(transparent)]
    Keeper(#[from] KeeperGone),
}

/// Lends queues. Dropping it detaches all programs and hangs up on all clients, unless a keeper holds them.
pub struct Service<P> {
    listener: Listener,
    permissions: P,
    store: Option<Store>,
    hooks: Hooks,
    asking: Vec<Asking>,
    grants: BTreeMap<u64, Grant>,
    /// The key that was given last.
    key: u64,
    deaf_until: Option<Instant>,
    counts: Counts,
}

/// How far somebody who asks has got.
enum Outcome {
    Bound(u32, Mode),
    /// Something is not free that may be soon; the reason, if it is not in time.
    Later(Option<Refused>),
}

/// What is to be looked at.
#[derive(Default)]
struct Ready {
    listener: bool,
    keeper: bool,
    grants: Vec<u64>,
    asking: Vec<bool>,
}

impl<P: Permissions> Service<P> {
    /// Listens at a name. Without a keeper, all that was lent ends with this process.
    ///
    /// # Errors
    /// [`StartError::Name`].
    pub fn start(name: &str, permissions: P) -> Result<Self, StartError> {
        Ok(Self::over(Listener::bind(name)?, permissions, None))
    }

    /// Goes on where the last worker of this keeper ended; listens at a name if there was none.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn resume(name: &str, permissions: P, mut store: Store) -> Result<Self, StartError> {
        let left = std::mem::take(&mut store.left);
        let mut last = left.iter().map(|record| record.key).max().unwrap_or(0);
        let (mut listener, mut hooks) = (None, Hooks::default());
        let (mut grants, mut useless) = (BTreeMap::new(), Vec::new());
        for mut record in left {
            let key = record.key;
            let adopted = match Of::numbered(record.of) {
                Some(Of::Listener) if record.about == name.as_bytes() => {
                    listener = record.descriptors.pop().map(Listener::from);
                    listener.as_ref().map(|_| ())
                }
                Some(Of::Program) => hooks.adopt(record),
                Some(Of::Grant) => {
                    Grant::adopt(record).map(|grant| grants.insert(key, grant)).map(|_| ())
                }
                Some(Of::Listener) | None => None,
            };
            if adopted.is_none() {
                useless.push(key);
            }
        }
        for key in useless {
            store.forget(key)?;
        }
        let listener = match listener {
            Some(listener) => listener,
            None => {
                let listener = Listener::bind(name)?;
                last += 1;
                store.put(last, Of::Listener, name.as_bytes(), &[listener.as_fd()])?;
                listener
            }
        };
        let mut service = Self::over(listener, permissions, Some(store));
        service.key = last;
        service.hooks = hooks;
        service.counts.adopted = grants.len() as u64;
        service.grants = grants;
        // The policy may have changed meanwhile.
        service.judge()?;
        service.let_go()?;
        Ok(service)
    }

    fn over(listener: Listener, permissions: P, store: Option<Store>) -> Self {
        Self {
            listener,
            permissions,
            store,
            hooks: Hooks::default(),
            asking: Vec::new(),
            grants: BTreeMap::new(),
            key: 0,
            deaf_until: None,
            counts: Counts::default(),
        }
    }

    /// What was counted.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Who has which queue of which interface, with which port.
    pub fn lent(&self) -> impl Iterator<Item = (Credentials, &str, u32, u16)> {
        self.grants.values().map(|grant| {
            (grant.who, grant.request.interface.as_str(), grant.queue, grant.request.port)
        })
    }

    /// What it has lent and counted, to be told.
    pub fn report(&self) -> Lent {
        let counts = &self.counts;
        let named = [
            ("connected", counts.connected),
            ("granted", counts.granted),
            ("adopted", counts.adopted),
            ("released", counts.released),
            ("revoked", counts.revoked),
            ("spoke", counts.spoke),
            ("left", counts.left),
            ("silent", counts.silent),
        ];
        let named = named.into_iter().map(|(name, count)| (name.to_owned(), count));
        let refused = counts.refusals().map(|(name, count)| (format!("refused-{name}"), count));
        let queues = self.lent().map(|(who, interface, queue, port)| {
            let (pid, uid) = (who.pid, who.uid);
            QueueRow { pid, uid, interface: interface.to_owned(), queue, port }
        });
        Lent {
            queues: queues.collect(),
            counts: named.chain(refused).filter(|(_, count)| *count > 0).collect(),
        }
    }

    /// Puts other permissions in the place of these, and takes back what they do not allow: how many queues.
    ///
    /// # Errors
    /// [`KeeperGone`].
    pub fn replace(&mut self, permissions: P) -> Result<usize, KeeperGone> {
        self.permissions = permissions;
        let revoked = self.judge()?;
        // Those in between were found to be allowed by what was.
        for asking in std::mem::take(&mut self.asking) {
            if asking.wants.is_some() {
                self.refuse(&asking, Refused::Forbidden);
            } else {
                self.asking.push(asking);
            }
        }
        self.let_go()?;
        Ok(revoked)
    }

    /// Takes back what is not allowed any more.
    fn judge(&mut self) -> Result<usize, KeeperGone> {
        let forbidden = |(key, grant): (&u64, &Grant)| {
            let allowed = self.permissions.permission(grant.who, &grant.request);
            allowed.is_none().then_some(*key)
        };
        let keys: Vec<u64> = self.grants.iter().filter_map(forbidden).collect();
        for key in &keys {
            self.release(*key)?;
            self.counts.revoked += 1;
        }
        Ok(keys.len())
    }

    /// Does what there is to do, and waits for more at most so long.
    ///
    /// # Errors
    /// [`KeeperGone`]: the worker is to end.
    ///
    /// # Cost
    /// A system call that looks at every connection, and what those cost that have something to say.
    pub fn turn(&mut self, timeout: Duration) -> Result<(), KeeperGone> {
        let ready = self.wait(timeout);
        if ready.keeper
            && let Some(store) = &self.store
        {
            store.check()?;
        }
        // First those that end: what they had is free for those who ask.
        for key in ready.grants {
            self.hear(key)?;
        }
        let asking = std::mem::take(&mut self.asking);
        for (asking, ready) in asking.into_iter().zip(ready.asking) {
            if let Some(asking) = self.advance(asking, ready)? {
                self.asking.push(asking);
            }
        }
        if ready.listener {
            self.let_in();
        }
        self.let_go()
    }

    fn wait(&mut self, timeout: Duration) -> Ready {
        let now = Instant::now();
        self.deaf_until = self.deaf_until.filter(|until| *until > now);
        let mut timeout = timeout;
        for asking in &self.asking {
            let soon = if asking.wants.is_some() { RETRY } else { timeout };
            timeout = timeout.min(soon).min(asking.deadline.saturating_duration_since(now));
        }
        if let Some(until) = self.deaf_until {
            timeout = timeout.min(until - now);
        }
        let listen = if self.deaf_until.is_some() { PollFlags::empty() } else { PollFlags::IN };
        let mut fds = vec![PollFd::new(&self.listener, listen)];
        fds.extend(self.store.iter().map(|store| PollFd::new(store, PollFlags::IN)));
        fds.extend(self.grants.values().map(|it| PollFd::new(&it.socket, PollFlags::IN)));
        fds.extend(self.asking.iter().map(|it| PollFd::new(&it.socket, PollFlags::IN)));
        // Interrupted by a signal: nothing is ready then, and the caller looks at its flags.
        if poll(&mut fds, Some(&timespec(timeout))).is_err() {
            let asking = vec![false; self.asking.len()];
            return Ready { asking, ..Ready::default() };
        }
        let mut said = fds.iter().map(|fd| !fd.revents().is_empty());
        let mut next = || said.next().unwrap_or(false);
        let listener = next();
        let keeper = self.store.is_some() && next();
        let grants = self.grants.keys().copied().filter(|_| next()).collect();
        let asking = self.asking.iter().map(|_| next()).collect();
        Ready { listener, keeper, grants, asking }
    }

    /// A client that has its queue has nothing to say any more: it hangs up.
    fn hear(&mut self, key: u64) -> Result<(), KeeperGone> {
        let Some(grant) = self.grants.get(&key) else { return Ok(()) };
        match grant.socket.receive() {
            Received::Nothing => return Ok(()),
            Received::HungUp => {}
            _ => self.counts.spoke += 1,
        }
        self.release(key)
    }

    /// Takes a queue back.
    fn release(&mut self, key: u64) -> Result<(), KeeperGone> {
        let Some(grant) = self.grants.remove(&key) else { return Ok(()) };
        if let Some(program) = self.hooks.get(grant.interface) {
            program.stop_port(grant.queue, grant.request.port);
            program.stop_queue(grant.queue);
        }
        self.counts.released += 1;
        // The keeper has it open too.
        grant.socket.hang_up();
        tracing::info!(uid = grant.who.uid, queue = grant.queue, "a queue came back");
        self.store.as_ref().map_or(Ok(()), |store| store.forget(key))
    }

    fn let_in(&mut self) {
        for _ in 0..BURST {
            let socket = match self.listener.accept() {
                Ok(Some(socket)) => socket,
                Ok(None) => return,
                Err(errno) => {
                    tracing::warn!(%errno, "nobody can be let in");
                    self.deaf_until = Some(Instant::now() + DEAF);
                    return;
                }
            };
            self.counts.connected += 1;
            let who = socket.credentials().unwrap_or(Credentials::NOBODY);
            let asking = Asking::new(socket, who);
            let same = self.asking.iter().filter(|other| other.who.uid == who.uid).count();
            if same >= MAX_ASKING_OF_ONE || self.asking.len() >= MAX_ASKING {
                self.refuse(&asking, Refused::Crowded);
            } else {
                self.asking.push(asking);
            }
        }
    }

    fn refuse(&mut self, asking: &Asking, why: Refused) {
        self.counts.refuse(why);
        tracing::debug!(uid = asking.who.uid, pid = asking.who.pid, %why, "refused");
        // Whoever does not take it gets the end of the connection.
        let _ = asking.socket.send(&why.frame(), &[]);
    }

    /// Goes on with somebody who asks; `None` when it is decided.
    fn advance(&mut self, mut asking: Asking, ready: bool) -> Result<Option<Asking>, KeeperGone> {
        let heard = if ready { asking.hear() } else { Heard::Nothing };
        match heard {
            Heard::Nothing => {}
            Heard::Left => {
                self.counts.left += 1;
                return Ok(None);
            }
            Heard::Refused(why) => {
                self.refuse(&asking, why);
                return Ok(None);
            }
            Heard::Request(request, file) => asking.wants(request, file),
        }
        let is_late = Instant::now() >= asking.deadline;
        match self.try_to_give(&mut asking) {
            Ok(Outcome::Bound(queue, mode)) => {
                return self.grant(asking, (queue, mode)).map(|()| None);
            }
            Ok(Outcome::Later(_)) if !is_late => return Ok(Some(asking)),
            Ok(Outcome::Later(Some(why))) | Err(why) => self.refuse(&asking, why),
            Ok(Outcome::Later(None)) => self.counts.silent += 1,
        }
        Ok(None)
    }

    /// Detaches programs that nobody needs any more.
    fn let_go(&mut self) -> Result<(), KeeperGone> {
        let (grants, asking) = (&self.grants, &self.asking);
        let in_use = |interface: u32| {
            let opened =
                |it: &Asking| it.opened().is_some_and(|opened| opened.interface.index == interface);
            grants.values().any(|grant| grant.interface == interface) || asking.iter().any(opened)
        };
        self.hooks.keep_only(in_use, self.store.as_ref())
    }
}
