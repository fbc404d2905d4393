//! Replies of several calls, which share what the network carries.

use super::*;

const USUAL: u64 = 10_000;

/// Makes a network crowded, up to now, for a thread that sleeps: what was sent before was sent while all was calm.
fn crowd(client: &mut TestClient, now: u64) {
    client.set_woken(true);
    client.round_trip.sample(USUAL);
    client.congestion.sample(0, USUAL, USUAL, false);
    for number in 1..60 {
        client.congestion.sample(now - (60 - number) * USUAL, 9 * USUAL + WAKING, USUAL, true);
    }
    client.apply_congestion();
}

#[test]
fn what_is_lost_of_one_reply_keeps_no_other_from_its_permits() {
    let limits = Limits { credits: 64, max_message: 1000, ..limits() };
    let timers = Timers { allowance: 0, rto_min: 8 * MILLISECOND, ..timers() };
    let (mut client, mut server) = open(limits, timers);
    client.start(0, Call { max_reply: 1000, ..call(1, 0) }).unwrap();
    let short = request(to_server(&mut server, 0, &from_client(&mut client, 0)));
    crowd(&mut client, 60 * USUAL);
    let mut now = 60 * USUAL;
    client.start(now, Call { max_reply: 1000, ..call(2, 0) }).unwrap();
    let long = request(to_server(&mut server, now, &from_client(&mut client, now)));
    server.reply(now, short.pending, "short", 30).unwrap();
    let sent = from_server(&mut server);
    assert_eq!(sent.len(), 3);
    // Its last fragment never comes.
    assert_eq!(to_client(&mut client, now, &sent[..2]), []);
    server.reply(now, long.pending, "long", 1000).unwrap();
    let end = loop {
        let sent = from_server(&mut server);
        now += 3 * USUAL;
        let events = to_client(&mut client, now, &sent);
        if !events.is_empty() {
            break outcome(events);
        }
        let words = from_client(&mut client, now);
        if words.is_empty() {
            now = client.next_timer();
            assert_eq!(told(&mut client, now), []);
        }
        to_server(&mut server, now, &words);
        assert!(now < 6 * MILLISECOND, "it waits for the other");
    };
    assert_eq!(end.0, 2);
}

#[test]
fn what_a_request_permitted_that_is_sent_again_is_timed_by_nobody() {
    let limits = Limits { credits: 64, max_message: 1000, ..limits() };
    let (mut client, _) = open(limits, Timers { allowance: 0, ..timers() });
    for (token, len) in [(1, 0), (2, 30)] {
        client.start(0, Call { len, max_reply: 1000, ..call(token, 0) }).unwrap();
    }
    let credit = |sent: &Sent| match packet(sent) {
        Packet::Request { credit, .. } => Some(credit),
        _ => None,
    };
    let first: Vec<u8> = from_client(&mut client, 0).iter().filter_map(credit).collect();
    assert_eq!(first, [6, 6], "all, while all was calm");
    crowd(&mut client, 60 * USUAL);
    let now = 2 * MILLISECOND;
    assert_eq!(told(&mut client, now), []);
    let again: Vec<u8> = from_client(&mut client, now).iter().filter_map(credit).collect();
    assert_eq!(again, [1, 1]);
    // Whichever of them came.
    assert!(client.slots.iter().all(|slot| (slot.told, slot.told_before) == (2, 64)));
}

#[test]
fn what_a_lost_request_permitted_is_permitted_again_bit_by_bit() {
    let limits = Limits { credits: 64, max_message: 1000, ..limits() };
    let (mut client, mut server) = open(limits, Timers { allowance: 0, ..timers() });
    client.start(0, Call { max_reply: 1000, ..call(1, 0) }).unwrap();
    // All of its reply, while all was calm; and it is lost.
    assert_eq!(from_client(&mut client, 0).len(), 1);
    crowd(&mut client, 60 * USUAL);
    let mut now = 2 * MILLISECOND;
    assert_eq!(told(&mut client, now), []);
    let request = request(to_server(&mut server, now, &from_client(&mut client, now)));
    server.reply(now, request.pending, "long", 900).unwrap();
    let end = loop {
        let sent = from_server(&mut server);
        assert!(sent.len() <= 8, "{} at once", sent.len());
        now += 3 * USUAL;
        let events = to_client(&mut client, now, &sent);
        if !events.is_empty() {
            break outcome(events);
        }
        let mut words = from_client(&mut client, now);
        if words.is_empty() {
            assert!(client.next_timer() - now < MILLISECOND / 2, "it waits for what never comes");
            now = client.next_timer();
            assert_eq!(told(&mut client, now), []);
            words = from_client(&mut client, now);
        }
        to_server(&mut server, now, &words);
    };
    assert_eq!(end.0, 1);
}

