//! The only destination of a device has a socket of its own: nobody hears less for it.

mod devices;

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use devices::*;
use driver_udp::{Path, UdpOptions};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, sockopt};
use unet::device::{Count, Datagrams, Destination, Received};

by_both_paths!(
    a_socket_of_its_own_is_for_the_only_destination,
    a_peer_is_heard_in_order_before_during_and_after,
    what_waits_when_the_destination_is_closed_is_received,
    another_peer_is_served_while_the_favoured_one_floods,
    the_favoured_one_is_served_while_another_peer_floods,
    a_stranger_is_heard_while_the_favoured_one_floods,
    nobody_can_share_the_port,
    a_favoured_peer_that_is_gone_and_back_misses_nothing,
    both_sockets_wake_who_waits,
    a_socket_that_comes_while_somebody_waits_wakes_too,
    what_the_kernel_drops_before_either_socket_is_counted,
    a_device_can_be_its_own_only_destination,
    a_favoured_peer_may_say_nothing_much_or_too_much,
);

/// Every kind of local address, and where it is reached.
const PLACES: [(&str, &str); 4] =
    [(V4, "127.0.0.1"), (V6, "::1"), ("0.0.0.0:0", "127.0.0.1"), ("[::]:0", "::1")];

/// A plain socket that speaks to a device, and the device's way back.
fn peer(device: &mut dyn Datagrams, host: &str) -> (UdpSocket, Destination) {
    let socket = stranger(device, host);
    let to = device.open(socket.local_addr().unwrap()).unwrap();
    (socket, to)
}

fn stranger(device: &dyn Datagrams, host: &str) -> UdpSocket {
    let socket = UdpSocket::bind((host, 0)).unwrap();
    socket.connect((host, device.local().port())).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

/// A device with a favoured peer.
fn favouring(at: &str, host: &str, options: UdpOptions) -> (Box<dyn Datagrams>, UdpSocket) {
    let mut device = open(at, options);
    let (socket, _) = peer(&mut *device, host);
    device.maintain().unwrap();
    assert_eq!(sockets_at(device.local()), 2);
    (device, socket)
}

fn say(socket: &UdpSocket, number: u32) {
    socket.send(&number.to_be_bytes()).unwrap();
}

fn number(received: &Received) -> u32 {
    u32::from_be_bytes(received.piece.bytes[..4].try_into().unwrap())
}

fn numbers(device: &mut dyn Datagrams, count: usize) -> Vec<u32> {
    receive(device, count).iter().map(number).collect()
}

/// It has the second socket, or gives it up, when nothing waits.
fn until_sockets(device: &mut dyn Datagrams, count: usize) {
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        assert!(receive_all(device).is_empty());
        device.maintain().unwrap();
        assert!(receive_all(device).is_empty());
        if sockets_at(device.local()) == count {
            return;
        }
        assert!(Instant::now() < end, "it does not have {count}");
    }
}

fn a_socket_of_its_own_is_for_the_only_destination(path: Path) {
    for (at, host) in PLACES {
        let mut device = open(at, options(path));
        until_sockets(&mut *device, 1);
        let (first, to_first) = peer(&mut *device, host);
        until_sockets(&mut *device, 2);
        let (second, to_second) = peer(&mut *device, host);
        until_sockets(&mut *device, 1);
        device.close(to_first);
        until_sockets(&mut *device, 2);
        device.close(to_second);
        until_sockets(&mut *device, 1);
        assert_eq!(in_stock(&mut *device), device.capabilities().stock, "{at}");
        drop((first, second));
    }
}

fn a_peer_is_heard_in_order_before_during_and_after(path: Path) {
    for (at, host) in PLACES {
        let mut device = open(at, options(path));
        let (socket, to) = peer(&mut *device, host);
        let mut buffer = [0; 8];
        let mut next = 0;
        for _ in 0..5 {
            // What waits when it becomes the favoured one, and when it ceases to be.
            let mut all = Vec::new();
            let start = next;
            for _ in 0..4 {
                for _ in 0..8 {
                    say(&socket, next);
                    next += 1;
                }
                device.maintain().unwrap();
            }
            all.extend(numbers(&mut *device, 32));
            until_sockets(&mut *device, 2);
            let other = device.open(socket.local_addr().unwrap()).unwrap();
            for _ in 0..4 {
                for _ in 0..8 {
                    say(&socket, next);
                    next += 1;
                }
                device.maintain().unwrap();
            }
            assert_eq!(send(&mut *device, to, &[b"one"]), 0);
            assert_eq!(send(&mut *device, other, &[b"two", b"three"]), 0);
            for expected in [&b"one"[..], b"two", b"three"] {
                let len = socket.recv(&mut buffer).unwrap();
                assert_eq!(&buffer[..len], expected);
            }
            all.extend(numbers(&mut *device, 32));
            assert_eq!(all, (start..next).collect::<Vec<_>>(), "{at}");
            until_sockets(&mut *device, 1);
            device.close(other);
        }
        assert_eq!(in_stock(&mut *device), device.capabilities().stock);
        assert_eq!(device.statistics().sum(&Count::DROPPED), 0);
    }
}

