//! The client's side: bind once, then call.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use segment::failpoint;
use segment::wait::{LOOKS, Step, Waiter};
use unet::{
    Address, AllocError, Channel, CloseReason, ConnectError, ConnectOptions, Credentials, Fbuf,
    FbufMut, Message, Offer, PeerFbuf, Policy, Refusal, SendError, Wait,
};
use zerocopy::{FromBytes, IntoBytes, TryFromBytes};

use crate::a_stack::{A_STACKS, Layout};
use crate::outcome::{Outcome, Reason, UnknownReason};
use crate::wire::status;
use crate::wire::{BindRequest, CALL_WORD, CallWord, IN_A_STACK, bind_code, inline_limit, refusal};
use crate::{Interface, Procedure, Server};

/// How to bind.
#[derive(Clone, Debug)]
pub struct BindOptions {
    /// How this thread waits for replies.
    pub wait: Wait,
    /// Which users the server may run as.
    pub policy: Policy,
    /// How long the server may take to accept.
    pub timeout: Duration,
    /// How this side's segment is built; its area is set by the interface.
    pub geometry: unet::Geometry,
}

impl Default for BindOptions {
    fn default() -> Self {
        Self {
            wait: Wait::default(),
            policy: Policy::default(),
            timeout: Duration::from_secs(5),
            geometry: unet::Geometry { slots: 64, ..unet::Geometry::default() },
        }
    }
}

/// Why a binding did not come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The server does not export an interface of this name.
    #[error("the server exports no interface of this name")]
    UnknownInterface,
    /// The server exports the interface in another version.
    #[error("the server exports another version of this interface")]
    VersionMismatch,
    /// Same name and version, but the procedures or their types differ.
    #[error("the server's interface has the same version but another layout")]
    LayoutMismatch,
    /// The server refused this client.
    #[error("the server refused this client")]
    Refused,
    /// The server set up too little memory: it breaks the protocol.
    #[error("the server broke the protocol of binding")]
    Protocol,
    /// There is no connection.
    #[error(transparent)]
    Connect(ConnectError),
}

impl From<ConnectError> for BindError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Refused(Refusal::Application(code)) => match code {
                bind_code::UNKNOWN_INTERFACE => Self::UnknownInterface,
                bind_code::VERSION => Self::VersionMismatch,
                bind_code::LAYOUT => Self::LayoutMismatch,
                _ => Self::Refused,
            },
            ConnectError::Refused(Refusal::Policy) => Self::Refused,
            other => Self::Connect(other),
        }
    }
}

/// What comes back from an executed call.
#[derive(Debug)]
pub struct Reply<T> {
    /// The results.
    pub results: T,
    /// The buffer that came with them; given back when it is dropped.
    pub bulk: Option<PeerFbuf>,
}

/// What is known of an A-stack.
enum AStack {
    Free,
    /// A call is under way on it, with this number; somebody waits.
    Waiting(u32),
    /// The reply is here; somebody will come for it.
    Replied(Message),
    /// A call is under way on it, and nobody waits any more.
    Abandoned(u32),
}

/// A client's side of an interface. Used by one thread at a time; calls may nest.
pub struct Binding<I> {
    channel: RefCell<Channel>,
    a_stacks: RefCell<Box<[AStack]>>,
    /// By procedure: free A-stacks, the last used on top.
    free: RefCell<Box<[Vec<u16>]>>,
    number: Cell<u32>,
    layout: Layout,
    scratch: RefCell<Box<[u8]>>,
    wait: Wait,
    _interface: PhantomData<fn() -> I>,
}

