//! What the tests of this folder share.

// Each test file is a program of its own and uses a part of this.
#![allow(dead_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;

use kv::server::{ServeOptions, serve};
use kv::service::Shared;
use kv::store::{Limits, Store};
use unet::{Address, Wait};

/// An address of this host that nobody else has.
pub fn address(test: &str) -> Address {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("shm:kv-{test}-{}-{number}", std::process::id()).parse().expect("the name is valid")
}

/// A port of this host's UDP that nobody has at the moment.
pub fn udp() -> Address {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let port = socket.local_addr().expect("it is bound").port();
    format!("udp:127.0.0.1:{port}").parse().expect("it is an address")
}

/// A server in threads of this process. Ended when dropped.
pub struct Running {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Serves an empty store.
pub fn start(addresses: &[Address], limits: Limits, channels: bool) -> Running {
    let stop = Arc::new(AtomicBool::new(false));
    let (told, addresses) = (Arc::clone(&stop), addresses.to_vec());
    let (ready, is_ready) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let store = Arc::new(Shared::new(Store::new(limits)));
        let ready = || ready.send(()).expect("the test waits");
        let options = ServeOptions { wait: Wait::Adaptive, channels };
        serve(&addresses, &store, options, &told, ready).expect("free addresses");
    });
    is_ready.recv().expect("it serves");
    Running { stop, thread: Some(thread) }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it does not panic");
        }
    }
}
