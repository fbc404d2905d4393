//! A client by whichever carrier is nearest.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use lrpc::{BindError, BindOptions, Outcome, Progress, Reason};
use unet::{Address, AllocError, FbufMut, Message};

use super::contract::{Caller, Method, PendingCall, Service};
use super::{Local, Pending, Remote, RemoteOptions, RemotePending};
use crate::endpoint::{OpenError, Rejection, SessionEnd};

/// How a service is sought.
#[derive(Clone, Debug, Default)]
pub struct NearestOptions {
    /// Over LRPC.
    pub local: BindOptions,
    /// Over channels.
    pub remote: RemoteOptions,
}

/// Calls a service over LRPC, if it is served so at one of its addresses on this host, else over a channel to any of
/// them. Chosen once: a server that comes later, or goes, is not changed for one of the other kind.
#[derive(Debug)]
// There is one for a client, and it stays where it is.
#[allow(clippy::large_enum_variant)]
pub enum Nearest<S> {
    /// Over LRPC.
    Local(Local<S>),
    /// Over channels.
    Remote(Remote<S>),
}

impl<S: Service> Nearest<S> {
    /// Seeks the service: over LRPC at each address of this host (`shm:`), then over channels at all.
    ///
    /// # Errors
    /// [`OpenError`] of the channels; where an LRPC server has another version or layout, the rejection that says so.
    pub fn open(addresses: &[Address], options: NearestOptions) -> Result<Self, OpenError> {
        let NearestOptions { local, remote } = options;
        let mut differs = None;
        for address in addresses.iter().filter(|address| matches!(address, Address::Shm(_))) {
            match Local::bind(address, local.clone()) {
                Ok(bound) => return Ok(Self::Local(bound)),
                Err(BindError::VersionMismatch) => differs = Some(Rejection::ServiceVersion),
                Err(BindError::LayoutMismatch) => differs = Some(Rejection::Layout),
                Err(_) => {}
            }
        }
        let rejected = |why| OpenError::Session(SessionEnd::Rejected(why));
        let opened = Remote::open(addresses, remote);
        opened.map(Self::Remote).map_err(|error| differs.map_or(error, rejected))
    }
}

impl<S: Service> Caller<S> for Nearest<S> {
    type Pending<'a, M: Method<Interface = S>> = NearestPending<'a, M>;

    #[inline]
    fn call<M: Method<Interface = S>>(
        &self,
        takes: M::Takes<'_>,
        bulk: Option<Message>,
    ) -> Outcome<M::Output> {
        match self {
            Self::Local(local) => local.call::<M>(takes, bulk),
            Self::Remote(remote) => remote.call::<M>(takes, bulk),
        }
    }

    fn call_serving<M: Method<Interface = S>>(
        &self,
        takes: M::Takes<'_>,
        bulk: Option<Message>,
        server: &dyn Progress,
    ) -> Outcome<M::Output> {
        match self {
            Self::Local(local) => local.call_serving::<M>(takes, bulk, server),
            Self::Remote(remote) => remote.call_serving::<M>(takes, bulk, server),
        }
    }

    fn start<M: Method<Interface = S>>(
        &self,
        takes: M::Takes<'_>,
        bulk: Option<Message>,
    ) -> Result<NearestPending<'_, M>, Reason> {
        Ok(match self {
            Self::Local(local) => NearestPending::Local(local.start::<M>(takes, bulk)?),
            Self::Remote(remote) => NearestPending::Remote(remote.start::<M>(takes, bulk)?),
        })
    }

    fn send<M: Method<Interface = S>>(
        &self,
        takes: M::Takes<'_>,
        bulk: Option<Message>,
    ) -> Result<(), Reason> {
        match self {
            Self::Local(local) => local.send::<M>(takes, bulk),
            Self::Remote(remote) => remote.send::<M>(takes, bulk),
        }
    }

    fn alloc(&self, len: usize) -> Result<FbufMut, AllocError> {
        match self {
            Self::Local(local) => local.alloc(len),
            Self::Remote(remote) => remote.alloc(len),
        }
    }
}

/// A call under way: see [`PendingCall`]. Awaited, it is woken as its carrier's is.
#[derive(Debug)]
#[must_use = "a call whose outcome is not asked for is abandoned"]
pub enum NearestPending<'a, M: Method> {
    /// Over LRPC.
    Local(Pending<'a, M>),
    /// Over a channel.
    Remote(RemotePending<'a, M>),
}

impl<M: Method> PendingCall<M> for NearestPending<'_, M> {
    fn try_take(&mut self) -> Option<Outcome<M::Output>> {
        match self {
            Self::Local(call) => call.try_take(),
            Self::Remote(call) => call.try_take(),
        }
    }

    fn wait(self) -> Outcome<M::Output> {
        match self {
            Self::Local(call) => call.wait(),
            Self::Remote(call) => call.wait(),
        }
    }

    fn wait_timeout(self, timeout: Duration) -> Outcome<M::Output> {
        match self {
            Self::Local(call) => call.wait_timeout(timeout),
            Self::Remote(call) => call.wait_timeout(timeout),
        }
    }
}

impl<M: Method> Future for NearestPending<'_, M> {
    type Output = Outcome<M::Output>;

    /// # Panics
    /// When the outcome was taken already, or a `Deserialize` of the result panics.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Local(call) => Pin::new(call).poll(context),
            Self::Remote(call) => Pin::new(call).poll(context),
        }
    }
}
