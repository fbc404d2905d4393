//! Messages along paths of several domains, each a process of its own that trusts no other.
//!
//! ```text
//!   originator ──► middle ──► … ──► last
//!   (the test)     pushes a header  checks every byte
//! ```

// Failpoints are in no program without debug assertions, so half of this cannot be tested there.
#![cfg(debug_assertions)]

mod bounds;
mod death;
mod domains;
mod kills;
mod misuse;
mod roles;
mod steady;
#[path = "../support/mod.rs"]
mod support;
mod traffic;
mod waits;
