//! Each layer, with the test as the other side.

mod one_host;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fbufs::MAX_PARTS;
use one_host::{Host, graph_of};
use pcap_file::pcap::PcapReader;
use proptest::prelude::*;
use protocols::layers::Tap;
use protocols::layers::fragment::Header;
use protocols::{Instant, Kinds, Message, Participants, Reason};

fn numbered(number: u32) -> Vec<u8> {
    [&number.to_be_bytes()[..], &number.to_le_bytes()].concat()
}

#[test]
fn sequencing_puts_in_order_filters_repetitions_and_gives_gaps_up_in_time() {
    let first = u32::MAX - 2;
    let mut host = Host::new(
        &format!("sequencing(first={first}, timeout=5ms, window=4): wire\nwire = device"),
        "sequencing",
    );
    let at = |distance: u32| first.wrapping_add(distance);
    let payload = |distance: u32| at(distance).to_le_bytes().to_vec();
    host.push(&payload(0));
    assert_eq!(host.frames(), [numbered(first)]);
    // The numbers wrap around between these.
    for distance in [2, 1, 1, 2, 4, 0, 0, 3] {
        host.receive(&numbered(at(distance)));
    }
    assert_eq!(host.deliveries(), [0, 1, 2, 3, 4].map(payload));
    assert_eq!(host.drops("sequencing", Reason::Duplicate), 2);
    assert_eq!(host.drops("sequencing", Reason::Late), 1);
    // 5 and 7 are missing.
    for distance in [6, 8] {
        host.receive(&numbered(at(distance)));
    }
    assert!(host.deliveries().is_empty());
    assert_eq!(host.graph.next_wake(), Some(host.now + Duration::from_millis(5)));
    host.pass(Duration::from_millis(5));
    assert_eq!(host.deliveries(), [6].map(payload));
    host.pass(Duration::from_millis(5));
    assert_eq!(host.deliveries(), [8].map(payload));
    assert_eq!(host.number("sequencing", "skipped"), 2);
    host.receive(&numbered(at(5)));
    assert_eq!(host.drops("sequencing", Reason::Late), 2);
    assert_eq!(host.graph.next_wake(), None);
    assert_eq!(host.buffers_in_use(), 0);
}

#[test]
fn sequencing_follows_a_sender_that_has_jumped_but_not_a_single_stray_number() {
    let mut host = Host::new("sequencing(window=8): wire\nwire = device", "sequencing");
    for number in [0, 2, 1000, 3, 5000] {
        host.receive(&numbered(number));
    }
    assert_eq!(host.drops("sequencing", Reason::TooFarAhead), 2);
    host.receive(&numbered(5001));
    host.receive(&numbered(5002));
    let numbers = [0, 2, 3, 5001, 5002].map(|number: u32| number.to_le_bytes().to_vec());
    assert_eq!(host.deliveries(), numbers);
    assert_eq!(host.buffers_in_use(), 0);
}

#[test]
fn a_session_that_closes_delivers_what_it_held_in_order() {
    let mut host = Host::new("sequencing: wire\nwire = device", "sequencing");
    for number in [4, 2, 7] {
        host.receive(&numbered(number));
    }
    assert!(host.graph.close(Instant(1), host.session));
    assert_eq!(host.deliveries(), [2, 4, 7].map(|number: u32| number.to_le_bytes().to_vec()));
    assert_eq!(host.graph.all_drops(), 0);
    assert_eq!(host.buffers_in_use(), 0);
    let message = host.message(b"late");
    assert!(host.graph.push(Instant(1), host.session, message).is_err());
    assert!(!host.graph.close(Instant(1), host.session));
}

#[test]
fn a_checksum_is_the_published_one_and_every_wrong_bit_is_refused() {
    let mut host = Host::new("checksum: wire\nwire = device", "checksum");
    // RFC 3720, B.4: 32 bytes of zeros.
    host.push(&[0; 32]);
    let frame = host.frames().remove(0);
    assert_eq!(frame[..4], [0x8a, 0x91, 0x36, 0xaa]);
    for bit in 0..frame.len() * 8 {
        let mut wrong = frame.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        host.receive(&wrong);
    }
    assert!(host.deliveries().is_empty());
    assert_eq!(host.drops("checksum", Reason::Checksum), frame.len() as u64 * 8);
    host.receive(&frame[..3]);
    assert_eq!(host.drops("checksum", Reason::Malformed), 1);
    host.receive(&frame);
    assert_eq!(host.deliveries(), [vec![0; 32]]);
}

