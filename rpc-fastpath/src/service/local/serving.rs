//! Calls of a server that serves while it waits, for chains of calls that come back to it.

use lrpc::{Outcome, Progress, Reason};
use unet::{AllocError, FbufMut, Message};

use super::{Local, Pending};
use crate::service::contract::{Caller, Method, Service};

/// Calls through a client, and serves the calls that arrive at a server until the outcome is here.
/// Made by a client's `serving`. Only calls that block serve: who starts one and waits for it does not.
pub struct Serving<'a, S> {
    client: &'a Local<S>,
    server: &'a dyn Progress,
}

impl<'a, S: Service> Serving<'a, S> {
    /// Calls through `client`, serving `server`: a [`crate::service::Call`], or a [`super::Server`].
    pub fn new(client: &'a Local<S>, server: &'a dyn Progress) -> Self {
        Self { client, server }
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
            Ok(pending) => pending.wait_serving(self.server, M::SHAPE.deadline),
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

    fn alloc(&self, len: usize) -> Result<FbufMut, AllocError> {
        self.client.alloc(len)
    }
}

impl<S> std::fmt::Debug for Serving<'_, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Serving").field(self.client).finish()
    }
}
