//! Waiting for the end of a call: by asking, by a waker, by sleep, or while a server is served.

use std::os::fd::{AsFd, BorrowedFd};
use std::task::Waker;
use std::time::{Duration, Instant};

use lrpc::{Outcome, Progress};
use rustix::event::{PollFd, PollFlags, poll};
use segment::wait::{Step, Waiter};

use super::Remote;
use crate::endpoint::Token;
use crate::service::contract::Service;
use crate::service::remote::calls::Received;

impl<S: Service> Remote<S> {
    /// Whether that call has ended, after taking what came.
    pub(in crate::service::remote) fn look(&self, token: Token) -> Option<Outcome<Received>> {
        self.with(|inner| inner.look(token))
    }

    /// As `look`; the waker is called when the call has ended after it has not.
    pub(in crate::service::remote) fn look_or_await(
        &self,
        token: Token,
        waker: Waker,
    ) -> Option<Outcome<Received>> {
        let (found, _dropped_outside) = self.with(|inner| match inner.look(token) {
            Some(outcome) => (Some(outcome), Some(waker)),
            None => (None, inner.calls.await_end(token, waker)),
        });
        found
    }

    /// Waits for a call's end, until then at most.
    pub(in crate::service::remote) fn await_end(
        &self,
        token: Token,
        until: Option<Instant>,
    ) -> Option<Outcome<Received>> {
        loop {
            if let Some(outcome) = self.look(token) {
                return Some(outcome);
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return None;
            }
            self.with(|inner| inner.wait(left.unwrap_or(Duration::MAX)));
        }
    }

    /// Waits for a call's end, and serves meanwhile.
    pub(in crate::service::remote) fn await_serving(
        &self,
        token: Token,
        server: &dyn Progress,
    ) -> Outcome<Received> {
        let waiter = || Waiter::new(self.wait, false, None);
        let mut waits = waiter();
        loop {
            if let Some(outcome) = self.look(token) {
                return outcome;
            }
            if server.poll() {
                waits = waiter();
            } else if !matches!(waits.step(1, || false), Step::Again) {
                server.sleep(&mut |fd| self.park(fd));
            }
        }
    }

    /// Sleeps until there is something to do, here or where that descriptor is of.
    fn park(&self, beside: Option<BorrowedFd<'_>>) {
        let is_armed = self.with(|inner| {
            inner.is_armed = inner.connection.arm();
            inner.is_armed
        });
        if is_armed {
            let own = self.fd.as_fd();
            let mut fds =
                [own, beside.unwrap_or(own)].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
            // An interruption is a reason to look, too.
            let _ = poll(&mut fds, None);
        }
    }

    /// Nobody waits for a call any more.
    pub(in crate::service::remote) fn forget(&self, token: Token) {
        let forgotten = self.inner.borrow_mut().calls.forget(token);
        drop(forgotten);
    }

    /// A place for one more call that waits while its server is served.
    pub(super) fn place(&self) -> Option<Place<'_, S>> {
        let mut inner = self.inner.borrow_mut();
        if inner.serving >= inner.connection.window() {
            return None;
        }
        inner.serving += 1;
        Some(Place(self))
    }
}

/// Of a call that waits while its server is served, until this is dropped.
pub(super) struct Place<'a, S>(&'a Remote<S>);

impl<S> Drop for Place<'_, S> {
    fn drop(&mut self) {
        self.0.inner.borrow_mut().serving -= 1;
    }
}
