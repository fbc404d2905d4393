//! What two honest sides can expect of a channel.

use std::time::Duration;

use unet::{
    Address, Channel, ConnectOptions, Endpoint, EndpointOptions, Event, ListenOptions, Message,
    Wait,
};

fn address(test: &str) -> Address {
    format!("shm:test-{test}-{}", std::process::id()).parse().expect("the name is valid")
}

fn options(wait: Wait) -> EndpointOptions {
    EndpointOptions { wait, ..EndpointOptions::default() }
}

/// Sends bytes: in one buffer if there is one as large, else in adjacent ones where they fill them, and
/// in a part for each where they do not.
fn send(channel: &mut Channel, bytes: &[u8]) {
    let largest = channel.with_pool(|pool| pool.largest());
    if bytes.len() <= largest {
        return channel.send(bytes).expect("the peer is there");
    }
    let mut message = Message::new();
    if bytes.len().is_multiple_of(largest) {
        let fill = |room: &mut [u8]| room.copy_from_slice(bytes);
        message = channel.message(0, bytes.len(), fill).expect("buffers are free");
        assert_eq!(message.parts().len(), 1);
    } else {
        for piece in bytes.chunks(largest) {
            let mut fbuf = channel.alloc(piece.len()).expect("one is free");
            fbuf.copy_from_slice(piece);
            message.append(fbuf.into());
        }
        assert!(message.parts().len() > 3, "more parts than a slot names");
    }
    channel.send_message(0, message, b"").expect("the peer is there");
}

/// Accepts everyone and echoes every message until all channels are closed again.
fn echo(address: Address, wait: Wait, ready: std::sync::mpsc::Sender<()>) {
    let mut endpoint = Endpoint::new(options(wait)).expect("an endpoint");
    endpoint.listen(&address, ListenOptions::default()).expect("the name is free");
    ready.send(()).expect("the test waits");
    loop {
        match endpoint.recv_timeout(Duration::from_secs(10)).expect("something happens") {
            Event::Incoming(incoming) => drop(endpoint.accept(incoming, b"hi").expect("accepted")),
            Event::Message(id, message) => {
                let channel = endpoint.channel_mut(id).expect("it just spoke");
                send(channel, &message.to_vec().expect("nothing was revoked"));
            }
            Event::Closed(..) if endpoint.channels() == 0 => return,
            Event::Closed(..) => {}
            other => panic!("not to happen: {other:?}"),
        }
    }
}

fn with_echo(test: &str, wait: Wait, client: impl FnOnce(Address)) {
    let address = address(test);
    let (ready, is_ready) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let server = address.clone();
        scope.spawn(move || echo(server, wait, ready));
        is_ready.recv().expect("the server starts");
        client(address);
    });
}

fn connect(address: &Address, wait: Wait) -> Channel {
    let mut options = ConnectOptions::default();
    options.channel.wait = wait;
    Channel::connect(address, options).expect("connected")
}

#[test]
fn messages_of_every_size_come_back_whole() {
    for wait in [Wait::Spin, Wait::Adaptive, Wait::Park] {
        with_echo("sizes", wait, |address| {
            let mut channel = connect(&address, wait);
            assert_eq!(channel.private(), b"hi");
            for len in [0, 1, 7, 8, 9, 55, 56, 57, 4096, 4097, 65_536, 1 << 20, 15 << 20, 16 << 20]
            {
                let sent: Vec<u8> = (0..len).map(|at| (at * 7 + len) as u8).collect();
                send(&mut channel, &sent);
                let received =
                    channel.recv().expect("received").to_vec().expect("nothing was revoked");
                assert!(received == sent, "{len} bytes by {wait:?}");
            }
        });
    }
}

#[test]
fn every_wait_strategy_survives_many_round_trips() {
    for wait in [Wait::Spin, Wait::Adaptive, Wait::Park] {
        with_echo("trips", wait, |address| {
            let mut channel = connect(&address, wait);
            for number in 0..5_000u64 {
                channel.send(&number.to_ne_bytes()).expect("sent");
                assert_eq!(channel.recv().expect("received").inline(), number.to_ne_bytes());
            }
        });
    }
}