impl<I: Interface> Binding<I> {
    /// Binds to a server.
    ///
    /// # Errors
    /// [`BindError`] says which check failed.
    ///
    /// # Cost
    /// Some twenty system calls and a wait for the server, once.
    pub fn bind(address: &Address, options: BindOptions) -> Result<Self, BindError> {
        let layout = Layout::of(I::PROCEDURES);
        let mut connect = ConnectOptions {
            policy: options.policy,
            private: BindRequest::of::<I>().as_bytes().to_vec(),
            timeout: options.timeout,
            ..ConnectOptions::default()
        };
        connect.channel.wait = options.wait;
        connect.channel.geometry = options.geometry;
        connect.channel.geometry.area_bytes = layout.area_bytes() as u32;
        let channel = Channel::connect(address, connect)?;
        if channel.peer_area().len() < layout.area_bytes() {
            return Err(BindError::Protocol);
        }
        let count = I::PROCEDURES.len() * A_STACKS;
        let free = (0..I::PROCEDURES.len())
            .map(|procedure| {
                let first = (procedure * A_STACKS) as u16;
                (first..first + A_STACKS as u16).rev().collect()
            })
            .collect();
        let largest = I::PROCEDURES.iter().map(|shape| shape.results.1).max().unwrap_or(0);
        Ok(Self {
            channel: RefCell::new(channel),
            a_stacks: RefCell::new((0..count).map(|_| AStack::Free).collect()),
            free: RefCell::new(free),
            number: Cell::new(0),
            layout,
            scratch: RefCell::new(vec![0; largest].into()),
            wait: options.wait,
            _interface: PhantomData,
        })
    }

    /// Who serves, by the kernel's word.
    pub fn credentials(&self) -> Credentials {
        self.channel.borrow().credentials()
    }

    /// Why the binding is closed, if it is.
    pub fn closed(&self) -> Option<CloseReason> {
        self.channel.borrow().closed()
    }

    /// Takes a buffer, to be written and sent with a call.
    ///
    /// # Errors
    /// [`AllocError`]; `Exhausted` is back-pressure.
    pub fn alloc(&self, len: usize) -> Result<FbufMut, AllocError> {
        self.channel.borrow_mut().alloc(len)
    }

    /// Calls a procedure and waits for its results.
    ///
    /// # Cost
    /// One cache line each way for up to 48 bytes of arguments and of results. No system call while
    /// the server polls, no allocation.
    #[inline(always)]
    pub fn call<P: Procedure<Interface = I>>(
        &self,
        arguments: &P::Arguments,
    ) -> Outcome<P::Results> {
        self.call_bulk::<P>(arguments, None).map(|reply| reply.results)
    }

    /// As [`Binding::call`]; [`UnknownReason::TimedOut`] if there is no reply in time. The late reply
    /// is discarded.
    pub fn call_timeout<P: Procedure<Interface = I>>(
        &self,
        arguments: &P::Arguments,
        timeout: Duration,
    ) -> Outcome<P::Results> {
        match self.post::<P>(arguments, None) {
            Ok(a_stack) => self.finish::<P>(a_stack, Some(timeout)).map(|reply| reply.results),
            Err(reason) => Outcome::Refused(reason),
        }
    }

    /// Calls a procedure, handing a buffer over with the arguments.
    ///
    /// # Cost
    /// As [`Binding::call`], with 32 bytes each way beside a buffer.
    #[inline(always)]
    pub fn call_bulk<P: Procedure<Interface = I>>(
        &self,
        arguments: &P::Arguments,
        bulk: Option<Fbuf>,
    ) -> Outcome<Reply<P::Results>> {
        match self.post::<P>(arguments, bulk) {
            Ok(a_stack) => self.finish::<P>(a_stack, None),
            Err(reason) => Outcome::Refused(reason),
        }
    }

    /// Calls a procedure, and serves the calls that arrive at `server` until the reply is here: for
    /// a server that calls, where the chain of calls may come back to it.
    pub fn call_serving<P: Procedure<Interface = I>, S: Interface>(
        &self,
        arguments: &P::Arguments,
        server: &Server<S>,
    ) -> Outcome<P::Results> {
        let a_stack = match self.post::<P>(arguments, None) {
            Ok(a_stack) => a_stack,
            Err(reason) => return Outcome::Refused(reason),
        };
        let mut waiter = Waiter::new(self.wait, false, None);
        loop {
            if let Some(outcome) = self.try_finish::<P>(a_stack) {
                return outcome.map(|reply| reply.results);
            }
            if server.poll() {
                waiter = Waiter::new(self.wait, false, None);
                continue;
            }
            if waiter.step(1, || false) == Step::Park && server.arm() {
                server.with_fd(|fd| self.channel.borrow_mut().park_beside(fd));
            }
        }
    }

