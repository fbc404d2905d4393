//! Calls that go well.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rpc_fastpath::endpoint::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::scene::*;

/// Ends all calls that are under way.
pub fn all_ends(connection: &mut Connection) -> HashMap<Token, Outcome<Vec<u8>>> {
    let mut ends = HashMap::new();
    let begin = Instant::now();
    while connection.under_way() > 0 {
        assert!(begin.elapsed() < Duration::from_secs(30), "calls do not end");
        connection.poll_timeout(Duration::from_millis(100), |end| {
            let outcome = end.outcome.map(|reply| reply.to_vec().expect("readable"));
            assert!(ends.insert(end.token, outcome).is_none(), "a call ended twice");
        });
    }
    ends
}

pub fn a_null_call_is_executed(way: Way) {
    with_server(way, of_server(), |scene| {
        let mut connection = scene.connect();
        for _ in 0..100 {
            let outcome = connection.call(NULL, b"", How::default());
            assert_eq!(outcome, Outcome::Executed(vec![]));
        }
        assert_eq!((connection.under_way(), scene.malformed()), (0, 0));
    });
}

pub fn sizes_of_every_kind_go_there_and_back(way: Way) {
    with_server(way, of_server(), |scene| {
        let mut connection = scene.connect();
        let large = [way.largest, way.largest / 2 + 1, 0];
        for size in [0, 1, 24, 25, 40, 41, 240, 241, 1 << 10, 64 << 10].into_iter().chain(large) {
            let bytes = pattern(size);
            let outcome = connection.call(ECHO, &bytes, How::default());
            assert!(outcome == Outcome::Executed(bytes), "{size} bytes there and back");
            let outcome = connection.call(MAKE, &(size as u64).to_le_bytes(), How::default());
            assert!(outcome == Outcome::Executed(pattern(size)), "{size} bytes back");
        }
    });
}

pub fn a_full_window_and_its_backlog_are_answered(way: Way) {
    with_server(way, of_server(), |scene| {
        let mut options = of_client(way);
        options.limits.window = 32;
        let mut connection = scene.connect_with(options);
        let mut replies = HashMap::new();
        for round in 0..50u64 {
            for number in 0..60u64 {
                // Some fit into a pack, some only into a message of their own.
                let bytes = pattern((number * 7) as usize + 8);
                let token = connection.start(ECHO, &bytes[..], How::default()).expect("room");
                replies.insert(token, bytes);
            }
            let ends = all_ends(&mut connection);
            assert_eq!(ends.len(), 60, "in round {round}");
            for (token, outcome) in ends {
                assert_eq!(outcome, Outcome::Executed(replies.remove(&token).expect("mine")));
            }
        }
    });
}

pub fn a_one_way_call_is_delivered(way: Way) {
    with_server(way, of_server(), |scene| {
        let mut connection = scene.connect();
        let how = How { one_way: true, ..How::default() };
        for _ in 0..200 {
            assert_eq!(connection.call(COUNT, &7u64.to_le_bytes(), how), Outcome::Delivered);
        }
        // What is handed over counts until it is done, and then no more.
        let outcome = connection.call(COUNT, &7u64.to_le_bytes(), How::default());
        assert_eq!(outcome, Outcome::Executed(201u64.to_le_bytes().into()));
    });
}

pub fn two_clients_have_their_own_sessions(way: Way) {
    with_server(way, of_server(), |scene| {
        let [mut one, mut other] = [scene.connect(), scene.connect()];
        assert_ne!(one.terms().expect("open").cookie, other.terms().expect("open").cookie);
        for number in 0..100u64 {
            let tokens = [&mut one, &mut other].map(|connection| {
                let token = connection.start(ECHO, &number.to_le_bytes(), How::default());
                connection.flush();
                token.expect("room")
            });
            for (connection, token) in [&mut one, &mut other].into_iter().zip(tokens) {
                let expected = Outcome::Executed(number.to_le_bytes().into());
                assert_eq!(all_ends(connection).remove(&token), Some(expected));
            }
        }
        assert_eq!(scene.clients(), 2);
        one.close(|_| {});
        until("the session is over", || scene.clients() == 1);
        assert_eq!(other.call(NULL, b"", How::default()), Outcome::Executed(vec![]));
    });
}

pub fn replies_are_given_later_by_workers(way: Way) {
    with_server(way, of_server(), |scene| {
        let mut connection = scene.connect();
        for number in 0..300u64 {
            let bytes = number.to_le_bytes();
            let late = connection.start(LATER, &bytes, How::default()).expect("room");
            // Another call overtakes it, or not; and its end is kept.
            let outcome = connection.call(ECHO, b"now", How::default());
            assert_eq!(outcome, Outcome::Executed(b"now".to_vec()));
            let expected = Outcome::Executed(bytes.to_vec());
            assert_eq!(all_ends(&mut connection).remove(&late), Some(expected));
        }
        let long = pattern(100_000);
        assert!(connection.call(LATER, &long, How::default()) == Outcome::Executed(long));
    });
}

pub fn an_event_loop_waits_on_the_descriptor(way: Way) {
    with_server(way, of_server(), |scene| {
        let mut connection = scene.connect();
        for number in 0..50u64 {
            let method = if number % 2 == 0 { LATER } else { ECHO };
            connection.start(method, &number.to_le_bytes(), How::default()).expect("room");
            let mut ended = 0;
            let begin = Instant::now();
            while ended == 0 {
                ended += connection.poll(|end| {
                    let reply = end.outcome.map(|reply| reply.to_vec().expect("readable"));
                    assert_eq!(reply, Outcome::Executed(number.to_le_bytes().into()));
                });
                if ended == 0 && connection.arm() {
                    let second = Timespec { tv_sec: 5, tv_nsec: 0 };
                    let descriptor = connection.as_fd();
                    let mut fds = [PollFd::new(&descriptor, PollFlags::IN)];
                    assert_eq!(poll(&mut fds, Some(&second)), Ok(1), "it is woken");
                }
                assert!(begin.elapsed() < Duration::from_secs(10));
            }
        }
    });
}

pub fn buffers_are_handed_over(way: Way) {
    with_server(way, of_server(), |scene| {
        let mut connection = scene.connect();
        for size in [1usize, 1000, 100_000, way.largest / 4 * 3] {
            let whole = pattern(size);
            let mut at = 0;
            let message = connection.message(size, |buffer| {
                buffer.copy_from_slice(&whole[at..at + buffer.len()]);
                at += buffer.len();
            });
            // Over a network, a message is no longer than a datagram.
            let arguments = message.map_or_else(|_| whole.clone().into(), Content::from);
            let same = |outcome: Outcome<Bytes<'_>>| match outcome {
                Outcome::Executed(reply) => reply.to_vec().expect("readable") == whole,
                _ => false,
            };
            assert!(connection.call_and(ECHO, arguments, How::default(), same), "{size} there");
            let asked = (size as u64).to_le_bytes();
            assert!(connection.call_and(HAND_OVER, &asked, How::default(), same), "{size} back");
        }
    });
}
