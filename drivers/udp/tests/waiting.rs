//! A device's descriptor wakes who waits for it.

mod devices;

use std::time::{Duration, Instant};

use devices::*;
use driver_udp::Path;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use unet::device::Datagrams;

by_both_paths!(
    an_armed_device_is_readable_when_something_arrives,
    an_armed_device_is_not_readable_for_nothing,
    what_had_arrived_before_is_not_waited_for,
    a_device_of_a_thread_that_has_ended_rests,
);

fn is_readable(device: &dyn Datagrams, within: Duration) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(device.as_fd(), PollFlags::IN)];
    let within = Timespec::try_from(within).unwrap();
    poll(&mut fds, Some(&within)).unwrap() > 0
}

fn an_armed_device_is_readable_when_something_arrives(path: Path) {
    let (mut a, mut b, to) = pair(V4, options(path));
    for round in 0..20_u8 {
        assert!(receive_all(&mut *b).is_empty());
        assert!(b.arm().unwrap(), "nothing is there");
        assert!(b.arm().unwrap(), "nor the second time");
        let sender = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(10));
            assert_eq!(send(&mut *a, to, &[&[round]]), 0);
            a
        });
        // Whom nobody woke finds it at the end of the time.
        let begin = Instant::now();
        assert!(is_readable(&*b, Duration::from_secs(20)));
        assert!(begin.elapsed() < Duration::from_secs(10), "nobody was woken");
        assert_eq!(payloads(&receive(&mut *b, 1)), [&[round]]);
        a = sender.join().unwrap();
    }
}

fn an_armed_device_is_not_readable_for_nothing(path: Path) {
    let (_a, mut b, _to) = pair(V4, options(path));
    assert!(b.arm().unwrap());
    assert!(!is_readable(&*b, Duration::from_millis(50)));
}

fn what_had_arrived_before_is_not_waited_for(path: Path) {
    let (mut a, mut b, to) = pair(V4, options(path));
    assert_eq!(send(&mut *a, to, &[b"x"]), 0);
    let wait = b.arm().unwrap();
    assert!(!wait || is_readable(&*b, Duration::from_secs(2)));
    assert_eq!(receive(&mut *b, 1).len(), 1);
}

fn a_device_of_a_thread_that_has_ended_rests(path: Path) {
    let (mut a, mut b, to) =
        std::thread::spawn(move || pair(V4, options(path))).join().expect("two devices");
    let mut vain = 0;
    while !b.arm().unwrap() || is_readable(&*b, Duration::from_millis(10)) {
        assert!(receive_all(&mut *b).is_empty());
        vain += 1;
        assert!(vain < 5, "nothing is there, and the device says that something is");
    }
    assert_eq!(send(&mut *a, to, &[b"x"]), 0);
    assert!(is_readable(&*b, Duration::from_secs(2)));
    assert_eq!(receive(&mut *b, 1).len(), 1);
}
