//! The client's side: a binding that calls methods.

use std::cell::Cell;
use std::time::Duration;

use lrpc::{
    BindError, BindOptions, Binding, Fbuf, Outcome, PeerFbuf, Progress, Reason, Reply,
    UnknownReason,
};
use unet::{Address, AllocError, FbufMut, Message};

use super::{Pending, copied, put_back};
use crate::service::contract::{Caller, Method, Service};
use crate::service::deadline::expiry;
use crate::service::form::Form;
use crate::service::serving::within;

/// Calls a service of this host. Used by one thread at a time, which is the compiler's to see; calls may
/// nest.
///
/// A `Serialize` of an argument, or a `Deserialize` of a result, that panics unwinds out of the call; the
/// client remains usable.
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>() {}
/// shared::<rpc_fastpath::service::Local<()>>();
/// ```
pub struct Local<S> {
    binding: Binding<S>,
    /// For what was encoded into a buffer; empty while it is lent.
    scratch: Cell<Vec<u8>>,
}

impl<S: Service> Local<S> {
    /// Binds to a server.
    ///
    /// # Errors
    /// [`BindError`].
    ///
    /// # Cost
    /// As [`Binding::bind`], once.
    pub fn bind(address: &Address, options: BindOptions) -> Result<Self, BindError> {
        Ok(Self { binding: Binding::bind(address, options)?, scratch: Cell::default() })
    }

    /// The binding: its buffers, counters, descriptor, and who serves.
    #[inline(always)]
    pub fn binding(&self) -> &Binding<S> {
        &self.binding
    }

    /// Takes a buffer, to be written and handed over as bulk.
    ///
    /// # Errors
    /// [`AllocError`]; `Exhausted` is back-pressure.
    pub fn alloc(&self, len: usize) -> Result<FbufMut, AllocError> {
        self.binding.alloc(len)
    }

    /// What travels for a call.
    #[inline(always)]
    fn pack<M: Method<Interface = S>>(
        &self,
        takes: M::Takes<'_>,
        bulk: Option<Message>,
        within: Option<Duration>,
    ) -> Result<(M::Arguments, Option<Fbuf>), Reason> {
        let expires = expiry(within);
        if !M::BULK_ARGUMENT {
            return M::TakesForm::pack(takes, expires, |len| self.binding.alloc(len));
        }
        let largest = AllocError::TooLarge { asked: 0, largest: 0 };
        let (cell, _) = M::TakesForm::pack(takes, expires, |_| Err(largest))?;
        Ok((cell, bulk.map_or(Ok(None), own_buffer)?))
    }

    /// What came back.
    #[inline]
    pub(super) fn unpack<M: Method<Interface = S>>(
        &self,
        outcome: Outcome<Reply<M::Results>>,
    ) -> Outcome<M::Output> {
        let reply = match outcome {
            Outcome::Executed(reply) => reply,
            Outcome::Refused(reason) => return Outcome::Refused(reason),
            Outcome::Unknown(reason) => return Outcome::Unknown(reason),
        };
        let Reply { results, bulk } = reply;
        let output = match bulk {
            Some(bulk) if !M::BULK_RESULT => self.unpack_spilled::<M>(&results, &bulk),
            bulk => M::GivesForm::unpack(&results, None)
                .map(|gives| M::join(gives, bulk.map(Message::from))),
        };
        output.map_or(Outcome::Unknown(UnknownReason::BadResults), Outcome::Executed)
    }
}

impl<S: Service> Local<S> {
    /// What came back in a buffer.
    #[cold]
    fn unpack_spilled<M: Method<Interface = S>>(
        &self,
        results: &M::Results,
        buffer: &PeerFbuf,
    ) -> Option<M::Output> {
        let mut scratch = self.scratch.take();
        let spilled = copied(buffer, &mut scratch);
        let gives = M::GivesForm::unpack(results, spilled);
        put_back(&self.scratch, scratch);
        gives.map(|gives| M::join(gives, None))
    }
}

