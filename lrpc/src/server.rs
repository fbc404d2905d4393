//! The server's side: export an interface, and serve its calls.

mod answer;

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use segment::counters::Counter;
use segment::failpoint;
use unet::{
    Address, AllocError, Arrival, Channel, ChannelId, Credentials, Delivery, Endpoint,
    EndpointError, EndpointOptions, Event, Fbuf, FbufMut, ListenError, ListenOptions, PeerFbuf,
    Policy, Wait,
};
use zerocopy::{FromBytes, IntoBytes, TryFromBytes};

use crate::a_stack::{A_STACKS, Layout};
use crate::outcome::Reason;
use crate::wire::{
    BindRequest, CALL_WORD, CallWord, IN_A_STACK, bind_code, inline_limit, send, status,
};
use crate::{Interface, Procedure};
pub use answer::{Answer, Later};

/// How many calls a server thread may be in at once: a handler that calls and serves meanwhile may
/// be called again, and so on. Beyond, calls are refused.
pub const MAX_NESTING: usize = 16;

/// How to export.
pub struct ExportOptions {
    /// How the server's thread waits for calls.
    pub wait: Wait,
    /// Which users may bind.
    pub policy: Policy,
    /// A further decision, by the client's credentials; everyone the policy allows if `None`.
    pub admit: Option<Box<dyn Fn(Credentials) -> bool + Send>>,
    /// How many bindings there may be at once.
    pub max_bindings: usize,
    /// How this side's segments are built; their area is set by the interface, and they have at
    /// least as many slots as it can have replies under way.
    pub geometry: unet::Geometry,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self {
            wait: Wait::default(),
            policy: Policy::default(),
            admit: None,
            max_bindings: 4096,
            geometry: unet::Geometry { slots: 64, ..unet::Geometry::default() },
        }
    }
}

/// Why an interface could not be exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// No endpoint could be made.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The address could not be listened at.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

type Handler<I> = Box<dyn Fn(&Call<'_, I>) -> Result<(), Reason> + Send>;

/// An exported interface and its bindings. Owned by one thread, which serves all of them at the cost
/// of the active ones.
pub struct Server<I> {
    endpoint: RefCell<Endpoint>,
    handlers: Box<[Option<Handler<I>>]>,
    layout: Layout,
    scratch: RefCell<Box<[u8]>>,
    depth: Cell<usize>,
    served: Cell<u64>,
    admit: Option<Box<dyn Fn(Credentials) -> bool + Send>>,
    _interface: PhantomData<fn() -> I>,
}

/// The slots that hold the replies to as many calls as there are A-stacks, of which a quarter may be
/// taken already without the server's knowing. So a client that abandons its calls, and takes the
/// replies when it next calls, leaves none without room.
fn slots_for_replies(procedures: usize) -> u32 {
    let replies = procedures * A_STACKS;
    (replies + replies / 3 + 1).next_power_of_two() as u32
}

/// The call that a handler handles.
pub struct Call<'a, I> {
    server: &'a Server<I>,
    from: ChannelId,
    word: CallWord,
    message: RefCell<&'a mut Delivery>,
    reply_bulk: Cell<Option<Fbuf>>,
}

