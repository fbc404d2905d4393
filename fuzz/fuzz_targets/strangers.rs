//! Whatever a stranger sends to an endpoint: what its peer sent is delivered, once and unchanged, and nothing
//! else is.

#![no_main]

use std::collections::VecDeque;
use std::net::SocketAddr;

use driver_sim::{Datagrams as Port, DeviceOptions, Faults, Network, Sim};
use fuzz::Bytes;
use libfuzzer_sys::fuzz_target;
use unet::device::{Datagrams, Destination, Device, Drivers, Outgoing, Piece, Received};
use unet::wire::{self, Checksum, Fields, HEADER_BYTES, Kind, NO_CHANNEL};
use unet::{Endpoint, EndpointOptions, Event, ListenOptions, NetworkOptions, Wait};
use zerocopy::IntoBytes;

const SERVER: &str = "10.0.0.1:1";

/// Somebody who writes and reads datagrams.
struct Stranger {
    port: Port,
    to: Destination,
}

impl Stranger {
    fn at(network: &Network, address: &str) -> Self {
        let address: SocketAddr = address.parse().expect("valid");
        let mut port = network.datagrams(address, options()).expect("a device");
        let to = port.open(SERVER.parse().expect("valid")).expect("a way");
        Self { port, to }
    }

    fn send(&mut self, bytes: &[u8]) {
        let Ok(mut fbuf) = self.port.pool().alloc(bytes.len()) else { return };
        fbuf.copy_from_slice(bytes);
        let piece = Piece::whole(fbuf.freeze());
        let mut burst = VecDeque::from([Outgoing { to: self.to, piece }]);
        let _ = self.port.transmit(&mut burst);
    }

    fn heard(&mut self) -> Vec<Vec<u8>> {
        let mut received = Vec::new();
        let _ = self.port.receive(&mut received);
        received.drain(..).map(|Received { piece, .. }| piece.bytes.to_vec()).collect()
    }
}

fn options() -> DeviceOptions {
    DeviceOptions { buffers: 64, stock: 32, ..DeviceOptions::default() }
}

fn message(kind: Kind, channel: u32, incarnation: u64, sequence: u64, body: &[u8]) -> Vec<u8> {
    let checksum = Checksum::Crc32c;
    let fields = Fields { kind, tag: 7, channel, incarnation, sequence, inline: 0, checksum };
    let mut bytes = [fields.to_header(body.len()).as_bytes(), body].concat();
    wire::seal(&mut bytes);
    bytes
}

fuzz_target!(|bytes: &[u8]| {
    let network = Network::new(0, Faults::default());
    let drivers = Drivers::default().with(Sim::default().with("net", network.clone()));
    let options = EndpointOptions { wait: Wait::Spin, ..EndpointOptions::default() };
    let mut endpoint = Endpoint::new(options).expect("an endpoint");
    let over = NetworkOptions { drivers, buffers: 128, ..NetworkOptions::default() };
    let listen = ListenOptions { network: over, ..ListenOptions::default() };
    let address = format!("sim:net@{SERVER}").parse().expect("valid");
    endpoint.listen(&address, listen).expect("the port is free");
    let mut peer = Stranger::at(&network, "10.0.0.2:2");
    let mut other = Stranger::at(&network, "10.0.0.3:3");

    // The peer connects in good order.
    peer.send(&message(Kind::Hello, NO_CHANNEL, 77, 0, &5u32.to_le_bytes()));
    let Some(Event::Incoming(incoming)) = look(&mut endpoint) else { panic!("a client asked") };
    endpoint.accept(incoming, b"").expect("accepted");
    let welcome = peer.heard().pop().expect("a welcome");
    let channel = u32::from_le_bytes(welcome[HEADER_BYTES..][..4].try_into().expect("four"));
    let incarnation = u64::from_le_bytes(welcome[HEADER_BYTES + 4..][..8].try_into().expect("8"));

    let mut input = Bytes(bytes);
    let (mut sequence, mut open) = (0, true);
    for _ in 0..64 {
        let (what, len) = (input.byte(), usize::from(input.byte()));
        let body: Vec<u8> = (0..len).map(|_| input.byte()).collect();
        let mut expected = None;
        match what % 8 {
            0 => peer.send(&body),
            1 => {
                sequence += 1 + u64::from(what >> 5);
                peer.send(&message(Kind::Data, channel, incarnation, sequence, &body));
                expected = open.then_some(body);
            }
            // What came before comes again.
            2 => peer.send(&message(Kind::Data, channel, incarnation, sequence, &body)),
            3 => peer.send(&message(Kind::Data, channel, input.word(), sequence + 1, &body)),
            4 => other.send(&message(Kind::Data, channel, incarnation, sequence + 1, &body)),
            5 => {
                let kinds = [Kind::Hello, Kind::Welcome, Kind::Refusal, Kind::Stale, Kind::Alive];
                let kind = kinds[usize::from(what >> 3) % kinds.len()];
                other.send(&message(kind, input.word() as u32, input.word(), 0, &body));
                let said = message(kind, channel, incarnation, sequence, &body);
                if kind != Kind::Hello && kind != Kind::Stale {
                    peer.send(&said);
                }
            }
            6 => peer.send(&message(Kind::Probe, channel, incarnation, sequence, &[])),
            _ if what > 250 => {
                peer.send(&message(Kind::Bye, channel, incarnation, sequence, &[]));
                open = false;
            }
            _ => other.send(&body),
        }
        while let Some(event) = look(&mut endpoint) {
            match event {
                Event::Message(_, delivery) => {
                    let bytes = delivery.to_vec().expect("nothing is revoked");
                    assert_eq!(Some(bytes), expected.take(), "nobody sent that");
                }
                Event::Incoming(incoming) => endpoint.refuse(incoming, 1),
                Event::Closed(..) => assert!(!open, "nobody closed it"),
                _ => unreachable!("it neither connects nor listens by an agent"),
            }
        }
        assert_eq!(expected, None, "what was sent is not there");
        (peer.heard(), other.heard());
    }
});

fn look(endpoint: &mut Endpoint) -> Option<Event> {
    // One look takes what the device has, the next what came of it.
    endpoint.try_recv().or_else(|| endpoint.try_recv())
}