#[test]
fn what_was_permitted_of_a_call_before_is_not_permitted_of_the_next() {
    let limits = Limits { credits: 64, max_message: 1000, ..limits() };
    let (mut client, mut server) = open(limits, Timers { allowance: 0, ..timers() });
    crowd(&mut client, 60 * USUAL);
    let mut now = 60 * USUAL;
    client.start(now, call(1, 0)).unwrap();
    let first = request(to_server(&mut server, now, &from_client(&mut client, now)));
    server.reply(now, first.pending, "", 0).unwrap();
    assert_eq!(to_client(&mut client, now, &from_server(&mut server)).len(), 1);
    while !client.congestion.is_calm() {
        now += MILLISECOND;
        client.congestion.sample(now, USUAL, USUAL, false);
    }
    client.apply_congestion();
    from_client(&mut client, now);
    client.start(now, Call { max_reply: 1000, ..call(2, 0) }).unwrap();
    let there = from_client(&mut client, now);
    let Packet::Request { credit, .. } = packet(&there[0]) else { panic!("a request") };
    let second = request(to_server(&mut server, now, &there));
    server.reply(now, second.pending, "long", 1000).unwrap();
    let sent = from_server(&mut server);
    to_client(&mut client, now, &sent[..1]);
    assert_eq!(client.slots.iter().map(|slot| slot.told).max(), Some(1 << credit));
}

/// In what order calls are sent first over a crowded network, `first` among them, where so many others are always
/// under way: their tokens.
fn order(first: Call<&'static str>, others: u64) -> Vec<u64> {
    let limits = Limits { window: 16, credits: 64, max_message: 1000, ..limits() };
    let (mut client, mut server) = open(limits, Timers { allowance: 0, ..timers() });
    crowd(&mut client, 60 * USUAL);
    client.set_woken(false);
    let (mut now, mut begun, mut order) = (60 * USUAL, 0, Vec::new());
    let mut on_the_way = VecDeque::new();
    client.start(now, first).unwrap();
    for _ in 0..100 * others {
        while begun < others + order.len() as u64 {
            begun += 1;
            client.start(now, call(begun, 0)).unwrap();
        }
        on_the_way.extend(from_client(&mut client, now));
        // The network carries one at a time.
        now += 3 * USUAL;
        let arrived: Vec<_> = on_the_way.pop_front().into_iter().collect();
        for event in to_server(&mut server, now, &arrived) {
            let ServerEvent::Request(request) = event else { continue };
            server.reply(now, request.pending, "", 0).unwrap();
        }
        client.congestion.sample(now, 9 * USUAL, USUAL, false);
        let ended = to_client(&mut client, now, &from_server(&mut server));
        order.extend(ended.into_iter().map(|end| outcome(vec![end]).0));
        let _ = told(&mut client, now);
    }
    assert!(!client.congestion.is_calm());
    order
}

/// Which of the first hundred calls come more than two windows later than they were begun, or never.
fn held_back(order: &[u64]) -> Vec<u64> {
    let place = |token: &u64| order.iter().position(|it| it == token);
    let late = |token: &u64| place(token).is_none_or(|place| place as u64 > token + 2 * 16);
    (0..100).filter(late).collect()
}

#[test]
fn no_call_is_held_back_for_later_ones() {
    assert_eq!(held_back(&order(call(0, 0), 12)), []);
}

/// How often calls ended that are begun again and again in a slot each, those in `long` with replies of 90 fragments,
/// and which fragment of theirs is permitted, where the network carries one packet each way at a time.
fn shares(long: &[u64]) -> Vec<(u64, u32)> {
    let limits = Limits {
        window: 16,
        credits: 64,
        max_message: 900,
        backlog: 16,
        unfinished: 900,
        ..limits()
    };
    let patience = 10_000 * MILLISECOND;
    let (mut client, mut server) = open(limits, Timers { allowance: 0, patience, ..timers() });
    crowd(&mut client, 60 * USUAL);
    client.set_woken(false);
    let (mut now, mut ends) = (60 * USUAL, vec![0; 15]);
    for token in 0..15 {
        client.start(now, Call { max_reply: 900, ..call(token, 0) }).unwrap();
    }
    let (mut there, mut back) = (VecDeque::new(), VecDeque::new());
    for _ in 0..6000 {
        there.extend(from_client(&mut client, now));
        now += USUAL;
        let arrived: Vec<_> = there.pop_front().into_iter().collect();
        for event in to_server(&mut server, now, &arrived) {
            let ServerEvent::Request(request) = event else { continue };
            let slot = request.pending.request().number % 16;
            let len = if long.contains(&slot) { 900 } else { 0 };
            server.reply(now, request.pending, "", len).unwrap();
        }
        back.extend(from_server(&mut server));
        now += USUAL;
        let arrived: Vec<_> = back.pop_front().into_iter().collect();
        for end in to_client(&mut client, now, &arrived) {
            let (token, _) = outcome(vec![end]);
            ends[token as usize] += 1;
            client.start(now, Call { max_reply: 900, ..call(token, 0) }).unwrap();
        }
        client.congestion.sample(now, 9 * USUAL, USUAL, false);
        let _ = told(&mut client, now);
    }
    let told = client.slots.iter().map(|slot| slot.told);
    ends.into_iter().zip(told).collect()
}

