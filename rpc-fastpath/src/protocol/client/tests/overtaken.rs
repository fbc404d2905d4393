//! Requests that are lost, or slow, while later ones are answered.

use super::*;

const USUAL: u64 = 10_000;

/// A session with a call that is not answered, whose request is given back, and calls one after the other that are,
/// until a request is sent again or twice the time has passed that an answer is waited for.
fn overtaken(allowance: u64) -> (TestClient, TestServer, Sent, Option<(u64, Sent)>) {
    let limits = Limits { window: 4, ..limits() };
    let (mut client, mut server) = open(limits, timers());
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
    let (mut client, mut server, first, again) = overtaken(USUAL);
    let (now, again) = again.expect("it is missed");
    assert!(now < MILLISECOND / 2, "{now}, which is as long as without others");
    assert_eq!(id_of(&again), id_of(&first));
    assert!(client.congestion.is_calm(), "nothing is known to be lost");
    let late = request(to_server(&mut server, now, &[again]));
    server.reply(now, late.pending, "", 7).unwrap();
    assert_eq!(
        outcome(to_client(&mut client, now + USUAL, &from_server(&mut server))),
        (0, Outcome::Executed(Payload::One(7)))
    );
}

#[test]
fn what_is_slow_is_asked_for_once_and_is_no_congestion() {
    let (mut client, mut server, first, again) = overtaken(USUAL);
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
    let (.., again) = overtaken(u64::MAX);
    assert!(again.is_none_or(|(now, _)| now >= MILLISECOND), "before its time");
}
