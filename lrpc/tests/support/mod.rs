//! What the tests of this folder share: those of channels, and a server and its clients on one thread.

// Each test file is a program of its own and uses a part of this.
#![allow(dead_code, unused_imports)]

#[path = "../../../unet/tests/support/mod.rs"]
mod channels;
pub mod raw;

use std::time::Duration;

pub use channels::{PATIENCE, Random, WAITS, address, eventually, role, small};
use lrpc::{BindError, BindOptions, Binding, ExportOptions, Interface, Server};
use unet::{Address, Wait};

/// How a server with small segments exports.
pub fn export_options(wait: Wait) -> ExportOptions {
    let geometry = unet::Geometry { slots: 64, ..small() };
    ExportOptions { wait, geometry, ..ExportOptions::default() }
}

/// How a client with a small segment binds.
pub fn bind_options(wait: Wait) -> BindOptions {
    let geometry = unet::Geometry { slots: 64, ..small() };
    BindOptions { wait, geometry, ..BindOptions::default() }
}

/// A server without procedures yet.
pub fn export<I: Interface>(address: &Address, wait: Wait) -> Server<I> {
    Server::export(address, export_options(wait)).expect("the name is free")
}

/// Binds, to a server of another thread or process.
pub fn bind<I: Interface>(address: &Address, wait: Wait) -> Binding<I> {
    Binding::bind(address, bind_options(wait)).expect("bound")
}

/// Does something that waits for `server`, which is this thread's, in a thread of its own.
pub fn beside<I: Interface, T: Send>(server: &Server<I>, client: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let client = scope.spawn(client);
        while !client.is_finished() {
            server.serve_timeout(Duration::from_millis(1));
        }
        client.join().expect("the client does not panic")
    })
}

/// Binds to a server of this thread.
pub fn bind_beside<I: Interface>(server: &Server<I>, address: &Address, wait: Wait) -> Binding<I> {
    beside(server, || bind(address, wait))
}

/// Serves what there is to be served.
pub fn serve_all<I: Interface>(server: &Server<I>) {
    // Vain looks, so that quiet channels are glanced at, and the kernel is asked once.
    let mut vain = 0;
    while vain < 64 {
        vain = if server.poll() { 0 } else { vain + 1 };
    }
    while server.serve_timeout(Duration::from_millis(1)) {}
}