fn what_waits_when_the_destination_is_closed_is_received(path: Path) {
    let mut device = open(V4, options(path));
    let (socket, to) = peer(&mut *device, "127.0.0.1");
    until_sockets(&mut *device, 2);
    (0..100).for_each(|number| say(&socket, number));
    device.close(to);
    device.maintain().unwrap();
    (100..200).for_each(|number| say(&socket, number));
    device.maintain().unwrap();
    // More than there are buffers for.
    let mut all = Vec::new();
    while all.len() < 200 {
        let more = numbers(&mut *device, 1);
        assert!(!more.is_empty(), "{} came", all.len());
        all.extend(more);
    }
    assert_eq!(all, (0..200).collect::<Vec<_>>());
    until_sockets(&mut *device, 1);
    assert_eq!(in_stock(&mut *device), device.capabilities().stock);
}

/// How many of the one's datagrams are received before all twenty of the other's.
fn flooded_by(device: &mut dyn Datagrams, flooding: &UdpSocket, other: &UdpSocket) -> usize {
    flooding.set_nonblocking(true).unwrap();
    (0..20).for_each(|number| say(other, number));
    let (mut received, mut before, mut next) = (Vec::new(), 0, 0);
    let end = Instant::now() + Duration::from_secs(10);
    while next < 20 {
        assert!(Instant::now() < end, "it is not heard at all");
        for _ in 0..64 {
            _ = flooding.send(b"flooding");
        }
        device.receive(&mut received).unwrap();
        for one in received.drain(..) {
            if one.from == flooding.local_addr().unwrap() {
                before += 1;
            } else {
                assert_eq!(number(&one), next);
                next += 1;
            }
        }
    }
    before
}

fn another_peer_is_served_while_the_favoured_one_floods(path: Path) {
    let (mut device, favoured) = favouring(V4, "127.0.0.1", options(path));
    let (other, _) = peer(&mut *device, "127.0.0.1");
    let before = flooded_by(&mut *device, &favoured, &other);
    assert!(before < 1000, "{before} came before it");
}

fn the_favoured_one_is_served_while_another_peer_floods(path: Path) {
    let (mut device, favoured) = favouring(V4, "127.0.0.1", options(path));
    let other = stranger(&*device, "127.0.0.1");
    let before = flooded_by(&mut *device, &other, &favoured);
    assert!(before < 1000, "{before} came before it");
}

fn a_stranger_is_heard_while_the_favoured_one_floods(path: Path) {
    let (mut device, favoured) = favouring(V4, "127.0.0.1", options(path));
    for _ in 0..5 {
        let new = stranger(&*device, "127.0.0.1");
        let before = flooded_by(&mut *device, &favoured, &new);
        assert!(before < 1000, "{before} came before it");
        // It becomes a peer, and is answered.
        let to = device.open(new.local_addr().unwrap()).unwrap();
        assert_eq!(send(&mut *device, to, &[b"welcome"]), 0);
        assert_eq!(new.recv(&mut [0; 8]).unwrap(), 7);
        device.close(to);
    }
}

fn nobody_can_share_the_port(path: Path) {
    for (at, host) in PLACES {
        let shares = |at: SocketAddr| {
            let v6 = at.is_ipv6();
            let family = if v6 { AddressFamily::INET6 } else { AddressFamily::INET };
            let socket = rustix::net::socket(family, SocketType::DGRAM, None).unwrap();
            sockopt::set_socket_reuseport(&socket, true).unwrap();
            sockopt::set_socket_reuseaddr(&socket, true).unwrap();
            if v6 {
                sockopt::set_ipv6_v6only(&socket, true).unwrap();
            }
            rustix::net::bind(&socket, &at)
        };
        let (mut device, socket) = favouring(at, host, options(path));
        assert_eq!(shares(device.local()), Err(Errno::ADDRINUSE), "{at}");
        let other = device.open(socket.local_addr().unwrap()).unwrap();
        device.maintain().unwrap();
        assert_eq!(shares(device.local()), Err(Errno::ADDRINUSE), "{at}");
        until_sockets(&mut *device, 1);
        assert_eq!(shares(device.local()), Err(Errno::ADDRINUSE), "{at}");
        device.close(other);
        until_sockets(&mut *device, 2);
        assert_eq!(shares(device.local()), Err(Errno::ADDRINUSE), "{at}");
        let local = device.local();
        drop(device);
        assert_eq!(shares(local), Ok(()), "{at}");
    }
}

