//! The methods of a service that is served: arguments read, the handler run, the result sent.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use lrpc::{Answer, Fbuf, Later, Reason};
use unet::{AllocError, FbufMut, Message};

use super::source::{OnServer, OnWorker};
use super::workers::{Done, Job, Turn, Workers};
use super::{Call, copied, has_passed, let_go, put_back};
use crate::service::contract::{Handled, Method, Registry, Service};
use crate::service::form::{Form, NEVER};

/// A server that is told its methods.
pub(super) struct Exporting<S, H> {
    pub inner: lrpc::Server<S>,
    pub workers: Option<Arc<Workers<S>>>,
    pub handler: Arc<H>,
}

impl<S: Service, H: Send + Sync + 'static> Registry<H> for Exporting<S, H> {
    type Service = S;

    fn method<M: Handled<H, Interface = S>>(self) -> Self {
        let Self { inner, workers, handler } = self;
        let method = Methods::<S, H> { handler: Arc::clone(&handler), workers: workers.clone() };
        let inner = if M::SHAPE.slow {
            inner.on_answering::<M>(move |call, cell| method.hand_over::<M>(call, cell))
        } else {
            let scratch = Cell::new(Vec::new());
            inner.on_answering::<M>(move |call, cell| method.run::<M>(call, &cell, &scratch))
        };
        Self { inner, workers, handler }
    }
}

/// What serves a method.
struct Methods<S, H> {
    handler: Arc<H>,
    workers: Option<Arc<Workers<S>>>,
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
        let source = OnServer { call, workers: self.workers.as_deref() };
        let context = Call::new(&source, expires);
        let given = if M::IN_PLACE {
            handled::<M, H>(&self.handler, &context, cell, None, None)
        } else if M::BULK_ARGUMENT {
            let bulk = call.take_bulk().map(Message::from);
            handled::<M, H>(&self.handler, &context, cell, None, bulk)
        } else {
            // A nested call of this method finds none, and allocates.
            let mut bytes = scratch.take();
            let spilled = call.take_bulk();
            let spilled = spilled.as_ref().and_then(|buffer| copied(buffer, &mut bytes));
            let given = handled::<M, H>(&self.handler, &context, cell, spilled, None);
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
        let Some(workers) = &self.workers else { return Answer::Refused(Reason::NotServed) };
        let submitted = workers.submit(call.binding(), || self.job::<M>(call, cell));
        submitted.map_or_else(Answer::Refused, |()| Answer::Later)
    }

    /// What a worker does for a call.
    fn job<M: Handled<H, Interface = S>>(
        &self,
        call: &lrpc::Call<'_, S>,
        cell: M::Arguments,
    ) -> Job<S> {
        let handler = Arc::clone(&self.handler);
        let (later, caller) = (call.later::<M>(), call.caller());
        let mut bytes = Vec::new();
        let spilled = call.take_bulk().is_some_and(|buffer| copied(&buffer, &mut bytes).is_some());
        Box::new(move |turn| {
            let expires = M::TakesForm::expires(&cell);
            let given = if turn == Turn::Refuse {
                Err(Answer::Refused(Reason::Stopping))
            } else if has_passed(expires) {
                Err(Answer::Refused(Reason::TooLate))
            } else {
                let source = OnWorker { caller };
                let context = Call::new(&source, expires);
                let spilled = spilled.then_some(&bytes[..]);
                handled::<M, H>(&handler, &context, &cell, spilled, None)
            };
            let send = move |server: &lrpc::Server<S>| send_later::<M>(server, later, given);
            Box::new(send) as Done<S>
        })
    }
}

/// What a handler gave, or why it gave nothing.
type Given<M> = Result<(<M as Method>::Gives, Option<Message>), Answer<Nothing>>;
/// No handler has results of this type.
enum Nothing {}

/// Reads the arguments, and runs the handler. What either leaves behind when it panics is its own, as
/// it is for a thread that panics.
#[inline(always)]
fn handled<M: Handled<H>, H>(
    handler: &H,
    call: &Call<'_>,
    cell: &M::Arguments,
    spilled: Option<&[u8]>,
    bulk: Option<Message>,
) -> Given<M> {
    let mut began = false;
    let given = catch_unwind(AssertUnwindSafe(|| {
        let takes = M::TakesForm::unpack(cell, spilled)?;
        began = true;
        Some(M::handle(handler, call, takes, bulk))
    }));
    match given.map_err(let_go) {
        Ok(Some(given)) => Ok(given),
        Err(()) if began => Err(Answer::Failed),
        _ => Err(Answer::Refused(Reason::BadArguments)),
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
        Err(Answer::Refused(reason)) => return (Answer::Refused(reason), None),
        Err(_) => return (Answer::Failed, None),
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
