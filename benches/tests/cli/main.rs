//! The program, run as its users run it.

mod arguments;
mod endings;
mod fbuf;
mod network;
mod output;
mod support;
