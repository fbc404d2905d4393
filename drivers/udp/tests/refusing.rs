//! What is handed over wrongly, what is missing, and what fails.

mod devices;

use std::collections::VecDeque;
use std::net::UdpSocket;

use devices::*;
use driver_udp::{Path, UdpOptions};
use unet::device::{Count, DeviceError, OpenError};

by_both_paths!(
    a_buffer_of_another_pool_is_dropped,
    a_datagram_in_pieces_is_dropped_once,
    a_closed_destination_gets_nothing,
    a_destination_of_the_other_family_is_unreachable,
    a_port_that_nobody_has_does_not_stop_the_device,
    a_receiver_without_buffers_goes_on_when_it_has_some,
    a_long_queue_is_sent_in_order,
    a_port_in_use_is_refused,
    a_port_is_free_when_the_device_is_dropped,
    a_device_goes_on_in_another_thread,
    a_device_goes_on_when_its_thread_has_ended,
);

fn a_buffer_of_another_pool_is_dropped(path: Path) {
    let (mut a, mut b, to) = pair(V4, options(path));
    let mut queue: VecDeque<_> =
        [outgoing(&mut *a, to, b"1"), outgoing(&mut *b, to, b"2"), outgoing(&mut *a, to, b"3")]
            .into();
    a.transmit(&mut queue).unwrap();
    queue.push_back(outgoing(&mut *b, to, b"4"));
    a.transmit(&mut queue).unwrap();
    assert!(queue.is_empty());
    assert_eq!(payloads(&receive(&mut *b, 2)), [b"1", b"3"]);
    assert_eq!((count(&mut *a, Count::Malformed), count(&mut *a, Count::Sent)), (2, 2));
    assert_eq!(in_stock(&mut *b), b.capabilities().stock);
}

fn a_datagram_in_pieces_is_dropped_once(path: Path) {
    let (mut a, mut b, to) = pair(V4, options(path));
    let mut queue: VecDeque<_> =
        [b"1", b"2", b"3", b"4"].iter().map(|it| outgoing(&mut *a, to, &it[..])).collect();
    queue[1].piece.more = true;
    a.transmit(&mut queue).unwrap();
    // Parted between two bursts.
    queue.push_back(outgoing(&mut *a, to, b"5"));
    queue[0].piece.more = true;
    a.transmit(&mut queue).unwrap();
    let pieces = [b"6", b"7"].map(|it| outgoing(&mut *a, to, it));
    queue.extend(pieces);
    a.transmit(&mut queue).unwrap();
    assert_eq!(payloads(&receive(&mut *b, 3)), [b"1", b"4", b"7"]);
    assert_eq!(count(&mut *a, Count::Malformed), 2);
}

fn a_closed_destination_gets_nothing(path: Path) {
    let (mut a, mut b, to) = pair(V4, options(path));
    a.close(to);
    let again = a.open(b.local()).unwrap();
    assert_eq!((a.max_payload(to), a.max_payload(again) > 0), (0, true));
    assert_eq!(send(&mut *a, to, &[b"old"]), 0);
    assert_eq!(send(&mut *a, again, &[b"new"]), 0);
    assert_eq!(payloads(&receive(&mut *b, 1)), [b"new"]);
    assert_eq!(count(&mut *a, Count::Unresolved), 1);
}

fn a_destination_of_the_other_family_is_unreachable(path: Path) {
    let mut device = open(V4, options(path));
    assert_eq!(device.open(address("[::1]:9")), Err(DeviceError::Unreachable));
    let mut device = open(V6, options(path));
    assert_eq!(device.open(address("127.0.0.1:9")), Err(DeviceError::Unreachable));
}

fn a_port_that_nobody_has_does_not_stop_the_device(path: Path) {
    let (mut a, b, to) = pair(V4, options(path));
    let (port, other) = (b.local(), UdpSocket::bind(V4).unwrap());
    drop(b);
    for _ in 0..50 {
        assert_eq!(send(&mut *a, to, &[b"lost"]), 0);
        assert_eq!(send(&mut *a, to, &[b"lost", b"lost"]), 0);
        assert!(receive_all(&mut *a).is_empty());
    }
    other.send_to(b"hello", a.local()).unwrap();
    assert_eq!(payloads(&receive(&mut *a, 1)), [b"hello"]);
    let mut b = open(&port.to_string(), options(path));
    assert_eq!(send(&mut *a, to, &[b"found"]), 0);
    assert_eq!(payloads(&receive(&mut *b, 1)), [b"found"]);
    let counted = a.statistics();
    assert_eq!(counted[Count::Sent] + counted[Count::Failed], 151);
}

