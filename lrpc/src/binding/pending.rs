//! Calls that are started and awaited apart: several under way at once, from one thread.

use std::future::Future;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use unet::{Delivery, Fbuf};

use super::{Binding, Reply};
use crate::outcome::{Outcome, Reason};
use crate::{Interface, Procedure};

/// A call under way. Its outcome is asked for, waited for, or awaited; who drops it abandons the call,
/// which the server executes all the same.
///
/// As a future it is woken by [`Binding::progress`], which some task calls when the binding's
/// descriptor is readable, or by another call on the binding that takes its reply, also by its own
/// `poll`; it knows no runtime. Its waker may call on the binding, but must not poll this future.
#[must_use = "a call whose outcome is not asked for is abandoned"]
pub struct Pending<'a, P: Procedure> {
    pub(super) binding: &'a Binding<P::Interface>,
    a_stack: u16,
    over: bool,
    /// A task was to be woken for it.
    awaited: bool,
    _procedure: PhantomData<fn() -> P>,
}

impl<I: Interface> Binding<I> {
    /// Starts a call, handing over a buffer or none, and does not wait.
    ///
    /// # Errors
    /// [`Reason`]: the call was not sent. `NoAStack` after [`crate::A_STACKS`] of a procedure.
    ///
    /// # Cost
    /// As [`Binding::call`]; a reply that is received while another is waited for is moved once.
    #[inline(always)]
    pub fn start<P: Procedure<Interface = I>>(
        &self,
        arguments: &P::Arguments,
        bulk: Option<Fbuf>,
    ) -> Result<Pending<'_, P>, Reason> {
        let a_stack = self.post::<P>(arguments, bulk)?;
        Ok(Pending { binding: self, a_stack, over: false, awaited: false, _procedure: PhantomData })
    }

    /// Sends a call of which nobody wants to know the outcome. Its A-stack is free again when the
    /// server has replied.
    ///
    /// # Errors
    /// [`Reason`]: the call was not sent.
    pub fn call_one_way<P: Procedure<Interface = I>>(
        &self,
        arguments: &P::Arguments,
        bulk: Option<Fbuf>,
    ) -> Result<(), Reason> {
        let a_stack = self.post::<P>(arguments, bulk)?;
        self.state.borrow_mut().abandon(a_stack);
        Ok(())
    }

    /// Takes the replies that are there, and wakes the tasks that await them. `true` if since the last
    /// time there was a reply, or the binding's end, whichever call took it.
    ///
    /// # Cost
    /// Two system calls after [`Binding::arm`], none else.
    pub fn progress(&self) -> bool {
        let mut guard = self.state.borrow_mut();
        let state = &mut *guard;
        if std::mem::take(&mut state.armed) {
            state.channel.wake();
        }
        state.take_replies();
        let news = std::mem::take(&mut state.news);
        drop(guard);
        self.wake();
        news
    }

    /// Announces that this thread, or its event loop, will wait for the binding's descriptor. `false`
    /// if there is something already: then call [`Binding::progress`], do not wait. Once the binding
    /// has [ended](Binding::closed) it is always false: an event loop lets it go then.
    ///
    /// Calls that are made while a task waits take the replies to others too, wake those that await
    /// them, and leave the bell armed. Who asks ([`Pending::try_take`]) and does not await must
    /// announce it anew after such a call.
    ///
    /// # Cost
    /// Two system calls.
    pub fn arm(&self) -> bool {
        let state = &mut *self.state.borrow_mut();
        if state.news {
            return false;
        }
        state.armed = state.channel.arm();
        state.armed
    }

    /// Passes the binding's descriptor to `with`: after [`Binding::arm`] returned true it becomes
    /// readable when [`Binding::progress`] has something to do. `None` where there is none, as over a
    /// network.
    ///
    /// # Panics
    /// When `with` calls on this same binding.
    pub fn with_fd<T>(&self, with: impl FnOnce(BorrowedFd<'_>) -> T) -> Option<T> {
        self.state.borrow().channel.doorbell().map(with)
    }
}

impl<P: Procedure> Pending<'_, P> {
    /// The outcome, if it is here. Once it was given out there is no other.
    #[inline]
    pub fn try_take(&mut self) -> Option<Outcome<Reply<P::Results>>> {
        if self.over {
            return None;
        }
        let mut outcome = self.binding.try_finish::<P, _>(self.a_stack, reply);
        if outcome.is_none() && self.binding.take_replies() {
            outcome = self.binding.try_finish::<P, _>(self.a_stack, reply);
        }
        self.over = outcome.is_some();
        outcome
    }

    /// Waits for the outcome by the binding's wait strategy.
    ///
    /// # Panics
    /// When the outcome was taken already.
    #[inline]
    pub fn wait(self) -> Outcome<Reply<P::Results>> {
        self.wait_at_most(None)
    }

    /// As [`Pending::wait`]; [`crate::UnknownReason::TimedOut`] if there is no reply in time. The late
    /// reply is discarded.
    ///
    /// # Panics
    /// When the outcome was taken already.
    pub fn wait_timeout(self, timeout: Duration) -> Outcome<Reply<P::Results>> {
        self.wait_at_most(Some(timeout))
    }

    #[inline]
    fn wait_at_most(mut self, timeout: Option<Duration>) -> Outcome<Reply<P::Results>> {
        if let Some(outcome) = self.try_take() {
            return outcome;
        }
        let a_stack = self.hand_over();
        self.binding.finish::<P, _>(a_stack, timeout, reply)
    }

    /// Whoever calls this cares for the call from now on.
    #[inline]
    pub(super) fn hand_over(&mut self) -> u16 {
        assert!(!self.over, "the outcome of this call was taken already");
        self.over = true;
        self.a_stack
    }
}

pub(super) fn reply<T>(results: T, message: &mut Delivery) -> Reply<T> {
    Reply { results, bulk: message.take_fbuf() }
}

impl<P: Procedure> Future for Pending<'_, P> {
    type Output = Outcome<Reply<P::Results>>;

    /// # Panics
    /// When the outcome was taken already.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(!self.over, "the outcome of this call was taken already");
        if let Some(outcome) = self.try_take() {
            return Poll::Ready(outcome);
        }
        self.awaited = true;
        let waker = context.waker().clone();
        let mut state = self.binding.state.borrow_mut();
        let earlier = state.forget_waker(self.a_stack);
        state.wakers.push((self.a_stack, waker));
        drop(state);
        drop(earlier);
        Poll::Pending
    }
}

impl<P: Procedure> Drop for Pending<'_, P> {
    fn drop(&mut self) {
        if !self.over {
            self.binding.state.borrow_mut().abandon(self.a_stack);
        }
        if self.awaited {
            let waker = self.binding.state.borrow_mut().forget_waker(self.a_stack);
            drop(waker);
        }
    }
}

impl<P: Procedure> std::fmt::Debug for Pending<'_, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").field("a_stack", &self.a_stack).finish_non_exhaustive()
    }
}
