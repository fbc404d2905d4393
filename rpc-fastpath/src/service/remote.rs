//! Services over channels: the client's and the server's side, over whichever transport an address names.
//!
//! Arguments and results are bytes here. Beside bulk, the bytes are the bulk, then the head (what is
//! encoded beside it), then the head's length in four bytes, so that the bulk lies where it can be handed
//! over.

mod buffers;
mod bulk;
mod calls;
mod client;
mod methods;
mod pending;
mod reasons;
mod server;
mod source;

pub use client::{Remote, RemoteOptions};
pub use pending::RemotePending;
pub use server::{RemoteServer, RemoteServerOptions};
