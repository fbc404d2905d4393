//! A peer that sends anything: no panic, no end that cannot be, nothing without bound.

use proptest::prelude::*;
use rpc_fastpath::protocol::{
    Body, Call, Client, Event, Identity, Limits, Pending, Server, ServerEvent, Timers, Transmit,
};
use rpc_fastpath::wire::{Failure, Packet, Refusal, Rejection, Status, Terms};

const COOKIE: u64 = u64::MAX - 9;
const NONCE: u64 = 77;

fn limits() -> Limits {
    Limits { window: 4, credits: 8, fragment: 10, max_message: 400, backlog: 3, unfinished: 500 }
}

fn head<P>(transmit: &Transmit<'_, P>) -> Vec<u8> {
    let mut head = transmit.header.to_vec();
    if let Body::Control(bytes, len) = &transmit.body {
        head.extend(&bytes[..*len]);
    }
    head
}

fn an_id() -> impl Strategy<Value = u64> {
    prop_oneof![
        20 => (0u64..24).prop_map(|number| COOKIE.wrapping_add(number)),
        1 => any::<u64>(),
        1 => Just(NONCE),
    ]
}

fn a_status() -> impl Strategy<Value = Status> {
    prop_oneof![
        4 => Just(Status::Executed),
        1 => Just(Status::Delivered),
        1 => Just(Status::Failed(Failure::Panicked)),
        1 => Just(Status::Refused(Refusal::Overload)),
    ]
}

