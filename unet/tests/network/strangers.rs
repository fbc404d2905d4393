//! What strangers send is dropped, and counted by its reason.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use unet::wire::{Checksum, Fields, Kind, seal};
use unet::{Counter, Event};
use zerocopy::IntoBytes;

use super::*;

/// A message of a channel, as its peer sent it.
type Heard = Arc<Mutex<Vec<(SocketAddr, SocketAddr, Vec<u8>)>>>;

struct Scene {
    wires: Wires,
    endpoint: Endpoint,
    id: ChannelId,
    channel: Channel,
    heard: Heard,
}

fn scene() -> Scene {
    let wires = Wires::default();
    let (endpoint, id, channel) = joined(&wires, 1);
    let heard = Heard::default();
    let ears = heard.clone();
    wires.decide(move |from, to, bytes| {
        ears.lock().expect("no panic").push((from, to, bytes.clone()));
        vec![bytes]
    });
    Scene { wires, endpoint, id, channel, heard }
}

impl Scene {
    /// Sends one message honestly; it is received. What stood on the wire.
    fn overhear(&mut self) -> (SocketAddr, SocketAddr, Vec<u8>) {
        self.channel.send(b"honest").expect("there is room");
        self.expect_message(b"honest");
        self.heard.lock().expect("no panic").last().expect("it was heard").clone()
    }

    fn expect_message(&mut self, bytes: &[u8]) {
        match self.endpoint.recv_timeout(LONG) {
            Some(Event::Message(from, message)) if from == self.id => {
                assert_eq!(message.inline(), bytes);
            }
            other => panic!("a message was to come: {other:?}"),
        }
    }

    fn expect_nothing(&mut self, counter: Counter, count: u64) {
        let other = self.endpoint.recv_timeout(Duration::from_millis(10));
        assert!(other.is_none(), "{other:?}");
        assert_eq!(self.endpoint.links()[0].get(counter), count, "{counter:?}");
        assert_eq!(self.endpoint.channels(), 1);
    }
}

#[test]
fn a_replayed_message_is_dropped() {
    let mut scene = scene();
    let (from, to, bytes) = scene.overhear();
    for count in 1..=3 {
        scene.wires.forge(from, to, &bytes);
        scene.expect_nothing(Counter::WireReplayed, count);
    }
    // One that is not the last, and one older than anybody remembers.
    for _ in 0..200 {
        scene.overhear();
    }
    scene.wires.forge(from, to, &bytes);
    scene.expect_nothing(Counter::WireReplayed, 4);
}

#[test]
fn a_message_from_another_address_is_dropped_though_all_else_is_right() {
    let mut scene = scene();
    let (_, to, bytes) = scene.overhear();
    let foreign = "127.0.0.1:666".parse().expect("valid");
    scene.wires.forge(foreign, to, &bytes);
    scene.expect_nothing(Counter::WireForeign, 1);
}

#[test]
fn a_spoilt_message_is_dropped_wherever_it_is_spoilt() {
    let mut scene = scene();
    let (from, to, bytes) = scene.overhear();
    for at in 0..bytes.len() {
        let mut spoilt = bytes.clone();
        spoilt[at] ^= 0x10;
        scene.wires.forge(from, to, &spoilt);
        assert!(scene.endpoint.recv_timeout(Duration::from_millis(1)).is_none(), "byte {at}");
    }
    let link = &scene.endpoint.links()[0];
    let (malformed, checksum) = (link.get(Counter::WireMalformed), link.get(Counter::WireChecksum));
    assert_eq!((malformed + checksum, malformed > 0, checksum > 0), (38, true, true));
    scene.overhear();
}

#[test]
fn a_truncated_or_padded_message_is_dropped() {
    let mut scene = scene();
    let (from, to, bytes) = scene.overhear();
    for len in 0..bytes.len() {
        scene.wires.forge(from, to, &bytes[..len]);
    }
    scene.wires.forge(from, to, &[&bytes[..], &[0]].concat());
    scene.expect_nothing(Counter::WireMalformed, bytes.len() as u64 + 1);
}

fn forged(kind: Kind, channel: u32, incarnation: u64, body: &[u8]) -> Vec<u8> {
    let fields = Fields {
        kind,
        tag: 0,
        channel,
        incarnation,
        sequence: if kind == Kind::Data { 1000 } else { 0 },
        inline: 0,
        checksum: Checksum::Crc32c,
    };
    let mut bytes = [fields.to_header(body.len()).as_bytes(), body].concat();
    seal(&mut bytes);
    bytes
}

