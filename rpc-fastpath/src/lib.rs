//! Services, each defined by one trait, and calls with exact outcomes: every call ends once, as executed,
//! refused or unknown.
//!
//! | module | what |
//! |---|---|
//! | [`service`] | what users link: `#[service]`, its clients and servers, over LRPC and over channels |
//! | [`endpoint`] | calls of bytes over U-Net channels of any kind: clients and servers |
//! | [`protocol`] | what both sides of a channel do: state machines without clock, socket or thread |
//! | [`wire`] | what travels between them: a header of 16 bytes |

pub mod endpoint;
pub mod protocol;
pub mod service;
pub mod wire;

/// What the code that the macro writes refers to; no part of the interface.
#[doc(hidden)]
pub mod __private {
    pub use lrpc;
    pub use unet;
}

/// The code of the book, compiled and run as this crate's documentation tests.
#[cfg(doctest)]
mod book {
    #[doc = include_str!("../../docs/src/your-first-service.md")]
    struct YourFirstService;
}