    #[inline(always)]
    fn post<P: Procedure<Interface = I>>(
        &self,
        arguments: &P::Arguments,
        bulk: Option<Fbuf>,
    ) -> Result<u16, Reason> {
        let channel = &mut *self.channel.borrow_mut();
        let free = &mut self.free.borrow_mut()[usize::from(P::INDEX)];
        let a_stack = free.pop().ok_or(Reason::NoAStack)?;
        let number = self.number.get().wrapping_add(1);
        self.number.set(number);
        let bytes = arguments.as_bytes();
        let inline = bytes.len() <= inline_limit(bulk.is_some());
        let flags = if inline { 0 } else { IN_A_STACK };
        let word = CallWord { number, a_stack, flags };
        if !inline {
            self.layout
                .write(channel, P::INDEX, a_stack, arguments)
                .expect("the area was made for the largest arguments");
        }
        failpoint::hit("call.1-arguments-written");
        let inline_bytes = if inline { bytes } else { &[] };
        let sent = send(channel, P::INDEX, word, inline_bytes, bulk);
        if let Err(reason) = sent {
            free.push(a_stack);
            return Err(reason);
        }
        failpoint::hit("call.2-posted");
        self.a_stacks.borrow_mut()[usize::from(a_stack)] = AStack::Waiting(number);
        Ok(a_stack)
    }

    #[inline(always)]
    fn finish<P: Procedure<Interface = I>>(
        &self,
        a_stack: u16,
        timeout: Option<Duration>,
    ) -> Outcome<Reply<P::Results>> {
        failpoint::hit("call.3-waiting");
        if let Some(outcome) = self.try_finish::<P>(a_stack) {
            return outcome;
        }
        let shared = self.channel.borrow_mut().shares_core();
        let mut waiter = Waiter::new(self.wait, shared, timeout);
        loop {
            let step = {
                let channel = self.channel.borrow();
                waiter.step(LOOKS, || channel.is_ready())
            };
            match step {
                Step::Again => {}
                Step::Park => self.channel.borrow_mut().park_for_message(&waiter),
                Step::TimedOut => return self.abandon(a_stack),
            }
            if let Some(outcome) = self.try_finish::<P>(a_stack) {
                return outcome;
            }
        }
    }

    #[cold]
    fn abandon<T>(&self, a_stack: u16) -> Outcome<T> {
        let mut a_stacks = self.a_stacks.borrow_mut();
        if let AStack::Waiting(number) = a_stacks[usize::from(a_stack)] {
            a_stacks[usize::from(a_stack)] = AStack::Abandoned(number);
        }
        Outcome::Unknown(UnknownReason::TimedOut)
    }

    /// The outcome, if it is here.
    #[inline(always)]
    fn try_finish<P: Procedure<Interface = I>>(
        &self,
        a_stack: u16,
    ) -> Option<Outcome<Reply<P::Results>>> {
        let mut a_stacks = self.a_stacks.borrow_mut();
        let place = &mut a_stacks[usize::from(a_stack)];
        if let AStack::Replied(_) = place {
            // A nested call received it while this one waited.
            let AStack::Replied(mut message) = std::mem::replace(place, AStack::Free) else {
                unreachable!("just seen")
            };
            return Some(self.take::<P>(a_stack, &mut message));
        }
        let AStack::Waiting(number) = *place else { return Some(self.lost(a_stack)) };
        let mut message = Message::default();
        let received = self.channel.borrow_mut().try_recv_into(&mut message);
        match received {
            Ok(false) => return None,
            Ok(true) => {
                let word = call_word(&message);
                if word.is_some_and(|word| word.a_stack == a_stack && word.number == number) {
                    *place = AStack::Free;
                    return Some(self.take::<P>(a_stack, &mut message));
                }
                drop(a_stacks);
                self.keep(word, message);
                return None;
            }
            Err(_) => {}
        }
        *place = AStack::Free;
        Some(self.lost(a_stack))
    }

    #[cold]
    fn lost<T>(&self, a_stack: u16) -> Outcome<T> {
        self.free.borrow_mut()[usize::from(a_stack) / A_STACKS].push(a_stack);
        let reason = self.closed().unwrap_or(CloseReason::PeerDied);
        Outcome::Unknown(UnknownReason::Closed(reason))
    }

