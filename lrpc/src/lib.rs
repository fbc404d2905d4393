//! Local remote procedure calls: typed calls between two processes of a host, at the cost of one
//! cache line each way.
//!
//! A server [exports](Server) an interface at an address; a client [binds](Binding) once, which
//! checks users, interface, version and layout, and sets up a pair of segments; then it calls.
//! Arguments are written once, in place: into the call's slot if they fit, else into the procedure's
//! A-stack in the client's segment. Results come back the same way through the server's. What a
//! server needs to trust it copies once and checks; bulk travels as fbufs.
//!
//! ```
//! lrpc::interface! {
//!     /// Adds.
//!     pub Adder = "adder", version 1 {
//!         /// The sum of both, wrapping.
//!         Add([u64; 2]) -> u64;
//!     }
//! }
//!
//! # let address: unet::Address = format!("shm:lrpc-doc-{}", std::process::id()).parse()?;
//! # let for_client = address.clone();
//! // The server:
//! let server = lrpc::Server::<Adder>::export(&address, lrpc::ExportOptions::default())?
//!     .on::<Add>(|_, [a, b]| Ok(a.wrapping_add(b)));
//! # let client = std::thread::spawn(move || {
//! # let address = for_client;
//!
//! // The client, in another process:
//! let adder = lrpc::Binding::<Adder>::bind(&address, lrpc::BindOptions::default()).unwrap();
//! assert_eq!(adder.call::<Add>(&[2, 3]).executed(), Ok(5));
//! # });
//! # while !client.is_finished() {
//! #   server.serve_timeout(std::time::Duration::from_millis(10));
//! # }
//! # client.join().unwrap();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! After Bershad, Anderson, Lazowska and Levy, *Lightweight Remote Procedure Call* (SOSP 1989).

mod a_stack;
mod binding;
mod interface;
mod outcome;
mod server;
mod wire;

pub use a_stack::A_STACKS;
pub use binding::{BindError, BindOptions, Binding, Pending, Progress, Reply};
pub use interface::{Interface, PlainData, Procedure, Shape, layout_hash};
pub use outcome::{NotExecuted, Outcome, Reason, UnknownReason};
pub use server::{Answer, Call, ExportError, ExportOptions, Later, MAX_NESTING, Server};
pub use unet::{Fbuf, FbufMut, PeerFbuf};
#[doc(hidden)]
pub use zerocopy as __zerocopy;

/// The code of the book and of the README, compiled and run as this crate's documentation tests.
#[cfg(doctest)]
mod book {
    #[doc = include_str!("../../docs/src/using.md")]
    struct Using;
    #[doc = include_str!("../../README.md")]
    struct Readme;
}
