//! The client's side: bind once, then call.

mod pending;
mod serving;
mod state;

use std::cell::RefCell;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use segment::failpoint;
use segment::wait::{LOOKS, Step, Waiter};
use unet::{
    Address, AllocError, Channel, CloseReason, ConnectError, ConnectOptions, Credentials, Delivery,
    Fbuf, FbufMut, PeerFbuf, Policy, Refusal, Wait,
};
use zerocopy::{IntoBytes, TryFromBytes};

use crate::a_stack::{A_STACKS, Layout};
use crate::outcome::{Outcome, Reason, UnknownReason};
use crate::wire::{BindRequest, CALL_WORD, CallWord, IN_A_STACK, bind_code, call_word};
use crate::wire::{inline_limit, refusal, send, status};
use crate::{Interface, Procedure};
pub use pending::Pending;
pub use serving::Progress;
use state::{AStack, State};

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

/// A client's side of an interface. Used by one thread at a time; calls may nest.
pub struct Binding<I> {
    state: RefCell<State>,
    layout: Layout,
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
        connect.channel.geometry.area_bytes = layout.area_bytes();
        let channel = Channel::connect(address, connect)?;
        let peer_area = channel.peer_area().map_or(0, |area| area.len());
        if peer_area < layout.area_bytes() as usize {
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
        let state = State {
            channel,
            a_stacks: vec![AStack::Free; count].into(),
            free,
            replies: Vec::new(),
            number: 0,
            message: Delivery::default(),
            scratch: vec![0; largest].into(),
            wakers: Vec::new(),
            woken: Vec::new(),
            armed: false,
            news: false,
            ended: false,
        };
        let state = RefCell::new(state);
        Ok(Self { state, layout, wait: options.wait, _interface: PhantomData })
    }

    /// Who serves, by the kernel's word.
    pub fn credentials(&self) -> Credentials {
        self.state.borrow().channel.credentials()
    }

    /// Why the binding is closed, if it is.
    pub fn closed(&self) -> Option<CloseReason> {
        self.state.borrow().channel.closed()
    }

    /// Takes a buffer, to be written and sent with a call.
    ///
    /// # Errors
    /// [`AllocError`]; `Exhausted` is back-pressure.
    pub fn alloc(&self, len: usize) -> Result<FbufMut, AllocError> {
        self.state.borrow_mut().channel.alloc(len)
    }

    /// Calls a procedure and waits for its results.
    ///
    /// # Cost
    /// One cache line each way for up to 48 bytes of arguments and of results, one copy more each
    /// way beyond. No allocation. While both sides poll, no system call but the liveness checks of
    /// [`Channel::recv`].
    #[inline(always)]
    pub fn call<P: Procedure<Interface = I>>(
        &self,
        arguments: &P::Arguments,
    ) -> Outcome<P::Results> {
        match self.post::<P>(arguments, None) {
            Ok(a_stack) => self.finish::<P, _>(a_stack, None, |results, _| results),
            Err(reason) => Outcome::Refused(reason),
        }
    }

    /// As [`Binding::call`]; [`UnknownReason::TimedOut`] if there is no reply in time. The late reply
    /// is discarded.
    ///
    /// # Cost
    /// As [`Binding::call`], and a look at the clock if the reply is not there soon.
    pub fn call_timeout<P: Procedure<Interface = I>>(
        &self,
        arguments: &P::Arguments,
        timeout: Duration,
    ) -> Outcome<P::Results> {
        match self.post::<P>(arguments, None) {
            Ok(a_stack) => self.finish::<P, _>(a_stack, Some(timeout), |results, _| results),
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
            Ok(a_stack) => self.finish::<P, _>(a_stack, None, |results, message| Reply {
                results,
                bulk: message.take_fbuf(),
            }),
            Err(reason) => Outcome::Refused(reason),
        }
    }

    #[inline(always)]
    fn post<P: Procedure<Interface = I>>(
        &self,
        arguments: &P::Arguments,
        bulk: Option<Fbuf>,
    ) -> Result<u16, Reason> {
        let mut state = self.state.borrow_mut();
        let a_stack = match state.free[usize::from(P::INDEX)].pop() {
            Some(a_stack) => a_stack,
            None => {
                drop(state);
                let a_stack = self.late_a_stack(P::INDEX)?;
                state = self.state.borrow_mut();
                a_stack
            }
        };
        let state = &mut *state;
        let number = state.number.wrapping_add(1);
        state.number = number;
        let bytes = arguments.as_bytes();
        let inline = bytes.len() <= inline_limit(bulk.is_some());
        let flags = if inline { 0 } else { IN_A_STACK };
        let word = CallWord { number, a_stack, flags };
        if !inline {
            self.layout
                .write(&mut state.channel, P::INDEX, a_stack, arguments)
                .expect("the area was made for the largest arguments");
        }
        failpoint::hit("call.1-arguments-written");
        let inline_bytes = if inline { bytes } else { &[] };
        // The point of no return is in here.
        if let Err(reason) = send(&mut state.channel, P::INDEX, word, inline_bytes, bulk) {
            state.free[usize::from(P::INDEX)].push(a_stack);
            return Err(reason);
        }
        failpoint::hit("call.2-posted");
        state.a_stacks[usize::from(a_stack)] = AStack::Waiting(number);
        Ok(a_stack)
    }

