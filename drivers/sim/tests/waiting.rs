//! Whoever sleeps on a device's descriptor is woken when a packet is due, not before, and by nothing else.

use std::time::{Duration, Instant};

use driver_sim::{DeviceOptions, Faults, HostDatagrams, Network};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use unet::device::{Datagrams, Device, Outgoing, Piece};

const DELAY: Duration = Duration::from_millis(20);
const LATE: Faults = Faults {
    loss: 0.0,
    burst: 0.0,
    recover: 0.0,
    burst_loss: 0.0,
    duplicate: 0.0,
    corrupt: 0.0,
    reorder: 0.0,
    late: Duration::ZERO,
    delay: DELAY,
    jitter: Duration::ZERO,
};

fn sleeps(device: &dyn Datagrams, at_most: Duration) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(device.as_fd(), PollFlags::IN)];
    let wait = Timespec { tv_sec: 0, tv_nsec: at_most.as_nanos() as i64 };
    poll(&mut fds, Some(&wait)).expect("it can be waited on") == 0
}

fn send(device: &mut dyn Datagrams, to: &dyn Datagrams, packets: usize) -> usize {
    let to = device.open(to.local()).expect("it is reachable");
    let mut queue: std::collections::VecDeque<_> = (0..packets)
        .map_while(|_| device.pool().alloc(100).ok())
        .map(|buffer| Outgoing { to, piece: Piece::whole(buffer.freeze()) })
        .collect();
    device.transmit(&mut queue).expect("it is up");
    queue.len()
}

/// Waits as an endpoint does, and counts the wake-ups.
fn wait_for_one(device: &mut dyn Datagrams) -> usize {
    let (deadline, mut wakes) = (Instant::now() + Duration::from_secs(5), 0);
    let mut received = Vec::new();
    while received.is_empty() && Instant::now() < deadline {
        if device.arm().expect("it is up") {
            assert!(!sleeps(device, Duration::from_millis(900)), "nobody was woken");
        }
        wakes += 1;
        device.receive(&mut received).expect("it is up");
    }
    wakes
}

fn wakes_in_time(a: &mut dyn Datagrams, b: &mut dyn Datagrams) {
    assert_eq!(b.arm(), Ok(true));
    assert!(sleeps(b, Duration::from_millis(30)), "nothing was sent");
    for armed_before in [true, false] {
        let mut woken = || {
            if armed_before {
                assert_eq!(b.arm(), Ok(true));
            }
            let began = Instant::now();
            assert_eq!(send(a, b, 1), 0);
            let wakes = wait_for_one(b);
            let took = began.elapsed();
            assert!(took >= DELAY, "{took:?}");
            assert!(wakes <= 3, "{wakes} wake-ups for one packet");
            assert_eq!(b.arm(), Ok(true));
            assert!(sleeps(b, Duration::from_millis(30)), "it was received already");
            took
        };
        // Once at least nobody else had the processor when it was due.
        let took: Vec<_> = (0..5).map(|_| woken()).collect();
        assert!(took.iter().any(|took| *took < DELAY * 10), "{took:?}");
    }
}

#[test]
fn a_device_of_this_process_wakes_its_waiter_in_time() {
    let network = Network::in_real_time(1, LATE);
    let join = |host| {
        network.datagrams(([10, 0, 0, host], 1).into(), DeviceOptions::default()).expect("free")
    };
    let (mut a, mut b) = (join(1), join(2));
    wakes_in_time(&mut a, &mut b);
}

#[test]
fn a_device_of_the_host_wakes_its_waiter_in_time() {
    let name = format!("wake-{}", std::process::id());
    let join = |host| {
        let local = ([10, 0, 0, host], 1).into();
        HostDatagrams::join(&name, local, 1, LATE, DeviceOptions::default()).expect("free")
    };
    let (mut a, mut b) = (join(1), join(2));
    wakes_in_time(&mut a, &mut b);
}

#[test]
fn a_sender_is_woken_when_there_is_room_again() {
    let network = Network::in_real_time(1, LATE);
    let options = DeviceOptions { queue: 4, ..DeviceOptions::default() };
    let join = |host| network.datagrams(([10, 0, 0, host], 1).into(), options).expect("free");
    let (mut a, b) = (join(1), join(2));
    assert_eq!(send(&mut a, &b, 10), 6);
    assert_eq!(a.arm(), Ok(true));
    assert!(sleeps(&a, Duration::from_millis(5)), "there is no room yet");
    assert!(!sleeps(&a, Duration::from_millis(900)), "nobody was woken");
    assert_eq!(a.arm(), Ok(false));
    assert_eq!(a.arm(), Ok(true), "it was said once");
}

#[test]
fn a_device_that_is_unplugged_wakes_its_waiter() {
    let network = Network::new(1, LATE);
    let mut a =
        network.datagrams(([10, 0, 0, 1], 1).into(), DeviceOptions::default()).expect("free");
    assert_eq!(a.arm(), Ok(true));
    assert!(network.unplug(a.port()));
    assert!(!sleeps(&a, Duration::from_millis(900)), "nobody was woken");
}