prop_compose! {
    fn a_packet()(
        id in an_id(),
        numbers in prop::array::uniform3(prop_oneof![8 => 0u16..12, 1 => any::<u16>()]),
        status in a_status(),
        flags in any::<[bool; 4]>(),
        kind in 0..14,
    ) -> Packet {
        let [a, b, c] = numbers;
        let [one, ask, woken, alone] = flags;
        let (nonce, version) = (id, a);
        match kind {
            0 => Packet::Open { nonce, version, window: b, credits: c },
            1 => Packet::Opened { nonce, version, window: b, credits: c },
            2 => Packet::Rejected { nonce, version, why: Rejection::Overload },
            3 => Packet::Request { id, method: a % 2, time: b, last: c, credit: a as u8 % 9, one_way: one, ask },
            4 | 5 => Packet::Fragment { id, method: a % 2, index: b, last: c, ask },
            6 => Packet::Reply { id, status, held: b, last: c, ask, woken },
            7 | 8 => Packet::Continuation { id, index: b, last: c, ask, woken, alone },
            9 => Packet::Received { id, base: a, limit: b, whole: one, woken, alone },
            10 => Packet::Taken { id, base: a, limit: b, resend: one },
            11 => Packet::Query { id },
            12 if one => Packet::Ping { id },
            12 => Packet::Pong { id },
            _ if one => Packet::Close { id: id ^ 1 },
            _ => Packet::Stale { id: id ^ 1 << 40 },
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// A packet of some kind, with so much behind it.
    Packet(Packet, Vec<u8>, usize),
    Bytes(Vec<u8>),
    /// A call, or the answer to one.
    Act(u16, usize),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let len = || prop_oneof![3 => Just(10usize), 2 => 0usize..12, 1 => any::<u32>().prop_map(|len| len as usize)];
    let step = prop_oneof![
        6 => (a_packet(), prop::collection::vec(any::<u8>(), 0..5), len()).prop_map(
            |(packet, map, len)| Step::Packet(packet, map.iter().flat_map(|byte| [*byte; 8]).collect(), len)
        ),
        1 => prop::collection::vec(any::<u8>(), 0..60).prop_map(Step::Bytes),
        2 => (any::<u16>(), 0usize..450).prop_map(|(method, len)| Step::Act(method, len)),
        2 => (0u64..30_000_000).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..60)
}

fn received(step: &Step) -> Option<(Vec<u8>, usize)> {
    match step {
        Step::Packet(packet, body, len) => Some(([&packet.encode()[..], body].concat(), *len)),
        Step::Bytes(bytes) => Some((bytes.clone(), bytes.len().saturating_sub(16))),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_server_survives_any_client(steps in steps()) {
        let mut opening: Client<(), ()> = Client::new(0, NONCE, 1, 0, limits(), Timers::default());
        let asked = head(&opening.poll_transmit(0).expect("an opening"));
        let identity = Identity { service: 1.into(), incarnation: 2, epoch: 3 };
        let mut server: Server<(), u8> =
            Server::accept(0, &asked, identity, COOKIE, limits(), Timers::default()).expect("a session");
        let mut now = 0;
        let mut handed: Vec<u64> = Vec::new();
        let mut pending: Vec<Pending> = Vec::new();
        for step in &steps {
            if let Some((head, len)) = received(step)
                && let Some(ServerEvent::Request(request)) = server.receive(now, &head, len, 0)
            {
                let number = request.pending.request().number;
                prop_assert!(!handed.contains(&number), "{number} was executed twice");
                handed.push(number);
                pending.push(request.pending);
            }
            match step {
                Step::Act(choice, len) if !pending.is_empty() => {
                    let one = pending.remove(usize::from(*choice) % pending.len());
                    match choice % 3 {
                        0 => server.fail(now, one, Failure::Panicked),
                        _ => _ = server.reply(now, one, (), *len),
                    }
                }
                Step::Wait(time) => {
                    now += time;
                    server.on_timer(now);
                }
                _ => {}
            }
            // What one step brings about has an end.
            let sent = (0..1000).take_while(|_| server.poll_transmit().is_some()).count();
            prop_assert!(sent < 200, "{sent} packets for one");
            prop_assert!(server.executing() as usize == pending.len() && pending.len() <= 3);
            prop_assert!((0..9).take_while(|_| server.poll_event().is_some()).count() < 9);
        }
    }

    #[test]
    fn a_client_survives_any_server(steps in steps(), opens in any::<bool>()) {
        let mut client: Client<(), u8> = Client::new(0, NONCE, 1, 0, limits(), Timers::default());
        if opens {
            let answer = Packet::Opened { nonce: NONCE, version: 1, window: 4, credits: 8 };
            let terms =
                Terms { cookie: COOKIE, incarnation: 2, epoch: 3, fragment: 10, max_request: 400 };
            let head = [&answer.encode()[..], &terms.encode()].concat();
            prop_assert!(client.receive(0, &head, 32, 0).is_some());
        }
        let (mut now, mut begun, mut ends) = (0, 0u64, Vec::new());
        for step in &steps {
            let mut events = Vec::new();
            if let Some((head, len)) = received(step) {
                events.extend(client.receive(now, &head, len, 0));
            }
            match step {
                Step::Act(method, len) => {
                    let deadline = method.is_multiple_of(3).then_some(now + u64::from(*method) * 1000);
                    let call = Call {
                        token: begun,
                        method: *method,
                        payload: (),
                        len: *len,
                        deadline,
                        max_reply: 300,
                        one_way: method.is_multiple_of(5),
                    };
                    match client.start(now, call) {
                        Ok(()) => {}
                        Err(_) => ends.push(begun),
                    }
                    begun += 1;
                }
                Step::Wait(time) => {
                    now += time;
                    client.on_timer(now);
                    prop_assert!(client.next_timer() > now);
                }
                _ => {}
            }
            events.extend((0..100).map_while(|_| client.poll_event(now)));
            for event in events {
                let Event::Ended { token, .. } = event else { continue };
                prop_assert!(!ends.contains(&token), "call {token} ended twice");
                prop_assert!(token < begun);
                ends.push(token);
            }
            let sent = (0..1000).take_while(|_| client.poll_transmit(now).is_some()).count();
            prop_assert!(sent < 200, "{sent} packets at once");
        }
        // However it was led on, every call ends.
        client.close();
        while let Some(event) = client.poll_event(now) {
            if let Event::Ended { token, .. } = event {
                prop_assert!(!ends.contains(&token), "call {token} ended twice");
                ends.push(token);
            }
        }
        prop_assert_eq!(ends.len() as u64, begun);
    }
}
