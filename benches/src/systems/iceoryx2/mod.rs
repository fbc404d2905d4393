//! iceoryx2 from the registry, as its users take it: shared memory, both sides polling.
//!
//! Payloads are uninitialised bytes, which the library lends and neither side touches, except for
//! `bandwidth`, where they are copied in and out. The sequence number travels in the user header.

use std::fmt::Debug;
use std::mem::MaybeUninit;

use iceoryx2::prelude::*;

use crate::fault::Fault;
use crate::task::{Bench, Wait};

mod pubsub;
mod reqres;

pub use pubsub::PublishSubscribe;
pub use reqres::RequestResponse;

/// What carries a message of any content.
type Bytes = [MaybeUninit<u8>];
/// The sequence number, or [`END`].
type Header = u64;

/// The user header of the message that ends a phase.
const END: Header = Header::MAX;

/// The library's own error, as ours.
fn failed<T, E: Debug>(what: &'static str, result: Result<T, E>) -> Result<T, Fault> {
    result.map_err(|error| Fault::Other(format!("{what} in iceoryx2 failed: {error:?}")))
}

/// A node that leaves signals alone and speaks only of errors.
fn node() -> Result<Node<ipc::Service>, Fault> {
    set_log_level(LogLevel::Error);
    let builder = NodeBuilder::new().signal_handling_mode(SignalHandlingMode::Disabled);
    failed("creating a node", builder.create::<ipc::Service>())
}

fn name(rendezvous: &str, direction: &str) -> Result<ServiceName, Fault> {
    failed("naming a service", format!("{rendezvous}/{direction}").as_str().try_into())
}

fn refuses(wait: Wait) -> Option<String> {
    (wait != Wait::Spin).then(|| "is measured polling only, with --wait spin".to_owned())
}

fn remark(bench: Bench) -> Option<String> {
    match bench {
        Bench::Rtt => Some("iceoryx2: the payload is lent and not touched".to_owned()),
        _ => None,
    }
}

/// Waits for something by asking for it again and again.
#[inline(always)]
fn poll<T, E: Debug>(mut ask: impl FnMut() -> Result<Option<T>, E>) -> Result<T, Fault> {
    loop {
        match ask() {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => std::hint::spin_loop(),
            Err(error) => return failed("receiving", Err(error)),
        }
    }
}

/// Private memory whose content a message carries.
fn private(payload: usize) -> Vec<MaybeUninit<u8>> {
    vec![MaybeUninit::new(1); payload]
}
