use super::*;
use crate::protocol::testing::*;
use crate::protocol::{Call, Outcome};

fn plain(number: u64, len: usize) -> Sent {
    let id = COOKIE.wrapping_add(number);
    let packet =
        Packet::Request { id, method: 5, time: 0, last: 0, credit: 2, one_way: false, ask: false };
    (packet.encode().to_vec(), len)
}

fn part(number: u64, index: u16, last: u16, len: usize) -> Sent {
    let id = COOKIE.wrapping_add(number);
    let packet = match index {
        0 => {
            Packet::Request { id, method: 5, time: 0, last, credit: 2, one_way: false, ask: false }
        }
        index => Packet::Fragment { id, method: 5, index, last, ask: false },
    };
    (packet.encode().to_vec(), len)
}

/// How the last answer says that a call ended.
fn status(server: &mut TestServer) -> Status {
    let sent = from_server(server);
    match sent.last().map(packet) {
        Some(Packet::Reply { status, .. }) => status,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_is_executed_once_and_its_reply_kept() {
    let (_, mut server) = open(limits(), timers());
    let request = request(to_server(&mut server, 0, &[plain(2, 5)]));
    // While it is being executed, who asks again is told so.
    assert_eq!(to_server(&mut server, 1, &[plain(2, 5), plain(2, 5)]), []);
    let answers = from_server(&mut server);
    assert_eq!(answers.len(), 1);
    assert!(matches!(packet(&answers[0]), Packet::Received { whole: true, .. }));
    server.reply(2, request.pending, "reply", 7).unwrap();
    let reply = from_server(&mut server);
    assert_eq!((reply.len(), reply[0].1), (1, 7));
    for _ in 0..3 {
        assert_eq!(to_server(&mut server, 3, &[plain(2, 5)]), []);
        assert_eq!(from_server(&mut server), reply);
    }
    // The next of its slot says that it is done with; then it is old.
    let next = super::super::testing::request(to_server(&mut server, 4, &[plain(4, 5)]));
    assert_eq!(to_server(&mut server, 5, &[plain(2, 5)]), []);
    assert_eq!(from_server(&mut server), []);
    server.reply(6, next.pending, "", 0).unwrap();
}

#[test]
fn a_reply_is_whole_whatever_goes_out_before_it() {
    let say = |server: &mut TestServer, one_way: bool| {
        let id = COOKIE.wrapping_add(2);
        let packet =
            Packet::Request { id, method: 5, time: 0, last: 0, credit: 2, one_way, ask: false };
        let _ = request(to_server(server, 0, &[(packet.encode().to_vec(), 5)]));
        if !one_way {
            // A word of what is being executed.
            assert_eq!(to_server(server, 1, &[plain(2, 5)]), []);
        }
    };
    for one_way in [true, false] {
        let (_, mut server) = open(limits(), timers());
        say(&mut server, one_way);
        let other = request(to_server(&mut server, 0, &[plain(3, 5)]));
        server.reply(2, other.pending, "reply", 7).unwrap();
        let answers = from_server(&mut server);
        assert_eq!(answers.len(), 2, "one way: {one_way}");
        let status = Status::Executed;
        assert!(matches!(packet(&answers[1]), Packet::Reply { status: it, .. } if it == status));
        assert_eq!((answers[0].1, answers[1].1), (0, 7), "one way: {one_way}");
    }
}

#[test]
fn a_number_of_another_session_is_answered_as_stale() {
    let (_, mut server) = open(limits(), timers());
    for number in [0, 1, 1 << 30, u64::MAX, COOKIE] {
        assert_eq!(to_server(&mut server, 0, &[plain(number, 0)]), []);
        let answers = from_server(&mut server);
        assert_eq!(answers.len(), 1, "{number}");
        assert_eq!(packet(&answers[0]), Packet::Stale { id: COOKIE.wrapping_add(number) });
    }
    // Calls that were given up leave gaps.
    assert_eq!(to_server(&mut server, 0, &[plain(2000, 0)]).len(), 1);
}

#[test]
fn nothing_of_a_predecessor_s_session_is_executed() {
    let (mut client, _) = open(limits(), timers());
    client.start(0, Call { ..call(1, 5) }).unwrap();
    let old = from_client(&mut client, 0);
    let (_, mut server) = open(limits(), timers());
    server.cookie = 12_345;
    server.slots = (0..2).map(|number| Slot::new(12_345 + number)).collect();
    assert_eq!(to_server(&mut server, 0, &old), []);
    let answers = from_server(&mut server);
    assert_eq!(
        stale_answer(&old[0].0).map(|header| (header.to_vec(), 0)),
        Some(answers[0].clone())
    );
    assert_eq!(stale_answer(&answers[0].0), None, "answers would go to and fro");
}

#[test]
fn an_opening_that_is_repeated_gets_the_same_answer_and_another_is_another_session() {
    let (_, mut server) = open(limits(), timers());
    let ask = |nonce| {
        let mut client = TestClient::new(0, nonce, SERVICE, 0, limits(), timers());
        from_client(&mut client, 0)
    };
    assert_eq!(to_server(&mut server, 0, &ask(99)), []);
    let answers = from_server(&mut server);
    assert!(matches!(packet(&answers[0]), Packet::Opened { nonce: 99, .. }));
    assert_eq!(to_server(&mut server, 0, &ask(98)), [ServerEvent::OtherSession]);
}

#[test]
fn what_cannot_be_agreed_is_rejected() {
    let reject = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut client = TestClient::new(0, 99, SERVICE, 3, limits(), timers());
        let mut head = from_client(&mut client, 0).remove(0).0;
        change(&mut head);
        match TestServer::accept(0, &head, identity(), 1, limits(), timers()) {
            Err(AcceptError::Rejected { why, .. }) => Some(why),
            _ => None,
        }
    };
    assert_eq!(reject(&|_| {}), None);
    assert_eq!(reject(&|head| head[2] = 2), Some(Rejection::Version));
    assert_eq!(reject(&|head| head[16] ^= 1), Some(Rejection::Service));
    assert_eq!(reject(&|head| head[24] ^= 1), Some(Rejection::Epoch));
    assert_eq!(reject(&|head| head[40] ^= 1), Some(Rejection::ServiceVersion));
    assert_eq!(reject(&|head| head[44] ^= 1), Some(Rejection::Layout));
    assert_eq!(reject(&|head| head[4] = 0), Some(Rejection::Offer));
    assert_eq!(reject(&|head| head.truncate(30)), Some(Rejection::Offer));
    let not_asked = TestServer::accept(0, &plain(2, 0).0, identity(), 1, limits(), timers());
    assert_eq!(not_asked.err(), Some(AcceptError::NotAsked));
}

#[test]
fn a_window_that_is_no_power_of_two_becomes_the_one_below() {
    let mut client = TestClient::new(0, 99, SERVICE, 0, Limits { window: 7, ..limits() }, timers());
    let asked = from_client(&mut client, 0);
    let large = Limits { window: 64, ..limits() };
    let server = TestServer::accept(0, &asked[0].0, identity(), 1, large, timers()).unwrap();
    assert_eq!(server.window, 4);
}

#[test]
fn excess_is_refused_and_stays_refused() {
    let (_, mut server) = open(Limits { backlog: 1, ..limits() }, timers());
    let running = request(to_server(&mut server, 0, &[plain(2, 0)]));
    assert_eq!(to_server(&mut server, 0, &[plain(3, 0)]), []);
    assert_eq!(status(&mut server), Status::Refused(Refusal::Overload));
    server.reply(1, running.pending, "", 0).unwrap();
    from_server(&mut server);
    // Also once there would be room: it was said.
    assert_eq!(to_server(&mut server, 2, &[plain(3, 0)]), []);
    assert_eq!(status(&mut server), Status::Refused(Refusal::Overload));
    assert_eq!(to_server(&mut server, 3, &[plain(5, 0)]).len(), 1);
}

#[test]
fn a_call_that_was_given_up_counts_until_its_handler_is_done() {
    let (_, mut server) = open(limits(), timers());
    let first = request(to_server(&mut server, 0, &[plain(2, 0)]));
    let second = request(to_server(&mut server, 0, &[plain(4, 0)]));
    assert_eq!(to_server(&mut server, 0, &[plain(6, 0)]), []);
    assert_eq!(status(&mut server), Status::Refused(Refusal::Overload));
    server.reply(1, first.pending, "late", 4).unwrap();
    server.reply(1, second.pending, "late", 4).unwrap();
    assert_eq!((server.executing(), from_server(&mut server)), (0, vec![]));
}

#[test]
fn what_was_asked_after_before_it_arrived_is_not_taken_any_more() {
    let (_, mut server) = open(limits(), timers());
    let query = |number| (Packet::Query { id: COOKIE.wrapping_add(number) }.encode().to_vec(), 0);
    for (number, before) in [(2, None), (3, Some(part(3, 0, 2, 10)))] {
        to_server(&mut server, 0, before.as_slice());
        assert_eq!(to_server(&mut server, 0, &[query(number)]), []);
        assert_eq!(status(&mut server), Status::Refused(Refusal::Withdrawn));
        let late = [plain(number, 0), part(number, 1, 2, 10), part(number, 2, 2, 10)];
        assert_eq!(to_server(&mut server, 1, &late), []);
        assert_eq!(status(&mut server), Status::Refused(Refusal::Withdrawn));
    }
    assert_eq!(server.unfinished, 0);
}

#[test]
fn a_fenced_session_begins_nothing_and_ends_what_goes_on() {
    let (_, mut server) = open(limits(), timers());
    let running = request(to_server(&mut server, 0, &[plain(2, 0)]));
    to_server(&mut server, 0, &[part(3, 0, 2, 10)]);
    server.fence(1);
    assert_eq!(status(&mut server), Status::Refused(Refusal::WrongEpoch));
    assert_eq!(to_server(&mut server, 2, &[plain(5, 0)]), []);
    assert_eq!(status(&mut server), Status::Refused(Refusal::WrongEpoch));
    server.reply(3, running.pending, "", 0).unwrap();
    assert_eq!(status(&mut server), Status::Executed);
}

#[test]
fn a_long_request_is_put_together_and_said_to_be_here() {
    let (_, mut server) = open(limits(), timers());
    let parts = [part(2, 2, 2, 3), part(2, 0, 2, 10), part(2, 0, 2, 10)];
    assert_eq!(to_server(&mut server, 0, &parts), []);
    let answers = from_server(&mut server);
    assert!(matches!(
        packet(&answers[0]),
        Packet::Received { base: 1, limit: 5, whole: false, .. }
    ));
    assert_eq!(answers[0].0[16..], [0b10, 0, 0, 0, 0, 0, 0, 0]);
    let request = request(to_server(&mut server, 0, &[part(2, 1, 2, 10)]));
    assert_eq!(request.payload, Payload::Many(vec![10, 10, 3]));
    let answers = from_server(&mut server);
    assert!(matches!(packet(&answers[0]), Packet::Received { whole: true, .. }));
    assert_eq!(server.unfinished, 0);
    server.reply(0, request.pending, "", 0).unwrap();
}

#[test]
fn a_request_that_would_be_too_long_is_refused_by_its_first_packet() {
    let (_, mut server) = open(limits(), timers());
    for too_long in [plain(2, 11), part(4, 3, 10, 10), part(6, 0, u16::MAX - 1, 10)] {
        assert_eq!(to_server(&mut server, 0, &[too_long]), []);
        assert_eq!(status(&mut server), Status::Refused(Refusal::TooLarge));
    }
}

#[test]
fn unfinished_requests_take_no_more_than_they_may() {
    let (_, mut server) = open(Limits { window: 4, ..limits() }, timers());
    to_server(&mut server, 0, &[part(4, 0, 8, 10)]);
    from_server(&mut server);
    to_server(&mut server, 0, &[part(5, 0, 8, 10)]);
    assert_eq!(status(&mut server), Status::Refused(Refusal::Overload));
    // One in place of it, in one packet or several, gives back what it took.
    assert_eq!(to_server(&mut server, 0, &[plain(8, 0)]).len(), 1);
    assert_eq!(server.unfinished, 0);
    to_server(&mut server, 0, &[part(9, 0, 8, 10), part(13, 0, 5, 10)]);
    assert_eq!(server.unfinished, 60);
}

#[test]
fn a_request_that_nobody_goes_on_with_makes_room_for_another() {
    let (_, mut server) = open(limits(), timers());
    to_server(&mut server, 0, &[part(2, 0, 8, 10)]);
    assert_eq!(to_server(&mut server, 50 * MILLISECOND, &[part(3, 0, 8, 10)]), []);
    assert_eq!((server.unfinished, server.slots[1].state), (90, State::Receiving));
    assert_eq!(status(&mut server), Status::Refused(Refusal::Overload));
    let late: Vec<Sent> = (1..9).map(|index| part(2, index, 8, 10)).collect();
    assert_eq!(to_server(&mut server, 51 * MILLISECOND, &late), []);
}

#[test]
fn a_long_reply_goes_as_far_as_it_may_and_on_with_what_was_taken() {
    let (mut client, mut server) = open(limits(), timers());
    client.start(0, call(1, 0)).unwrap();
    let request = request(to_server(&mut server, 0, &from_client(&mut client, 0)));
    server.reply(0, request.pending, "reply", 95).unwrap();
    let mut rounds = 0;
    let end = loop {
        let back = from_server(&mut server);
        assert!(!back.is_empty() && back.len() <= 4, "{back:?}");
        rounds += 1;
        let events = to_client(&mut client, rounds, &back);
        to_server(&mut server, rounds, &from_client(&mut client, rounds));
        if !events.is_empty() {
            break outcome(events);
        }
    };
    let pieces = [10, 10, 10, 10, 10, 10, 10, 10, 10, 5].to_vec();
    assert_eq!(end, (1, Outcome::Executed(Payload::Many(pieces))));
    assert_eq!(rounds, 3);
    // The client said that it has all: nothing is kept, and nothing is sent again.
    assert!(server.slots[0].payload.is_none());
    to_server(&mut server, 9, &[plain(2, 0)]);
    assert_eq!(from_server(&mut server), []);
}

#[test]
fn a_reply_that_is_too_long_is_told_to_both() {
    let (mut client, mut server) = open(limits(), timers());
    for (token, max_reply, len, fits) in [(1, 100, 101, false), (2, 5, 6, true), (3, 20, 95, true)]
    {
        client.start(0, Call { max_reply, ..call(token, 0) }).unwrap();
        let request = request(to_server(&mut server, 0, &from_client(&mut client, 0)));
        assert_eq!(server.reply(0, request.pending, "reply", len).is_ok(), fits);
        let end = outcome(to_client(&mut client, 0, &from_server(&mut server)));
        assert_eq!(end, (token, Outcome::Failed(Failure::ReplyTooLarge)));
        to_server(&mut server, 0, &from_client(&mut client, 0));
    }
}

#[test]
fn a_deadline_that_passes_while_a_request_arrives_refuses_it() {
    let (_, mut server) = open(limits(), timers());
    let id = COOKIE.wrapping_add(2);
    let time = span::encode(1000);
    let first =
        Packet::Request { id, method: 5, time, last: 1, credit: 0, one_way: false, ask: false };
    to_server(&mut server, 0, &[(first.encode().to_vec(), 10)]);
    assert_eq!(to_server(&mut server, 1001, &[part(2, 1, 1, 1)]), []);
    assert_eq!(status(&mut server), Status::Refused(Refusal::DeadlinePassed));
}

#[test]
fn a_silent_client_is_suspected_and_restored() {
    let timers = Timers { keepalive: 1, suspicion: 10, ..timers() };
    let (_, mut server) = open(limits(), timers);
    server.on_timer(server.next_timer());
    assert_eq!(server.next_timer(), 10);
    server.on_timer(10);
    assert_eq!(server.poll_event(), Some(ServerEvent::Suspected));
    assert_eq!(server.poll_event(), None);
    let ping = (Packet::Ping { id: COOKIE }.encode().to_vec(), 0);
    to_server(&mut server, 12, &[ping]);
    assert!(matches!(packet(&from_server(&mut server)[0]), Packet::Pong { .. }));
    assert_eq!(server.poll_event(), Some(ServerEvent::Restored));
    assert!(server.next_timer() <= 12);
}
