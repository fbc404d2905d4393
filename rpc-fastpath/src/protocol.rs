//! Calls over a channel that may lose, double, delay and reorder: two state machines, one a side.
//!
//! | file | what |
//! |---|---|
//! | [`Client`] | begins calls, drives all repetition, ends every call once |
//! | [`Server`] | hands each call to a handler at most once, keeps its reply |
//! | `transfer`, `reassembly` | a message of several fragments, at its sender and its receiver |
//! | `round_trip`, `congestion` | how long to wait, how much to send |
//!
//! Neither has a socket, a clock or a thread: whoever runs one gives it what came ([`Client::receive`]), the
//! time, and asks what to send (`poll_transmit`), when to come back (`next_timer`) and what happened. Time is
//! nanoseconds from anywhere that never go back. Payload is whatever the caller sends and receives by: the
//! machines keep its handle ([`Fragment`]) and say which bytes of it a packet carries, and touch none.
//!
//! What a call costs while nothing is lost: its place in a table, one header made and one compared. Nothing is
//! allocated for a call whose arguments and reply are one packet each.
//!
//! The book's chapter on the protocol is the specification.

mod client;
mod congestion;
mod map;
mod options;
mod outcome;
mod packet;
mod reassembly;
mod round_trip;
mod server;
#[cfg(test)]
mod testing;
mod transfer;

pub(crate) use congestion::{ALONE_AFTER, WAKING};

pub use client::{Call, Client, Event, QueryError, SessionEnd, StartError};
pub use options::{Limits, MAX_MESSAGE, Timers};
pub use outcome::{Doubt, Outcome, Payload, RequestId};
pub use packet::{Body, Transmit};
pub use reassembly::Fragment;
pub use server::{
    AcceptError, Identity, Pending, ReplyTooLarge, Request, Server, ServerEvent, stale_answer,
};

pub use crate::wire::{Failure, Refusal, Rejection, ServiceId, Terms};
