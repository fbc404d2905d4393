//! The program, run as its users run it.

mod arguments;
mod endings;
mod fbuf;
mod output;
mod support;