fn piece(message: u32, offset: u32, total: u32, bytes: &[u8]) -> Vec<u8> {
    [&Header { message, offset, total }.encode()[..], bytes].concat()
}

#[test]
fn pieces_that_repeat_overlap_or_contradict_are_refused() {
    let mut host = Host::new("fragment(max=100): wire\nwire = device", "fragment");
    host.receive(&piece(1, 0, 10, b"01234"));
    host.receive(&piece(1, 0, 10, b"01234"));
    assert_eq!(host.drops("fragment", Reason::Duplicate), 1);
    host.receive(&piece(1, 5, 10, b"56789"));
    assert_eq!(host.deliveries(), [b"0123456789"]);
    for (number, wrong) in [
        (2, piece(2, 4, 10, b"xx")),
        (3, piece(3, 0, 10, b"0123")),
        (4, piece(4, 5, 11, b"567890")),
    ] {
        host.receive(&piece(number, 0, 10, b"01234"));
        host.receive(&wrong);
        // The message is gone with both.
        host.receive(&piece(number, 5, 10, b"56789"));
    }
    assert_eq!(host.drops("fragment", Reason::Overlap), 3);
    assert!(host.deliveries().is_empty());
    host.receive(&piece(5, 0, 101, b"x"));
    assert_eq!(host.drops("fragment", Reason::TooLarge), 1);
    for wrong in
        [piece(6, 5, 5, b"x"), piece(6, 0, 5, b""), piece(6, u32::MAX, 3, b"x"), vec![0; 11]]
    {
        host.receive(&wrong);
    }
    assert_eq!(host.drops("fragment", Reason::Malformed), 4);
    host.pass(Duration::from_millis(100));
    assert_eq!(host.drops("fragment", Reason::Incomplete), 3);
    assert_eq!(host.graph.next_wake(), None);
    assert_eq!(host.buffers_in_use(), 0);
}

#[test]
fn what_waits_for_its_rest_is_bounded_and_the_oldest_goes_first() {
    let text = "fragment(max=1000, memory=3000, messages=3): wire\nwire = device";
    let mut host = Host::new(text, "fragment");
    for number in 0..4 {
        host.receive(&piece(number, 0, 10, b"01234"));
    }
    assert_eq!(host.drops("fragment", Reason::QueueFull), 1);
    host.receive(&piece(0, 5, 10, b"56789"));
    host.receive(&piece(3, 5, 10, b"56789"));
    assert_eq!(host.deliveries().len(), 1, "the first was dropped");
    // Many small pieces are counted with what holding them costs.
    for offset in 0..400 {
        host.receive(&piece(9, offset * 2, 1000, b"x"));
    }
    assert!(host.number("fragment", "bytes held") <= 3000);
    assert!(host.buffers_in_use() <= 6);
}

/// A message of `parts` parts of `len` bytes each, without room for a header.
fn rope(host: &mut Host, parts: usize, len: usize) -> Message {
    let part = Message::from(host.graph.pool().alloc(len).expect("a buffer is left"));
    let mut rope = Message::new();
    (0..parts).for_each(|_| rope.append(part.clone()));
    rope
}

#[test]
fn what_is_put_together_has_no_more_parts_than_a_message_may_have() {
    let mut host = Host::new("fragment(pieces=1000): wire\nwire = device", "fragment");
    for (number, parts) in [(0, MAX_PARTS / 2), (1, MAX_PARTS / 2 + 1)] {
        for offset in [0, parts as u32] {
            let mut frame = rope(&mut host, parts, 1);
            let header = Header { message: number, offset, total: 2 * parts as u32 };
            frame.push_with(host.graph.pool(), &header.encode()).expect("a buffer is left");
            host.graph.receive(host.now, host.wire, frame);
        }
    }
    let whole = host.graph.received().expect("the first has as many as it may").message;
    assert_eq!((whole.len(), whole.parts().len() <= MAX_PARTS), (MAX_PARTS, true));
    drop(whole);
    assert!(host.graph.received().is_none());
    assert_eq!(host.drops("fragment", Reason::TooLarge), 1);
    assert_eq!(host.buffers_in_use(), 0);
}

