//! Datagrams get there: whole, in order, from where they say.

mod devices;

use std::net::UdpSocket;

use devices::*;
use driver_udp::{Path, UdpOptions};
use unet::device::{Count, Mode};

by_both_paths!(
    a_datagram_goes_there_and_back,
    a_datagram_goes_there_and_back_over_ipv6,
    a_burst_stays_in_order,
    the_sender_is_who_sent_it,
    an_empty_datagram_is_one,
    the_largest_datagram_fits,
    a_byte_too_long_is_counted,
    a_datagram_longer_than_a_buffer_is_dropped,
    the_mode_says_which_path_it_is,
    every_datagram_is_accounted_for_when_the_receiver_is_slow,
    all_buffers_are_there_after_a_million_datagrams,
);

fn there_and_back(at: &str, path: Path) {
    let (mut a, mut b, to_b) = pair(at, options(path));
    let to_a = b.open(a.local()).unwrap();
    for round in 0..100_u32 {
        assert_eq!(send(&mut *a, to_b, &[&round.to_be_bytes()]), 0);
        let there = receive(&mut *b, 1);
        assert_eq!((payloads(&there), there[0].from), (vec![&round.to_be_bytes()[..]], a.local()));
        assert_eq!(send(&mut *b, to_a, &[&there[0].piece.bytes]), 0);
        let back = receive(&mut *a, 1);
        assert_eq!((payloads(&back), back[0].from), (vec![&round.to_be_bytes()[..]], b.local()));
    }
    let counted = a.statistics();
    assert_eq!((counted[Count::Sent], counted[Count::SentBytes]), (100, 400));
    assert_eq!((counted[Count::Received], counted[Count::ReceivedBytes]), (100, 400));
    assert_eq!(counted.sum(&Count::DROPPED) + counted.sum(&Count::NOT_SENT), 0);
}

fn a_datagram_goes_there_and_back(path: Path) {
    there_and_back(V4, path);
}

fn a_datagram_goes_there_and_back_over_ipv6(path: Path) {
    there_and_back(V6, path);
}

fn a_burst_stays_in_order(path: Path) {
    let (mut a, mut b, to) = pair(V4, UdpOptions { buffers: 256, ..options(path) });
    for size in [2, 31, 32, 33, 64, 100] {
        let numbers: Vec<[u8; 4]> = (0..size as u32).map(u32::to_be_bytes).collect();
        let burst: Vec<&[u8]> = numbers.iter().map(|number| &number[..]).collect();
        assert_eq!(send(&mut *a, to, &burst), 0);
        assert_eq!(payloads(&receive(&mut *b, size)), burst);
    }
}

fn the_sender_is_who_sent_it(path: Path) {
    let mut device = open(V4, options(path));
    let others: Vec<UdpSocket> = (0..5).map(|_| UdpSocket::bind(V4).unwrap()).collect();
    for (number, other) in others.iter().enumerate() {
        other.send_to(&[number as u8], device.local()).unwrap();
    }
    let received = receive(&mut *device, 5);
    for (number, other) in others.iter().enumerate() {
        assert_eq!(received[number].from, other.local_addr().unwrap());
        assert_eq!(received[number].piece.bytes[..], [number as u8]);
    }
}

fn an_empty_datagram_is_one(path: Path) {
    let (mut a, mut b, to) = pair(V4, options(path));
    assert_eq!(send(&mut *a, to, &[b""]), 0);
    assert_eq!(send(&mut *a, to, &[b"", b"", b"x"]), 0);
    assert_eq!(payloads(&receive(&mut *b, 4)), [&b""[..], b"", b"", b"x"]);
}

fn the_largest_datagram_fits(path: Path) {
    for (at, largest) in [(V4, 65507), (V6, 65488)] {
        // Over IPv6 the loopback interface itself is the limit.
        let options = UdpOptions { buffer_bytes: 65600, ..options(path) };
        let (mut a, mut b, to) = pair(at, options);
        assert_eq!(a.max_payload(to), largest);
        let payload: Vec<u8> = (0..largest).map(|at| at as u8).collect();
        assert_eq!(send(&mut *a, to, &[&payload]), 0);
        assert_eq!(payloads(&receive(&mut *b, 1)), [&payload[..]]);
    }
    let (mut a, mut b, to) = pair(V4, options(path));
    let payload = vec![7; a.max_payload(to)];
    assert_eq!(a.max_payload(to), a.capabilities().mtu);
    assert_eq!(send(&mut *a, to, &[&payload]), 0);
    assert_eq!(payloads(&receive(&mut *b, 1)), [&payload[..]]);
}

