//! Calls over U-Net: the machines of [`crate::protocol`] on the channels of an endpoint, over whichever
//! transport its address names.
//!
//! | file | what |
//! |---|---|
//! | [`Connection`] | a client: one service, one session at a time, begun anew when it is lost |
//! | [`Service`] | a server: many clients, whose calls go to one [`Handler`] |
//! | `content` | what is sent and received, and how it is read without a copy |
//! | `arriving`, `outbox` | the packets in a message, both ways |
//! | `binding` | channels to one of several addresses, and pauses between attempts |
//!
//! Both are driven by the thread that owns them: nothing runs by itself, and nothing is called back but what is
//! given to the function that is running. Arguments and replies are bytes.
//!
//! ```
//! use rpc_fastpath::endpoint::*;
//! use std::sync::atomic::{AtomicBool, Ordering};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let address: unet::Address = format!("shm:upper-{}", std::process::id()).parse()?;
//! let stop = AtomicBool::new(false);
//! let mut service = Service::listen(std::slice::from_ref(&address), ServiceOptions::default())?;
//! std::thread::scope(|scope| {
//!     // The server, in a thread here and in a process of its own elsewhere.
//!     scope.spawn(|| {
//!         let mut space = Vec::new();
//!         service.serve(
//!             &mut |_: &Context, arguments: Bytes<'_>, reply: &mut Reply<'_>| {
//!                 reply.write(&arguments.whole(&mut space)?.to_ascii_uppercase());
//!                 Ok(())
//!             },
//!             &stop,
//!         );
//!     });
//!     // The client.
//!     let mut connection = Connection::open(&address, ConnectionOptions::default())?;
//!     let outcome = connection.call(1, b"hello", How::default());
//!     assert_eq!(outcome, Outcome::Executed(b"HELLO".to_vec()));
//!     stop.store(true, Ordering::Relaxed);
//!     Ok(())
//! })
//! # }
//! ```

mod arriving;
mod binding;
mod clock;
mod connection;
mod content;
mod outbox;
mod service;
mod sleeping;

pub use clock::NoRandom;
pub use connection::{Connection, ConnectionOptions, End, How, OpenError, Token};
pub use content::{Bytes, Content};
pub use service::{
    Context, Counts, Decline, Handler, Later, Reply, ServeError, Service, ServiceOptions,
};

pub use crate::protocol::{
    Doubt, Failure, Limits, Outcome, QueryError, Refusal, Rejection, RequestId, ServiceId,
    SessionEnd, Terms, Timers,
};
