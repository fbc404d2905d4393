//! The methods of a service that is served over channels: arguments read, the handler run, the result given.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use lrpc::Reason;

use super::buffers::Buffers;
use super::bulk::{NotSplit, join, split};
use super::source::OnChannel;
use crate::endpoint::{Bytes, Content, Context, Decline, Failure, Handler, Later, Refusal, Reply};
use crate::service::KEPT;
use crate::service::call::{Call, OnWorker};
use crate::service::contract::{Handled, Registry, Service};
use crate::service::deadline::{NEVER, expiry, has_passed};
use crate::service::form::Form;
use crate::service::handling::{Given, NotGiven, handled, let_go};
use crate::service::workers::{Job, Place, Turn, Workers};

/// What serves a method, beside all of them.
type Serve = dyn Fn(&[Executor], &mut Space, &Context, Bytes<'_>, &mut Reply<'_>) -> Result<(), Decline>
    + Send;

pub(super) struct Executor(Box<Serve>);

/// What calls use one after the other.
#[derive(Default)]
struct Space {
    arguments: Vec<u8>,
    result: Vec<u8>,
    buffers: Buffers,
}

/// The methods, by number.
#[derive(Default)]
pub(super) struct Methods {
    served: Vec<Executor>,
    space: Space,
}

impl Handler for Methods {
    fn handle(
        &mut self,
        context: &Context,
        arguments: Bytes<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), Decline> {
        serve(&self.served, &mut self.space, context, arguments, reply)
    }
}

/// The methods while one of them waits: what the others use is another's.
pub(super) struct Within<'a> {
    served: &'a [Executor],
    space: Space,
}

impl<'a> Within<'a> {
    pub fn new(served: &'a [Executor]) -> Self {
        Self { served, space: Space::default() }
    }
}

impl Handler for Within<'_> {
    fn handle(
        &mut self,
        context: &Context,
        arguments: Bytes<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), Decline> {
        serve(self.served, &mut self.space, context, arguments, reply)
    }
}

#[inline(always)]
fn serve(
    served: &[Executor],
    space: &mut Space,
    context: &Context,
    arguments: Bytes<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Decline> {
    let Executor(serve) = served.get(usize::from(context.method)).ok_or(Refusal::UnknownMethod)?;
    let done = serve(served, space, context, arguments, reply);
    for bytes in [&mut space.arguments, &mut space.result] {
        if bytes.capacity() > KEPT {
            *bytes = Vec::new();
        }
    }
    done
}

/// A server that is told its methods.
pub(super) struct Listening<S, H> {
    pub methods: Methods,
    pub workers: Option<Arc<Workers>>,
    pub handler: Arc<H>,
    pub _service: std::marker::PhantomData<fn() -> S>,
}

impl<S: Service, H: Send + Sync + 'static> Registry<H> for Listening<S, H> {
    type Service = S;

    fn method<M: Handled<H, Interface = S>>(mut self) -> Self {
        let handler = Arc::clone(&self.handler);
        let workers = self.workers.clone().filter(|_| M::SHAPE.slow);
        self.methods.served.push(Executor(match workers {
            Some(workers) => Box::new(move |_, _, context, arguments, reply| {
                hand_over::<M, H>(&workers, &handler, context, arguments, reply)
            }),
            None => Box::new(move |served, space, context, arguments, reply| {
                run::<M, H>(&handler, served, space, context, arguments, reply)
            }),
        }));
        self
    }
}

/// When a call's deadline passes, as services count time.
fn expires(context: &Context) -> u64 {
    let left = context.deadline().map(|at| at.saturating_duration_since(Instant::now()));
    left.map_or(NEVER, |left| expiry(Some(left)))
}

/// Runs the handler on this thread.
fn run<M: Handled<H>, H>(
    handler: &H,
    served: &[Executor],
    space: &mut Space,
    context: &Context,
    arguments: Bytes<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Decline> {
    let expires = expires(context);
    if has_passed(expires) {
        return Err(Refusal::DeadlinePassed.into());
    }
    let Space { arguments: bytes, result, buffers } = space;
    let (head, bulk) = if M::BULK_ARGUMENT {
        let bulk = split(arguments, bytes, buffers).map_err(|why| match why {
            NotSplit::Malformed => Refusal::InvalidArguments,
            NotSplit::NoBuffer => Refusal::Overload,
        })?;
        (&bytes[..], Some(bulk))
    } else {
        (arguments.whole(bytes)?, None)
    };
    let (to, buffers) = (RefCell::new(&mut *reply), RefCell::new(buffers));
    let source = OnChannel { reply: to, buffers, served };
    let call = Call::new(&source, expires);
    let given = handled::<M, H>(handler, &call, || M::TakesForm::read(head), bulk);
    let bulk = write::<M>(given, result)?;
    let content = match bulk {
        None => Content::from(&result[..]),
        // A part of the result that its originator took back.
        Some(bulk) => join(bulk, result, |len| reply.alloc(len)).map_err(|_| Failure::Abandoned)?,
    };
    reply.give(content);
    Ok(())
}

/// Writes the result without its bulk, which is given back.
fn write<M: crate::service::Method>(
    given: Given<M>,
    to: &mut Vec<u8>,
) -> Result<Option<unet::Message>, Decline> {
    let (gives, bulk) = given?;
    to.clear();
    // It is the author's code, and may panic.
    match catch_unwind(AssertUnwindSafe(|| M::GivesForm::write(&gives, to))).map_err(let_go) {
        Ok(Ok(())) => Ok(M::BULK_RESULT.then(|| bulk.unwrap_or_default())),
        Ok(Err(_)) => Err(Failure::Abandoned.into()),
        Err(()) => Err(Failure::Panicked.into()),
    }
}

/// Has a worker run the handler.
fn hand_over<M: Handled<H>, H: Send + Sync + 'static>(
    workers: &Workers,
    handler: &Arc<H>,
    context: &Context,
    arguments: Bytes<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Decline> {
    let (bytes, expires) = (arguments.to_vec()?, expires(context));
    let submitted = workers.submit(context.client, |place| {
        let source = OnWorker { caller: reply.caller() };
        let later = reply.later().map_err(Reason::from)?;
        Ok(job::<M, H>(Arc::clone(handler), place, source, bytes, expires, later))
    });
    submitted.map_err(|reason| NotGiven::Refused(reason).into())
}

/// What a worker does for a call.
fn job<M: Handled<H>, H: Send + Sync + 'static>(
    handler: Arc<H>,
    place: Place,
    source: OnWorker,
    bytes: Vec<u8>,
    expires: u64,
    later: Later,
) -> Job {
    Box::new(move |turn| {
        let given = if turn == Turn::Refuse {
            Err(NotGiven::Refused(Reason::Stopping))
        } else if has_passed(expires) {
            Err(NotGiven::Refused(Reason::TooLate))
        } else {
            let call = Call::new(&source, expires);
            handled::<M, H>(&handler, &call, || M::TakesForm::read(&bytes), None)
        };
        let mut result = Vec::new();
        let written = write::<M>(given, &mut result);
        // Whoever has the reply may call again.
        drop(place);
        match written {
            Ok(_) => later.reply(result),
            Err(Decline::Refuse(why)) => later.refuse(why),
            Err(Decline::Fail(why)) => later.fail(why),
        }
    })
}