fn a_receiver_without_buffers_goes_on_when_it_has_some(path: Path) {
    const SENT: u32 = 200;
    let (mut a, mut b, to) = pair(V4, UdpOptions { buffers: 32, ..options(path) });
    let mut next = 0_u32;
    for _ in 0..SENT / 8 {
        let numbers: Vec<[u8; 4]> = (next..next + 8).map(u32::to_be_bytes).collect();
        next += 8;
        let burst: Vec<&[u8]> = numbers.iter().map(|it| &it[..]).collect();
        assert_eq!(send(&mut *a, to, &burst), 0);
    }
    let mut held = receive(&mut *b, 32);
    assert_eq!(held.len(), 32, "every buffer of the pool");
    let more = receive_all(&mut *b);
    assert!(more.is_empty(), "there is none left to receive into");
    let mut numbers = Vec::new();
    while !held.is_empty() {
        let read = |it: &unet::device::Received| {
            u32::from_be_bytes(it.piece.bytes[..4].try_into().unwrap())
        };
        numbers.extend(held.iter().map(read));
        drop(held);
        held = receive_all(&mut *b);
    }
    assert_eq!(numbers, (0..SENT).collect::<Vec<_>>(), "they waited in the socket, in order");
    let counted = b.statistics();
    assert_eq!((counted[Count::Received], counted.sum(&Count::DROPPED)), (200, 0));
    assert_eq!(in_stock(&mut *b), b.capabilities().stock);
}

fn a_long_queue_is_sent_in_order(path: Path) {
    let (mut a, mut b, to) = pair(V4, UdpOptions { buffers: 256, ..options(path) });
    let mut queue: VecDeque<_> =
        (0..120_u32).map(|it| outgoing(&mut *a, to, &it.to_be_bytes())).collect();
    // A foreign one in the middle breaks the burst, and nothing else.
    queue.insert(50, outgoing(&mut *b, to, b"foreign"));
    a.transmit(&mut queue).unwrap();
    assert!(queue.is_empty());
    let received = receive(&mut *b, 120);
    let numbers =
        payloads(&received).into_iter().map(|it| u32::from_be_bytes(it.try_into().unwrap()));
    assert!(numbers.eq(0..120));
}

fn a_port_in_use_is_refused(path: Path) {
    let device = open(V4, options(path));
    let again = driver_udp::open(device.local(), options(path)).err();
    assert_eq!(again, Some(OpenError::AddressInUse));
    let foreign = driver_udp::open(address("192.0.2.1:0"), options(path)).err();
    assert_eq!(foreign, Some(OpenError::AddressInUse));
}

fn a_port_is_free_when_the_device_is_dropped(path: Path) {
    let (mut a, b, to) = pair(V4, options(path));
    let port = b.local();
    let mut b = Some(b);
    for _ in 0..50 {
        // With what has arrived unread, what was read in hand, and what was sent just now.
        assert_eq!(send(&mut *a, to, &[&b"x"[..]; 32]), 0);
        let mut device = b.take().unwrap();
        let held = receive(&mut *device, 1);
        let to_a = device.open(a.local()).unwrap();
        assert_eq!(send(&mut *device, to_a, &[&b"y"[..]; 32]), 0);
        drop(device);
        assert_eq!(held[0].piece.bytes[..], *b"x", "it outlives its device");
        b = Some(open(&port.to_string(), options(path)));
    }
}

fn a_device_goes_on_in_another_thread(path: Path) {
    let (mut a, mut b, to) = pair(V4, options(path));
    for round in 0..10_u8 {
        // The thread that it came from lives on, and does nothing.
        b = std::thread::spawn(move || {
            let received = receive(&mut *b, 0);
            assert!(received.is_empty());
            b
        })
        .join()
        .unwrap();
        assert_eq!(send(&mut *a, to, &[&[round]]), 0);
        assert_eq!(payloads(&receive(&mut *b, 1)), [&[round]]);
    }
    let (give, take) = std::sync::mpsc::channel::<Box<dyn unet::device::Datagrams>>();
    let other = std::thread::spawn(move || {
        let mut b = take.recv().unwrap();
        payloads(&receive(&mut *b, 1)).concat()
    });
    let port = b.local();
    give.send(b).unwrap();
    assert_eq!(send(&mut *a, to, &[b"there"]), 0);
    // It is dropped there, while this thread, to which the kernel owes what it does for it, sleeps.
    assert_eq!(other.join().unwrap(), b"there");
    b = open(&port.to_string(), options(path));
    assert_eq!(send(&mut *a, to, &[b"again"]), 0);
    assert_eq!(payloads(&receive(&mut *b, 1)), [b"again"]);
}

fn a_device_goes_on_when_its_thread_has_ended(path: Path) {
    let (mut a, to, mut b) = std::thread::spawn(move || {
        let (a, mut b, to) = pair(V4, options(path));
        assert!(receive_all(&mut *b).is_empty());
        (a, to, b)
    })
    .join()
    .unwrap();
    assert_eq!(send(&mut *a, to, &[&b"x"[..]; 20]), 0);
    assert_eq!(receive(&mut *b, 20).len(), 20);
}
