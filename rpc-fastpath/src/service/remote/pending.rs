//! A call of a method under way, over a channel.

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use lrpc::{Outcome, Progress, UnknownReason};

use super::Remote;
use super::calls::Received;
use crate::endpoint::Token;
use crate::service::contract::{Method, PendingCall};

/// A call under way over a channel: see [`PendingCall`]. Who drops it abandons the call, which the server executes
/// all the same.
///
/// As a future it is woken by [`Remote::progress`], which some task calls when the client's descriptor is readable,
/// or by whatever else moves the client on; it knows no runtime.
#[must_use = "a call whose outcome is not asked for is abandoned"]
pub struct RemotePending<'a, M: Method> {
    client: &'a Remote<M::Interface>,
    /// `None` once the outcome was given out.
    token: Option<Token>,
    _method: PhantomData<fn() -> M>,
}

impl<'a, M: Method> RemotePending<'a, M> {
    pub(super) fn new(client: &'a Remote<M::Interface>, token: Token) -> Self {
        Self { client, token: Some(token), _method: PhantomData }
    }

    fn give_out(&mut self, outcome: Outcome<Received>) -> Outcome<M::Output> {
        self.token = None;
        self.client.read::<M>(outcome)
    }

    pub(super) fn wait_serving(mut self, server: &dyn Progress) -> Outcome<M::Output> {
        let token = self.token.expect("the outcome of this call was taken already");
        let outcome = self.client.await_serving(token, server);
        self.give_out(outcome)
    }

    fn wait_until(mut self, until: Option<Instant>) -> Outcome<M::Output> {
        let token = self.token.expect("the outcome of this call was taken already");
        match self.client.await_end(token, until) {
            Some(outcome) => self.give_out(outcome),
            None => Outcome::Unknown(UnknownReason::TimedOut),
        }
    }
}

impl<M: Method> PendingCall<M> for RemotePending<'_, M> {
    fn try_take(&mut self) -> Option<Outcome<M::Output>> {
        let outcome = self.client.look(self.token?)?;
        Some(self.give_out(outcome))
    }

    fn wait(self) -> Outcome<M::Output> {
        self.wait_until(None)
    }

    fn wait_timeout(self, timeout: Duration) -> Outcome<M::Output> {
        self.wait_until(Instant::now().checked_add(timeout))
    }
}

impl<M: Method> Future for RemotePending<'_, M> {
    type Output = Outcome<M::Output>;

    /// # Panics
    /// When the outcome was taken already, or a `Deserialize` of the result panics.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let token = self.token.expect("the outcome of this call was taken already");
        match self.client.look_or_await(token, context.waker().clone()) {
            Some(outcome) => Poll::Ready(self.give_out(outcome)),
            None => Poll::Pending,
        }
    }
}

impl<M: Method> Drop for RemotePending<'_, M> {
    fn drop(&mut self) {
        if let Some(token) = self.token {
            self.client.forget(token);
        }
    }
}

impl<M: Method> std::fmt::Debug for RemotePending<'_, M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RemotePending").field(&M::SHAPE.name).finish()
    }
}
