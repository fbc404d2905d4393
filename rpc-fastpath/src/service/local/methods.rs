//! The methods of a service that is served: arguments read, the handler run, the result sent.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use lrpc::{Answer, Fbuf, Later, Reason};
use unet::{AllocError, FbufMut, Message};

use super::deliveries::Deliveries;
use super::source::OnServer;
use super::{copied, put_back};
use crate::service::call::{Call, OnWorker};
use crate::service::contract::{Handled, Method, Registry, Service};
use crate::service::deadline::{NEVER, has_passed};
use crate::service::form::Form;
use crate::service::handling::{Given, NotGiven, handled, let_go};
use crate::service::workers::{Job, Place, Turn};

/// A server that is told its methods.
pub(super) struct Exporting<S, H> {
    pub inner: lrpc::Server<S>,
    pub slow: Option<Arc<Deliveries<S>>>,
    pub handler: Arc<H>,
}

impl<S: Service, H: Send + Sync + 'static> Registry<H> for Exporting<S, H> {
    type Service = S;

    fn method<M: Handled<H, Interface = S>>(self) -> Self {
        let Self { inner, slow, handler } = self;
        let method = Methods::<S, H> { handler: Arc::clone(&handler), slow: slow.clone() };
        let inner = if M::SHAPE.slow {
            inner.on_answering::<M>(move |call, cell| method.hand_over::<M>(call, cell))
        } else {
            let scratch = Cell::new(Vec::new());
            inner.on_answering::<M>(move |call, cell| method.run::<M>(call, &cell, &scratch))
        };
        Self { inner, slow, handler }
    }
}

/// What serves a method.
struct Methods<S, H> {
    handler: Arc<H>,
    slow: Option<Arc<Deliveries<S>>>,
}

impl<S: Service, H: Send + Sync + 'static> Methods<S, H> {
    /// Runs the handler on this thread.
    #[inline(always)]
    fn run<M: Handled<H, Interface = S>>(
        &self,
        call: &lrpc::Call<'_, S>,
        cell: &M::Arguments,
        scratch: &Cell<Vec<u8>>,
    ) -> Answer<M::Results> {
        let expires = M::TakesForm::expires(cell);
        if has_passed(expires) {
            return Answer::Refused(Reason::TooLate);
        }
        let source = OnServer { call, slow: self.slow.as_deref() };
        let context = Call::new(&source, expires);
        let given = if M::IN_PLACE {
            handled::<M, H>(&self.handler, &context, || M::TakesForm::unpack(cell, None), None)
        } else if M::BULK_ARGUMENT {
            let bulk = call.take_bulk().map(Message::from);
            handled::<M, H>(&self.handler, &context, || M::TakesForm::unpack(cell, None), bulk)
        } else {
            // A nested call of this method finds none, and allocates.
            let mut bytes = scratch.take();
            let spilled = call.take_bulk();
            let spilled = spilled.as_ref().and_then(|buffer| copied(buffer, &mut bytes));
            let read = || M::TakesForm::unpack(cell, spilled);
            let given = handled::<M, H>(&self.handler, &context, read, None);
            put_back(scratch, bytes);
            given
        };
        let (answer, buffer) = answer::<M>(given, |len| call.alloc(len));
        if let Some(buffer) = buffer {
            call.reply_with(buffer);
        }
        answer
    }

    /// Has a worker run the handler.
    fn hand_over<M: Handled<H, Interface = S>>(
        &self,
        call: &lrpc::Call<'_, S>,
        cell: M::Arguments,
    ) -> Answer<M::Results> {
        let Some(slow) = &self.slow else { return Answer::Refused(Reason::NotServed) };
        let job = |place| Ok(self.job::<M>(slow, place, call, cell));
        let submitted = slow.workers.submit(call.binding(), job);
        submitted.map_or_else(Answer::Refused, |()| Answer::Later)
    }

    /// What a worker does for a call.
    fn job<M: Handled<H, Interface = S>>(
        &self,
        slow: &Deliveries<S>,
        place: Place,
        call: &lrpc::Call<'_, S>,
        cell: M::Arguments,
    ) -> Job {
        let (handler, deliver) = (Arc::clone(&self.handler), slow.deliver());
        let (later, caller) = (call.later::<M>(), call.caller());
        let mut bytes = Vec::new();
        let spilled = call.take_bulk().is_some_and(|buffer| copied(&buffer, &mut bytes).is_some());
        Box::new(move |turn| {
            let expires = M::TakesForm::expires(&cell);
            let given = if turn == Turn::Refuse {
                Err(NotGiven::Refused(Reason::Stopping))
            } else if has_passed(expires) {
                Err(NotGiven::Refused(Reason::TooLate))
            } else {
                let source = OnWorker { caller };
                let context = Call::new(&source, expires);
                let read = || M::TakesForm::unpack(&cell, spilled.then_some(&bytes[..]));
                handled::<M, H>(&handler, &context, read, None)
            };
            deliver.give(place, move |server| send_later::<M>(server, later, given));
        })
    }
}

/// What is sent for it, with the buffer beside it.
#[inline(always)]
fn answer<M: Method>(
    given: Given<M>,
    alloc: impl FnOnce(usize) -> Result<FbufMut, AllocError>,
) -> (Answer<M::Results>, Option<Fbuf>) {
    let (gives, bulk) = match given {
        Ok(given) => given,
        Err(NotGiven::Refused(reason)) => return (Answer::Refused(reason), None),
        Err(NotGiven::Failed) => return (Answer::Failed, None),
    };
    let beside_bulk = M::BULK_RESULT;
    let spill = |len| match beside_bulk {
        true => Err(AllocError::TooLarge { asked: len, largest: 0 }),
        false => alloc(len),
    };
    let pack = || M::GivesForm::pack(gives, NEVER, spill);
    // Plain data has no code of its own that might panic.
    let packed = match M::IN_PLACE {
        true => Ok(pack()),
        false => catch_unwind(AssertUnwindSafe(pack)).map_err(let_go),
    };
    let (cell, spilled) = match packed {
        Ok(Ok(packed)) => packed,
        Ok(Err(Reason::TooLarge)) => return (Answer::ResultsTooLarge, None),
        Ok(Err(_)) | Err(()) => return (Answer::Failed, None),
    };
    match bulk.map_or(Ok(None), super::client::own_buffer) {
        Ok(bulk) => (Answer::Results(cell), spilled.or(bulk)),
        // Of another server, or of several parts.
        Err(_) => (Answer::Failed, None),
    }
}

fn send_later<M: Method>(server: &lrpc::Server<M::Interface>, later: Later<M>, given: Given<M>) {
    let (answer, buffer) = answer::<M>(given, |len| server.alloc_for(&later, len));
    server.answer_later(later, answer, buffer);
}
