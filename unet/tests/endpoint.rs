//! What an endpoint owes its channels: no lost wake-up, no client too many, a refusal that arrives.

mod support;

use std::time::{Duration, Instant};

use support::{
    PATIENCE, accept, address, connect_options, event, eventually, join, listen_options, listening,
};
use unet::{
    Channel, CloseReason, ConnectError, Counter, Endpoint, EndpointOptions, Event, Fault, Offer,
    Policy, Refusal, Wait,
};

/// A user that is not this process's.
fn another_user() -> u32 {
    rustix::process::geteuid().as_raw().wrapping_add(1)
}

#[test]
fn a_wake_up_is_not_lost_when_a_channel_of_the_endpoint_has_slept_by_itself() {
    let address = address("slept");
    let mut endpoint = listening(&address, Wait::Park);
    let (id, mut peer) = join(&mut endpoint, &address, Wait::Park);
    // The endpoint parks: the channel is quiet and its doorbell is armed.
    assert!(endpoint.recv_timeout(Duration::from_millis(20)).is_none());
    std::thread::scope(|scope| {
        let peer = scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(50));
            for _ in 0..64 {
                assert_eq!(peer.recv().expect("it is sent").inline(), b"much");
            }
            std::thread::sleep(Duration::from_millis(100));
            peer.send(b"wake up").expect("the channel is open");
            // Its bell is the only one: a hang-up would wake the endpoint too.
            peer
        });
        // The queue fills up, so this sleeps on the channel itself.
        let channel = endpoint.channel_mut(id).expect("it is open");
        for _ in 0..64 {
            channel.send(b"much").expect("the peer reads");
        }
        let begin = Instant::now();
        match endpoint.recv_timeout(PATIENCE) {
            Some(Event::Message(from, message)) => {
                assert_eq!((from, message.inline()), (id, &b"wake up"[..]));
            }
            other => panic!("a message was to come: {other:?}"),
        }
        // Who slept to the end finds it at the last look.
        let took = begin.elapsed();
        assert!(took < PATIENCE / 2, "the bell was not heard: {took:?}");
        drop(peer.join());
    });
}

#[test]
fn no_more_clients_are_let_in_than_there_is_space_for() {
    let address = address("space");
    let options = EndpointOptions { wait: Wait::Park, max_channels: 2 };
    let mut endpoint = Endpoint::new(options).expect("an endpoint");
    endpoint.listen(&address, listen_options()).expect("the name is free");
    std::thread::scope(|scope| {
        let connect = || Channel::connect(&address, connect_options(Wait::Park));
        let clients: Vec<_> = (0..6).map(|_| scope.spawn(connect)).collect();
        // All of them are there before one is decided on.
        std::thread::sleep(Duration::from_millis(100));
        let mut held = Vec::new();
        eventually("everybody is decided on", || {
            if let Some(Event::Incoming(incoming)) = endpoint.recv_timeout(Duration::from_millis(1))
            {
                held.push(incoming);
            }
            held.len() as u64 + endpoint.counters().get(Counter::RefusedResources) >= 6
        });
        assert_eq!(held.len(), 2, "as many are asked for as can be had");
        for incoming in held {
            endpoint.accept(incoming, b"").expect("there is space");
        }
        let outcomes: Vec<_> =
            clients.into_iter().map(|client| client.join().expect("no panic")).collect();
        let busy = |outcome: &&Result<Channel, ConnectError>| {
            outcome.as_ref().err() == Some(&ConnectError::Refused(Refusal::Busy))
        };
        assert_eq!(outcomes.iter().filter(busy).count(), 4, "{outcomes:?}");
        assert_eq!(endpoint.channels(), 2);
    });
}

#[test]
fn a_refusal_arrives_at_a_client_that_has_said_hello_already() {
    let address = address("refusal");
    let mut endpoint = Endpoint::new(EndpointOptions::default()).expect("an endpoint");
    let mut options = listen_options();
    options.policy = Policy::Users(vec![another_user()]);
    endpoint.listen(&address, options).expect("the name is free");
    for refused in 1..=20 {
        std::thread::scope(|scope| {
            let client = scope.spawn(|| Channel::connect(&address, connect_options(Wait::Park)));
            // Sooner or later than the hello.
            std::thread::sleep(Duration::from_millis(refused % 4));
            eventually("the client is refused", || {
                assert!(endpoint.recv_timeout(Duration::from_millis(1)).is_none());
                endpoint.counters().get(Counter::RefusedByPolicy) == refused
            });
            let outcome = client.join().expect("no panic").expect_err("refused");
            assert_eq!(outcome, ConnectError::Refused(Refusal::Policy), "attempt {refused}");
        });
    }
}

