//! The program, run as its users run it.

mod arguments;
mod calls;
mod dpdk;
mod endings;
mod fbuf;
mod kv;
mod network;
mod output;
mod support;
