//! A handler run, whatever carries its call: what it takes is read, what it panics with is caught.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use lrpc::Reason;
use unet::Message;

use super::call::Call;
use super::contract::{Handled, Method};

/// What a handler gave, or why it gave nothing.
pub(super) type Given<M> = Result<(<M as Method>::Gives, Option<Message>), NotGiven>;

/// Why there is no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotGiven {
    /// The handler did not begin.
    Refused(Reason),
    /// It began.
    Failed,
}

/// Reads the arguments, and runs the handler. What either leaves behind when it panics is its own, as
/// it is for a thread that panics.
#[inline(always)]
pub(super) fn handled<'a, M: Handled<H>, H>(
    handler: &H,
    call: &Call<'_>,
    read: impl FnOnce() -> Option<M::Takes<'a>>,
    bulk: Option<Message>,
) -> Given<M> {
    let mut began = false;
    let given = catch_unwind(AssertUnwindSafe(|| {
        let takes = read()?;
        began = true;
        Some(M::handle(handler, call, takes, bulk))
    }));
    match given.map_err(let_go) {
        Ok(Some(given)) => Ok(given),
        Err(()) if began => Err(NotGiven::Failed),
        _ => Err(NotGiven::Refused(Reason::BadArguments)),
    }
}

/// Drops what was panicked with. It may panic when it is dropped; with what, is left where it is.
#[cold]
pub(super) fn let_go(payload: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
}
