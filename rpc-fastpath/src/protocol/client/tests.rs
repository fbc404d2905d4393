mod alone;
mod overtaken;
mod paced;
mod revoked;

use super::*;
use crate::protocol::congestion::{ALONE_AFTER, WAKING};
use crate::protocol::testing::*;
use crate::protocol::{Doubt, Failure, Payload, Server, ServerEvent};
use crate::wire::{Packet, Rejection, Status};

fn reply(id: u64, status: Status) -> Sent {
    (Packet::Reply { id, status, held: 0, last: 0, ask: false, woken: false }.encode().to_vec(), 0)
}

fn id_of(sent: &Sent) -> u64 {
    match packet(sent) {
        Packet::Request { id, .. } | Packet::Query { id } => id,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_null_call_is_one_packet_each_way() {
    let (mut client, mut server) = open(limits(), timers());
    client.start(10, call(1, 5)).unwrap();
    let there = from_client(&mut client, 10);
    assert_eq!(there.len(), 1);
    let request = request(to_server(&mut server, 20, &there));
    assert_eq!((request.method, &request.payload), (5, &Payload::One(5)));
    server.reply(30, request.pending, "reply", 3).unwrap();
    let back = from_server(&mut server);
    assert_eq!(back.len(), 1);
    assert_eq!(outcome(to_client(&mut client, 40, &back)), (1, Outcome::Executed(Payload::One(3))));
    // A late copy of it tells nothing.
    assert_eq!(to_client(&mut client, 50, &back), []);
    assert_eq!(from_client(&mut client, 50), []);
}

#[test]
fn the_server_s_time_is_no_part_of_the_round_trip() {
    let (mut client, mut server) = open(limits(), Timers { rto_min: 1, ..timers() });
    client.start(0, call(1, 0)).unwrap();
    let request = request(to_server(&mut server, 100, &from_client(&mut client, 0)));
    server.reply(900_100, request.pending, "", 0).unwrap();
    to_client(&mut client, 900_200, &from_server(&mut server));
    // Of 900,200 ns, some 900,000 were the handler's; as many as the header can say.
    assert!(client.round_trip.smoothed() < 1000, "{}", client.round_trip.smoothed());
}

#[test]
fn the_number_of_a_slot_s_next_call_is_one_window_on() {
    let (mut client, _) = open(limits(), timers());
    let mut ids = Vec::new();
    for token in 0..5 {
        client.start(0, call(token, 0)).unwrap();
        let id = id_of(&from_client(&mut client, 0)[0]);
        to_client(&mut client, 1, &[reply(id, Status::Executed)]);
        ids.push(id.wrapping_sub(COOKIE));
    }
    assert_eq!(ids, [2, 4, 6, 8, 10]);
}

#[test]
fn a_request_is_sent_again_after_longer_and_longer_until_patience_ends() {
    let (mut client, _) = open(limits(), timers());
    client.start(0, call(1, 0)).unwrap();
    let first = from_client(&mut client, 0);
    let mut times = Vec::new();
    let mut now = 0;
    let end = loop {
        now = client.next_timer().max(now + 1);
        client.on_timer(now);
        let again = from_client(&mut client, now);
        assert!(again.is_empty() || id_of(&again[0]) == id_of(&first[0]));
        times.extend(again.first().map(|_| now));
        let events = to_client(&mut client, now, &[]);
        if !events.is_empty() {
            break outcome(events);
        }
    };
    assert_eq!(end, (1, Outcome::Unknown(Doubt::NoAnswer)));
    assert_eq!(now / MILLISECOND, 50);
    let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.windows(2).take(2).all(|pair| pair[1] > pair[0]), "{gaps:?}");
    assert!(gaps.iter().all(|gap| *gap <= 9 * MILLISECOND), "{gaps:?}");
}

#[test]
fn patience_counts_from_when_a_call_is_sent() {
    for len in [5, 35] {
        let (mut client, _) = open(limits(), timers());
        client.start(0, call(1, len)).unwrap();
        let now = 60 * MILLISECOND;
        assert!(!from_client(&mut client, now).is_empty());
        assert_eq!(told(&mut client, now + 10 * MILLISECOND), [], "{len} bytes");
    }
}

#[test]
fn what_was_sent_twice_is_not_measured() {
    let (mut client, _) = open(limits(), timers());
    let known = client.round_trip.smoothed();
    client.start(0, call(1, 0)).unwrap();
    let id = id_of(&from_client(&mut client, 0)[0]);
    client.on_timer(2 * MILLISECOND);
    assert_eq!(from_client(&mut client, 2 * MILLISECOND).len(), 1);
    to_client(&mut client, 2 * MILLISECOND, &[reply(id, Status::Executed)]);
    assert_eq!(client.round_trip.smoothed(), known);
}

#[test]
fn a_server_that_works_is_asked_and_not_sent_the_request_again() {
    let (mut client, mut server) = open(limits(), timers());
    client.start(0, call(1, 0)).unwrap();
    let there = from_client(&mut client, 0);
    let request = request(to_server(&mut server, 1, &there));
    // Asked for as long as it takes, longer than the patience with one that is silent.
    let mut now = 0;
    let mut asked = 0;
    while now < 200 * MILLISECOND {
        now = client.next_timer();
        assert_eq!(told(&mut client, now), []);
        let again = from_client(&mut client, now);
        asked += again.iter().filter(|sent| matches!(packet(sent), Packet::Query { .. })).count();
        assert_eq!(to_server(&mut server, now, &again), []);
        assert_eq!(to_client(&mut client, now, &from_server(&mut server)), []);
    }
    assert!((10..60).contains(&asked), "{asked}");
    server.fail(now, request.pending, Failure::Panicked);
    let end = outcome(to_client(&mut client, now, &from_server(&mut server)));
    assert_eq!(end, (1, Outcome::Failed(Failure::Panicked)));
}

#[test]
fn calls_beyond_the_window_wait_and_those_beyond_the_backlog_are_refused() {
    let (mut client, mut server) = open(limits(), timers());
    (0..4).for_each(|token| client.start(0, call(token, 0)).unwrap());
    let error = client.start(0, call(4, 0)).unwrap_err();
    assert_eq!((error.why, error.payload), (Refusal::Overload, "arguments"));
    let there = from_client(&mut client, 0);
    assert_eq!(there.len(), 2);
    let events = to_server(&mut server, 0, &there);
    assert_eq!(events.len(), 2);
    for event in events {
        let ServerEvent::Request(request) = event else { panic!("{event:?}") };
        server.reply(0, request.pending, "", 0).unwrap();
    }
    assert_eq!(to_client(&mut client, 0, &from_server(&mut server)).len(), 2);
    assert_eq!(from_client(&mut client, 0).len(), 2);
}

#[test]
fn a_call_that_waits_is_refused_when_its_deadline_passes() {
    let (mut client, _) = open(limits(), timers());
    for token in 0..3 {
        let deadline = (token == 2).then_some(5 * MILLISECOND);
        client.start(0, Call { deadline, ..call(token, 0) }).unwrap();
    }
    from_client(&mut client, 0);
    assert_eq!(told(&mut client, 4 * MILLISECOND), []);
    let end = outcome(told(&mut client, 5 * MILLISECOND));
    assert_eq!(end, (2, Outcome::Refused(Refusal::DeadlinePassed)));
    let late = Call { deadline: Some(5), ..call(3, 0) };
    client.start(6, late).unwrap_err();
}

#[test]
fn a_deadline_that_passes_after_sending_leaves_doubt_and_travels_as_what_is_left() {
    let (mut client, mut server) = open(limits(), timers());
    let deadline = Some(5 * MILLISECOND);
    client.start(0, Call { deadline, ..call(1, 0) }).unwrap();
    let request = request(to_server(&mut server, 1_000, &from_client(&mut client, MILLISECOND)));
    assert!(request.deadline.is_some_and(|at| at <= 4_001_000 && at > 3_990_000), "{request:?}");
    assert_eq!(
        outcome(told(&mut client, 5 * MILLISECOND)),
        (1, Outcome::Unknown(Doubt::DeadlinePassed))
    );
}

#[test]
fn doubt_is_resolved_by_asking_and_only_as_long_as_the_place_is_kept() {
    let (mut client, mut server) = open(limits(), timers());
    client.start(0, call(1, 0)).unwrap();
    from_client(&mut client, 0);
    let (now, events) = loop {
        let now = client.next_timer();
        let events = told(&mut client, now);
        from_client(&mut client, now);
        if !events.is_empty() {
            break (now, events);
        }
    };
    let [Event::Ended { request: Some(request), .. }] = events[..] else { panic!("{events:?}") };
    client.query(now, request).unwrap();
    assert_eq!(client.query(now, request), Err(QueryError::NotInDoubt));
    let asked = from_client(&mut client, now);
    assert_eq!(packet(&asked[0]), Packet::Query { id: COOKIE.wrapping_add(2) });
    assert_eq!(to_server(&mut server, now, &asked), []);
    let end = outcome(to_client(&mut client, now, &from_server(&mut server)));
    assert_eq!(end, (1, Outcome::Refused(Refusal::Withdrawn)));
    // Its place goes to the next.
    assert_eq!(client.query(now, request), Err(QueryError::NotInDoubt));
    (2..4).for_each(|token| client.start(now, call(token, 0)).unwrap());
    // As much was lost, one goes ahead of the other.
    let sent = from_client(&mut client, now);
    assert_eq!(sent.len(), 1);
    to_client(&mut client, now, &[reply(id_of(&sent[0]), Status::Executed)]);
    assert_eq!(from_client(&mut client, now + 1).len(), 1);
}

#[test]
fn a_place_in_doubt_is_the_last_one_to_be_taken() {
    let (mut client, _) = open(limits(), timers());
    let deadline = Some(5);
    client.start(0, Call { deadline, ..call(1, 0) }).unwrap();
    from_client(&mut client, 0);
    assert_eq!(told(&mut client, 5).len(), 1);
    client.start(6, call(2, 0)).unwrap();
    assert_eq!(id_of(&from_client(&mut client, 6)[0]), COOKIE.wrapping_add(3));
    client.start(6, call(3, 0)).unwrap();
    assert_eq!(id_of(&from_client(&mut client, 6)[0]), COOKIE.wrapping_add(4));
    let request = RequestId { cookie: COOKIE, number: 2 };
    assert_eq!(client.query(6, request), Err(QueryError::NotInDoubt));
}

#[test]
fn a_lost_session_ends_every_call_as_what_is_known_of_it() {
    let (mut client, _) = open(limits(), timers());
    (0..4).for_each(|token| client.start(0, call(token, 0)).unwrap());
    let there = from_client(&mut client, 0);
    // A stale answer to nothing of this session's is not believed.
    let stale = |id| (Packet::Stale { id }.encode().to_vec(), 0);
    assert_eq!(to_client(&mut client, 0, &[stale(1), stale(COOKIE.wrapping_add(4))]), []);
    let events = to_client(&mut client, 0, &[stale(id_of(&there[1]))]);
    let ends: Vec<_> = events[1..].iter().collect();
    assert_eq!(events[0], Event::SessionOver(SessionEnd::Lost));
    assert_eq!(ends.len(), 4);
    for (token, end) in ends.into_iter().enumerate() {
        let Event::Ended { token: ended, outcome, .. } = end else { panic!("{end:?}") };
        assert_eq!(*ended, token as u64);
        let expected = if token < 2 {
            Outcome::Unknown(Doubt::SessionLost)
        } else {
            Outcome::Refused(Refusal::NoSession)
        };
        assert_eq!(*outcome, expected);
    }
    assert_eq!(client.start(1, call(5, 0)).unwrap_err().why, Refusal::NoSession);
    assert!(client.is_over() && client.next_timer() == u64::MAX);
}

#[test]
fn a_rejected_or_unanswered_opening_refuses_all_calls() {
    let mut client = TestClient::new(0, 99, SERVICE + 1, 0, limits(), timers());
    client.start(0, call(1, 0)).unwrap();
    let asked = from_client(&mut client, 0);
    let error = Server::<(), ()>::accept(0, &asked[0].0, identity(), 1, limits(), timers());
    let Err(crate::protocol::AcceptError::Rejected { why, answer }) = error else {
        panic!("{error:?}")
    };
    assert_eq!(why, Rejection::Service);
    let events = to_client(&mut client, 0, &[(answer.to_vec(), 0)]);
    assert_eq!(events[0], Event::SessionOver(SessionEnd::Rejected(Rejection::Service)));
    assert_eq!(
        outcome(events[1..].iter().map(copy).collect()).1,
        Outcome::Refused(Refusal::NoSession)
    );

    let mut client = TestClient::new(0, 99, SERVICE, 0, limits(), timers());
    let mut asked = 0;
    let mut now = 0;
    let events = loop {
        asked += from_client(&mut client, now).len();
        now = client.next_timer();
        let events = told(&mut client, now);
        if !events.is_empty() {
            break events;
        }
    };
    assert_eq!(events, [Event::SessionOver(SessionEnd::NoAnswer)]);
    assert!((5..15).contains(&asked), "{asked}");
}

fn copy(event: &Event<u32>) -> Event<u32> {
    match event {
        Event::Ended { token, request, outcome: Outcome::Refused(why) } => {
            Event::Ended { token: *token, request: *request, outcome: Outcome::Refused(*why) }
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn suspicion_ends_no_call_and_passes() {
    let timers = Timers {
        keepalive: 2 * MILLISECOND,
        suspicion: 6 * MILLISECOND,
        patience: 1000 * MILLISECOND,
        ..timers()
    };
    let (mut client, mut server) = open(limits(), timers);
    client.start(0, call(1, 0)).unwrap();
    let mut now = 0;
    let mut pings = 0;
    loop {
        let sent = from_client(&mut client, now);
        pings += sent.iter().filter(|sent| matches!(packet(sent), Packet::Ping { .. })).count();
        now = client.next_timer();
        match told(&mut client, now)[..] {
            [] => {}
            [Event::Suspected] => break,
            ref other => panic!("{other:?}"),
        }
    }
    assert!((6..9).contains(&(now / MILLISECOND)) && pings >= 2, "{now} {pings}");
    let ping = (Packet::Ping { id: COOKIE }.encode().to_vec(), 0);
    to_server(&mut server, now + 1, &[ping]);
    assert_eq!(to_client(&mut client, now + 1, &from_server(&mut server)), [Event::Restored]);
}

#[test]
fn a_one_way_call_ends_when_its_handler_has_it() {
    let (mut client, mut server) = open(limits(), timers());
    client.start(0, Call { one_way: true, ..call(1, 4) }).unwrap();
    let request = request(to_server(&mut server, 0, &from_client(&mut client, 0)));
    assert!(request.one_way);
    let end = outcome(to_client(&mut client, 0, &from_server(&mut server)));
    assert_eq!(end, (1, Outcome::Delivered));
    assert_eq!(server.executing(), 1);
    server.reply(0, request.pending, "nobody waits", 3).unwrap();
    assert_eq!((server.executing(), from_server(&mut server)), (0, vec![]));
}

#[test]
fn closing_tells_the_server_once_and_leaves_doubt() {
    let (mut client, mut server) = open(limits(), timers());
    client.start(0, call(1, 0)).unwrap();
    from_client(&mut client, 0);
    client.close();
    client.close();
    assert_eq!(outcome(to_client(&mut client, 0, &[])), (1, Outcome::Unknown(Doubt::Closed)));
    let bye = from_client(&mut client, 0);
    assert_eq!(bye.len(), 1);
    assert_eq!(to_server(&mut server, 0, &[bye[0].clone(), bye[0].clone()]), [ServerEvent::Closed]);
}

/// Calls one after the other over a slow way, of which one thread or the other wakes for each: whether that counts as
/// congestion.
fn is_crowded(is_server_woken: bool, is_client_woken: bool) -> bool {
    const USUAL: u64 = 10_000;
    const LATE: u64 = 150_000;
    let (mut client, mut server) = open(limits(), Timers { allowance: 0, ..timers() });
    client.round_trip.sample(USUAL);
    client.congestion.sample(0, USUAL, USUAL, false);
    let mut now = USUAL;
    for token in 0..40 {
        client.start(now, call(token, 0)).unwrap();
        server.set_woken(is_server_woken);
        let request = request(to_server(&mut server, now, &from_client(&mut client, now)));
        server.reply(now, request.pending, "reply", 1).unwrap();
        now += USUAL + LATE;
        client.set_woken(is_client_woken);
        assert_eq!(outcome(to_client(&mut client, now, &from_server(&mut server))).0, token);
    }
    !client.congestion.is_calm()
}

#[test]
fn who_wakes_is_late_and_nothing_is_crowded() {
    assert!(is_crowded(false, false));
    assert!(!is_crowded(true, false));
    assert!(!is_crowded(false, true));
}

#[test]
fn the_last_channel_says_how_long_to_wait() {
    let mut client = TestClient::new(0, 99, SERVICE, 0, limits(), Timers::default());
    client.set_channel(10, false);
    client.set_channel(10, true);
    client.round_trip.sample(50_000);
    assert_eq!(client.round_trip.timeout(), Timers::default().rto_min);
}
