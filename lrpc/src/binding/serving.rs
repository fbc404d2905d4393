//! Calls that serve while they wait, for chains of calls that come back.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use segment::wait::{Step, Waiter};
use unet::Delivery;

use super::pending::reply;
use super::{Binding, Pending, Reply};
use crate::outcome::Outcome;
use crate::{Interface, Procedure, Server};

/// What is served while a call waits: a [`Server`], or what a layer above has made of one.
pub trait Progress {
    /// Serves the next call, if there is one. `true` if something was done.
    fn poll(&self) -> bool;

    /// Unless there is something to serve: announces that this thread will wait, and has `sleep` do so,
    /// beside the descriptor that becomes readable when there is something. `None` if there never is.
    fn sleep(&self, sleep: &mut dyn FnMut(Option<BorrowedFd<'_>>));

    /// How long what it does at the moment is wanted by somebody: what is called for that is wanted no longer. `None`
    /// without limit.
    fn remaining(&self) -> Option<Duration> {
        None
    }
}

impl<I: Interface> Progress for Server<I> {
    #[inline(always)]
    fn poll(&self) -> bool {
        self.poll()
    }

    fn sleep(&self, sleep: &mut dyn FnMut(Option<BorrowedFd<'_>>)) {
        if self.arm() {
            self.with_fd(|fd| sleep(Some(fd)));
        }
    }
}

impl<I: Interface> Binding<I> {
    /// Calls a procedure, and serves the calls that arrive at `server` until the reply is here: for
    /// a server that calls, where the chain of calls may come back to it.
    ///
    /// # Panics
    /// When a handler of `server` does. The call is abandoned then.
    ///
    /// # Cost
    /// As [`Binding::call`], and [`Server::poll`] after each vain look.
    pub fn call_serving<P: Procedure<Interface = I>, S: Progress + ?Sized>(
        &self,
        arguments: &P::Arguments,
        server: &S,
    ) -> Outcome<P::Results> {
        match self.post::<P>(arguments, None) {
            Ok(a_stack) => {
                self.finish_serving::<P, _, S>(a_stack, server, None, |results, _| results)
            }
            Err(reason) => Outcome::Refused(reason),
        }
    }

    #[inline(always)]
    fn finish_serving<P: Procedure<Interface = I>, R, S: Progress + ?Sized>(
        &self,
        a_stack: u16,
        server: &S,
        timeout: Option<Duration>,
        take: impl Fn(P::Results, &mut Delivery) -> R,
    ) -> Outcome<R> {
        let until = timeout.map(|timeout| (Instant::now(), timeout));
        let left = || until.map(|(since, timeout)| timeout.saturating_sub(since.elapsed()));
        let mut waiter = Waiter::new(self.wait, false, timeout);
        loop {
            if let Some(outcome) = self.try_finish::<P, _>(a_stack, &take) {
                return outcome;
            }
            let waits = Waits { binding: self, a_stack };
            let served = server.poll();
            std::mem::forget(waits);
            let step = if served {
                waiter = Waiter::new(self.wait, false, left());
                if left() == Some(Duration::ZERO) { Step::TimedOut } else { Step::Again }
            } else {
                waiter.step(1, || false)
            };
            match step {
                Step::Again => {}
                Step::Park => {
                    server.sleep(&mut |fd| self.park(&waiter, fd));
                }
                // What was served may have taken longer than the reply.
                Step::TimedOut => {
                    let last = self.try_finish::<P, _>(a_stack, &take);
                    return last.unwrap_or_else(|| self.abandon(a_stack));
                }
            }
        }
    }
}

impl<P: Procedure> Pending<'_, P> {
    /// As [`Pending::wait_timeout`], or without a limit, serving meanwhile as [`Binding::call_serving`].
    ///
    /// # Panics
    /// When the outcome was taken already, and when a handler of `server` panics.
    pub fn wait_serving<S: Progress + ?Sized>(
        mut self,
        server: &S,
        timeout: Option<Duration>,
    ) -> Outcome<Reply<P::Results>> {
        let a_stack = self.hand_over();
        self.binding.finish_serving::<P, _, S>(a_stack, server, timeout, reply)
    }
}

/// A call that waits while others are served: if one of those panics, nobody waits any more.
struct Waits<'a, I: Interface> {
    binding: &'a Binding<I>,
    a_stack: u16,
}

impl<I: Interface> Drop for Waits<'_, I> {
    #[cold]
    fn drop(&mut self) {
        let _: Outcome<()> = self.binding.abandon(self.a_stack);
    }
}