impl<I: Interface> Server<I> {
    /// Exports the interface at an address. Add its procedures with [`Server::on`], then serve.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn export(address: &Address, options: ExportOptions) -> Result<Self, ExportError> {
        let layout = Layout::of(I::PROCEDURES);
        let mut endpoint = Endpoint::new(EndpointOptions {
            wait: options.wait,
            max_channels: options.max_bindings,
        })?;
        let mut listen = ListenOptions { policy: options.policy, ..ListenOptions::default() };
        listen.channel.geometry = options.geometry;
        listen.channel.geometry.area_bytes = layout.area_bytes();
        let slots = slots_for_replies(I::PROCEDURES.len());
        listen.channel.geometry.slots = listen.channel.geometry.slots.max(slots);
        endpoint.listen(address, listen)?;
        let largest = I::PROCEDURES.iter().map(|shape| shape.arguments.1).max().unwrap_or(0);
        Ok(Self {
            endpoint: RefCell::new(endpoint),
            handlers: I::PROCEDURES.iter().map(|_| None).collect(),
            layout,
            scratch: RefCell::new(vec![0; largest].into()),
            depth: Cell::new(0),
            served: Cell::new(0),
            admit: options.admit,
            _interface: PhantomData,
        })
    }

    /// Serves a procedure with a function. It is given the call and the arguments, checked and in
    /// private memory; it returns the results, or declines with a code before it has done anything.
    ///
    /// If it panics, its caller is told ([`crate::UnknownReason::Failed`]) and the panic goes on to
    /// whoever serves. That one may catch it: the server and its bindings remain usable.
    #[must_use]
    pub fn on<P: Procedure<Interface = I>>(
        mut self,
        handler: impl Fn(&Call<'_, I>, P::Arguments) -> Result<P::Results, u16> + Send + 'static,
    ) -> Self {
        self.handlers[usize::from(P::INDEX)] = Some(Box::new(move |call| {
            let server = call.server;
            let arguments = server.arguments::<P>(call)?;
            let results = handler(call, arguments).map_err(Reason::Declined)?;
            failpoint::hit("reply.2-handled");
            server.reply::<P>(call.from, call.word, call.reply_bulk.take(), &results);
            Ok(())
        }));
        self
    }

    /// Serves the next call, if there is one. `true` if something was done.
    ///
    /// # Cost
    /// As [`Endpoint::try_recv`], and the handler.
    #[inline]
    pub fn poll(&self) -> bool {
        let mut message = Delivery::default();
        let arrival = self.endpoint.borrow_mut().try_recv_into(&mut message);
        self.handle(arrival, &mut message)
    }

    /// Waits for the next call by the wait strategy, and serves it. `false` if none came in time.
    ///
    /// # Cost
    /// As [`Endpoint::recv`], and the handler.
    #[inline]
    pub fn serve_timeout(&self, timeout: Duration) -> bool {
        let mut message = Delivery::default();
        let arrival = self.endpoint.borrow_mut().recv_timeout_into(&mut message, timeout);
        self.handle(arrival, &mut message)
    }

    /// Serves until `stop` returns true, which is asked between calls and some ten times a second.
    pub fn serve_until(&self, mut stop: impl FnMut() -> bool) {
        const LOOK: Duration = Duration::from_millis(100);
        while !stop() {
            self.serve_timeout(LOOK);
        }
    }

    #[inline(always)]
    fn handle(&self, arrival: Option<Arrival>, message: &mut Delivery) -> bool {
        match arrival {
            Some(Arrival::Message(from)) => self.serve(from, message),
            Some(Arrival::Other) => self.handle_event(),
            None => return false,
        }
        true
    }

    #[cold]
    fn handle_event(&self) {
        let event = self.endpoint.borrow_mut().take_event();
        if let Some(Event::Incoming(incoming)) = event {
            self.decide(incoming);
        }
    }

    #[cold]
    fn decide(&self, incoming: unet::Incoming) {
        // Before the endpoint is borrowed: it is the application's code, and may look at the server.
        let admitted = self.admit.as_ref().is_none_or(|admit| admit(incoming.credentials()));
        let mut endpoint = self.endpoint.borrow_mut();
        match BindRequest::check::<I>(incoming.private()) {
            Ok(()) if !admitted => endpoint.refuse(incoming, bind_code::REFUSED),
            Ok(()) => {
                // The endpoint has counted it and told the client.
                if let Err(error) = endpoint.accept(incoming, b"") {
                    tracing::debug!(%error, "a client could not be bound");
                }
            }
            Err(code) => endpoint.refuse(incoming, code),
        }
    }

    #[inline(always)]
    fn serve(&self, from: ChannelId, message: &mut Delivery) {
        failpoint::hit("reply.1-call-taken");
        let Ok((word, _)) = CallWord::read_from_prefix(message.inline()) else {
            return self.poison(from);
        };
        let handler = self.handlers.get(usize::from(message.tag())).and_then(Option::as_ref);
        let message = RefCell::new(message);
        let call = Call { server: self, from, word, message, reply_bulk: Cell::new(None) };
        let refused = match handler {
            None => Err(Reason::NotServed),
            Some(_) if self.depth.get() >= MAX_NESTING => Err(Reason::TooDeep),
            Some(handler) => {
                self.depth.set(self.depth.get() + 1);
                let handling = Handling { server: self, from, word };
                let handled = handler(&call);
                std::mem::forget(handling);
                self.depth.set(self.depth.get() - 1);
                handled
            }
        };
        if let Err(reason) = refused {
            self.refuse(from, word, reason);
        }
        self.served.set(self.served.get().wrapping_add(1));
    }

    /// The call's arguments, copied once and then checked.
    #[inline(always)]
    fn arguments<P: Procedure<Interface = I>>(
        &self,
        call: &Call<'_, I>,
    ) -> Result<P::Arguments, Reason> {
        if call.word.flags == 0 {
            let message = call.message.borrow();
            let bytes = message.inline().get(CALL_WORD..).unwrap_or_default();
            return P::Arguments::try_read_from_bytes(bytes).map_err(|_| Reason::BadArguments);
        }
        if call.word.flags != IN_A_STACK {
            return Err(Reason::BadArguments);
        }
        let scratch = &mut *self.scratch.borrow_mut();
        let endpoint = &mut *self.endpoint.borrow_mut();
        let channel = endpoint.channel_mut(call.from).ok_or(Reason::BadArguments)?;
        let size = size_of::<P::Arguments>();
        let bytes = self.layout.read(channel, P::INDEX, call.word.a_stack, size, scratch);
        bytes
            .and_then(|bytes| P::Arguments::try_read_from_bytes(bytes).ok())
            .ok_or(Reason::BadArguments)
    }

    #[inline(always)]
    fn reply<P: Procedure<Interface = I>>(
        &self,
        from: ChannelId,
        word: CallWord,
        bulk: Option<Fbuf>,
        results: &P::Results,
    ) {
        let endpoint = &mut *self.endpoint.borrow_mut();
        // A client that is gone does not want its results.
        let Some(channel) = endpoint.channel_mut(from) else { return };
        let bytes = results.as_bytes();
        let inline = bytes.len() <= inline_limit(bulk.is_some());
        let flags = if inline { 0 } else { IN_A_STACK };
        let a_stack = word.a_stack;
        let written = inline || self.layout.write(channel, P::INDEX, a_stack, results).is_some();
        failpoint::hit("reply.3-result-written");
        let word = CallWord { flags, ..word };
        let inline_bytes = if inline { bytes } else { &[] };
        let sent = if written {
            send(channel, status::EXECUTED, word, inline_bytes, bulk)
        } else {
            Err(Reason::BadArguments)
        };
        failpoint::hit("reply.4-posted");
        if let Err(reason) = sent {
            self.not_sent(channel, word, reason);
        }
    }

    #[cold]
    fn not_sent(&self, channel: &mut Channel, word: CallWord, reason: Reason) {
        // The handler's mistake is no fault of the client's.
        let failed = reason == Reason::ForeignBuffer
            && send(channel, status::FAILED, CallWord { flags: 0, ..word }, &[], None).is_ok();
        if !failed && channel.closed().is_none() {
            // It named an A-stack that is none, or does not take its replies: no honest client.
            channel.poison_protocol();
        }
    }

    #[cold]
    fn refuse(&self, from: ChannelId, word: CallWord, reason: Reason) {
        let tag = match reason {
            Reason::NotServed => status::NOT_SERVED,
            Reason::TooDeep => status::TOO_DEEP,
            Reason::Overloaded => status::OVERLOADED,
            Reason::TooLate => status::TOO_LATE,
            Reason::Stopping => status::STOPPING,
            Reason::Declined(code) => status::DECLINED.saturating_add(code),
            _ => status::BAD_ARGUMENTS,
        };
        if let Some(channel) = self.endpoint.borrow_mut().channel_mut(from) {
            channel.counters().add(Counter::CallsRefused, 1);
        }
        self.answer(from, word, tag);
    }

    /// Answers without results.
    #[cold]
    fn answer(&self, from: ChannelId, word: CallWord, tag: u16) {
        let endpoint = &mut *self.endpoint.borrow_mut();
        let Some(channel) = endpoint.channel_mut(from) else { return };
        let word = CallWord { flags: 0, ..word };
        if send(channel, tag, word, &[], None).is_err() && channel.closed().is_none() {
            channel.poison_protocol();
        }
    }

    #[cold]
    fn poison(&self, from: ChannelId) {
        if let Some(channel) = self.endpoint.borrow_mut().channel_mut(from) {
            channel.poison_protocol();
        }
    }

    /// How many bindings there are.
    pub fn bindings(&self) -> usize {
        self.endpoint.borrow().channels()
    }

    /// How many calls were served or refused.
    pub fn served(&self) -> u64 {
        self.served.get()
    }

    /// The counters of refused and failed bindings, and what closed bindings had counted.
    ///
    /// # Panics
    /// When `read` serves this same server.
    pub fn with_counters<T>(&self, read: impl FnOnce(&unet::Counters) -> T) -> T {
        read(self.endpoint.borrow().counters())
    }

    /// Announces that the thread will wait for the server's descriptor, as [`Endpoint::arm`].
    pub fn arm(&self) -> bool {
        self.endpoint.borrow_mut().arm()
    }

    /// Passes the server's descriptor to `with`, to be watched by an event loop: after
    /// [`Server::arm`] returned true it becomes readable when there is something to serve.
    ///
    /// # Panics
    /// When `with` serves this same server.
    pub fn with_fd<T>(&self, with: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        with(self.endpoint.borrow().as_fd())
    }
}

