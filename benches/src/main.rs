//! The benchmark CLI.
fn main() {}
