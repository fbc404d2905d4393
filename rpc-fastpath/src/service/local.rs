//! Services over LRPC: the client's and the server's side on one host.

mod call;
mod client;
mod methods;
mod pending;
mod server;
mod serving;
mod source;
mod workers;

pub use call::Call;
pub use client::Local;
pub use pending::Pending;
pub use server::{Running, Server, ServerOptions};
pub use serving::Serving;

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use lrpc::PeerFbuf;
use rustix::time::{ClockId, clock_gettime};

/// This host's monotonic clock, which all its processes share, in nanoseconds.
fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    (now.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(now.tv_nsec as u64)
}

/// When a deadline of that length, set now, passes.
fn expiry(deadline: Option<Duration>) -> u64 {
    let after = |deadline: Duration| u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX);
    deadline.map_or(super::form::NEVER, |deadline| now().saturating_add(after(deadline)))
}

/// Whether a deadline has passed. No look at the clock if there is none.
#[inline(always)]
fn has_passed(expires: u64) -> bool {
    expires != super::form::NEVER && now() >= expires
}

/// What is kept of a buffer for copies, so that a peer with large ones occupies no memory for good.
const KEPT: usize = 1 << 20;

/// Puts a buffer for copies back, to be used again.
fn put_back(scratch: &Cell<Vec<u8>>, bytes: Vec<u8>) {
    if bytes.len() <= KEPT {
        scratch.set(bytes);
    }
}

/// Copies a buffer that the peer can still write, once. `None` if it was revoked.
fn copied<'a>(buffer: &PeerFbuf, scratch: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    if scratch.len() < buffer.len() {
        scratch.resize(buffer.len(), 0);
    }
    let copy = &mut scratch[..buffer.len()];
    buffer.copy_to(0, copy).ok()?;
    Some(copy)
}

/// Drops what was panicked with. It may panic when it is dropped; with what, is left where it is.
#[cold]
fn let_go(payload: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
}
