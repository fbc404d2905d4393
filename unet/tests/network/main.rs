//! Channels over a network: the same program text as on one host, and what the network and its strangers do.

mod asking;
mod ending;
mod exchanging;
mod shapes;
mod strangers;
mod wires;

use std::time::Duration;

use unet::device::Drivers;
use unet::{
    Address, Channel, ChannelId, ConnectError, ConnectOptions, Endpoint, EndpointOptions, Event,
    ListenOptions, NetworkOptions, Wait,
};
use wires::Wires;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(10);

fn network(wires: &Wires) -> NetworkOptions {
    NetworkOptions {
        drivers: Drivers::default().with(wires.clone()),
        buffers: 256,
        silence: Duration::from_millis(800),
        ..NetworkOptions::default()
    }
}

fn connect_options(wires: &Wires) -> ConnectOptions {
    ConnectOptions { network: network(wires), ..ConnectOptions::default() }
}

fn address(port: u16) -> Address {
    format!("wires:127.0.0.1:{port}").parse().expect("it is valid")
}

fn listening(wires: &Wires, port: u16, wait: Wait) -> Endpoint {
    let options = EndpointOptions { wait, ..EndpointOptions::default() };
    let mut endpoint = Endpoint::new(options).expect("an endpoint");
    let options = ListenOptions { network: network(wires), ..ListenOptions::default() };
    endpoint.listen(&address(port), options).expect("the port is free");
    endpoint
}

/// A channel that stands alone, and the listener's end of it.
fn joined(wires: &Wires, port: u16) -> (Endpoint, ChannelId, Channel) {
    let mut endpoint = listening(wires, port, Wait::Adaptive);
    let (id, channel) = join(&mut endpoint, wires, port);
    (endpoint, id, channel.expect("connected"))
}

fn join(
    endpoint: &mut Endpoint,
    wires: &Wires,
    port: u16,
) -> (ChannelId, Result<Channel, ConnectError>) {
    std::thread::scope(|scope| {
        let options = ConnectOptions { private: b"me".to_vec(), ..connect_options(wires) };
        let client = scope.spawn(move || Channel::connect(&address(port), options));
        let Some(Event::Incoming(incoming)) = endpoint.recv_timeout(LONG) else {
            panic!("a client was to ask")
        };
        assert_eq!(incoming.private(), b"me");
        assert!(incoming.address().is_some());
        let id = endpoint.accept(incoming, b"you").expect("accepted");
        while !client.is_finished() {
            // It may not have heard, and ask again.
            assert!(endpoint.recv_timeout(Duration::from_millis(2)).is_none());
        }
        (id, client.join().expect("no panic"))
    })
}