    /// Keeps a reply for the call that waits for it, or drops one that nobody waits for.
    #[cold]
    fn keep(&self, word: Option<CallWord>, message: Message) {
        let mut a_stacks = self.a_stacks.borrow_mut();
        let place = word.and_then(|word| a_stacks.get_mut(usize::from(word.a_stack)));
        let (Some(word), Some(place)) = (word, place) else {
            self.channel.borrow_mut().poison_protocol();
            return;
        };
        match *place {
            AStack::Waiting(number) if number == word.number => {
                *place = AStack::Replied(message);
            }
            AStack::Abandoned(number) if number == word.number => {
                *place = AStack::Free;
                self.free.borrow_mut()[usize::from(word.a_stack) / A_STACKS].push(word.a_stack);
            }
            _ => {
                self.channel.borrow_mut().poison_protocol();
            }
        }
    }

    /// Reads a reply's results; its A-stack is free afterwards.
    #[inline(always)]
    fn take<P: Procedure<Interface = I>>(
        &self,
        a_stack: u16,
        message: &mut Message,
    ) -> Outcome<Reply<P::Results>> {
        let outcome = if message.tag() == status::EXECUTED {
            match self.results::<P>(a_stack, message) {
                Some(results) => Outcome::Executed(Reply { results, bulk: message.take_fbuf() }),
                None => self.broken(),
            }
        } else {
            refusal(message.tag()).map_or_else(|| self.broken(), Outcome::Refused)
        };
        self.free.borrow_mut()[usize::from(P::INDEX)].push(a_stack);
        outcome
    }

    #[inline(always)]
    fn results<P: Procedure<Interface = I>>(
        &self,
        a_stack: u16,
        message: &Message,
    ) -> Option<P::Results> {
        let word = call_word(message)?;
        if word.flags & IN_A_STACK == 0 {
            let bytes = message.inline().get(CALL_WORD..)?;
            return P::Results::try_read_from_bytes(bytes).ok();
        }
        let scratch = &mut *self.scratch.borrow_mut();
        let size = size_of::<P::Results>();
        let channel = self.channel.borrow();
        let bytes = self.layout.read(&channel, P::INDEX, a_stack, size, scratch)?;
        P::Results::try_read_from_bytes(bytes).ok()
    }

    /// The server says that it executed the call, and then makes no sense: it may have.
    #[cold]
    fn broken<T>(&self) -> Outcome<T> {
        let reason = self.channel.borrow_mut().poison_protocol();
        Outcome::Unknown(UnknownReason::Closed(reason))
    }

    /// This side's counters.
    pub fn with_counters<T>(&self, read: impl FnOnce(&unet::Counters) -> T) -> T {
        read(self.channel.borrow().counters())
    }

    /// This side's buffers: free, held by the server, and in all.
    pub fn buffers(&self) -> (usize, usize, usize) {
        self.channel.borrow_mut().buffers()
    }

    /// This side's segment, to be given to a supervisor that reads the counters.
    pub fn with_segment<T>(&self, read: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        read(self.channel.borrow().segment())
    }
}

impl<I> std::fmt::Debug for Binding<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Binding").field("channel", &self.channel).finish_non_exhaustive()
    }
}

/// The call word of a reply; `None` if the message is too short for one.
#[inline(always)]
fn call_word(message: &Message) -> Option<CallWord> {
    CallWord::read_from_prefix(message.inline()).ok().map(|(word, _)| word)
}

/// Sends a call word and what follows it.
#[inline(always)]
pub(crate) fn send(
    channel: &mut Channel,
    tag: u16,
    word: CallWord,
    bytes: &[u8],
    bulk: Option<Fbuf>,
) -> Result<(), Reason> {
    let sent = match bulk {
        None => channel.try_send_parts(tag, word.as_bytes(), bytes),
        Some(fbuf) => {
            let mut inline = [0; unet::MAX_INLINE_WITH_FBUF];
            let end = CALL_WORD + bytes.len();
            inline[..CALL_WORD].copy_from_slice(word.as_bytes());
            inline[CALL_WORD..end].copy_from_slice(bytes);
            channel.try_send_fbuf(tag, fbuf, &inline[..end]).map(|offer| match offer {
                Offer::Taken => Offer::Taken,
                Offer::Full(_) => Offer::Full(()),
            })
        }
    };
    match sent {
        Ok(Offer::Taken) => Ok(()),
        Ok(Offer::Full(())) => Err(Reason::QueueFull),
        Err(SendError::Closed(reason)) => Err(Reason::Closed(reason)),
        Err(_) => Err(Reason::ForeignBuffer),
    }
}