    #[inline(always)]
    fn finish<P: Procedure<Interface = I>, R>(
        &self,
        a_stack: u16,
        timeout: Option<Duration>,
        take: impl Fn(P::Results, &mut Delivery) -> R,
    ) -> Outcome<R> {
        failpoint::hit("call.3-waiting");
        let mut waiter = {
            let state = &mut *self.state.borrow_mut();
            let shared = self.wait == Wait::Adaptive && state.channel.shares_core();
            Waiter::new(self.wait, shared, timeout)
        };
        loop {
            let step = {
                let channel = &self.state.borrow().channel;
                waiter.step(LOOKS, || channel.is_ready())
            };
            match step {
                Step::Again => {}
                Step::Park => self.park(&waiter, None),
                Step::TimedOut => return self.abandon(a_stack),
            }
            if let Some(outcome) = self.try_finish::<P, R>(a_stack, &take) {
                return outcome;
            }
        }
    }

    /// Takes the replies that nobody waits for any more, to find an A-stack for the next call.
    #[cold]
    fn late_a_stack(&self, procedure: u16) -> Result<u16, Reason> {
        self.take_replies();
        let state = &mut *self.state.borrow_mut();
        let closed = state.channel.closed().map(Reason::Closed);
        state.free[usize::from(procedure)].pop().ok_or(closed.unwrap_or(Reason::NoAStack))
    }

    /// Takes the replies that are there, and the end. `true` if there was anything.
    fn take_replies(&self) -> bool {
        let taken = self.state.borrow_mut().take_replies();
        self.wake();
        taken
    }

    /// Sleeps for a reply, or until `other` is readable.
    #[cold]
    fn park(&self, waiter: &Waiter, other: Option<BorrowedFd<'_>>) {
        self.state.borrow_mut().park(waiter, other);
        self.wake();
    }

    /// Wakes those to whom something was received. The state is not borrowed meanwhile.
    fn wake(&self) {
        loop {
            let Some(waker) = self.state.borrow_mut().woken.pop() else { return };
            waker.wake();
        }
    }

    #[cold]
    fn abandon<T>(&self, a_stack: u16) -> Outcome<T> {
        self.state.borrow_mut().abandon(a_stack);
        Outcome::Unknown(UnknownReason::TimedOut)
    }

    /// The outcome, if it is here.
    #[inline(always)]
    fn try_finish<P: Procedure<Interface = I>, R>(
        &self,
        a_stack: u16,
        take: impl Fn(P::Results, &mut Delivery) -> R,
    ) -> Option<Outcome<R>> {
        let mut guard = self.state.borrow_mut();
        let state = &mut *guard;
        match state.a_stacks[usize::from(a_stack)] {
            AStack::Waiting(number) => {
                match state.channel.try_recv_into(&mut state.message) {
                    Ok(false) => return None,
                    Ok(true) => {}
                    Err(reason) => {
                        let lost = state.lost(a_stack, reason);
                        drop(guard);
                        self.wake();
                        return Some(lost);
                    }
                }
                let word = call_word(&state.message);
                if word.is_none_or(|word| (word.a_stack, word.number) != (a_stack, number)) {
                    state.keep(word);
                    drop(guard);
                    self.wake();
                    return None;
                }
            }
            // A nested call received it while this one waited.
            _ => state.message = state.kept(a_stack)?,
        }
        state.a_stacks[usize::from(a_stack)] = AStack::Free;
        state.free[usize::from(P::INDEX)].push(a_stack);
        let outcome = match self.results::<P>(state, a_stack) {
            Ok(Ok(results)) => Outcome::Executed(take(results, &mut state.message)),
            Ok(Err(reason)) => Outcome::Refused(reason),
            Err(Senseless) => state.broken(state.message.tag()),
        };
        // A buffer that nobody asked for goes back at once.
        drop(state.message.take_fbuf());
        Some(outcome)
    }

    /// Reads a reply's results, or why there are none.
    #[inline(always)]
    fn results<P: Procedure<Interface = I>>(
        &self,
        state: &mut State,
        a_stack: u16,
    ) -> Result<Result<P::Results, Reason>, Senseless> {
        let message = &state.message;
        if message.tag() != status::EXECUTED {
            return refusal(message.tag()).map(Err).ok_or(Senseless);
        }
        let word = call_word(message).ok_or(Senseless)?;
        let bytes = match word.flags {
            0 => message.inline().get(CALL_WORD..),
            IN_A_STACK => {
                let size = size_of::<P::Results>();
                self.layout.read(&state.channel, P::INDEX, a_stack, size, &mut state.scratch)
            }
            _ => None,
        };
        let bytes = bytes.ok_or(Senseless)?;
        P::Results::try_read_from_bytes(bytes).map(Ok).map_err(|_| Senseless)
    }

    /// This side's counters.
    ///
    /// # Panics
    /// When `read` calls on this same binding.
    pub fn with_counters<T>(&self, read: impl FnOnce(&unet::Counters) -> T) -> T {
        read(self.state.borrow().channel.counters())
    }

    /// This side's buffers: free, held by the server, and in all.
    pub fn buffers(&self) -> (usize, usize, usize) {
        self.state.borrow_mut().channel.buffers()
    }

    /// This side's segment, to be given to a supervisor that reads the counters.
    ///
    /// # Panics
    /// When `read` calls on this same binding.
    pub fn with_segment<T>(&self, read: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        read(self.state.borrow().channel.segment())
    }
}

/// A reply without results and without a refusal.
struct Senseless;

impl<I> std::fmt::Debug for Binding<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Binding")
            .field("channel", &self.state.borrow().channel)
            .finish_non_exhaustive()
    }
}
