//! The baseline carries frames: what it is compared with shall not be a loop that loses them.
#![cfg(dpdk)]

use std::time::{Duration, Instant};

use driver_dpdk::raw::{HEADERS, Port};
use unet::device::{OpenError, Opening};

const FRAMES: u64 = 2000;
const LEN: u32 = HEADERS as u32 + 64;

fn open(device: &str) -> Result<Port, OpenError> {
    let (local, port, remote, buffers) = (None, 9000, None, 2048);
    Port::open(&Opening { device, local, port, remote, options: &[], buffers })
}

/// Looks until it is so.
fn until(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "it took too long");
        std::hint::spin_loop();
    }
}

#[test]
fn numbers_come_back_in_order() {
    let socket = format!("role=server,socket=raw-{}", std::process::id());
    let mut server = open(&format!("net_memif40,{socket}")).expect("a port");
    let answering = std::thread::spawn(move || {
        let mut client =
            open(&format!("net_memif41,{}", socket.replace("server", "client"))).expect("a port");
        client.prepare(&[0; LEN as usize]);
        until(|| client.is_up());
        let mut expected = 0;
        until(|| {
            client.send_numbered(expected, 1, LEN);
            let begun = expected;
            until(|| {
                client.receive_numbered(|number| {
                    assert_eq!(number, expected);
                    expected += 1;
                });
                expected > begun
            });
            expected == FRAMES
        });
        client.send_numbered(FRAMES, 1, LEN);
        // What is in the rings when an end goes is lost.
        until(|| client.receive_numbered(|number| expected = number) > 0);
        assert_eq!(expected, u64::MAX);
    });
    server.prepare(&[0; LEN as usize]);
    until(|| server.is_up());
    let mut ended = false;
    until(|| {
        server.answer_numbered(|number| {
            ended |= number == FRAMES;
            number < FRAMES
        });
        ended
    });
    assert_eq!(server.send_numbered(u64::MAX, 1, LEN), 1);
    answering.join().expect("no panic");
}

#[test]
fn what_is_no_port_is_an_error_and_leaves_nothing_behind() {
    for _ in 0..3 {
        assert_eq!(open("net_none0").err(), Some(OpenError::NoDevice));
    }
    let first = open("net_null40").expect("a port");
    // One port a thread: its caches are of the thread.
    assert!(matches!(open("net_null41").err(), Some(OpenError::Unsupported(_))));
    drop(first);
    open("net_null41").expect("a port");
}
