//! Calls of a server that serves while it waits, for chains of calls that come back to it.

use std::time::Duration;

use lrpc::{Outcome, Progress, Reason};
use unet::{AllocError, FbufMut, Message};

use super::contract::{Caller, Method, Service};

/// Calls through a client, and serves the calls that arrive at a server until the outcome is here; within the time that
/// is left of what the server does ([`Progress::remaining`]). Made by a client's `serving`. Only calls that block
/// serve: who starts one and waits for it does not.
#[derive(Debug)]
pub struct Serving<'a, C> {
    client: &'a C,
    server: Server<'a>,
}

struct Server<'a>(&'a dyn Progress);

impl<'a, C> Serving<'a, C> {
    /// Calls through `client`, serving `server`: a [`crate::service::Call`], or a [`crate::service::Server`].
    pub fn new(client: &'a C, server: &'a dyn Progress) -> Self {
        Self { client, server: Server(server) }
    }
}

/// How long a call is wanted: not longer than what it is made for.
pub(super) fn within(own: Option<Duration>, server: &dyn Progress) -> Option<Duration> {
    own.into_iter().chain(server.remaining()).min()
}

impl<S: Service, C: Caller<S>> Caller<S> for Serving<'_, C> {
    type Pending<'b, M: Method<Interface = S>>
        = C::Pending<'b, M>
    where
        Self: 'b;

    fn call<M: Method<Interface = S>>(
        &self,
        takes: M::Takes<'_>,
        bulk: Option<Message>,
    ) -> Outcome<M::Output> {
        self.client.call_serving::<M>(takes, bulk, self.server.0)
    }

    fn call_serving<M: Method<Interface = S>>(
        &self,
        takes: M::Takes<'_>,
        bulk: Option<Message>,
        server: &dyn Progress,
    ) -> Outcome<M::Output> {
        self.client.call_serving::<M>(takes, bulk, server)
    }

    fn start<M: Method<Interface = S>>(
        &self,
        takes: M::Takes<'_>,
        bulk: Option<Message>,
    ) -> Result<Self::Pending<'_, M>, Reason> {
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

impl std::fmt::Debug for Server<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}
