//! Packets that nobody honest sends, from a raw socket of the peer's own host: each is counted by its
//! reason, once, and the channel goes on.

mod pair;

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use pair::{Client, Echo, PATIENCE, UDP, WAYS, Way, in_lab};
use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket};
use unet::Counter;
use unet::device::Count;
use unet::wire::{Checksum, Fields, Kind, seal};
use zerocopy::IntoBytes;

const SERVER: u16 = 9000;

/// A raw socket, what an honest message of the client's looks like, and both ends.
struct Scene {
    way: Way,
    echo: Echo,
    client: Client,
    raw: rustix::fd::OwnedFd,
    port: u16,
    honest: Fields,
}

fn scene(way: Way) -> Scene {
    let echo = Echo::start(way.0);
    let mut client = Client::connect(way.1);
    client.expect_echo(64);
    let raw = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::UDP)).expect("root");
    let honest = Fields {
        kind: Kind::Data,
        tag: 0,
        // The echo's first.
        channel: 0,
        incarnation: client.channel().incarnations().1.0,
        sequence: 1,
        inline: 0,
        checksum: Checksum::Crc32c,
    };
    let port = client.link().local.port();
    Scene { way, echo, client, raw, port, honest }
}

/// A message with these header fields.
fn message(fields: Fields, body: &[u8]) -> Vec<u8> {
    let mut bytes = [fields.to_header(body.len()).as_bytes(), body].concat();
    seal(&mut bytes);
    bytes
}

impl Scene {
    /// Sends a UDP datagram from the client's address: what its header says of its length, and its checksum,
    /// which is none if 0.
    fn send_udp(&self, from: u16, payload: &[u8], length: usize, checksum: u16) {
        let words = [from, SERVER, length as u16, checksum];
        let header: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        let to: SocketAddrV4 = "10.77.0.2:0".parse().expect("valid");
        let sent = sendto(&self.raw, &[&header, payload].concat(), SendFlags::empty(), &to);
        assert_eq!(sent, Ok(8 + payload.len()));
    }

    fn send(&self, payload: &[u8]) {
        self.send_udp(self.port, payload, 8 + payload.len(), 0);
    }

    /// The echo's count becomes so much, and no more, and the channel goes on.
    fn expect(&mut self, counter: Counter, count: u64) {
        let begin = Instant::now();
        while self.echo.status().get(counter) < count {
            assert!(begin.elapsed() < PATIENCE, "{:?}: {counter:?} is not {count}", self.way);
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(self.client.call(64, PATIENCE), "the channel goes on");
        assert_eq!(self.echo.status().get(counter), count, "{:?} {counter:?}", self.way);
    }
}

fn over_all(test: impl Fn(Scene) + Sync) {
    for way in WAYS {
        in_lab(|| test(scene(way)));
    }
}

#[test]
fn replayed_messages_are_dropped() {
    over_all(|mut scene| {
        for count in 1..=3 {
            scene.send(&message(scene.honest, b"again"));
            scene.expect(Counter::WireReplayed, count);
        }
    });
}

#[test]
fn messages_for_another_incarnation_are_dropped() {
    over_all(|mut scene| {
        let incarnation = scene.honest.incarnation ^ 1;
        scene.send(&message(Fields { incarnation, ..scene.honest }, b"late"));
        scene.expect(Counter::WireStale, 1);
    });
}

#[test]
fn messages_for_a_channel_that_there_is_not_are_dropped() {
    over_all(|mut scene| {
        for (count, channel) in [(1, 1), (2, 77), (3, u32::MAX - 1)] {
            scene.send(&message(Fields { channel, ..scene.honest }, b"whom?"));
            scene.expect(Counter::WireUnknown, count);
        }
    });
}

#[test]
fn messages_from_another_port_are_dropped_though_all_else_is_right() {
    over_all(|mut scene| {
        let forged = message(Fields { sequence: 1000, ..scene.honest }, b"forged");
        scene.send_udp(scene.port ^ 1, &forged, 8 + forged.len(), 0);
        scene.expect(Counter::WireForeign, 1);
    });
}

#[test]
fn what_is_no_message_or_cut_or_padded_is_dropped() {
    over_all(|mut scene| {
        let whole = message(Fields { sequence: 1000, ..scene.honest }, b"a body of some length");
        let padded = [&whole[..], &[0]].concat();
        let other = [b"GET / HTTP/1.1\r\nHost: ", &[b'x'; 40][..]].concat();
        for (count, bytes) in
            [&whole[..whole.len() - 1], &whole[..31], &[], &padded, &other].iter().enumerate()
        {
            scene.send(bytes);
            scene.expect(Counter::WireMalformed, count as u64 + 1);
        }
    });
}

#[test]
fn a_message_with_a_flipped_bit_is_dropped() {
    over_all(|mut scene| {
        let whole = message(Fields { sequence: 1000, ..scene.honest }, b"a body of some length");
        for (count, byte) in [whole.len() - 1, 32, 29].into_iter().enumerate() {
            let mut bytes = whole.clone();
            bytes[byte] ^= 4;
            scene.send(&bytes);
            scene.expect(Counter::WireChecksum, count as u64 + 1);
        }
    });
}

#[test]
fn a_datagram_that_udp_would_refuse_never_gets_to_the_link() {
    over_all(|mut scene| {
        let whole = message(Fields { sequence: 1000, ..scene.honest }, b"a body");
        scene.send_udp(scene.port, &whole, 8 + whole.len(), 0x1234);
        scene.send_udp(scene.port, &whole, 9 + whole.len(), 0);
        scene.send_udp(scene.port, &whole, 7, 0);
        // In order behind them.
        assert!(scene.client.call(64, PATIENCE), "the channel goes on");
        let status = scene.echo.status();
        let counts = [Count::BadChecksum, Count::BadHeader];
        let seen = counts.map(|count| status.statistics[count]);
        // The kernel counts them itself where its sockets are used.
        let wanted = if scene.way.0 == UDP.0 { [0; 2] } else { [1, 2] };
        assert_eq!(seen, wanted, "{:?} {status:?}", scene.way);
        assert_eq!(status.get(Counter::WireMalformed), 0);
    });
}
