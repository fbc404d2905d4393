//! One service definition, called locally or across a network, with exact outcomes.

pub mod service;

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
