//! Connections that were begun and that nobody waits for: their outcome comes as an event.

use std::time::{Duration, Instant};

use super::{ChannelId, Endpoint, Event};
use crate::channel::Channel;
use crate::connecting::Asked;
use crate::handshake::{ConnectError, ConnectOptions, Refusal};
use crate::network::{Greeting, RemoteChannel};
use crate::readiness::Source;
use crate::{Address, mediated};

/// Names a connection that was begun. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttemptId(u64);

/// A connection that was begun.
pub(super) struct Attempt {
    id: AttemptId,
    /// `None` is farther away than any clock goes.
    deadline: Option<Instant>,
    way: Way,
}

#[allow(clippy::large_enum_variant)] // There are few, for a moment each.
enum Way {
    Here(Asked),
    Network(Greeting),
}

impl Endpoint {
    /// Begins to connect, and waits for nobody: what becomes of it arrives as [`Event::Connected`], at the
    /// latest when the time of the options is over. A host is to be written as an address, for a name would
    /// have to be waited for.
    ///
    /// # Errors
    /// [`ConnectError`], where it is known at once.
    ///
    /// # Cost
    /// As [`Endpoint::connect`], without the wait.
    pub fn begin_connect(
        &mut self,
        address: &Address,
        mut options: ConnectOptions,
    ) -> Result<AttemptId, ConnectError> {
        if !self.has_space(0) {
            return Err(ConnectError::Refused(Refusal::Busy));
        }
        options.channel.wait = self.wait;
        let deadline = Instant::now().checked_add(options.timeout);
        let way = match address {
            Address::Shm(name) => Way::Here(Asked::begin_at(name, options)?),
            Address::Network(address) => match address.via() {
                Some(via) => {
                    let options = mediated::connect_options(address, options)?;
                    Way::Here(Asked::begin_at(via, options)?)
                }
                None => Way::Network(self.greet(address, options)?),
            },
        };
        self.make_timer()?;
        let vacant = self.attempts.iter().position(Option::is_none);
        let index = vacant.unwrap_or_else(|| {
            self.attempts.push(None);
            self.attempts.len() - 1
        });
        if let Way::Here(asked) = &way {
            self.readiness.watch(asked.socket(), Source::Attempt(index as u32))?;
        }
        let id = AttemptId(self.next_attempt);
        self.next_attempt += 1;
        self.attempts[index] = Some(Attempt { id, deadline, way });
        Ok(id)
    }

    /// Gives up a connection that was begun. No event will tell of it.
    pub fn abandon(&mut self, id: AttemptId) {
        let is_it = |attempt: &Option<Attempt>| attempt.as_ref().is_some_and(|it| it.id == id);
        if let Some(index) = self.attempts.iter().position(is_it) {
            self.end_attempt(index);
        }
        self.events.retain(|event| !matches!(event, Event::Connected(other, _) if *other == id));
    }

    /// How many connections were begun and have no outcome yet.
    pub(super) fn connecting(&self) -> usize {
        self.attempts.iter().flatten().count()
    }

    fn end_attempt(&mut self, index: usize) -> Option<Attempt> {
        let attempt = self.attempts.get_mut(index)?.take()?;
        if let Way::Here(asked) = &attempt.way {
            self.readiness.forget(asked.socket());
        }
        Some(attempt)
    }

    /// How long nobody needs to look after what was begun.
    pub(super) fn attempts_idle_for(&self) -> Option<Duration> {
        let now = Instant::now();
        let next = |attempt: &Attempt| match &attempt.way {
            Way::Here(_) => attempt.deadline,
            Way::Network(greeting) => {
                let next = greeting.next();
                Some(attempt.deadline.map_or(next, |deadline| deadline.min(next)))
            }
        };
        let next = self.attempts.iter().flatten().filter_map(next).min();
        next.map(|next| next.saturating_duration_since(now))
    }

    /// Does what is due for what was begun, and says what became of it.
    #[cold]
    pub(super) fn attend_attempts(&mut self) {
        if self.attempts.is_empty() {
            return;
        }
        let now = Instant::now();
        for index in 0..self.attempts.len() {
            self.attend_attempt(index, now);
        }
    }

    pub(super) fn attend_attempt(&mut self, index: usize, now: Instant) {
        let Some(Some(attempt)) = self.attempts.get_mut(index) else { return };
        let is_over = attempt.deadline.is_some_and(|deadline| now >= deadline);
        // What was said is looked at before the clock is.
        let outcome = match &mut attempt.way {
            Way::Here(asked) => asked.answer().map(|welcome| welcome.map(Some)),
            Way::Network(greeting) => greeting.attend(now).map(|done| done.then_some(None)),
        };
        let outcome = match outcome {
            Ok(None) if is_over => Err(ConnectError::TimedOut),
            Ok(None) => return,
            Ok(Some(welcome)) => Ok(welcome),
            Err(error) => Err(error),
        };
        let Some(Attempt { id, way, .. }) = self.end_attempt(index) else { return };
        let joined = outcome.and_then(|welcome| match (way, welcome) {
            (Way::Here(asked), Some(welcome)) => asked.join(welcome).map(Channel::from),
            (Way::Network(greeting), _) => {
                let channel: Option<RemoteChannel> = greeting.join();
                channel.map(Channel::from).ok_or(ConnectError::PeerDied)
            }
            (Way::Here(_), None) => Err(ConnectError::PeerDied),
        });
        let joined: Result<ChannelId, _> =
            joined.and_then(|channel| self.adopt(channel).map_err(ConnectError::from));
        self.events.push_back(Event::Connected(id, joined));
    }
}
