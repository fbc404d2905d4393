//! A call of a method under way.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use lrpc::{Outcome, Progress};

use super::Local;
use crate::service::contract::{Method, PendingCall};

/// A call under way: asked for, waited for, or awaited. Who drops it abandons the call, which the
/// server executes all the same.
///
/// As a future it is woken by [`lrpc::Binding::progress`], which some task calls when the binding's
/// descriptor is readable; it knows no runtime.
#[must_use = "a call whose outcome is not asked for is abandoned"]
pub struct Pending<'a, M: Method> {
    client: &'a Local<M::Interface>,
    call: lrpc::Pending<'a, M>,
}

impl<'a, M: Method> Pending<'a, M> {
    pub(super) fn new(client: &'a Local<M::Interface>, call: lrpc::Pending<'a, M>) -> Self {
        Self { client, call }
    }

    /// The outcome, if it is here. Once it was given out there is no other.
    ///
    /// # Panics
    /// When a `Deserialize` of the result does: the outcome is given out with that.
    #[inline]
    pub fn try_take(&mut self) -> Option<Outcome<M::Output>> {
        self.call.try_take().map(|outcome| self.client.unpack::<M>(outcome))
    }

    /// Waits for the outcome, as long as it takes, whatever the method's deadline.
    ///
    /// # Panics
    /// When the outcome was taken already, or a `Deserialize` of the result panics.
    #[inline]
    pub fn wait(self) -> Outcome<M::Output> {
        self.client.unpack::<M>(self.call.wait())
    }

    /// As [`Pending::wait`], not longer than that.
    ///
    /// # Panics
    /// When the outcome was taken already, or a `Deserialize` of the result panics.
    pub fn wait_timeout(self, timeout: Duration) -> Outcome<M::Output> {
        self.client.unpack::<M>(self.call.wait_timeout(timeout))
    }

    pub(super) fn wait_serving(
        self,
        server: &dyn Progress,
        timeout: Option<Duration>,
    ) -> Outcome<M::Output> {
        self.client.unpack::<M>(self.call.wait_serving(server, timeout))
    }
}

impl<M: Method> PendingCall<M> for Pending<'_, M> {
    #[inline]
    fn try_take(&mut self) -> Option<Outcome<M::Output>> {
        self.try_take()
    }

    #[inline]
    fn wait(self) -> Outcome<M::Output> {
        self.wait()
    }

    fn wait_timeout(self, timeout: Duration) -> Outcome<M::Output> {
        self.wait_timeout(timeout)
    }
}

impl<M: Method> Future for Pending<'_, M> {
    type Output = Outcome<M::Output>;

    /// # Panics
    /// When the outcome was taken already, or a `Deserialize` of the result panics.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = Pin::new(&mut self.call).poll(context);
        outcome.map(|outcome| self.client.unpack::<M>(outcome))
    }
}

impl<M: Method> std::fmt::Debug for Pending<'_, M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Pending").field(&M::SHAPE.name).finish()
    }
}
