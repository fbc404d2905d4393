//! Which link address a neighbour has: the cache that ARP and neighbour discovery share.

use std::time::Duration;

use crate::{Instant, Message, Reason};

/// An Ethernet address.
pub(super) type Link = [u8; 6];

/// Neighbours known or asked for.
const NEIGHBORS: usize = 256;
/// Messages that wait for one neighbour; of more, the oldest is dropped (RFC 1122, section 2.3.2.2,
/// asks for one at least).
const WAITING: usize = 4;
/// Messages that wait for all of them: each may keep a buffer that the device needs.
const WAITING_ALL: usize = 32;
/// How often we ask before we give up.
const TRIES: u32 = 4;
/// The wait after the first question; doubled after each.
const RETRY: Duration = Duration::from_secs(1);
/// How long an answer counts (RFC 4861, section 10: REACHABLE_TIME).
const REACHABLE: Duration = Duration::from_secs(30);
/// After so long without use a neighbour is forgotten.
const IDLE: Duration = Duration::from_secs(600);
/// For so long nobody asks again for one who did not answer.
const HOLD_OFF: Duration = Duration::from_secs(3);

/// The states of RFC 4861, section 7.3.2, without DELAY: nothing above us confirms reachability, so
/// the delay would only be spent waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Asked for, no answer yet.
    Incomplete,
    /// Answered, good until `due`.
    Reachable,
    /// Answered long ago, or somebody claims another link address: asked again when used.
    Stale,
    /// Used, and asked again.
    Probe,
    /// Did not answer.
    Failed,
}

#[derive(Debug)]
struct Neighbor<A> {
    address: A,
    link: Link,
    state: State,
    tries: u32,
    /// When the state wants something done: see [`Neighbors::wake`].
    due: Instant,
    used: Instant,
    waiting: Vec<Message>,
}

/// What is known about the destination of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resolution {
    /// Its link address.
    Known(Link),
    /// Its link address as it was: ask it, there, whether it still is.
    Doubtful(Link),
    /// Nothing: the message waits; ask everybody.
    Ask,
    /// Nothing: the message waits for the answer.
    Waiting,
    /// It did not answer: drop the message.
    Unreachable,
}

/// A question to send: about whom, and to which link address, `None` being everybody.
pub(super) type Question<A> = (A, Option<Link>);

/// The neighbours of one interface.
///
/// Bounded in neighbours and in messages that wait. **Against poisoning**: nobody gets in whom we did
/// not ask for, and a claim that nobody asked for never changes a link address. It only makes a known
/// one doubtful: then the old address is asked first, and everybody if that no longer answers, so
/// that an address that really moved is found again within seconds.
#[derive(Debug)]
pub(super) struct Neighbors<A> {
    all: Vec<Neighbor<A>>,
    /// The one found last.
    last: usize,
    /// Messages that wait, for whomever.
    waiting: usize,
}

impl<A: Copy + Eq> Neighbors<A> {
    /// Knows nobody.
    pub(super) fn new() -> Self {
        Self { all: Vec::with_capacity(NEIGHBORS), last: 0, waiting: 0 }
    }

    /// Where a message for `address` goes. If it has to wait it is taken, and what it displaces is
    /// passed to `drop`.
    ///
    /// # Cost
    /// Two comparisons for the neighbour found last; a linear search for others.
    #[inline]
    pub(super) fn resolve(
        &mut self,
        address: A,
        message: &mut Message,
        now: Instant,
        drop: impl FnMut(Reason),
    ) -> Resolution {
        if let Some(last) = self.all.get_mut(self.last)
            && last.address == address
            && last.state == State::Reachable
            && now < last.due
        {
            last.used = now;
            return Resolution::Known(last.link);
        }
        self.resolve_slowly(address, message, now, drop)
    }

    #[cold]
    fn resolve_slowly(
        &mut self,
        address: A,
        message: &mut Message,
        now: Instant,
        mut drop: impl FnMut(Reason),
    ) -> Resolution {
        let index = match self.find(address) {
            Some(index) => index,
            None => self.begin(address, now, &mut drop),
        };
        self.last = index;
        let neighbor = &mut self.all[index];
        neighbor.used = now;
        match neighbor.state {
            State::Reachable if now < neighbor.due => Resolution::Known(neighbor.link),
            State::Reachable | State::Stale => {
                neighbor.ask(State::Probe, now);
                Resolution::Doubtful(neighbor.link)
            }
            State::Probe => Resolution::Known(neighbor.link),
            State::Failed => Resolution::Unreachable,
            State::Incomplete => {
                if neighbor.waiting.len() >= WAITING {
                    neighbor.waiting.remove(0);
                    self.waiting -= 1;
                    drop(Reason::Unresolved);
                }
                if self.waiting < WAITING_ALL {
                    neighbor.waiting.push(std::mem::take(message));
                    self.waiting += 1;
                } else {
                    *message = Message::new();
                    drop(Reason::Unresolved);
                }
                if neighbor.tries > 0 {
                    return Resolution::Waiting;
                }
                neighbor.ask(State::Incomplete, now);
                Resolution::Ask
            }
        }
    }

