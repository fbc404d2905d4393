//! Channels over real devices with as few buffers as there can be, and with what goes wrong on the way.

use std::time::{Duration, Instant};

use unet::{
    Address, Channel, ChannelId, ConnectOptions, Endpoint, EndpointOptions, Event, ListenOptions,
    NetworkOptions, Wait,
};

const LONG: Duration = Duration::from_secs(10);

fn network(buffers: usize) -> NetworkOptions {
    NetworkOptions { drivers: drivers::linked(), buffers, ..NetworkOptions::default() }
}

fn joined(address: &str, buffers: usize, wait: Wait) -> (Endpoint, ChannelId, Channel) {
    let address: Address = address.parse().expect("it is valid");
    let options = EndpointOptions { wait, ..EndpointOptions::default() };
    let mut endpoint = Endpoint::new(options).expect("an endpoint");
    let options = ListenOptions { network: network(buffers), ..ListenOptions::default() };
    endpoint.listen(&address, options).expect("the port is free");
    let mut options = ConnectOptions { network: network(buffers), ..ConnectOptions::default() };
    options.channel.wait = wait;
    let (id, channel) = std::thread::scope(|scope| {
        let client = scope.spawn(|| Channel::connect(&address, options));
        let Some(Event::Incoming(incoming)) = endpoint.recv_timeout(LONG) else { panic!("none") };
        let id = endpoint.accept(incoming, b"").expect("accepted");
        (id, client.join().expect("no panic").expect("connected"))
    });
    (endpoint, id, channel)
}

#[test]
fn messages_go_to_and_fro_however_few_buffers_are_asked_for() {
    let mut port = 47_100;
    for path in
        ["udp:127.0.0.1:{}?path=sockets", "udp:127.0.0.1:{}?path=io-uring", "sim:few@127.0.0.1:{}"]
    {
        for wait in [Wait::Park, Wait::Adaptive] {
            for buffers in [0, 1, 2, 5, 16] {
                port += 1;
                let address = path.replace("{}", &port.to_string());
                let (mut endpoint, id, mut channel) = joined(&address, buffers, wait);
                let began = Instant::now();
                for round in 0..200u32 {
                    let body = vec![round as u8; round as usize * 5];
                    channel.send_timeout(&body, LONG).expect("it goes out");
                    let Some(Event::Message(from, message)) = endpoint.recv_timeout(LONG) else {
                        panic!("{address} with {buffers}: nothing came in round {round}")
                    };
                    assert_eq!((from, message.to_vec()), (id, Ok(body.clone())));
                    drop(message);
                    let near = endpoint.channel_mut(id).expect("it is open");
                    near.send_timeout(&body, LONG).expect("it goes out");
                    let answer = channel.recv_timeout(LONG).expect("it is open");
                    let answer =
                        answer.unwrap_or_else(|| panic!("{address} with {buffers}: {round}"));
                    assert_eq!(answer.to_vec(), Ok(body));
                }
                assert!(began.elapsed() < LONG, "{address} with {buffers}: {:?}", began.elapsed());
            }
        }
    }
}

/// How long this thread has run.
fn ran() -> Duration {
    let said = std::fs::read_to_string("/proc/thread-self/schedstat").expect("it is there");
    let nanos = said.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanos.expect("a number"))
}

#[test]
fn a_thread_that_holds_every_buffer_sleeps_and_goes_on_when_they_are_back() {
    for address in ["udp:127.0.0.1:47201?path=sockets", "udp:127.0.0.1:47202?path=io-uring"] {
        let (mut endpoint, id, mut channel) = joined(address, 4, Wait::Park);
        let mut held = Vec::new();
        for _ in 0..8 {
            channel.send_timeout(&[1; 500], LONG).expect("it goes out");
            let event = endpoint.recv_timeout(Duration::from_millis(20));
            held.extend(event.and_then(|event| match event {
                Event::Message(_, message) => Some(message),
                _ => None,
            }));
        }
        assert!((1..=4).contains(&held.len()), "{}", held.len());
        let before = ran();
        assert!(endpoint.recv_timeout(Duration::from_millis(400)).is_none());
        let near = endpoint.channel_mut(id).expect("it is open");
        assert!(matches!(near.recv_timeout(Duration::from_millis(400)), Ok(None)));
        let ran = ran() - before;
        assert!(ran < Duration::from_millis(150), "{address}: it ran for {ran:?}");
        // Given back by another thread, which wakes nobody.
        std::thread::scope(|scope| drop(scope.spawn(move || drop(held))));
        channel.send_timeout(&[2; 500], LONG).expect("it goes out");
        let event = endpoint.recv_timeout(LONG);
        assert!(matches!(event, Some(Event::Message(from, _)) if from == id), "{event:?}");
    }
}
