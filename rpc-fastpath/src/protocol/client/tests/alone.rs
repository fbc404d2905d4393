//! What a long call may keep waiting on its way, with others beside it and without.

use super::*;
use crate::protocol::Pending;
use crate::wire::Refusal;

const USUAL: u64 = 10_000;
/// Too late beside others, not for who is alone.
const LATE: u64 = 60_000;

/// A session over a way that was fast once.
fn fast_once() -> (TestClient, TestServer) {
    let (mut client, server) = open(limits(), timers());
    client.congestion.sample(0, USUAL, USUAL, false);
    (client, server)
}

/// Lengths of arguments and of a reply: one of them is long.
const LONG: [(usize, usize); 2] = [(100, 1), (0, 100)];

/// Makes so many long calls over a way that is late.
fn call_long(
    (client, server): (&mut TestClient, &mut TestServer),
    (arguments, reply): (usize, usize),
    now: &mut u64,
    count: usize,
) {
    for _ in 0..count {
        client.start(*now, call(1, arguments)).unwrap();
        let mut said = Vec::new();
        while said.is_empty() {
            let sent = from_client(client, *now);
            *now += USUAL + LATE;
            if sent.is_empty() {
                assert_eq!(told(client, *now), []);
            }
            for event in to_server(server, *now, &sent) {
                let ServerEvent::Request(request) = event else { panic!("{event:?}") };
                server.reply(*now, request.pending, "reply", reply).unwrap();
            }
            said = to_client(client, *now, &from_server(server));
        }
        assert_eq!(outcome(said).0, 1);
    }
}

/// How a short call ends.
const ENDS: [fn(&mut TestServer, u64, Pending); 3] = [
    |server, now, pending| server.reply(now, pending, "reply", 1).unwrap(),
    |server, now, pending| {
        server.set_woken(true);
        server.reply(now, pending, "reply", 1).unwrap();
    },
    |server, now, pending| server.refuse(now, pending, Refusal::Overload),
];

/// A short call, answered at once.
fn call_short(
    (client, server): (&mut TestClient, &mut TestServer),
    now: u64,
    end: fn(&mut TestServer, u64, Pending),
) {
    client.start(now, call(2, 0)).unwrap();
    let request = request(to_server(server, now, &from_client(client, now)));
    end(server, now, request.pending);
    assert_eq!(outcome(to_client(client, now, &from_server(server))).0, 2);
    server.set_woken(false);
}

#[test]
fn who_is_alone_may_keep_more_waiting_until_another_comes() {
    for lengths in LONG {
        let (mut client, mut server) = fast_once();
        let mut now = USUAL;
        for (is_alone, count) in [(false, 40), (true, 40), (false, 4), (true, 40)] {
            server.set_alone(is_alone);
            call_long((&mut client, &mut server), lengths, &mut now, count);
            assert_eq!(client.congestion.is_calm(), is_alone, "{lengths:?}");
        }
    }
}

#[test]
fn long_calls_are_not_alone_beside_short_ones_of_the_same_client() {
    for (lengths, end) in LONG.into_iter().flat_map(|it| ENDS.map(|end| (it, end))) {
        let (mut client, mut server) = fast_once();
        server.set_alone(true);
        let mut now = USUAL;
        call_long((&mut client, &mut server), lengths, &mut now, 40);
        assert!(client.congestion.is_calm());
        call_short((&mut client, &mut server), now, end);
        let begin = now;
        call_long((&mut client, &mut server), lengths, &mut now, 4);
        assert!(now - begin < ALONE_AFTER && !client.congestion.is_calm(), "{lengths:?}");
        now = begin + ALONE_AFTER;
        call_long((&mut client, &mut server), lengths, &mut now, 40);
        assert!(client.congestion.is_calm());
    }
}

#[test]
fn between_processes_of_one_host_all_is_calm_whoever_else_calls() {
    let (mut client, mut server) = fast_once();
    client.congestion = super::super::Congestion::new(u64::MAX);
    client.congestion.sample(0, USUAL, USUAL, false);
    let mut now = USUAL;
    for is_alone in [true, false] {
        server.set_alone(is_alone);
        call_long((&mut client, &mut server), LONG[1], &mut now, 20);
        assert!(client.congestion.is_calm() && !client.congestion.is_network());
    }
}

#[test]
fn who_is_alone_is_never_allowed_less() {
    let timers = Timers { allowance: 5_000, allowance_alone: 1_000, ..timers() }.checked();
    assert_eq!((timers.allowance, timers.allowance_alone), (5_000, 5_000));
}