#[test]
fn no_layer_makes_a_message_of_more_parts_than_one_may_have() {
    for layer in ["fault(corrupt=1)", "checksum"] {
        let mut host = Host::new(&format!("top = {layer}: wire\nwire = device"), "top");
        let message = rope(&mut host, MAX_PARTS, 3);
        host.graph.push(host.now, host.session, message).expect("it is open");
        assert!(host.frames().is_empty(), "{layer}");
        assert_eq!(host.drops("top", Reason::TooLarge), 1, "{layer}");
        let message = rope(&mut host, MAX_PARTS - 2, 3);
        host.graph.push(host.now, host.session, message).expect("it is open");
        assert_eq!(host.frames().len(), 1, "{layer}");
    }
}

#[test]
fn a_message_of_more_pieces_than_can_be_put_together_is_not_sent() {
    let host = Host::new("fragment(pieces=1000): wire\nwire = device(mtu=64)", "fragment");
    let below = host.graph.below(host.session).expect("it is open");
    assert_eq!(below.max_message, (64 - Header::LEN) * MAX_PARTS);
    let mut host = Host::new("fragment(pieces=50): wire\nwire = device(mtu=64)", "fragment");
    let longest = (64 - Header::LEN) * 50;
    let below = host.graph.below(host.session).expect("it is open");
    assert_eq!(below.max_message, longest);
    host.push(&vec![1; longest]);
    let frames = host.frames();
    assert_eq!(frames.len(), 50);
    frames.iter().for_each(|frame| host.receive(frame));
    assert_eq!(host.deliveries(), [vec![1; longest]]);
    host.push(&vec![1; longest + 1]);
    assert!(host.frames().is_empty());
    assert_eq!(host.drops("fragment", Reason::TooLarge), 1);
}

#[test]
fn the_pieces_of_all_messages_together_are_bounded() {
    for (text, pieces) in [("fragment(pieces=8)", 8), ("fragment", 128)] {
        let mut host = Host::new(&format!("{text}: wire\nwire = device"), "fragment");
        for number in 0..60 {
            for offset in 0..4 {
                host.receive(&piece(number, offset * 2, 1000, b"x"));
                assert!(host.buffers_in_use() <= pieces);
            }
        }
        assert_eq!(host.drops("fragment", Reason::QueueFull), 60 - pieces as u64 / 4);
        assert_eq!(host.number("fragment", "pieces held"), pieces as u64);
    }
}

proptest! {
    #[test]
    fn a_message_in_pieces_is_put_together_in_whatever_order_they_come(
        len in 1usize..4000,
        mtu in 64usize..600,
        order in any::<u64>(),
    ) {
        let mut host = Host::new(&format!("fragment: wire\nwire = device(mtu={mtu})"), "fragment");
        let bytes: Vec<u8> = (0..len).map(|at| (at / 3) as u8).collect();
        host.push(&bytes);
        let mut frames = host.frames();
        prop_assert_eq!(frames.len(), len.div_ceil(mtu - Header::LEN));
        prop_assert!(frames.iter().all(|frame| frame.len() <= mtu));
        let mut random = protocols::random::Random::new(order);
        for at in (1..frames.len()).rev() {
            frames.swap(at, random.below(at as u64 + 1) as usize);
        }
        for frame in frames {
            host.receive(&frame);
        }
        prop_assert_eq!(host.deliveries(), vec![bytes]);
        prop_assert_eq!(host.graph.all_drops(), 0);
    }

    #[test]
    fn whatever_arrives_is_delivered_or_counted_and_no_buffer_stays(
        frames in prop::collection::vec(
            (prop::collection::vec(0u8..4, 0..24), prop::collection::vec(any::<u8>(), 0..40)), 0..60),
    ) {
        let text = "generation: sequencing\nsequencing: fragment\nfragment: tag\ntag: wire\nwire = device";
        let mut host = Host::new(text, "generation");
        for (head, tail) in frames {
            host.receive(&[&[0; 8][..], &head, &tail].concat());
        }
        host.pass(Duration::from_secs(1));
        host.graph.close(host.now, host.session);
        host.deliveries();
        prop_assert_eq!(host.buffers_in_use(), 0);
        prop_assert_eq!(host.graph.next_wake(), None);
    }
}