fn a_favoured_peer_that_is_gone_and_back_misses_nothing(path: Path) {
    let mut device = open(V4, options(path));
    let (socket, to) = peer(&mut *device, "127.0.0.1");
    until_sockets(&mut *device, 2);
    let at = socket.local_addr().unwrap();
    drop(socket);
    for _ in 0..3 {
        assert_eq!(send(&mut *device, to, &[b"lost"]), 0);
        assert!(receive_all(&mut *device).is_empty());
    }
    assert_eq!(send(&mut *device, to, &[b"lost"]), 0);
    let socket = UdpSocket::bind(at).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(send(&mut *device, to, &[b"one"]), 0);
    assert_eq!(send(&mut *device, to, &[b"two", b"three"]), 0);
    let mut bytes = [0; 8];
    for expected in [&b"one"[..], b"two", b"three"] {
        let len = socket.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..len], expected);
    }
    assert_eq!((count(&mut *device, Count::Sent), count(&mut *device, Count::Failed)), (7, 0));
}

fn is_readable(device: &dyn Datagrams) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(device.as_fd(), PollFlags::IN)];
    poll(&mut fds, Some(&Timespec { tv_sec: 2, tv_nsec: 0 })).unwrap() > 0
}

fn both_sockets_wake_who_waits(path: Path) {
    let (mut device, favoured) = favouring(V4, "127.0.0.1", options(path));
    let other = stranger(&*device, "127.0.0.1");
    for round in 0..40 {
        assert!(receive_all(&mut *device).is_empty());
        assert!(device.arm().unwrap(), "nothing is there");
        say(if round % 3 == 0 { &favoured } else { &other }, round);
        assert!(is_readable(&*device), "round {round}");
        // It is found by the first look.
        let mut received = Vec::new();
        device.receive(&mut received).unwrap();
        assert_eq!(received.iter().map(number).collect::<Vec<_>>(), [round]);
    }
}

fn a_socket_that_comes_while_somebody_waits_wakes_too(path: Path) {
    let mut device = open(V4, options(path));
    let (socket, _) = peer(&mut *device, "127.0.0.1");
    assert!(device.arm().unwrap());
    device.maintain().unwrap();
    assert_eq!(sockets_at(device.local()), 2);
    say(&socket, 7);
    assert!(is_readable(&*device));
    assert_eq!(numbers(&mut *device, 1), [7]);
}

fn what_the_kernel_drops_before_either_socket_is_counted(path: Path) {
    const SENT: u32 = 3000;
    let small = UdpOptions { receive_bytes: Some(20_000), buffers: 32, ..options(path) };
    let (mut device, favoured) = favouring(V4, "127.0.0.1", small);
    let other = stranger(&*device, "127.0.0.1");
    for number in 0..SENT / 2 {
        say(&favoured, number);
        say(&other, number);
    }
    let mut heard = 0;
    loop {
        let more = receive_all(&mut *device).len();
        heard += more;
        if more == 0 {
            break;
        }
    }
    let counted = device.statistics();
    assert_eq!(heard as u64 + counted[Count::QueueFull], SENT.into());
    assert!(counted[Count::QueueFull] > 0);
    // Nor is what was counted forgotten with the socket.
    let (_third, _) = peer(&mut *device, "127.0.0.1");
    until_sockets(&mut *device, 1);
    assert_eq!(count(&mut *device, Count::QueueFull), counted[Count::QueueFull]);
}

fn a_device_can_be_its_own_only_destination(path: Path) {
    let mut device = open(V4, options(path));
    let own = device.local();
    let itself = device.open(own).unwrap();
    for round in 0..20_u32 {
        device.maintain().unwrap();
        assert_eq!(send(&mut *device, itself, &[&round.to_be_bytes()]), 0);
        device.maintain().unwrap();
        assert_eq!(numbers(&mut *device, 1), [round]);
    }
    assert_eq!(sockets_at(own), 2);
}

fn a_favoured_peer_may_say_nothing_much_or_too_much(path: Path) {
    for (at, host) in PLACES {
        let (mut device, socket) = favouring(at, host, options(path));
        let from = socket.local_addr().unwrap();
        // Its names are left out from some time on; nobody else's are.
        for round in 0..4 {
            assert!(receive_all(&mut *device).is_empty());
            device.maintain().unwrap();
            let most = device.capabilities().piece_bytes;
            for len in [0, 1, 0, 0, most - 64, most + 1, 2] {
                socket.send(&vec![7; len]).unwrap();
            }
            let received = receive(&mut *device, 6);
            let lens: Vec<_> = received.iter().map(|one| one.piece.bytes.len()).collect();
            assert_eq!(lens, [0, 1, 0, 0, most - 64, 2], "{at}, round {round}");
            assert!(received.iter().all(|one| one.from == from));
            drop(received);
            let other = stranger(&*device, host);
            say(&other, round);
            let received = receive(&mut *device, 1);
            assert_eq!(received[0].from, other.local_addr().unwrap());
        }
        let counted = device.statistics();
        assert_eq!((counted[Count::Truncated], counted[Count::Fault]), (4, 0), "{at}");
        assert_eq!(in_stock(&mut *device), device.capabilities().stock);
    }
}
