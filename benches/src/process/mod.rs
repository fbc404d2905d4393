//! The two processes: how the server is started, spoken to, watched and ended.

pub mod control;
pub mod ending;
pub mod serve;
pub mod server;