#[test]
fn corruption_changes_one_bit_of_what_arrives_and_nothing_of_what_others_share() {
    let text = "fault(corrupt=1, seed=3): wire\nwire = device";
    let mut host = Host::new(text, "fault");
    let bytes: Vec<u8> = (0..200).collect();
    for _ in 0..100 {
        let original = host.message(&bytes);
        host.graph.push(host.now, host.session, original.clone()).expect("it is open");
        let frame = host.frames().remove(0);
        let wrong: u32 = frame.iter().zip(&bytes).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!((frame.len(), wrong), (200, 1));
        assert_eq!(original.to_vec().expect("it can be read"), bytes);
    }
    assert_eq!(host.number("fault", "corrupted"), 100);
}

#[test]
fn losses_in_bursts_come_together() {
    let run = |options: &str| {
        let mut host = Host::new(&format!("fault({options}): wire\nwire = device"), "fault");
        let mut lost = Vec::new();
        for _ in 0..20_000u32 {
            host.push(b"x");
            lost.push(host.frames().is_empty());
        }
        let count = lost.iter().filter(|lost| **lost).count();
        let runs = lost.windows(2).filter(|pair| !pair[0] && pair[1]).count();
        (count as f64, count as f64 / runs as f64)
    };
    let (single, length) = run("loss=0.1, seed=1");
    assert!((1800.0..2200.0).contains(&single) && length < 1.3, "{single} lost, {length} in a row");
    // In a burst a fraction begin / (begin + end) of the time, for 1 / end messages.
    let (bursts, length) = run("burst=0.02, recover=0.2, seed=1");
    assert!((1500.0..2200.0).contains(&bursts), "{bursts} lost");
    assert!((4.0..6.0).contains(&length), "{length} in a row");
}

#[test]
fn delayed_messages_come_when_they_are_due_and_late_ones_are_overtaken() {
    let mut host = Host::new("fault(delay=1ms, way=up): wire\nwire = device", "fault");
    host.push(b"down is not delayed");
    assert_eq!(host.frames().len(), 1);
    host.receive(b"a");
    host.pass(Duration::from_micros(999));
    host.receive(b"b");
    assert!(host.deliveries().is_empty());
    host.pass(Duration::from_micros(1));
    assert_eq!(host.deliveries(), [b"a"]);
    host.pass(Duration::from_millis(1));
    assert_eq!(host.deliveries(), [b"b"]);

    let mut host = Host::new("fault(reorder=0.3, seed=5): wire\nwire = device", "fault");
    for number in 0..100u8 {
        host.receive(&[number]);
    }
    host.pass(Duration::from_millis(1));
    let mut numbers: Vec<u8> = host.deliveries().concat();
    assert!(!numbers.is_sorted());
    numbers.sort_unstable();
    assert_eq!(numbers, (0..100).collect::<Vec<u8>>());
}

/// A writer that fails after some calls.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<(Vec<u8>, usize)>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut paper = self.0.lock().expect("nobody panicked");
        if paper.0.len() >= paper.1 {
            return Err(io::Error::other("the disk is full"));
        }
        paper.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn tapped(paper: &Paper, limit: u64) -> Host {
    let mut kinds = Kinds::standard();
    let paper = paper.clone();
    let link = pcap_file::DataLink::USER0;
    kinds.add("tap", move |_| Ok(Tap::new(paper.clone(), link, 100, limit)));
    let mut graph = graph_of("tap: wire\nwire = device", &kinds);
    let wire = graph.node("wire").expect("it is there");
    let session = graph.open("tap", Participants::default()).expect("it opens");
    Host { graph, wire, session, now: Instant(1_234_567_890) }
}