fn a_byte_too_long_is_counted(path: Path) {
    let options = UdpOptions { buffer_bytes: 65600, ..options(path) };
    let (mut a, mut b, to) = pair(V4, options);
    let payload = vec![7; a.max_payload(to) + 1];
    assert_eq!(send(&mut *a, to, &[&payload]), 0);
    assert_eq!(send(&mut *a, to, &[b"before", &payload, b"behind"]), 0);
    assert_eq!(payloads(&receive(&mut *b, 2)), [&b"before"[..], b"behind"]);
    assert_eq!((count(&mut *a, Count::TooLong), count(&mut *a, Count::Sent)), (2, 2));
}

fn a_datagram_longer_than_a_buffer_is_dropped(path: Path) {
    let mut device = open(V4, UdpOptions { buffer_bytes: 512, ..options(path) });
    let mtu = device.capabilities().mtu;
    let other = UdpSocket::bind(V4).unwrap();
    for len in [mtu + 1, mtu, 4000, 1] {
        other.send_to(&vec![1; len], device.local()).unwrap();
    }
    let received = receive(&mut *device, 2);
    assert_eq!(payloads(&received).iter().map(|it| it.len()).collect::<Vec<_>>(), [mtu, 1]);
    assert_eq!(count(&mut *device, Count::Truncated), 2);
    drop(received);
    assert_eq!(in_stock(&mut *device), device.capabilities().stock);
}

fn the_mode_says_which_path_it_is(path: Path) {
    let capabilities = open(V4, options(path)).capabilities();
    let mode = if path == Path::Sockets { Mode::Sockets } else { Mode::IoUring };
    assert_eq!((capabilities.mode, capabilities.pieces), (mode, 1));
    assert!(capabilities.mtu <= capabilities.piece_bytes && capabilities.mtu > 1900);
}

fn every_datagram_is_accounted_for_when_the_receiver_is_slow(path: Path) {
    const SENT: usize = 20_000;
    let receiving = UdpOptions { receive_bytes: Some(100_000), ..options(path) };
    let (mut a, mut b) = (open(V4, options(path)), open(V4, receiving));
    let to = a.open(b.local()).unwrap();
    for number in 0..SENT / 20 {
        let left = send(&mut *a, to, &[&[number as u8; 200][..]; 20]);
        assert_eq!(left, 0, "the loopback interface has room");
    }
    let received = {
        let (mut total, mut batch) = (0, receive_all(&mut *b));
        while !batch.is_empty() {
            total += batch.len();
            drop(batch);
            batch = receive_all(&mut *b);
        }
        total
    };
    let (counted, sent) = (b.statistics(), count(&mut *a, Count::Sent));
    assert_eq!((sent, counted[Count::Received]), (SENT as u64, received as u64));
    assert!(counted[Count::QueueFull] > 0, "the queue was to overflow");
    assert_eq!(sent, counted[Count::Received] + counted.sum(&Count::DROPPED));
}

fn all_buffers_are_there_after_a_million_datagrams(path: Path) {
    const ROUNDS: usize = 1_000_000 / 32;
    let (mut a, mut b, to) = pair(V4, options(path));
    let mut queue = std::collections::VecDeque::new();
    let mut received = Vec::new();
    let (mut taken, mut sent) = (0_u64, 0_u64);
    for round in 0..ROUNDS {
        while queue.len() < 32 {
            let Ok(buffer) = a.pool().alloc(64) else { break };
            let piece = unet::device::Piece::whole(buffer.freeze());
            queue.push_back(unet::device::Outgoing { to, piece });
        }
        let before = queue.len();
        a.transmit(&mut queue).unwrap();
        sent += (before - queue.len()) as u64;
        b.receive(&mut received).unwrap();
        taken += received.len() as u64;
        // Some are given back the short way, some by being dropped.
        for datagram in received.drain(..) {
            if round % 2 == 0 {
                b.pool().recycle(datagram.piece.bytes.freeze());
            }
        }
    }
    drop(queue);
    let mut last = receive_all(&mut *b);
    while !last.is_empty() {
        taken += last.len() as u64;
        drop(last);
        last = receive_all(&mut *b);
    }
    let counted = b.statistics();
    assert_eq!((count(&mut *a, Count::Sent), counted[Count::Received]), (sent, taken));
    assert_eq!(sent, taken + counted.sum(&Count::DROPPED));
    assert_eq!(counted[Count::Fault], 0);
    for device in [&mut a, &mut b] {
        assert_eq!(in_stock(&mut **device), device.capabilities().stock);
    }
}
