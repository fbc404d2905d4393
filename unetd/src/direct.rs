//! Direct mode: a process without privilege gets a queue of an interface for itself, over its own memory.
//!
//! ```text
//!   keeper ── starts, restarts ──► worker: Service ◄── Request, a memfd ── client (xdp:…?agent=NAME)
//!     ▲ holds what must not close    │    ── Answer, a bound socket ──►      │ keeps the connection
//!     └──────── Store ───────────────┘                                       ▼
//!                                     interface ◄── queue ──► AF_XDP socket, the client's memory
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`Service`] | who asks, who has what, what ends |
//! | [`Permission`] | what the policy has to say |
//! | `memory` | the check of a client's file |
//! | `hooks` | the XDP program of each interface |
//! | [`Store`], [`keeper`] | what outlives a worker, and who holds it |
//! | [`Counts`] | what became of those who asked |
//!
//! After the answer no agent is in the data path. The agent hears of the end of a client by the connection,
//! and takes back queue, port and steering then.
//!
//! # What a client can do with it
//!
//! It sends any frame on its queue: source addresses are **not** checked, neither Ethernet's nor IP's. So
//! direct mode is for users who may send raw frames; everybody else is to use the mediated mode. It receives
//! UDP to its port that came in on its queue, and nothing else. It cannot bind the socket again, register
//! other memory, or reach the program and its maps.
//!
//! # Threads
//!
//! None of its own. Registering memory takes milliseconds, so an agent that also mediates gives the service
//! a thread beside. It waits for no client; what is received from one is closed there and then, which a
//! file of FUSE's, whose server does not answer, can hold up. The files of memory that it looks at are
//! found to be memfds first.

mod asking;
mod counts;
mod grant;
mod hooks;
pub mod keeper;
mod memory;
mod permission;
mod service;
mod store;

pub use counts::Counts;
pub use driver_af_xdp::lent::message::{Refused, Request};
pub use permission::{Permission, Permissions};
pub use service::{Service, StartError};
pub use store::{KeeperGone, Store};
