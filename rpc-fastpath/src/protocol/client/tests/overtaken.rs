//! Requests that are lost, or slow, while later ones are answered.

use super::*;

const USUAL: u64 = 10_000;

/// A session with a call that is not answered, whose request is given back, and calls one after the other that are,
/// until a request is sent again or twice the time has passed that an answer is waited for.
fn overtaken(
    allowance: u64,
    is_server_woken: bool,
) -> (TestClient, TestServer, Sent, Option<(u64, Sent)>) {
    let limits = Limits { window: 4, ..limits() };
    let (mut client, mut server) = open(limits, timers());
    server.set_woken(is_server_woken);
    client.congestion = super::super::Congestion::new(allowance);
    client.start(0, call(0, 0)).unwrap();
    let first = from_client(&mut client, 0).remove(0);
    let mut again = None;
    for number in 1..2 * MILLISECOND / USUAL {
        let now = number * USUAL;
        client.start(now, call(number, 0)).unwrap();
        let (same, others): (Vec<_>, Vec<_>) = from_client(&mut client, now)
            .into_iter()
            .partition(|sent| id_of(sent) == id_of(&first));
        again = same.first().map(|sent| (now, sent.clone()));
        if again.is_some() {
            break;
        }
        let there = request(to_server(&mut server, now, &others));
        server.reply(now, there.pending, "", 0).unwrap();
        let back = from_server(&mut server);
        assert_eq!(outcome(to_client(&mut client, now + USUAL / 2, &back)).0, number);
        assert_eq!(told(&mut client, now + USUAL / 2), []);
    }
    (client, server, first, again)
}

#[test]
fn what_was_lost_is_sent_again_once_later_requests_are_answered() {
    let (mut client, mut server, first, again) = overtaken(USUAL, false);
    let (now, again) = again.expect("it is missed");
    assert!(now < MILLISECOND / 2, "{now}, which is as long as without others");
    assert!(now > 100_000, "{now}: it can have been overtaken on the way");
    assert_eq!(id_of(&again), id_of(&first));
    assert!(client.congestion.is_calm(), "nothing is known to be lost");
    let late = request(to_server(&mut server, now, &[again]));
    server.reply(now, late.pending, "", 7).unwrap();
    assert_eq!(
        outcome(to_client(&mut client, now + USUAL, &from_server(&mut server))),
        (0, Outcome::Executed(Payload::One(7)))
    );
    assert!(!client.congestion.is_calm(), "the first was lost");
}

#[test]
fn what_is_lost_again_waits_for_its_time() {
    let (mut client, _, first, again) = overtaken(USUAL, true);
    let (now, _) = again.expect("it is missed, by a server that sleeps as by one that does not");
    assert_eq!(told(&mut client, now + MILLISECOND - 1), []);
    let early = from_client(&mut client, now + MILLISECOND - 1);
    assert!(early.iter().all(|sent| id_of(sent) != id_of(&first)));
    assert_eq!(told(&mut client, now + 9 * MILLISECOND / 8), []);
    let due = from_client(&mut client, now + 9 * MILLISECOND / 8);
    assert!(due.iter().any(|sent| id_of(sent) == id_of(&first)));
}

#[test]
fn a_long_reply_that_is_on_its_way_is_not_sent_again() {
    let (_, mut server, first, again) = overtaken(USUAL, false);
    let (now, again) = again.expect("it is missed");
    let slow = request(to_server(&mut server, now, &[first]));
    server.reply(now, slow.pending, "", 100).unwrap();
    assert_eq!(from_server(&mut server).len(), 4, "as many as may come unasked");
    let sent_after = |server: &mut TestServer, time| {
        assert_eq!(to_server(server, now + time, std::slice::from_ref(&again)), []);
        from_server(server).len()
    };
    assert_eq!(sent_after(&mut server, MILLISECOND - 1), 0);
    assert_eq!(sent_after(&mut server, MILLISECOND), 1, "the first");
}

#[test]
fn what_is_slow_is_asked_for_once_and_is_no_congestion() {
    let (mut client, mut server, first, again) = overtaken(USUAL, false);
    let (mut now, again) = again.expect("it is missed");
    let _slow = request(to_server(&mut server, now, std::slice::from_ref(&first)));
    assert_eq!(to_server(&mut server, now, &[again]), []);
    let word = from_server(&mut server);
    assert!(matches!(packet(&word[0]), Packet::Received { whole: true, .. }));
    assert_eq!(to_client(&mut client, now, &word), []);
    // The call that was begun last, and the ones after it.
    for number in 1000..1100 {
        now += USUAL;
        let sent = from_client(&mut client, now);
        assert!(sent.iter().all(|sent| id_of(sent) != id_of(&first)), "{number}");
        for event in to_server(&mut server, now, &sent) {
            let ServerEvent::Request(it) = event else { panic!("{event:?}") };
            server.reply(now, it.pending, "", 0).unwrap();
        }
        to_client(&mut client, now + USUAL / 2, &from_server(&mut server));
        client.start(now + USUAL / 2, call(number, 0)).unwrap();
    }
    assert!(client.congestion.is_calm());
}

#[test]
fn where_nothing_can_be_lost_nothing_is_missed() {
    let (.., again) = overtaken(u64::MAX, false);
    assert!(again.is_none_or(|(now, _)| now >= MILLISECOND), "before its time");
}
