//! Services: a trait, and from it client, server and description.
//!
//! ```
//! use rpc_fastpath::service::{BindOptions, Server, ServerOptions, service};
//!
//! #[service(name = "adder", version = 1)]
//! pub trait Adder {
//!     /// The sum of both, wrapping.
//!     fn add(&self, a: u64, b: u64) -> u64;
//! }
//!
//! struct Sums;
//! impl Adder for Sums {
//!     fn add(&self, a: u64, b: u64) -> u64 {
//!         a.wrapping_add(b)
//!     }
//! }
//!
//! # let address: unet::Address = format!("shm:service-doc-{}", std::process::id()).parse()?;
//! // The server:
//! let server = Server::<AdderService>::export(&address, Sums, ServerOptions::default())?;
//! let running = server.spawn();
//!
//! // The client, in another process:
//! let adder = AdderClient::bind(&address, BindOptions::default())?;
//! assert_eq!(adder.add(2, 3).executed(), Ok(5));
//! # drop(running);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Over LRPC a client calls by [`Local`], and [`Server`] serves; over channels of every transport it calls by [`Remote`],
//! and [`RemoteServer`] serves. Trait and handler are the same, and so are the outcomes: whoever writes for any
//! [`Caller`] writes for all of them.
//!
//! ```
//! # use rpc_fastpath::service::{Remote, RemoteOptions, RemoteServer, RemoteServerOptions, service};
//! # #[service(name = "adder", version = 1)]
//! # pub trait Adder { fn add(&self, a: u64, b: u64) -> u64; }
//! # struct Sums;
//! # impl Adder for Sums { fn add(&self, a: u64, b: u64) -> u64 { a.wrapping_add(b) } }
//! # let address: unet::Address = format!("shm:service-doc-far-{}", std::process::id()).parse()?;
//! # let addresses = [address];
//! let options = RemoteServerOptions::default();
//! let running = RemoteServer::<AdderService>::listen(&addresses, Sums, options)?.spawn();
//!
//! let adder = AdderClient::new(Remote::open(&addresses, RemoteOptions::default())?);
//! assert_eq!(adder.add(2, 3).executed(), Ok(5));
//! # drop(running);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The attribute is described at [`service`](macro@service). What it writes stands on four traits, which
//! are also the seam for further transports: a [`Service`] has [`Method`]s; a [`Caller`] calls them for
//! the client; a [`Registry`] is told each method with the function that serves it ([`Handled`]).

mod call;
mod contract;
mod deadline;
mod encoding;
mod form;
mod handling;
mod local;
mod nearest;
mod remote;
mod running;
mod serving;
mod workers;

pub use call::Call;
pub use contract::{
    Caller, Handled, Method, MethodShape, PendingCall, Registry, Served, Service, id_of,
};
pub use encoding::MAX_DEPTH;
pub use form::{Argument, Bulky, Encoded, Form, Pair, Plain, PlainArgument, Timed, WIDE};
pub use local::{Local, Pending, Server, ServerOptions};
pub use lrpc::{
    BindError, BindOptions, ExportError, ExportOptions, NotExecuted, Outcome, PlainData, Progress,
    Reason, UnknownReason,
};
pub use nearest::{Nearest, NearestOptions, NearestPending};
pub use remote::{Remote, RemoteOptions, RemotePending, RemoteServer, RemoteServerOptions};
/// Makes client, server and description of a trait: `#[service(name = "…", version = N)]`.
///
/// For a trait `Kv` it writes `KvService`, the description; `KvClient`, with a function for each method,
/// and one that starts it; and a type for each method, `KvGet` for `get`. The trait stays as it was:
/// who implements it, and is `Send` and `Sync`, can be served.
///
/// Methods called `new`, `bind`, `caller` or `serving` would be among the client's own functions: they
/// are refused.
///
/// A method takes `&self`, then perhaps `&Call<'_>`, which the server gives, then its arguments. Marks
/// on it: `#[plain]`, `#[deadline("5ms")]`, `#[slow]`, `#[one_way]`, `#[idempotent]`. How values travel,
/// and what the marks do, is in the book's chapter on services.
///
/// What can be seen without types is told by the attribute, where it stands. For types, the compiler
/// points at the argument and names it, as `argument_handle_of_open`:
///
/// ```compile_fail,E0277
/// # use rpc_fastpath::service::service;
/// struct Handle;
///
/// #[service(name = "doors", version = 1)]
/// trait Doors {
///     fn open(&self, path: &str, handle: Handle) -> u64; // neither plain nor serde's
/// }
/// ```
///
/// ```compile_fail,E0277
/// # use rpc_fastpath::service::service;
/// #[service(name = "doors", version = 1)]
/// trait Doors {
///     #[plain]
///     fn open(&self, path: String) -> u64; // no plain data, whatever its method says
/// }
/// ```
pub use rpc_fastpath_macros::service;
pub use running::Running;
pub use serving::Serving;
pub use unet::{AllocError, FbufMut, Message};

/// What is kept of a buffer for copies, so that a peer with large ones occupies no memory for good.
const KEPT: usize = 1 << 20;
