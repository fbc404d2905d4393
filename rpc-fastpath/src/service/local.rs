//! Services over LRPC: the client's and the server's side on one host.

mod client;
mod deliveries;
mod methods;
mod pending;
mod server;
mod source;

pub use client::Local;
pub use pending::Pending;
pub use server::{Server, ServerOptions};

use std::cell::Cell;

use lrpc::PeerFbuf;

use super::KEPT;

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
