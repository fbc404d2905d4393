//! The format as its chapter has it, and what is refused.

use proptest::prelude::*;

use super::*;

const PAGE: &str = include_str!("../../../docs/src/rpc-protocol.md");

/// The cells of the table behind a heading, row by row, without its own heading.
fn table_of(heading: &str) -> Vec<Vec<String>> {
    let heading = format!("## {heading}");
    let lines = PAGE.lines().skip_while(|line| *line != heading).skip(1);
    let lines = lines.take_while(|line| !line.starts_with('#'));
    let rows = lines.filter(|line| line.starts_with('|')).skip(2);
    let rows: Vec<Vec<String>> = rows
        .map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect();
    assert!(!rows.is_empty(), "the page has no table under {heading}");
    rows
}

fn bytes_of(cell: &str) -> Vec<u8> {
    let text = cell.trim_matches('`').split_whitespace();
    text.map(|byte| u8::from_str_radix(byte, 16).expect("a byte")).collect()
}

const ID: u64 = 0x0123_4567_89ab_cdef;

/// One of each kind, as the page has them.
fn samples() -> Vec<(&'static str, Packet)> {
    let (id, nonce, version) = (ID, ID, VERSION);
    let refused = Status::Refused(Refusal::Overload);
    let reply =
        |status, last, ask| Packet::Reply { id, status, held: 0x0400, last, ask, woken: false };
    let request = |time, last, credit, one_way, ask| Packet::Request {
        id,
        method: 0x1234,
        time,
        last,
        credit,
        one_way,
        ask,
    };
    vec![
        ("Open", Packet::Open { nonce, version, window: 8, credits: 64 }),
        ("Request", request(0, 0, 6, false, false)),
        ("Request", request(0x5000, 9, 8, true, true)),
        ("Fragment", Packet::Fragment { id, method: 0x1234, index: 9, last: 9, ask: true }),
        ("Taken", Packet::Taken { id, base: 3, limit: 67, resend: true }),
        ("Query", Packet::Query { id }),
        ("Ping", Packet::Ping { id }),
        ("Close", Packet::Close { id }),
        ("Opened", Packet::Opened { nonce, version, window: 8, credits: 64 }),
        ("Reply", reply(Status::Executed, 0, false)),
        ("Reply", reply(Status::Executed, 9, true)),
        ("Reply", reply(refused, 0, false)),
        ("Reply", reply(Status::Failed(Failure::Panicked), 0, false)),
        (
            "Continuation",
            Packet::Continuation { id, index: 1, last: 9, ask: false, woken: true, alone: false },
        ),
        (
            "Received",
            Packet::Received { id, base: 10, limit: 74, whole: true, woken: false, alone: true },
        ),
        ("Rejected", Packet::Rejected { nonce, version, why: Rejection::Service }),
        ("Pong", Packet::Pong { id }),
        ("Stale", Packet::Stale { id }),
    ]
}

#[test]
fn the_vectors_of_the_page_are_what_is_sent_and_what_is_understood() {
    let rows = table_of("Test vectors");
    let samples = samples();
    assert_eq!(rows.len(), samples.len());
    for (row, (name, packet)) in rows.iter().zip(samples) {
        let bytes = bytes_of(&row[2]);
        assert_eq!(row[1], name);
        assert_eq!(packet.encode(), *bytes, "{row:?}");
        assert_eq!(Packet::decode(bytes.first_chunk().expect("a header")), Ok(packet));
    }
}

#[test]
fn the_reasons_are_as_their_tables_say() {
    let columns = |heading: &str| -> Vec<(String, String)> {
        table_of(heading).into_iter().map(|row| (row[0].clone(), row[1].clone())).collect()
    };
    let refusals = Refusal::ALL.iter().map(|why| ((*why as u8).to_string(), format!("{why:?}")));
    assert_eq!(columns("Refusals"), refusals.collect::<Vec<_>>());
    let failures = Failure::ALL.iter().map(|why| ((*why as u8).to_string(), format!("{why:?}")));
    assert_eq!(columns("Failures"), failures.collect::<Vec<_>>());
    let rejections =
        Rejection::ALL.iter().map(|why| ((*why as u8).to_string(), format!("{why:?}")));
    assert_eq!(columns("Rejections"), rejections.collect::<Vec<_>>());
}