#[test]
fn calls_and_permits_take_turns_apart_from_each_other() {
    for long in [&[0][..], &[0, 10], &[0, 5, 10]] {
        let shares = shares(long);
        let is_long = |at: usize| long.contains(&(at as u64));
        let of = |wanted: bool| {
            let kind = shares.iter().enumerate().filter(move |(at, _)| is_long(*at) == wanted);
            kind.map(
                move |(_, (ends, told))| if wanted { 90 * ends + u64::from(*told) } else { *ends },
            )
        };
        for wanted in [false, true] {
            let (least, most) = (of(wanted).min().unwrap(), of(wanted).max().unwrap());
            assert!(least > 0 && 2 * least >= most, "{long:?} of {wanted}: {shares:?}");
        }
    }
}

#[test]
fn long_arguments_are_not_held_back_for_ever_by_short_calls() {
    let order = order(Call { len: 60, ..call(0, 0) }, 12);
    let place = order.iter().position(|token| *token == 0);
    // Of six fragments, each after eight calls.
    assert!(place.is_some_and(|place| (40..100).contains(&place)), "{place:?}");
    assert!(held_back(&order).len() <= 1);
}

#[test]
fn who_waits_for_its_turn_is_not_silent() {
    let limits = Limits { window: 16, backlog: 16, max_message: 1000, ..limits() };
    let timers = Timers { allowance: 0, rto_min: 8 * MILLISECOND, ..timers() };
    let (mut client, mut server) = open(limits, timers);
    for token in 0..16 {
        client.start(0, Call { max_reply: 1000, ..call(token, 0) }).unwrap();
    }
    for event in to_server(&mut server, 0, &from_client(&mut client, 0)) {
        let ServerEvent::Request(request) = event else { panic!("{event:?}") };
        server.reply(0, request.pending, "long", 100).unwrap();
    }
    let (mut now, mut left) = (MILLISECOND, 16);
    let mut events = to_client(&mut client, now, &from_server(&mut server));
    assert_eq!(events, []);
    while left > 0 {
        // As crowded as can be, whatever is measured.
        for _ in 0..60 {
            now += 10_000;
            client.congestion.sample(now, 60 * MILLISECOND, 10_000, false);
        }
        client.apply_congestion();
        let words = from_client(&mut client, now);
        to_server(&mut server, now, &words);
        now += 4 * MILLISECOND;
        let back = from_server(&mut server);
        events.extend(to_client(&mut client, now, &back));
        if back.is_empty() {
            now = client.next_timer().max(now);
            events.extend(told(&mut client, now));
        }
        for event in events.drain(..) {
            let Event::Ended { outcome, .. } = event else { panic!("{event:?}") };
            assert!(matches!(outcome, Outcome::Executed(_)), "{outcome:?} at {now}, {left} left");
            left -= 1;
        }
        assert!(now < 10_000 * MILLISECOND, "{left} left");
    }
}

#[test]
fn under_congestion_a_long_reply_is_permitted_bit_by_bit() {
    let limits = Limits { credits: 64, max_message: 1000, ..limits() };
    let (mut client, mut server) = open(limits, Timers { allowance: 0, ..timers() });
    client.round_trip.sample(USUAL);
    client.congestion.sample(0, USUAL, USUAL, false);
    for number in 1..60 {
        client.congestion.sample(number * USUAL, 9 * USUAL + WAKING, USUAL, true);
    }
    client.apply_congestion();
    let credits = u32::from(client.congestion.credits(64));
    assert_eq!(credits, 2, "a window of few packets");
    let mut now = 60 * USUAL;
    client.start(now, Call { max_reply: 1000, ..call(1, 0) }).unwrap();
    let request = request(to_server(&mut server, now, &from_client(&mut client, now)));
    server.reply(now, request.pending, "reply", 1000).unwrap();
    let (mut words, mut came) = (Vec::new(), 0);
    let end = loop {
        let sent = from_server(&mut server);
        came += sent.len();
        assert!(sent.len() <= credits as usize, "{}", sent.len());
        now += 3 * USUAL + WAKING;
        client.set_woken(true);
        let events = to_client(&mut client, now, &sent);
        if !events.is_empty() {
            break outcome(events);
        }
        let word = from_client(&mut client, now);
        if word.is_empty() {
            // Nothing is lost, so the next thing that is due is the next word.
            now = client.next_timer();
            assert_eq!(told(&mut client, now), []);
        } else {
            // There is room for another one in the window, and it is not its time yet.
            words.push(word.len());
            to_server(&mut server, now, &word);
        }
    };
    assert_eq!((came, end.0), (100, 1));
    assert_eq!(words, [1; 49]);
}
