//! Calls of a server that serves while it waits, for chains of calls that come back to it.

use std::os::fd::AsFd;

use lrpc::{Outcome, Reason};
use rustix::event::{PollFd, PollFlags, poll};
use segment::wait::{Step, Waiter};
use unet::{Message, Wait};

use super::{Local, Pending, Progress, expiry, has_passed};
use crate::service::contract::{Caller, Method, Service};

/// Calls through a client, and serves the calls that arrive at a server until the outcome is here.
/// Made by a client's `serving`.
pub struct Serving<'a, S> {
    client: &'a Local<S>,
    server: &'a dyn Progress,
}

impl<'a, S: Service> Serving<'a, S> {
    /// Calls through `client`, serving `server`: a [`super::Call`], or a [`super::Server`].
    pub fn new(client: &'a Local<S>, server: &'a dyn Progress) -> Self {
        Self { client, server }
    }

    fn wait<M: Method<Interface = S>>(&self, mut pending: Pending<'_, M>) -> Outcome<M::Output> {
        let expires = expiry(M::SHAPE.deadline);
        let mut waiter = Waiter::new(Wait::Adaptive, false, M::SHAPE.deadline);
        loop {
            if let Some(outcome) = pending.try_take() {
                return outcome;
            }
            if has_passed(expires) {
                return Outcome::Unknown(lrpc::UnknownReason::TimedOut);
            }
            if self.server.poll() {
                waiter = Waiter::new(Wait::Adaptive, false, M::SHAPE.deadline);
            } else if waiter.step(1, || false) == Step::Park && self.server.arm() {
                self.sleep(&waiter);
            }
        }
    }

    /// Sleeps until the server has something to serve, or the client a reply.
    #[cold]
    fn sleep(&self, waiter: &Waiter) {
        let binding = self.client.binding();
        if !binding.arm() {
            return;
        }
        let timeout = waiter.remaining().and_then(|remaining| remaining.try_into().ok());
        self.server.with_fd(&mut |server| {
            binding.with_fd(|client| {
                let watch = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
                // An interrupted sleep is a vain one: the caller looks again.
                let _ = poll(&mut [watch(server.as_fd()), watch(client)], timeout.as_ref());
            });
        });
    }
}

impl<S: Service> Caller<S> for Serving<'_, S> {
    type Pending<'b, M: Method<Interface = S>>
        = Pending<'b, M>
    where
        Self: 'b;

    fn call<M: Method<Interface = S>>(
        &self,
        takes: M::Takes<'_>,
        bulk: Option<Message>,
    ) -> Outcome<M::Output> {
        match self.client.start::<M>(takes, bulk) {
            Ok(pending) => self.wait(pending),
            Err(reason) => Outcome::Refused(reason),
        }
    }

    fn start<M: Method<Interface = S>>(
        &self,
        takes: M::Takes<'_>,
        bulk: Option<Message>,
    ) -> Result<Pending<'_, M>, Reason> {
        self.client.start::<M>(takes, bulk)
    }

    fn send<M: Method<Interface = S>>(
        &self,
        takes: M::Takes<'_>,
        bulk: Option<Message>,
    ) -> Result<(), Reason> {
        self.client.send::<M>(takes, bulk)
    }
}

impl<S> std::fmt::Debug for Serving<'_, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Serving").field(self.client).finish()
    }
}