#[test]
fn who_does_not_know_the_incarnation_can_neither_send_nor_close() {
    let mut scene = scene();
    let (from, to, _) = scene.overhear();
    let mut stale = 0;
    for kind in [Kind::Data, Kind::Bye, Kind::Probe, Kind::Alive, Kind::Welcome, Kind::Refusal] {
        scene.wires.forge(from, to, &forged(kind, 0, 12345, b""));
        stale += 1;
        scene.expect_nothing(Counter::WireStale, stale);
        scene.wires.forge(from, to, &forged(kind, 17, 12345, b""));
    }
    scene.expect_nothing(Counter::WireUnknown, 6);
    let guess = [&0u32.to_le_bytes()[..], &12345u64.to_le_bytes()].concat();
    scene.wires.forge(from, to, &forged(Kind::Stale, u32::MAX, 0, &guess));
    scene.expect_nothing(Counter::WireStale, 7);
    scene.overhear();
}

#[test]
fn words_that_make_no_sense_are_dropped_though_they_name_the_channel() {
    let mut scene = scene();
    let (from, to, _) = scene.overhear();
    let far = scene.endpoint.channel_mut(scene.id).expect("it is open");
    let own = far.incarnations().0.0;
    let hello = 5u32.to_le_bytes();
    let before = scene.endpoint.links()[0].get(Counter::WireMalformed);
    for bytes in [
        forged(Kind::Hello, 0, own, &hello),
        forged(Kind::Hello, u32::MAX, 1, b""),
        forged(Kind::Hello, u32::MAX, 1, &[0; 4 + 129]),
        forged(Kind::Stale, u32::MAX, 0, b"short"),
    ] {
        scene.wires.forge(from, to, &bytes);
    }
    scene.expect_nothing(Counter::WireMalformed, before + 4);
    scene.overhear();
}

#[test]
fn clients_without_end_are_told_to_come_back_and_cost_no_memory_without_end() {
    let wires = Wires::default();
    let mut endpoint = listening(&wires, 1, Wait::Adaptive);
    let to = "127.0.0.1:1".parse().expect("valid");
    let mut asked = 0;
    for number in 0..2000u16 {
        let from = SocketAddr::from(([10, 0, 0, 1], number));
        wires.forge(from, to, &forged(Kind::Hello, u32::MAX, number.into(), &[0; 4]));
        // The application does not decide.
        if let Some(Event::Incoming(incoming)) = endpoint.try_recv() {
            asked += 1;
            std::mem::forget(incoming);
        }
    }
    while let Some(Event::Incoming(incoming)) = endpoint.recv_timeout(Duration::from_millis(5)) {
        asked += 1;
        std::mem::forget(incoming);
    }
    assert_eq!(asked, 64);
    assert_eq!(endpoint.links()[0].get(Counter::RefusedResources), 2000 - 64);
}

#[test]
fn a_channel_that_floods_fills_its_share_and_the_others_go_on() {
    let wires = Wires::default();
    let mut endpoint = listening(&wires, 1, Wait::Adaptive);
    let (_, flood) = join(&mut endpoint, &wires, 1);
    let (quiet_id, quiet) = join(&mut endpoint, &wires, 1);
    let (mut flood, mut quiet) = (flood.expect("connected"), quiet.expect("connected"));
    // The receiver waits for the quiet one alone, while the other floods.
    for round in 0..50u8 {
        for _ in 0..40 {
            flood.send(&[0; 100]).expect("there is room");
        }
        quiet.send(&[round]).expect("there is room");
        let far = endpoint.channel_mut(quiet_id).expect("it is open");
        let message = far.recv_timeout(LONG).expect("it is open").expect("it is not starved");
        assert_eq!(message.inline(), [round]);
    }
    let taken = std::iter::from_fn(|| match endpoint.recv_timeout(Duration::from_millis(20)) {
        Some(Event::Message(id, _)) => Some(id),
        _ => None,
    });
    let taken = taken.count() as u64;
    assert_eq!(taken, 256 / 4, "its share of the buffers");
}