#[test]
fn a_client_whose_answer_is_too_long_is_refused() {
    let address = address("long");
    let mut endpoint = listening(&address, Wait::Park);
    std::thread::scope(|scope| {
        let client = scope.spawn(|| Channel::connect(&address, connect_options(Wait::Park)));
        let Some(Event::Incoming(incoming)) = endpoint.recv_timeout(PATIENCE) else {
            panic!("a client was to come");
        };
        let outcome = endpoint.accept(incoming, &[0; 129]);
        assert_eq!(outcome, Err(unet::AcceptError::PrivateTooLarge));
        let refused = client.join().expect("no panic").expect_err("refused");
        assert_eq!(refused, ConnectError::Refused(Refusal::Application(0)));
    });
    let mut long = connect_options(Wait::Park);
    long.private = vec![0; 129];
    let outcome = Channel::connect(&address, long);
    assert_eq!(outcome.expect_err("it does not fit"), ConnectError::PrivateTooLarge);
}

#[test]
fn the_application_sees_who_asks_and_its_refusal_has_a_code() {
    let address = address("code");
    let mut endpoint = listening(&address, Wait::Park);
    std::thread::scope(|scope| {
        let mut options = connect_options(Wait::Park);
        options.private = b"please".to_vec();
        let client = scope.spawn(|| Channel::connect(&address, options));
        let Some(Event::Incoming(incoming)) = endpoint.recv_timeout(PATIENCE) else {
            panic!("a client was to come");
        };
        assert_eq!(incoming.private(), b"please");
        assert_eq!(incoming.credentials().pid, std::process::id());
        assert_eq!(incoming.credentials().uid, rustix::process::geteuid().as_raw());
        endpoint.refuse(incoming, 42);
        let refused = client.join().expect("no panic").expect_err("refused");
        assert_eq!(refused, ConnectError::Refused(Refusal::Application(42)));
        assert_eq!(endpoint.counters().get(Counter::RefusedByApplication), 1);
    });
}

#[test]
fn a_request_that_is_dropped_is_refused() {
    let address = address("dropped");
    let mut endpoint = listening(&address, Wait::Park);
    std::thread::scope(|scope| {
        let client = scope.spawn(|| Channel::connect(&address, connect_options(Wait::Park)));
        let Some(Event::Incoming(incoming)) = endpoint.recv_timeout(PATIENCE) else {
            panic!("a client was to come");
        };
        drop(incoming);
        let refused = client.join().expect("no panic").expect_err("refused");
        assert_eq!(refused, ConnectError::Refused(Refusal::Application(0)));
    });
}

#[test]
fn the_id_of_a_closed_channel_means_nothing_any_more() {
    let address = address("stale");
    let mut endpoint = listening(&address, Wait::Park);
    let mut old = Vec::new();
    for round in 0..5 {
        let (id, client) = join(&mut endpoint, &address, Wait::Park);
        assert!(!old.contains(&id), "round {round}: an id is never used again");
        for stale in &old {
            assert!(endpoint.channel_mut(*stale).is_none());
            endpoint.close(*stale);
        }
        assert_eq!(endpoint.channels(), 1, "closing a stale id closes nothing");
        assert!(endpoint.channel_mut(id).is_some());
        if round % 2 == 0 {
            endpoint.close(id);
        } else {
            drop(client);
            match endpoint.recv_timeout(PATIENCE) {
                Some(Event::Closed(closed, unet::CloseReason::PeerClosed)) => {
                    assert_eq!(closed, id);
                }
                other => panic!("the client closed: {other:?}"),
            }
        }
        assert!(endpoint.channel_mut(id).is_none());
        old.push(id);
    }
}

#[test]
fn a_channel_is_found_to_be_closed_after_what_was_sent_on_it() {
    let address = address("after");
    let mut endpoint = listening(&address, Wait::Park);
    let (id, mut client) = join(&mut endpoint, &address, Wait::Park);
    for number in 0..16u64 {
        client.send(&number.to_ne_bytes()).expect("there is room");
    }
    drop(client);
    for number in 0..16u64 {
        match endpoint.recv_timeout(PATIENCE) {
            Some(Event::Message(_, message)) => assert_eq!(message.inline(), number.to_ne_bytes()),
            other => panic!("message {number} was sent: {other:?}"),
        }
    }
    match endpoint.recv_timeout(PATIENCE) {
        Some(Event::Closed(closed, unet::CloseReason::PeerClosed)) => assert_eq!(closed, id),
        other => panic!("the client closed: {other:?}"),
    }
}

#[test]
fn accepting_waits_for_nobody() {
    // A client that says hello and does nothing more is accepted; others are not held up.
    let address = address("idle");
    let mut endpoint = listening(&address, Wait::Park);
    let asking = support::hostile::ask(&address).expect("the listener is there");
    let begin = Instant::now();
    accept(&mut endpoint);
    let (id, _client) = join(&mut endpoint, &address, Wait::Park);
    assert!(endpoint.channel_mut(id).is_some());
    assert!(begin.elapsed() < PATIENCE / 4);
    drop(asking);
}

