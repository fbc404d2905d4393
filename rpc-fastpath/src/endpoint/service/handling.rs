//! What a handler is given, and gives back.

use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use unet::{AllocError, Channel, ChannelId, Credentials, FbufMut, Message, ReadError};

use super::Service;
use super::later::Later;
use super::serving::session;
use crate::endpoint::clock::Clock;
use crate::endpoint::connection::buffer;
use crate::endpoint::content::{Bytes, Content};
use crate::protocol::{Failure, Pending, Refusal, RequestId};

/// Executes the calls of a service, all of them in the thread that serves.
///
/// A function of the same arguments is one.
pub trait Handler {
    /// Executes one call: reads its arguments, which are lent until this returns, and gives its reply, or a
    /// token by which it is given later.
    ///
    /// # Errors
    /// [`Decline`]: there is no reply. A panic is caught, and the call ends as [`Failure::Panicked`]; the
    /// handler goes on to be used.
    fn handle(
        &mut self,
        context: &Context,
        arguments: Bytes<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), Decline>;
}

impl<F> Handler for F
where
    F: FnMut(&Context, Bytes<'_>, &mut Reply<'_>) -> Result<(), Decline>,
{
    #[inline(always)]
    fn handle(
        &mut self,
        context: &Context,
        arguments: Bytes<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), Decline> {
        self(context, arguments, reply)
    }
}

/// Refuses whatever is called.
pub(super) struct Refusing(pub Refusal);

impl Handler for Refusing {
    fn handle(&mut self, _: &Context, _: Bytes<'_>, _: &mut Reply<'_>) -> Result<(), Decline> {
        Err(self.0.into())
    }
}

/// A call, as its handler is told of it.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// What is called. Whether there is such a method is the handler's to say.
    pub method: u16,
    /// Which call it is.
    pub request: RequestId,
    /// Whose.
    pub client: ChannelId,
    /// The client has been told already that the call was handed over; the reply goes nowhere.
    pub one_way: bool,
    pub(super) deadline: Option<u64>,
    pub(super) clock: Clock,
}

impl Context {
    /// When the caller needs the reply no longer: nested calls carry it on.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline.and_then(|deadline| self.clock.at(deadline))
    }
}

/// Why a call has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Decline {
    /// It was not begun, and never will be.
    #[error(transparent)]
    Refuse(Refusal),
    /// It was begun; what it did is done.
    #[error(transparent)]
    Fail(Failure),
}

impl From<Refusal> for Decline {
    fn from(why: Refusal) -> Self {
        Self::Refuse(why)
    }
}

impl From<Failure> for Decline {
    fn from(why: Failure) -> Self {
        Self::Fail(why)
    }
}

/// Arguments that their sender took back, or that are shorter than what was read of them. For who reads before
/// doing anything: the client takes the call for one that was not executed.
impl From<ReadError> for Decline {
    fn from(_: ReadError) -> Self {
        Self::Refuse(Refusal::InvalidArguments)
    }
}

/// Where a handler puts its reply: empty, unless it puts something there.
pub struct Reply<'a> {
    pub(super) content: Content,
    pub(super) pending: Option<Pending>,
    pub(super) client: ChannelId,
    pub(super) service: &'a mut Service,
}

impl Reply<'_> {
    /// Replies with a copy of some bytes.
    ///
    /// # Cost
    /// Up to 40 bytes: no allocation.
    #[inline(always)]
    pub fn write(&mut self, bytes: &[u8]) {
        self.content = bytes.into();
    }

    /// Replies with this.
    #[inline(always)]
    pub fn give(&mut self, content: impl Into<Content>) {
        self.content = content.into();
    }

    /// A message in buffers of the client's channel, to be given: it is handed over where the client is on this
    /// host. `fill` is given one buffer after the other.
    ///
    /// # Errors
    /// [`AllocError`]: no room now, or never as much.
    pub fn message(
        &mut self,
        len: usize,
        fill: impl FnMut(&mut [u8]),
    ) -> Result<Message, AllocError> {
        let channel = self.channel().ok_or(AllocError::Exhausted)?;
        channel.message(0, len, fill)
    }

    /// The client's. `None` once it is closed.
    fn channel(&mut self) -> Option<&mut Channel> {
        self.service.endpoint.channel_mut(self.client)
    }

    /// The same, where it leads to a process of this host.
    fn near(&mut self) -> Option<&mut Channel> {
        self.channel().filter(|channel| channel.peer_address().is_none())
    }

    /// A buffer of the client's channel, to be given. `None` over a network, where nothing is handed over.
    pub(crate) fn alloc(&mut self, len: usize) -> Option<Result<FbufMut, AllocError>> {
        self.near().map(|channel| buffer(channel, len))
    }

    /// Who calls, by the kernel's word. `None` over a network, and once the client has gone.
    pub fn caller(&mut self) -> Option<Credentials> {
        self.near().map(|channel| channel.credentials())
    }

    /// Serves the next message of any client, by this handler, if there is one: for who waits here for a call that may
    /// come back. Never waits. How much there was.
    ///
    /// Handlers run within one another up to sixteen deep; further calls are refused ([`Refusal::TooDeep`]).
    ///
    /// # Cost
    /// As [`Service::poll`], and an allocation for the first message that is taken so.
    pub fn serve(&mut self, handler: &mut impl Handler) -> usize {
        self.service.serve_within(handler)
    }

    /// Passes the service's descriptor to `with`, unless there is something to serve: it becomes readable when there
    /// is, as after [`Service::arm`].
    pub fn arm_with(&mut self, with: impl FnOnce(BorrowedFd<'_>)) {
        if self.service.arm() {
            with(self.service.as_fd());
        }
    }

    /// Puts the reply off: whatever the handler says or gives after that is not heard.
    ///
    /// # Errors
    /// [`Refusal::Overload`]: as many calls as may wait do.
    pub fn later(&mut self) -> Result<Later, Refusal> {
        let Service { sessions, options, later, answers, .. } = &mut *self.service;
        let session = session(sessions, self.client).ok_or(Refusal::Overload)?;
        if session.later >= options.limits.backlog.into() || *later >= options.later {
            return Err(Refusal::Overload);
        }
        let pending = self.pending.take().ok_or(Refusal::Overload)?;
        session.later += 1;
        *later += 1;
        let (client, answers) = (self.client, Arc::clone(answers));
        Ok(Later { client, pending: Some(pending), answers })
    }
}

/// Executes a call. Nothing if it is answered later.
#[inline(always)]
pub(super) fn handle(
    handler: &mut impl Handler,
    context: &Context,
    arguments: Bytes<'_>,
    mut reply: Reply<'_>,
) -> Option<(Pending, Result<Content, Decline>)> {
    // What the handler left half done is its own: it goes on to be used, as documented.
    let done = AssertUnwindSafe(|| handler.handle(context, arguments, &mut reply));
    let said = match catch_unwind(done) {
        Ok(said) => said,
        Err(panic) => {
            forget(panic);
            Err(Decline::Fail(Failure::Panicked))
        }
    };
    let pending = reply.pending?;
    Some((pending, said.map(|()| reply.content)))
}

/// Drops what a panic carries, which may panic again, for ever so often.
#[cold]
fn forget(panic: Box<dyn std::any::Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
}