#[test]
fn a_null_call_with_24_bytes_of_arguments_and_every_control_packet_fit_into_a_slot() {
    const { assert!(HEADER_BYTES + 24 <= unet::MAX_INLINE) };
    const { assert!(HEADER_BYTES + MAX_CONTROL <= unet::MAX_INLINE) };
    const { assert!(Offer::BYTES <= MAX_CONTROL && Terms::BYTES <= MAX_CONTROL) };
}

#[test]
fn the_plain_headers_are_those_of_plain_packets_only() {
    for (name, packet) in samples() {
        let words = Words::from_bytes(&packet.encode());
        let is_plain_request =
            matches!(packet, Packet::Request { last: 0, one_way: false, ask: false, .. });
        assert_eq!(words.is_plain_request(), is_plain_request, "{name}");
        let is_plain_reply = matches!(
            packet,
            Packet::Reply { status: Status::Executed, last: 0, ask: false, woken: false, .. }
        );
        assert_eq!(words.is_plain_reply(), is_plain_reply, "{name}");
        assert_eq!(words.to_bytes(), packet.encode());
        if let Packet::Request { method, time, credit, .. } = packet {
            assert_eq!((words.method(), words.time(), words.credit()), (method, time, credit));
        }
    }
}

#[test]
fn what_was_agreed_travels_as_it_is() {
    let service = ServiceId { name: 1, version: 5, layout: 6 };
    let offer = Offer { service, epoch: 2, fragment: 3, max_reply: 4 };
    let terms = Terms { cookie: 1, incarnation: 2, epoch: 3, fragment: 4, max_request: 5 };
    let (offered, agreed) = (offer.encode(), terms.encode());
    assert_eq!(Offer::decode(&offered), Some(offer));
    assert_eq!(Terms::decode(&agreed), Some(terms));
    let offsets = [0, 8, 16, 20, 24, 28];
    assert_eq!(offsets.map(|at| offered[at]), [1, 2, 3, 4, 5, 6]);
    assert_eq!([agreed[0], agreed[8], agreed[16], agreed[24], agreed[28]], [1, 2, 3, 4, 5]);
    assert_eq!(Offer::decode(&offered[1..]), None);
    assert_eq!(Terms::decode(&[0; 33]), None);
}

#[test]
fn what_no_packet_of_a_kind_can_say_is_refused() {
    let broken = |at: usize, by: u8, packet: Packet| {
        let mut header = packet.encode();
        header[at] ^= by;
        Packet::decode(&header)
    };
    let id = ID;
    assert_eq!(broken(0, 0x70, Packet::Query { id }), Err(WireError::Kind));
    assert_eq!(broken(1, 0x40, Packet::Query { id }), Err(WireError::Field));
    assert_eq!(broken(7, 1, Packet::Pong { id }), Err(WireError::Field));
    let request =
        Packet::Request { id, method: 0, time: 0, last: 0, credit: 8, one_way: false, ask: false };
    assert_eq!(broken(1, 1, request), Err(WireError::Field));
    let last = Packet::Fragment { id, method: 0, index: 1, last: u16::MAX, ask: false };
    assert_eq!(Packet::decode(&last.encode()), Err(WireError::Field));
    for (index, last) in [(0, 3), (4, 3)] {
        let packet =
            Packet::Continuation { id, index, last, ask: false, woken: false, alone: false };
        assert_eq!(Packet::decode(&packet.encode()), Err(WireError::Field));
    }
    let status = Status::Failed(Failure::Panicked);
    let long = Packet::Reply { id, status, held: 0, last: 1, ask: false, woken: false };
    assert_eq!(Packet::decode(&long.encode()), Err(WireError::Field));
}

proptest! {
    #[test]
    fn whatever_is_understood_is_what_would_be_sent(
        header in any::<[u8; HEADER_BYTES]>(),
        kind in prop_oneof![1u8..8, 0x81u8..0x88],
        flags in prop_oneof![Just(0u8), any::<u8>()],
    ) {
        for kind in [kind, header[0]] {
            let mut header = header;
            (header[0], header[1]) = (kind, flags);
            if let Ok(packet) = Packet::decode(&header) {
                prop_assert_eq!(packet.encode(), header);
            }
        }
    }
}

#[test]
fn what_a_client_sends_of_its_calls_is_told_from_questions() {
    for (kind, packet) in samples() {
        let is_of_call = matches!(kind, "Request" | "Fragment" | "Taken");
        assert_eq!(super::is_of_call(&packet.encode()), is_of_call, "{kind}");
    }
}
