//! Local RPC.
