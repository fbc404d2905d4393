//! What a handler is given, and gives back.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use unet::{AllocError, Channel, ChannelId, Credentials, FbufMut, Message, ReadError};

use super::later::{Answers, Later};
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
    pub(super) channel: &'a mut Channel,
    pub(super) answers: &'a Arc<Answers>,
    /// Whether one more call can be answered later.
    pub(super) has_place: bool,
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
        self.channel.message(0, len, fill)
    }

    /// A buffer of the client's channel, to be given. `None` over a network, where nothing is handed over.
    pub(crate) fn alloc(&mut self, len: usize) -> Option<Result<FbufMut, AllocError>> {
        self.channel.peer_address().is_none().then(|| buffer(self.channel, len))
    }

    /// Who calls, by the kernel's word. `None` over a network.
    pub fn caller(&self) -> Option<Credentials> {
        self.channel.peer_address().is_none().then(|| self.channel.credentials())
    }

    /// Puts the reply off: whatever the handler says or gives after that is not heard.
    ///
    /// # Errors
    /// [`Refusal::Overload`]: as many calls as may wait do.
    pub fn later(&mut self) -> Result<Later, Refusal> {
        if !self.has_place {
            return Err(Refusal::Overload);
        }
        let pending = self.pending.take().ok_or(Refusal::Overload)?;
        let (client, answers) = (self.client, Arc::clone(self.answers));
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