#[test]
fn who_sleeps_sleeps_no_longer_than_it_is_to_and_knows_it() {
    const TIME: Duration = Duration::from_micros(200);
    let sleeping = |wait| {
        let mut endpoint = listening(&address("naps"), wait);
        assert!(!endpoint.take_slept(), "by {wait:?}");
        let nap = |_| {
            let begin = Instant::now();
            assert!(endpoint.recv_timeout(TIME).is_none());
            begin.elapsed()
        };
        // The scheduler may take its time, but not each time.
        let shortest = (0..50).map(nap).min().expect("naps");
        assert!((TIME..4 * TIME).contains(&shortest), "{shortest:?} by {wait:?}");
        (endpoint.take_slept(), endpoint.take_slept())
    };
    assert_eq!(sleeping(Wait::Park), (true, false));
    assert_eq!(sleeping(Wait::Spin), (false, false));
}

#[test]
fn who_polls_seldom_and_waits_never_still_hears_of_everything() {
    for wait in support::WAITS {
        let address = address("seldom");
        let mut endpoint = listening(&address, wait);
        std::thread::scope(|scope| {
            let client = scope.spawn(|| {
                let mut client = Channel::connect(&address, connect_options(wait)).expect("open");
                assert_eq!(client.recv().expect("it greets").inline(), b"hello");
            });
            let mut seen = Vec::new();
            // A look each 5 ms, without waiting: a few are enough for each thing that happens.
            for _ in 0..400 {
                std::thread::sleep(Duration::from_millis(5));
                match endpoint.recv_timeout(Duration::ZERO) {
                    Some(Event::Incoming(incoming)) => {
                        let id = endpoint.accept(incoming, b"").expect("accepted");
                        endpoint.channel_mut(id).expect("open").send(b"hello").expect("open");
                        seen.push("incoming");
                    }
                    Some(Event::Closed(..)) => {
                        seen.push("closed");
                        break;
                    }
                    Some(Event::Message(..)) => panic!("it says nothing"),
                    None => seen.push("nothing"),
                    other => panic!("not to happen: {other:?}"),
                }
            }
            client.join().expect("the client does not panic");
            let told = seen.iter().filter(|what| **what != "nothing").copied();
            assert_eq!(told.collect::<Vec<_>>(), ["incoming", "closed"], "by {wait:?}");
            assert!(seen.len() < 40, "it took {} looks by {wait:?}", seen.len());
        });
    }
}

#[test]
fn an_endpoint_and_what_it_receives_may_move_to_another_thread() {
    // What cannot move does not compile here.
    fn moved<T: Send>(thing: T) -> T {
        std::thread::scope(|scope| scope.spawn(|| thing).join().expect("it moves and comes back"))
    }
    let address = address("moves");
    let mut endpoint = moved(listening(&address, Wait::Park));
    let (id, peer) = join(&mut endpoint, &address, Wait::Park);
    let mut peer = moved(peer);
    let buffer = moved(moved(peer.alloc(100).expect("a buffer is free")).freeze());
    peer.send_fbuf(0, buffer, b"").expect("it is open");
    let event = moved(endpoint.recv_timeout(PATIENCE).expect("it is sent"));
    let Event::Message(from, mut message) = event else { panic!("a message was to come") };
    assert_eq!(from, id);
    assert_eq!(moved(message.take_fbuf().expect("it came in a buffer")).len(), 100);
}

#[test]
fn what_a_closed_channel_counted_is_kept_by_its_endpoint() {
    let address = address("kept-counters");
    let mut endpoint = listening(&address, Wait::Park);
    for round in 1..=2 {
        let (id, client) = join(&mut endpoint, &address, Wait::Park);
        let channel = endpoint.channel_mut(id).expect("it is open");
        while channel.try_send(b"x") == Ok(Offer::Taken) {}
        channel.poison_protocol();
        let reason = CloseReason::Poisoned(Fault::Protocol);
        match event(&mut endpoint) {
            Event::Closed(closed, why) => assert_eq!((closed, why), (id, reason)),
            other => panic!("{other:?}"),
        }
        let counters = endpoint.counters();
        assert_eq!(counters.faults(Fault::Protocol), round);
        assert_eq!(counters.get(Counter::QueueFull), round);
        drop(client);
    }
    // Nor is it lost where this side closes.
    let (id, _client) = join(&mut endpoint, &address, Wait::Park);
    while endpoint.channel_mut(id).expect("it is open").try_send(b"x") == Ok(Offer::Taken) {}
    endpoint.close(id);
    assert_eq!(endpoint.counters().get(Counter::QueueFull), 3);
}
