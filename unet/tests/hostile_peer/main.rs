//! A peer that lies wherever it can: in its memory, in control messages, and in the handshake.
//!
//! It owns its segment and its end of the socket, and nothing else. Whatever it writes there, the
//! honest side names the lie, closes that channel once, counts it once, and goes on with the others.
//! `cargo xtask test` also runs this under AddressSanitizer.

mod handshake;
mod lies;
mod storm;
#[path = "../support/mod.rs"]
mod support;

use support::accept;
use support::hostile::{Hostile, ask};
use unet::{Address, ChannelId, Endpoint};

/// Connects a hostile peer to an endpoint.
fn hostile_in(endpoint: &mut Endpoint, address: &Address) -> (ChannelId, Hostile) {
    let asking = ask(address).expect("the listener is there");
    let id = accept(endpoint);
    (id, asking.welcomed().expect("accepted"))
}