    /// Somebody says that `address` is at `link`: in answer to a question to us, as far as can be
    /// seen, or `unasked`. What waited for that is passed to `send`.
    pub(super) fn learn(
        &mut self,
        address: A,
        link: Link,
        unasked: bool,
        now: Instant,
        send: impl FnMut(Message),
    ) {
        // Nobody can be at a group's address, nor at none.
        let Some(index) = self.find(address).filter(|_| link[0] & 1 == 0 && link != [0; 6]) else {
            return;
        };
        let neighbor = &mut self.all[index];
        let asked = matches!(neighbor.state, State::Incomplete | State::Probe);
        if asked && !(unasked && neighbor.state == State::Probe && neighbor.link != link) {
            neighbor.link = link;
            neighbor.state = State::Reachable;
            neighbor.tries = 0;
            neighbor.due = now + REACHABLE;
            self.waiting -= neighbor.waiting.len();
            neighbor.waiting.drain(..).for_each(send);
        } else if neighbor.state == State::Reachable && neighbor.link != link {
            neighbor.state = State::Stale;
        } else if neighbor.state == State::Failed {
            // It is there after all; the next message asks.
            neighbor.state = State::Incomplete;
            neighbor.tries = 0;
            neighbor.due = Instant::NEVER;
        }
    }

    /// Does what is due: asks again, gives up, forgets.
    pub(super) fn wake(
        &mut self,
        now: Instant,
        mut ask: impl FnMut(Question<A>),
        mut drop: impl FnMut(Reason),
    ) {
        let mut index = 0;
        while let Some(neighbor) = self.all.get_mut(index) {
            match neighbor.state {
                State::Incomplete | State::Probe if neighbor.due <= now => {
                    if neighbor.tries >= TRIES {
                        self.waiting -= neighbor.waiting.len();
                        neighbor.waiting.drain(..).for_each(|_| drop(Reason::Unresolved));
                        neighbor.state = State::Failed;
                        neighbor.due = now + HOLD_OFF;
                    } else {
                        // The address that was good is asked first, then everybody.
                        let old = neighbor.state == State::Probe && neighbor.tries < TRIES / 2;
                        ask((neighbor.address, old.then_some(neighbor.link)));
                        neighbor.ask(neighbor.state, now);
                    }
                }
                State::Failed if neighbor.due <= now => {
                    self.all.swap_remove(index);
                    continue;
                }
                _ if neighbor.used + IDLE <= now => {
                    self.waiting -= neighbor.waiting.len();
                    neighbor.waiting.drain(..).for_each(|_| drop(Reason::Unresolved));
                    self.all.swap_remove(index);
                    continue;
                }
                _ => {}
            }
            index += 1;
        }
    }

    /// When [`wake`](Self::wake) has something to do.
    pub(super) fn next_due(&self) -> Instant {
        let due = |neighbor: &Neighbor<A>| match neighbor.state {
            State::Incomplete | State::Probe | State::Failed => neighbor.due,
            State::Reachable | State::Stale => Instant::NEVER,
        };
        let due = |neighbor: &Neighbor<A>| due(neighbor).min(neighbor.used + IDLE);
        self.all.iter().map(due).min().unwrap_or(Instant::NEVER)
    }

    /// How many are known or asked for.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// How many messages wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    fn find(&self, address: A) -> Option<usize> {
        self.all.iter().position(|neighbor| neighbor.address == address)
    }

    /// Makes an entry, if need be in the place of the one that was not used for longest; those who
    /// never answered go first, for anybody can invent them.
    fn begin(&mut self, address: A, now: Instant, drop: &mut impl FnMut(Reason)) -> usize {
        if self.all.len() >= NEIGHBORS {
            let worth = |neighbor: &Neighbor<A>| {
                (!matches!(neighbor.state, State::Incomplete | State::Failed), neighbor.used)
            };
            let oldest = self.all.iter().enumerate().min_by_key(|(_, neighbor)| worth(neighbor));
            let oldest = oldest.map_or(0, |(index, _)| index);
            let gone = self.all.swap_remove(oldest);
            self.waiting -= gone.waiting.len();
            gone.waiting.iter().for_each(|_| drop(Reason::Unresolved));
        }
        self.all.push(Neighbor {
            address,
            link: [0; 6],
            state: State::Incomplete,
            tries: 0,
            due: Instant::NEVER,
            used: now,
            waiting: Vec::new(),
        });
        self.all.len() - 1
    }
}

impl<A> Neighbor<A> {
    /// It is being asked, and is due again when an answer should have come.
    fn ask(&mut self, state: State, now: Instant) {
        if self.state != state {
            self.tries = 0;
        }
        self.state = state;
        self.due = now + RETRY * 2_u32.pow(self.tries.min(TRIES));
        self.tries += 1;
    }
}

#[cfg(test)]
mod tests;
