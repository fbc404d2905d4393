//! The device of a client, which knows its server when it is opened.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use driver_udp::Udp;
use unet::device::{Datagrams, Destination, Driver, Opening, Outgoing, Piece, Received};

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;

fn open(server: SocketAddr) -> Box<dyn Datagrams> {
    let (local, options, buffers) = (None, &[][..], 64);
    let remote = Some(server);
    let opening = Opening { device: "", local, port: 0, remote, options, buffers };
    Udp::new().open(&opening).expect("a device")
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind((HERE, 0)).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    socket
}

fn at(socket: &UdpSocket) -> SocketAddr {
    socket.local_addr().expect("it is bound")
}

fn send(device: &mut dyn Datagrams, to: Destination, bytes: &[&[u8]]) {
    let mut queue = VecDeque::new();
    for bytes in bytes {
        let mut buffer = device.pool().alloc(bytes.len()).expect("buffers are free");
        buffer.copy_from_slice(bytes);
        queue.push_back(Outgoing { to, piece: Piece::whole(buffer.freeze()) });
    }
    device.transmit(&mut queue).expect("the device carries");
    assert!(queue.is_empty());
}

/// What comes within a moment, as bytes and senders; as soon as there are so many.
fn receive(device: &mut dyn Datagrams, most: usize) -> Vec<(Vec<u8>, SocketAddr)> {
    let begun = Instant::now();
    let mut all: Vec<Received> = Vec::new();
    while all.len() < most && begun.elapsed() < Duration::from_millis(300) {
        device.receive(&mut all).expect("the device carries");
    }
    all.into_iter().map(|one| (one.piece.bytes.to_vec(), one.from)).collect()
}

/// Where the device is reached from this host.
fn reached(device: &dyn Datagrams) -> SocketAddr {
    (HERE, device.local().port()).into()
}

#[test]
fn a_client_with_one_server_hears_nobody_else() {
    let (server, stranger) = (socket(), socket());
    let mut device = open(at(&server));
    let to = device.open(at(&server)).expect("a destination");
    send(&mut *device, to, &[b"one", b"two"]);
    let mut bytes = [0; 8];
    for expected in [&b"one"[..], b"two"] {
        let (len, from) = server.recv_from(&mut bytes).expect("it comes");
        assert_eq!((&bytes[..len], from), (expected, reached(&*device)));
    }
    stranger.send_to(b"bad", reached(&*device)).expect("it is sent");
    server.send_to(b"good", reached(&*device)).expect("it is sent");
    assert_eq!(receive(&mut *device, 2), [(b"good".to_vec(), at(&server))]);
}

#[test]
fn with_a_second_server_it_hears_both_and_keeps_its_port() {
    let (first, second) = (socket(), socket());
    let mut device = open(at(&first));
    let to_first = device.open(at(&first)).expect("a destination");
    send(&mut *device, to_first, &[b"before"]);
    let before = reached(&*device);
    let to_second = device.open(at(&second)).expect("a destination");
    let mut bytes = [0; 8];
    assert_eq!(first.recv_from(&mut bytes).expect("it comes").1, before);
    for (server, to) in [(&first, to_first), (&second, to_second)] {
        send(&mut *device, to, &[b"after"]);
        assert_eq!(server.recv_from(&mut bytes).expect("it comes"), (5, before));
        server.send_to(b"back", before).expect("it is sent");
    }
    let mut heard: Vec<_> = receive(&mut *device, 2).into_iter().map(|(_, from)| from).collect();
    heard.sort();
    let mut both = [at(&first), at(&second)];
    both.sort();
    assert_eq!(heard, both);
}

#[test]
fn another_server_after_the_first_is_the_one_that_is_heard() {
    let (first, second) = (socket(), socket());
    let mut device = open(at(&first));
    let to = device.open(at(&first)).expect("a destination");
    device.close(to);
    let to = device.open(at(&second)).expect("a destination");
    send(&mut *device, to, &[b"hello"]);
    let mut bytes = [0; 8];
    let (_, from) = second.recv_from(&mut bytes).expect("it comes");
    first.send_to(b"late", from).expect("it is sent");
    second.send_to(b"back", from).expect("it is sent");
    assert_eq!(receive(&mut *device, 2), [(b"back".to_vec(), at(&second))]);
}

#[test]
fn what_came_back_about_an_earlier_datagram_costs_no_later_one() {
    let gone = at(&socket());
    let mut device = open(gone);
    let to = device.open(gone).expect("a destination");
    send(&mut *device, to, &[b"lost"]);
    let server = UdpSocket::bind(gone).expect("the port is free again");
    server.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    send(&mut *device, to, &[b"one"]);
    send(&mut *device, to, &[b"two", b"three"]);
    let mut bytes = [0; 8];
    for expected in [&b"one"[..], b"two", b"three"] {
        let len = server.recv(&mut bytes).expect("it comes");
        assert_eq!(&bytes[..len], expected);
    }
}

#[test]
fn what_comes_back_about_a_datagram_does_not_count_it_twice() {
    let gone = at(&socket());
    let mut device = open(gone);
    let to = device.open(gone).expect("a destination");
    for _ in 0..5 {
        send(&mut *device, to, &[b"lost"]);
        assert_eq!(receive(&mut *device, 1), []);
    }
    let counted: Vec<_> = device.statistics().iter().filter(|(name, _)| *name != "kicks").collect();
    assert_eq!(counted, [("sent", 5), ("sent-bytes", 20)]);
}
