//! What the tests of this folder share.

// Each test file is a program of its own and uses a part of this.
#![allow(dead_code)]

use std::sync::atomic::{AtomicU32, Ordering};

use rpc_fastpath::service::{BindOptions, ExportOptions, ServerOptions};
use unet::{Address, Class, Geometry};

/// An address that nobody else has.
pub fn address(test: &str) -> Address {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("shm:svc-{test}-{}-{number}", std::process::id()).parse().expect("the name is valid")
}

/// The largest buffer of these geometries.
pub const LARGEST: usize = 65_536;

fn small() -> Geometry {
    let mut geometry = Geometry { slots: 64, ..Geometry::default() };
    geometry.classes = Default::default();
    geometry.classes[0] = Class { buffer_bytes: 4096, buffers: 16 };
    geometry.classes[1] = Class { buffer_bytes: LARGEST as u32, buffers: 4 };
    geometry
}

pub fn server_options() -> ServerOptions {
    let export = ExportOptions { geometry: small(), ..ExportOptions::default() };
    ServerOptions { export, ..ServerOptions::default() }
}

pub fn bind_options() -> BindOptions {
    BindOptions { geometry: small(), ..BindOptions::default() }
}