#[test]
fn a_tap_writes_what_another_program_reads() {
    let paper = Paper::default();
    paper.0.lock().expect("nobody panicked").1 = usize::MAX;
    let mut host = tapped(&paper, 1 << 20);
    host.push(&[1; 300]);
    host.receive(b"up");
    assert_eq!((host.frames().len(), host.deliveries().len()), (1, 1));
    let written = paper.0.lock().expect("nobody panicked").0.clone();
    let mut reader = PcapReader::new(&written[..]).expect("it is a capture");
    let first = reader.next_packet().expect("there is one").expect("it is whole");
    assert_eq!((first.orig_len, &first.data[..]), (300, &[1; 100][..]));
    assert_eq!(first.timestamp, Duration::from_nanos(1_234_567_890));
    let second = reader.next_packet().expect("there is another").expect("it is whole");
    assert_eq!(&second.data[..], b"up");
    assert!(reader.next_packet().is_none());
}

#[test]
fn a_tap_whose_writer_fails_or_is_full_stops_no_message() {
    for (room, limit) in [(0, 1 << 20), (200, 1 << 20), (usize::MAX, 300)] {
        let paper = Paper::default();
        paper.0.lock().expect("nobody panicked").1 = room;
        let mut host = tapped(&paper, limit);
        for _ in 0..10 {
            host.push(&[1; 84]);
        }
        assert_eq!(host.frames().len(), 10);
        let (written, missed) = (host.number("tap", "written"), host.number("tap", "missed"));
        assert_eq!(written + missed, 10);
        assert!(missed >= 7, "{missed} missed");
    }
}

#[test]
fn a_loopback_gives_back_what_went_down() {
    let mut kinds = Kinds::standard();
    kinds.add("wire", protocols::layers::Loopback::from_options);
    let mut graph = graph_of("sequencing: wire\nwire", &kinds);
    let wire = graph.node("wire").expect("it is there");
    let session = graph.open("sequencing", Participants::default()).expect("it opens");
    let mut host = Host { graph, wire, session, now: Instant(0) };
    for number in 0..5u8 {
        host.push(&[number]);
    }
    assert_eq!(host.deliveries(), [[0], [1], [2], [3], [4]]);
}

#[test]
fn messages_of_the_next_generation_wait_no_longer_than_the_timeout() {
    let mut host = Host::new("generation(timeout=5ms): wire\nwire = device", "generation");
    host.receive(&numbered(1));
    host.pass(Duration::from_millis(3));
    host.receive(&numbered(1));
    assert_eq!(host.graph.next_wake(), Some(Instant(5_000_000)));
    host.pass(Duration::from_millis(2));
    assert_eq!((host.drops("generation", Reason::Generation), host.buffers_in_use()), (1, 1));
    assert_eq!(host.graph.next_wake(), Some(Instant(8_000_000)));
    host.pass(Duration::from_millis(3));
    assert_eq!((host.drops("generation", Reason::Generation), host.buffers_in_use()), (2, 0));
    assert_eq!(host.graph.next_wake(), None);
    // Those that come later wait anew.
    host.receive(&numbered(1));
    assert_eq!(host.buffers_in_use(), 1);
    host.graph.close(host.now, host.session);
    assert_eq!((host.drops("generation", Reason::Closed), host.buffers_in_use()), (1, 0));
}

#[test]
fn layers_that_wait_hold_at_most_sixty_four_messages_unless_told_otherwise() {
    for (layer, numbers) in [("sequencing", 1..=200u32), ("generation", 1..=1)] {
        let mut host = Host::new(&format!("{layer}: wire\nwire = device"), layer);
        for number in numbers.cycle().take(200) {
            host.receive(&numbered(number));
        }
        assert_eq!(host.drops(layer, Reason::QueueFull), 200 - 64, "{layer}");
        assert_eq!(host.buffers_in_use(), 64, "{layer}");
    }
}