#[test]
fn a_flood_on_one_channel_keeps_no_client_waiting_and_hides_no_end() {
    let wires = Wires::default();
    let mut endpoint = listening(&wires, 1, Wait::Adaptive);
    let (_, flood) = join(&mut endpoint, &wires, 1);
    let (id, other) = join(&mut endpoint, &wires, 1);
    let (mut flood, other) = (flood.expect("connected"), other.expect("connected"));
    let hello = forged(Kind::Hello, u32::MAX, 7, &[0; 4]);
    let from = SocketAddr::from(([10, 0, 0, 1], 1));
    wires.forge(from, "127.0.0.1:1".parse().expect("valid"), &hello);
    drop(other);
    let (mut asked, mut ended) = (0, 0);
    for _ in 0..2000 {
        for _ in 0..2 {
            flood.send(b"x").expect("there is room");
        }
        match endpoint.try_recv() {
            Some(Event::Incoming(_)) => asked += 1,
            Some(Event::Closed(closed, _)) => ended += u32::from(closed == id),
            _ => {}
        }
    }
    assert_eq!((asked, ended), (1, 1));
}

#[test]
fn a_hello_that_comes_once_more_after_the_channel_was_closed_asks_for_nothing() {
    let wires = Wires::default();
    let mut endpoint = listening(&wires, 1, Wait::Adaptive);
    let heard = Heard::default();
    let ears = heard.clone();
    wires.decide(move |from, to, bytes| {
        ears.lock().expect("no panic").push((from, to, bytes.clone()));
        vec![bytes]
    });
    let (_, channel) = join(&mut endpoint, &wires, 1);
    let (from, to, hello) = heard.lock().expect("no panic")[0].clone();
    assert_eq!(hello[1] & 15, Kind::Hello as u8);
    drop(channel.expect("connected"));
    assert!(matches!(endpoint.recv_timeout(LONG), Some(Event::Closed(..))));
    wires.forge(from, to, &hello);
    let other = endpoint.recv_timeout(Duration::from_millis(20));
    assert!(other.is_none(), "{other:?}");
}

#[test]
fn who_repeats_the_hello_of_a_channel_makes_this_side_say_little() {
    let wires = Wires::default();
    let mut endpoint = listening(&wires, 1, Wait::Adaptive);
    let victim = SocketAddr::from(([10, 0, 0, 1], 1));
    let to = "127.0.0.1:1".parse().expect("valid");
    let hello = forged(Kind::Hello, u32::MAX, 7, &[0; 4]);
    wires.forge(victim, to, &hello);
    let Some(Event::Incoming(incoming)) = endpoint.recv_timeout(LONG) else { panic!("none") };
    endpoint.accept(incoming, &[0; 128]).expect("accepted");
    let said = Arc::new(Mutex::new(0));
    let count = said.clone();
    wires.decide(move |_, to, bytes| {
        *count.lock().expect("no panic") += usize::from(to == victim);
        vec![bytes]
    });
    for _ in 0..1000 {
        wires.forge(victim, to, &hello);
        assert!(endpoint.try_recv().is_none());
    }
    let said = *said.lock().expect("no panic");
    // A period or two, should this take long.
    assert!((1..=192).contains(&said), "{said}");
}

#[test]
fn many_channels_that_flood_leave_room_for_one_that_does_not() {
    let wires = Wires::default();
    let mut endpoint = listening(&wires, 1, Wait::Adaptive);
    let mut floods: Vec<Channel> =
        (0..6).map(|_| join(&mut endpoint, &wires, 1).1.expect("connected")).collect();
    let (quiet_id, quiet) = join(&mut endpoint, &wires, 1);
    let mut quiet = quiet.expect("connected");
    for round in 0..20u8 {
        for flood in &mut floods {
            (0..100).for_each(|_| flood.send(&[0; 100]).expect("there is room"));
        }
        quiet.send(&[round]).expect("there is room");
        let far = endpoint.channel_mut(quiet_id).expect("it is open");
        let message = far.recv_timeout(LONG).expect("it is open").expect("it is not starved");
        assert_eq!(message.inline(), [round]);
    }
}

#[test]
fn a_message_behind_what_is_for_nobody_is_taken_by_the_same_look() {
    let mut scene = scene();
    let (from, to, bytes) = scene.overhear();
    // A replay, and rubbish, and then a message.
    scene.wires.forge(from, to, &bytes);
    scene.wires.forge(from, to, b"rubbish");
    scene.channel.send(b"behind").expect("there is room");
    match scene.endpoint.try_recv() {
        Some(Event::Message(from, message)) if from == scene.id => {
            assert_eq!(message.inline(), b"behind");
        }
        other => panic!("a message was there: {other:?}"),
    }
    scene.expect_nothing(Counter::WireReplayed, 1);
}