/// A handler at work. Dropped only if it panics.
struct Handling<'a, I: Interface> {
    server: &'a Server<I>,
    from: ChannelId,
    word: CallWord,
}

impl<I: Interface> Drop for Handling<'_, I> {
    #[cold]
    fn drop(&mut self) {
        self.server.depth.set(self.server.depth.get() - 1);
        self.server.served.set(self.server.served.get().wrapping_add(1));
        self.server.answer(self.from, self.word, status::FAILED);
    }
}

impl<I: Interface> Call<'_, I> {
    /// Who calls, by the kernel's word. `None` if the binding was closed meanwhile.
    pub fn caller(&self) -> Option<Credentials> {
        let mut endpoint = self.server.endpoint.borrow_mut();
        endpoint.channel_mut(self.from).map(|channel| channel.credentials())
    }

    /// The server that serves this call, for calls that may come back to it
    /// ([`crate::Binding::call_serving`]).
    pub fn server(&self) -> &Server<I> {
        self.server
    }

    /// Takes the buffer that came with the arguments. Dropping it gives it back.
    pub fn take_bulk(&self) -> Option<PeerFbuf> {
        self.message.borrow_mut().take_fbuf()
    }

    /// Takes a buffer, to be written and sent with the results.
    ///
    /// # Errors
    /// [`AllocError`]; `Exhausted` if the client holds all there are, and if it is gone.
    pub fn alloc(&self, len: usize) -> Result<FbufMut, AllocError> {
        let mut endpoint = self.server.endpoint.borrow_mut();
        let channel = endpoint.channel_mut(self.from).ok_or(AllocError::Exhausted)?;
        channel.alloc(len)
    }

    /// Sends a buffer with the results, which must be of this call's [`Call::alloc`], or the caller
    /// is told that the handler failed. A second one replaces the first.
    pub fn reply_with(&self, bulk: Fbuf) {
        self.reply_bulk.set(Some(bulk));
    }
}
