//! The way to a destination changes: it becomes narrower and wider, ends, and comes back. Needs root:
//! each test has network namespaces of its own, which end with it.

mod devices;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use devices::namespace::Namespace;
use devices::*;
use driver_udp::Path;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use unet::device::{Count, Datagrams, Destination, DeviceError};

by_both_paths!(
    a_way_that_narrows_on_the_network_narrows_the_device,
    a_way_that_narrows_at_the_interface_narrows_the_device,
    an_interface_that_goes_down_comes_up_again,
    what_a_slow_interface_has_no_room_for_stays_in_the_queue,
    a_device_that_is_used_in_another_network_stays_in_its_own,
);

/// Two hosts with a router between them.
struct Network {
    a: Namespace,
    router: Namespace,
    b: Namespace,
}

fn network() -> Network {
    let (a, router, b) = (Namespace::new(), Namespace::new(), Namespace::new());
    let peer = router.pid();
    a.run(&format!("ip link add v0 type veth peer name v1 netns {peer}"));
    b.run(&format!("ip link add w1 type veth peer name w0 netns {peer}"));
    for (namespace, link, address) in [
        (&a, "v0", "10.9.1.1/24"),
        (&router, "v1", "10.9.1.2/24"),
        (&router, "w0", "10.9.2.1/24"),
        (&b, "w1", "10.9.2.2/24"),
    ] {
        namespace.run(&format!("ip addr add {address} dev {link}"));
        namespace.run(&format!("ip link set {link} up"));
    }
    router.run("sysctl -q -w net.ipv4.ip_forward=1");
    a.run("ip route add default via 10.9.1.2");
    b.run("ip route add default via 10.9.2.1");
    Network { a, router, b }
}

/// The way to a device, by the socket for everybody or by one of its own.
fn way(
    (host, a): (&Namespace, &mut dyn Datagrams),
    b: &dyn Datagrams,
    favoured: bool,
) -> Destination {
    let to = a.open(b.local()).unwrap();
    if favoured {
        host.within(|| {
            a.maintain().unwrap();
            assert_eq!(sockets_at(a.local()), 2);
        });
    }
    to
}

fn until(mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < end, "it never happened");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn a_way_that_narrows_on_the_network_narrows_the_device(path: Path) {
    for favoured in [false, true] {
        let network = network();
        let mut a = network.a.device("10.9.1.1:0", path);
        let mut b = network.b.device("10.9.2.2:0", path);
        let to = way((&network.a, &mut *a), &*b, favoured);
        assert_eq!(a.max_payload(to), 1472);
        let large = [5; 1472];
        assert_eq!(send(&mut *a, to, &[&large]), 0);
        assert_eq!(payloads(&receive(&mut *b, 1)), [&large]);

        network.router.run("ip link set w0 mtu 1300");
        // The router's word comes back for one that it dropped; the next one is not sent.
        until(|| {
            assert_eq!(send(&mut *a, to, &[&large]), 0);
            count(&mut *a, Count::TooLong) > 0
        });
        assert_eq!(a.max_payload(to), 1272);
        assert_eq!(send(&mut *a, to, &[&large[..1272]]), 0);
        assert_eq!(receive(&mut *b, 1)[0].piece.bytes.len(), 1272);

        network.router.run("ip link set w0 mtu 1500");
        network.a.run("ip route flush cache");
        a.maintain().unwrap();
        assert_eq!(a.max_payload(to), 1472);
        assert_eq!(send(&mut *a, to, &[&large]), 0);
        assert_eq!(receive(&mut *b, 1)[0].piece.bytes.len(), 1472);
    }
}

fn a_way_that_narrows_at_the_interface_narrows_the_device(path: Path) {
    for favoured in [false, true] {
        let network = network();
        let mut a = network.a.device("10.9.1.1:0", path);
        let mut b = network.b.device("10.9.2.2:0", path);
        let to = way((&network.a, &mut *a), &*b, favoured);
        network.a.run("ip link set v0 mtu 1000");
        // A burst, in the middle of which it is noticed.
        let (large, small) = ([5; 1472], [6; 972]);
        assert_eq!(send(&mut *a, to, &[&small, &large, &small, &large, &small]), 0);
        assert_eq!(payloads(&receive(&mut *b, 3)), [&small; 3]);
        assert_eq!((count(&mut *a, Count::TooLong), a.max_payload(to)), (2, 972));
        network.a.run("ip link set v0 mtu 1400");
        a.maintain().unwrap();
        assert_eq!(a.max_payload(to), 1372);
    }
}

