//! The two processes: how the server is started, spoken to, watched and ended; and how it serves
//! clients across a network.

pub mod agent;
pub mod connection;
pub mod control;
pub mod ending;
pub mod leash;
pub mod listen;
pub mod serve;
pub mod server;
pub mod session;
