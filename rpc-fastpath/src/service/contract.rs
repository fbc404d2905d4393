//! What a service is to those that call it and those that serve it, whatever lies between.

use std::time::Duration;

use lrpc::{Interface, Outcome, Procedure, Progress, Reason, layout_hash};
use unet::{AllocError, FbufMut, Message};

use super::call::Call;
use super::form::Form;
use crate::protocol::ServiceId;

/// A service: its name, version, layout and methods. Written by [`service`](macro@super::service).
///
/// It is an LRPC interface too. Its layout covers how each method travels: types as written, sizes,
/// and whether it is one-way or has a deadline. It does not see into types that are encoded: who
/// changes their fields raises the version.
pub trait Service: Interface {
    /// The methods, by number.
    const METHODS: &'static [MethodShape];
}

/// How a service is called over channels.
pub const fn id_of<S: Interface>() -> ServiceId {
    let layout = S::LAYOUT;
    ServiceId {
        name: layout_hash(S::NAME, 0, &[]),
        version: S::VERSION,
        layout: (layout ^ (layout >> 32)) as u32,
    }
}

/// One method of a service, as its author marked it.
#[derive(Clone, Copy, Debug)]
pub struct MethodShape {
    /// Its name.
    pub name: &'static str,
    /// It may be executed twice without harm.
    pub idempotent: bool,
    /// A worker runs it.
    pub slow: bool,
    /// Nobody waits for it.
    pub one_way: bool,
    /// After that time nobody wants it any more: it is not begun, and no call that blocks waits for it.
    pub deadline: Option<Duration>,
}

/// A method: what it takes and gives, and how that travels. Written by
/// [`service`](macro@super::service).
pub trait Method: Procedure<Interface: Service, Arguments: Copy + Send> {
    /// Its arguments, which may borrow.
    type Takes<'a>;
    /// Its result, without bulk.
    type Gives: Send + 'static;
    /// Its result as the client gets it, with bulk.
    type Output: 'static;
    /// How arguments travel.
    type TakesForm: for<'a> Form<'a, Self::Takes<'a>, Cell = Self::Arguments>;
    /// How the result travels.
    type GivesForm: for<'a> Form<'a, Self::Gives, Cell = Self::Results>;
    /// Its line in [`Service::METHODS`].
    const SHAPE: &'static MethodShape;
    /// A message of bulk travels with the arguments.
    const BULK_ARGUMENT: bool;
    /// A message of bulk travels with the result.
    const BULK_RESULT: bool;
    /// Arguments and result are plain data, and nothing else travels: the call is LRPC's own.
    const IN_PLACE: bool;

    /// Puts a result and the bulk beside it together.
    fn join(gives: Self::Gives, bulk: Option<Message>) -> Self::Output;
}

/// A method that a handler of type `H` serves. Written by [`service`](macro@super::service) for all `H`
/// that implement the trait.
pub trait Handled<H>: Method {
    /// Runs it.
    fn handle(
        handler: &H,
        call: &Call<'_>,
        takes: Self::Takes<'_>,
        bulk: Option<Message>,
    ) -> (Self::Gives, Option<Message>);
}

/// A service that a handler of type `H` serves.
pub trait Served<H>: Service {
    /// Tells a registry each method, in the order of their numbers.
    fn methods<R: Registry<H, Service = Self>>(registry: R) -> R;
}

/// What serves methods: a server of one transport, while it is set up.
pub trait Registry<H>: Sized {
    /// The service that is served.
    type Service;
    /// Takes the next method.
    #[must_use]
    fn method<M: Handled<H, Interface = Self::Service>>(self) -> Self;
}

/// What carries calls of a service: a client of one transport.
pub trait Caller<S> {
    /// A call under way.
    type Pending<'a, M: Method<Interface = S>>: PendingCall<M>
    where
        Self: 'a;

    /// Calls, and waits as long as the method's deadline says, or until there is an outcome.
    ///
    /// # Panics
    /// When a `Serialize` of an argument does, or a `Deserialize` of the result.
    fn call<M: Method<Interface = S>>(
        &self,
        takes: M::Takes<'_>,
        bulk: Option<Message>,
    ) -> Outcome<M::Output>;

    /// As [`Caller::call`], and serves the calls that arrive at `server` until there is an outcome, for chains of calls
    /// that come back to it. It waits no longer than what `server` does is wanted ([`Progress::remaining`]), but for the
    /// calls that it serves meanwhile, which come to their ends first; and where
    /// a deadline travels with the call, this one does.
    ///
    /// # Panics
    /// As [`Caller::call`].
    fn call_serving<M: Method<Interface = S>>(
        &self,
        takes: M::Takes<'_>,
        bulk: Option<Message>,
        server: &dyn Progress,
    ) -> Outcome<M::Output>;

    /// Starts a call, and does not wait.
    ///
    /// # Errors
    /// [`Reason`]: the call was not sent.
    ///
    /// # Panics
    /// When a `Serialize` of an argument does.
    fn start<M: Method<Interface = S>>(
        &self,
        takes: M::Takes<'_>,
        bulk: Option<Message>,
    ) -> Result<Self::Pending<'_, M>, Reason>;

    /// Sends a call that nobody waits for.
    ///
    /// # Errors
    /// [`Reason`]: the call was not sent.
    ///
    /// # Panics
    /// When a `Serialize` of an argument does.
    fn send<M: Method<Interface = S>>(
        &self,
        takes: M::Takes<'_>,
        bulk: Option<Message>,
    ) -> Result<(), Reason>;

    /// Takes a buffer, to be written and handed over as bulk.
    ///
    /// # Errors
    /// [`AllocError`]; `Exhausted` is back-pressure.
    fn alloc(&self, len: usize) -> Result<FbufMut, AllocError>;
}

/// A call under way: its outcome is asked for, waited for, or awaited. Who drops it abandons the call, which the
/// server executes all the same.
pub trait PendingCall<M: Method>: Future<Output = Outcome<M::Output>> {
    /// The outcome, if it is here. Once it was given out there is no other.
    ///
    /// # Panics
    /// When a `Deserialize` of the result does: the outcome is given out with that.
    fn try_take(&mut self) -> Option<Outcome<M::Output>>;

    /// Waits for the outcome, as long as it takes; over channels, not beyond the method's deadline.
    ///
    /// # Panics
    /// When the outcome was taken already, or a `Deserialize` of the result panics.
    fn wait(self) -> Outcome<M::Output>;

    /// As [`PendingCall::wait`], not longer than that.
    ///
    /// # Panics
    /// When the outcome was taken already, or a `Deserialize` of the result panics.
    fn wait_timeout(self, timeout: Duration) -> Outcome<M::Output>;
}