/// The one buffer that a message consists of, or none if it is empty.
pub(super) fn own_buffer(bulk: Message) -> Result<Option<Fbuf>, Reason> {
    if bulk.is_empty() {
        return Ok(None);
    }
    match bulk.into_part() {
        Ok(fbufs::Part::Own(buffer)) => Ok(Some(buffer)),
        _ => Err(Reason::ForeignBuffer),
    }
}

impl<S: Service> Caller<S> for Local<S> {
    type Pending<'a, M: Method<Interface = S>> = Pending<'a, M>;

    #[inline(always)]
    fn call<M: Method<Interface = S>>(
        &self,
        takes: M::Takes<'_>,
        bulk: Option<Message>,
    ) -> Outcome<M::Output> {
        if M::IN_PLACE {
            // Nothing but LRPC's own call is left of this when it is compiled.
            let (cell, _) = match self.pack::<M>(takes, None, M::SHAPE.deadline) {
                Ok(packed) => packed,
                Err(reason) => return Outcome::Refused(reason),
            };
            return match self.binding.call::<M>(&cell) {
                Outcome::Executed(results) => match M::GivesForm::unpack(&results, None) {
                    Some(gives) => Outcome::Executed(M::join(gives, None)),
                    None => Outcome::Unknown(UnknownReason::BadResults),
                },
                Outcome::Refused(reason) => Outcome::Refused(reason),
                Outcome::Unknown(reason) => Outcome::Unknown(reason),
            };
        }
        let (cell, buffer) = match self.pack::<M>(takes, bulk, M::SHAPE.deadline) {
            Ok(packed) => packed,
            Err(reason) => return Outcome::Refused(reason),
        };
        let Some(deadline) = M::SHAPE.deadline else {
            return self.unpack::<M>(self.binding.call_bulk::<M>(&cell, buffer));
        };
        match self.binding.start::<M>(&cell, buffer) {
            Ok(pending) => self.unpack::<M>(pending.wait_timeout(deadline)),
            Err(reason) => Outcome::Refused(reason),
        }
    }

    fn call_serving<M: Method<Interface = S>>(
        &self,
        takes: M::Takes<'_>,
        bulk: Option<Message>,
        server: &dyn Progress,
    ) -> Outcome<M::Output> {
        let within = within(M::SHAPE.deadline, server);
        if within == Some(Duration::ZERO) {
            return Outcome::Refused(Reason::TooLate);
        }
        // Where the method has no deadline, none travels, and only this side knows of it.
        let packed = self.pack::<M>(takes, bulk, within);
        let started = packed.and_then(|(cell, buffer)| self.binding.start::<M>(&cell, buffer));
        match started {
            Ok(pending) => Pending::new(self, pending).wait_serving(server, within),
            Err(reason) => Outcome::Refused(reason),
        }
    }

    #[inline]
    fn start<M: Method<Interface = S>>(
        &self,
        takes: M::Takes<'_>,
        bulk: Option<Message>,
    ) -> Result<Pending<'_, M>, Reason> {
        let (cell, buffer) = self.pack::<M>(takes, bulk, M::SHAPE.deadline)?;
        Ok(Pending::new(self, self.binding.start::<M>(&cell, buffer)?))
    }

    fn send<M: Method<Interface = S>>(
        &self,
        takes: M::Takes<'_>,
        bulk: Option<Message>,
    ) -> Result<(), Reason> {
        let (cell, buffer) = self.pack::<M>(takes, bulk, M::SHAPE.deadline)?;
        self.binding.call_one_way::<M>(&cell, buffer)
    }

    fn alloc(&self, len: usize) -> Result<FbufMut, AllocError> {
        self.binding.alloc(len)
    }
}

impl<S> std::fmt::Debug for Local<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Local").field("binding", &self.binding).finish_non_exhaustive()
    }
}
