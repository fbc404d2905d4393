//! A key-value server on the RPC fast path: a program to start from, and one to measure with.
//!
//! | module | what |
//! |---|---|
//! | [`store`] | keys and values in bounded memory; knows nothing of calls |
//! | [`service`] | the trait that client and server share, and the handler that serves a store |
//! | [`server`] | that handler at one or several addresses |
//! | [`client`] | values put and got whichever way fits their size |
//! | [`load`] | YCSB's mixes A, B and C, closed and open loop, on this or any other store |
#![forbid(unsafe_code)]

pub mod client;
pub mod load;
pub mod server;
pub mod service;
pub mod store;