fn an_interface_that_goes_down_comes_up_again(path: Path) {
    for favoured in [false, true] {
        let network = network();
        let mut a = network.a.device("0.0.0.0:0", path);
        let mut b = network.b.device("10.9.2.2:0", path);
        let to = way((&network.a, &mut *a), &*b, favoured);
        assert_eq!(send(&mut *a, to, &[b"1"]), 0);
        assert_eq!(payloads(&receive(&mut *b, 1)), [b"1"]);

        network.a.run("ip link set v0 down");
        assert_eq!(send(&mut *a, to, &[b"lost"]), 0);
        assert_eq!(send(&mut *a, to, &[b"lost", b"lost"]), 0);
        assert_eq!((count(&mut *a, Count::Failed), count(&mut *a, Count::Sent)), (3, 1));
        assert_eq!(a.maintain(), Err(DeviceError::Down));
        assert!(receive_all(&mut *a).is_empty());

        network.a.run("ip link set v0 up");
        network.a.run("ip route add default via 10.9.1.2");
        until(|| a.maintain().is_ok());
        assert_eq!(send(&mut *a, to, &[b"2"]), 0);
        let received = receive(&mut *b, 1);
        assert_eq!(payloads(&received), [b"2"]);
        // And the way back, which was learned from it.
        let back = b.open(received[0].from).unwrap();
        assert_eq!(send(&mut *b, back, &[b"3"]), 0);
        assert_eq!(payloads(&receive(&mut *a, 1)), [b"3"]);
    }
}

fn what_a_slow_interface_has_no_room_for_stays_in_the_queue(path: Path) {
    for favoured in [false, true] {
        const SENT: u32 = 4000;
        // What is sent from two processors, one after the other, may overtake itself in the kernel's queues,
        // of which each has its own.
        let mut one = rustix::thread::CpuSet::new();
        one.set(rustix::thread::sched_getcpu());
        rustix::thread::sched_setaffinity(None, &one).unwrap();
        let network = network();
        network.a.run("tc qdisc add dev v0 root tbf rate 80mbit burst 8k limit 50m");
        let mut a = network.a.device("10.9.1.1:0", path);
        let mut b = network.b.device("10.9.2.2:0", path);
        let to = way((&network.a, &mut *a), &*b, favoured);
        let (mut queue, mut next, mut waits) = (VecDeque::new(), 0, 0usize);
        let mut numbers = Vec::new();
        let mut received = Vec::new();
        let number = |it: unet::device::Received| {
            u32::from_be_bytes(it.piece.bytes[..4].try_into().unwrap())
        };
        let end = Instant::now() + Duration::from_secs(20);
        while numbers.len() < SENT as usize && Instant::now() < end {
            while queue.len() < 64 && next < SENT {
                let mut payload = [0; 1000];
                payload[..4].copy_from_slice(&next.to_be_bytes());
                queue.push_back(outgoing(&mut *a, to, &payload));
                next += 1;
            }
            // One, and many.
            let mut first: VecDeque<_> = queue.pop_front().into_iter().collect();
            a.transmit(&mut first).unwrap();
            first.into_iter().for_each(|one| queue.push_front(one));
            a.transmit(&mut queue).unwrap();
            if !queue.is_empty() && a.arm().unwrap() {
                waits += 1;
                let begin = Instant::now();
                let mut fds = [PollFd::from_borrowed_fd(a.as_fd(), PollFlags::IN)];
                poll(&mut fds, Some(&Timespec { tv_sec: 5, tv_nsec: 0 })).unwrap();
                assert!(
                    begin.elapsed() < Duration::from_secs(4),
                    "room came back and was not told"
                );
                a.receive(&mut received).unwrap();
                assert!(received.is_empty());
            }
            while b.receive(&mut received).is_ok() && !received.is_empty() {
                numbers.extend(received.drain(..).map(number));
            }
        }
        assert!(waits > 0, "the queue of the interface was to be full");
        // The interface's queue is emptied by whichever processor its timer runs on, beside the one that fills
        // it: now and then a packet overtakes another there, which is not the device's doing.
        let overtaken = numbers.windows(2).filter(|pair| pair[0] > pair[1]).count();
        assert!(2 * overtaken <= waits, "{overtaken} out of order in {waits} waits");
        let all: std::collections::BTreeSet<u32> = numbers.iter().copied().collect();
        assert_eq!(all.len(), numbers.len(), "none twice");
        let dropped = b.statistics().sum(&Count::DROPPED) as usize;
        let (near, far) = (a.statistics(), b.statistics());
        let arrived = (numbers.len() + dropped, next);
        assert_eq!(arrived, (SENT as usize, SENT), "favoured {favoured}: {near:?}, {far:?}");
        assert_eq!(count(&mut *a, Count::Sent), u64::from(SENT));
    }
}

fn a_device_that_is_used_in_another_network_stays_in_its_own(path: Path) {
    let network = network();
    let mut a = network.a.device("0.0.0.0:0", path);
    let mut b = network.b.device("10.9.2.2:0", path);
    let to = a.open(b.local()).unwrap();
    a.maintain().unwrap();
    let at = a.local();
    assert_eq!(network.a.within(|| sockets_at(at)), 1);
    assert_eq!(send(&mut *a, to, &[b"there"]), 0);
    let received = receive(&mut *b, 1);
    assert_eq!(payloads(&received), [b"there"]);
    let back = b.open(received[0].from).unwrap();
    assert_eq!(send(&mut *b, back, &[b"back"]), 0);
    assert_eq!(payloads(&receive(&mut *a, 1)), [b"back"]);
}
