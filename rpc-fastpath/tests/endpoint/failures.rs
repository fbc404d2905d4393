//! Calls that do not go well, and end as they must.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rpc_fastpath::endpoint::*;
use rpc_fastpath::protocol::{Body, Call, Client};
use rpc_fastpath::wire::{Packet, Status};
use unet::Channel;

use crate::calls::all_ends;
use crate::scene::*;

pub fn a_deadline_that_passed_before_is_a_refusal(way: Way) {
    with_server(way, of_server(), |scene| {
        let mut connection = scene.connect();
        let how = How { deadline: Some(Instant::now()), ..How::default() };
        let outcome = connection.call(COUNT, &1u64.to_le_bytes(), how);
        assert_eq!(outcome, Outcome::Refused(Refusal::DeadlinePassed));
        let in_time =
            How { deadline: Some(Instant::now() + Duration::from_secs(10)), ..How::default() };
        let outcome = connection.call(COUNT, &1u64.to_le_bytes(), in_time);
        assert_eq!(outcome, Outcome::Executed(1u64.to_le_bytes().into()));
    });
}

pub fn a_slow_call_is_in_doubt_after_its_deadline_and_told_when_asked(way: Way) {
    with_server(way, of_server(), |scene| {
        let mut connection = scene.connect();
        let how =
            How { deadline: Some(Instant::now() + Duration::from_millis(500)), ..How::default() };
        let token = connection.start(WAIT, b"", how).expect("room");
        let (mut request, begin) = (None, Instant::now());
        while request.is_none() {
            assert!(begin.elapsed() < Duration::from_secs(10));
            connection.poll_timeout(Duration::from_secs(1), |end| {
                assert_eq!(end.token, token);
                assert!(matches!(end.outcome, Outcome::Unknown(Doubt::DeadlinePassed)));
                request = end.request;
            });
        }
        scene.go.store(true, Ordering::Relaxed);
        connection.query(request.expect("it was sent")).expect("it is in doubt");
        let outcome = all_ends(&mut connection).remove(&token).expect("once more");
        // Over a network that loses, the call itself may have been lost, and is withdrawn.
        let is_told = match outcome {
            Outcome::Executed(ref reply) => reply.is_empty(),
            Outcome::Refused(why) => matches!(why, Refusal::Withdrawn | Refusal::DeadlinePassed),
            _ => false,
        };
        assert!(is_told, "{outcome:?}");
        assert_eq!(connection.query(request.expect("it was sent")), Err(QueryError::NotInDoubt));
    });
}

pub fn an_unknown_method_is_refused(way: Way) {
    with_server(way, of_server(), |scene| {
        let mut connection = scene.connect();
        let outcome = connection.call(999, b"what?", How::default());
        assert_eq!(outcome, Outcome::Refused(Refusal::UnknownMethod));
        assert_eq!(connection.call(NULL, b"", How::default()), Outcome::Executed(vec![]));
    });
}

pub fn a_panic_ends_the_call_and_not_the_server(way: Way) {
    with_server(way, of_server(), |scene| {
        let mut connection = scene.connect();
        for _ in 0..3 {
            let outcome = connection.call(PANIC, b"", How::default());
            assert_eq!(outcome, Outcome::Failed(Failure::Panicked));
            assert_eq!(connection.call(NULL, b"", How::default()), Outcome::Executed(vec![]));
        }
    });
}

pub fn a_reply_that_is_too_large_is_told(way: Way) {
    with_server(way, of_server(), |scene| {
        let mut options = of_client(way);
        options.limits.max_message = 1 << 20;
        let mut connection = scene.connect_with(options);
        for (size, max_reply) in [(100, 99), (5_000, 4_999), (2 << 20, u32::MAX)] {
            let how = How { max_reply, ..How::default() };
            let outcome = connection.call(MAKE, &(size as u64).to_le_bytes(), how);
            assert_eq!(outcome, Outcome::Failed(Failure::ReplyTooLarge), "{size}");
        }
        let outcome = connection.call(MAKE, &5_000u64.to_le_bytes(), How::default());
        assert_eq!(outcome, Outcome::Executed(pattern(5_000)));
    });
}

pub fn more_calls_than_may_wait_are_refused(way: Way) {
    with_server(way, of_server(), |scene| {
        let mut options = of_client(way);
        (options.limits.window, options.limits.backlog) = (4, 10);
        let mut connection = scene.connect_with(options);
        let started = (0..50).map(|_| connection.start(NULL, b"", How::default()));
        let (taken, refused): (Vec<_>, Vec<_>) = started.partition(Result::is_ok);
        assert_eq!((taken.len(), refused.len()), (14, 36));
        assert!(refused.iter().all(|refused| *refused == Err(Refusal::Overload)));
        let ends = all_ends(&mut connection);
        assert!(ends.len() == 14 && ends.values().all(|end| *end == Outcome::Executed(vec![])));
    });
}

pub fn more_late_replies_than_may_wait_are_refused(way: Way) {
    let mut options = of_server();
    options.later = 3;
    with_server(way, options, |scene| {
        let mut connection = scene.connect();
        let kept: Vec<_> =
            (0..3).map(|_| connection.start(KEEP, b"", How::default()).expect("room")).collect();
        connection.poll(|_| {});
        std::thread::sleep(Duration::from_millis(50));
        let outcome = connection.call(KEEP, b"", How::default());
        // Those before it may have been lost on the way, and come after it: then it is one of the three.
        let of_one = scene.connect().call(KEEP, b"", How { ..How::default() });
        assert!(
            [&outcome, &of_one].contains(&&Outcome::Refused(Refusal::Overload)),
            "{outcome:?} {of_one:?}"
        );
        // Who waits for nobody is served all the same.
        assert_eq!(connection.call(NULL, b"", How::default()), Outcome::Executed(vec![]));
        assert!(connection.under_way() <= kept.len());
        let mut ended = Vec::new();
        connection.close(|end| ended.push((end.token, end.outcome.map(|_| ()))));
        for token in kept {
            let mut ends = ended.iter().filter(|(ended, _)| *ended == token);
            assert!(matches!(
                ends.next(),
                Some((_, Outcome::Unknown(Doubt::Closed) | Outcome::Refused(Refusal::Overload)))
            ));
            assert!(ends.next().is_none(), "once");
        }
    });
}

pub fn an_abandoned_call_is_told(way: Way) {
    with_server(way, of_server(), |scene| {
        let mut connection = scene.connect();
        for _ in 0..100 {
            let outcome = connection.call(DROP, b"", How::default());
            assert_eq!(outcome, Outcome::Failed(Failure::Abandoned));
        }
    });
}

pub fn another_service_is_rejected(way: Way) {
    with_server(way, of_server(), |scene| {
        let own = ServiceId::from(SERVICE);
        let other = [
            (ServiceId { name: own.name + 1, ..own }, Rejection::Service),
            (ServiceId { version: own.version + 1, ..own }, Rejection::ServiceVersion),
            (ServiceId { layout: own.layout + 1, ..own }, Rejection::Layout),
        ];
        for (service, why) in other {
            let options = ConnectionOptions { service, ..of_client(way) };
            let error = Connection::open(&scene.address, options).expect_err("it is another one");
            assert_eq!(error, OpenError::Session(SessionEnd::Rejected(why)));
        }
        let options = ConnectionOptions { epoch: 5, ..of_client(way) };
        let error = Connection::open(&scene.address, options).expect_err("it is another one");
        assert_eq!(error, OpenError::Session(SessionEnd::Rejected(Rejection::Epoch)));
        assert_eq!(scene.connect().call(NULL, b"", How::default()), Outcome::Executed(vec![]));
    });
}

pub fn garbage_is_counted_and_others_go_on(way: Way) {
    with_server(way, of_server(), |scene| {
        let mut connection = scene.connect();
        let mut hostile =
            Channel::connect(&scene.address, of_client(way).connect).expect("a channel");
        let mut chance = 0x9e37_79b9_7f4a_7c15u64;
        for round in 0..3_000 {
            chance ^= chance << 13;
            chance ^= chance >> 7;
            chance ^= chance << 17;
            let mut bytes = pattern((chance % 300) as usize);
            for (byte, by) in bytes.iter_mut().zip(chance.to_le_bytes()) {
                *byte = by;
            }
            if let Some(kind) = bytes.first_mut().filter(|_| round % 2 == 0) {
                *kind = (chance >> 40) as u8 % 9;
            }
            // As packets, packs and neither; beside a buffer and not.
            let (head, rest) = bytes.split_at(bytes.len().min((chance >> 50) as usize % 41));
            let _ = hostile.try_send_parts((chance >> 32) as u16 % 3, head, rest);
            if round % 100 == 0 {
                let outcome = connection.call(ECHO, b"still here", How::default());
                assert_eq!(outcome, Outcome::Executed(b"still here".to_vec()));
            }
        }
        until("it is counted", || scene.malformed() > 100);
        assert_eq!(scene.connect().call(NULL, b"", How::default()), Outcome::Executed(vec![]));
    });
}

pub fn an_epoch_that_is_over_takes_a_new_session(way: Way) {
    with_server(way, of_server(), |scene| {
        let mut connection = scene.connect();
        assert_eq!(connection.terms().map(|terms| terms.epoch), Some(1));
        for epoch in 2..6 {
            scene.epoch.store(epoch, std::sync::atomic::Ordering::Relaxed);
            until("the epoch is entered", || {
                scene.epoch.load(std::sync::atomic::Ordering::Relaxed) == 0
            });
            // The first call of an epoch may still come before it begins.
            let mut outcomes = Vec::new();
            until("calls are executed in the new epoch", || {
                outcomes.push(connection.call(NULL, b"", How::default()));
                connection.terms().is_some_and(|terms| terms.epoch == epoch)
                    && outcomes.last() == Some(&Outcome::Executed(vec![]))
            });
            let refused = Outcome::Refused(Refusal::WrongEpoch);
            assert!(outcomes.contains(&refused), "{outcomes:?}");
            let either = |outcome| [&refused, &Outcome::Executed(vec![])].contains(&outcome);
            assert!(outcomes.iter().all(either), "{outcomes:?}");
        }
    });
}

pub fn a_client_that_does_not_read_is_let_go_of(way: Way) {
    let mut options = of_server();
    options.timers.patience = 300_000_000;
    with_server(way, options, |scene| {
        let mut hostile =
            Channel::connect(&scene.address, of_client(way).connect).expect("a channel");
        let (limits, timers) = (Limits { window: 64, ..Limits::default() }, Timers::default());
        let mut machine: Client<(), ()> = Client::new(0, 7, SERVICE, 0, limits, timers);
        let open = machine.poll_transmit(0).expect("an opening");
        let Body::Control(offer, len) = open.body else { panic!("with an offer") };
        hostile.send(&[&open.header[..], &offer[..len]].concat()).expect("room");
        let opened = hostile.recv().expect("an answer");
        assert!(machine.receive(0, opened.inline(), opened.inline().len() - 16, ()).is_some());
        let begin = Instant::now();
        let mut at = 0;
        while hostile.closed().is_none() {
            assert!(begin.elapsed() < Duration::from_secs(15), "it is still served");
            at += 1;
            let (payload, len) = ((), 0);
            let (deadline, max_reply, one_way) = (None, u32::MAX, false);
            let call = Call { token: at, method: NULL, payload, len, deadline, max_reply, one_way };
            machine.start(0, call).expect("all were answered");
            let Some(packet) = machine.poll_transmit(0) else { panic!("a request") };
            let header = packet.header;
            // Without room, the call is given up.
            let _ = hostile.try_send(&header);
            // As if it had been answered.
            let id = u64::from_le_bytes(*header[8..].first_chunk().expect("its id"));
            let status = Status::Executed;
            let answer = Packet::Reply { id, status, held: 0, last: 0, ask: false, woken: false };
            assert!(machine.receive(0, &answer.encode(), 0, ()).is_some());
            hostile.check_liveness();
        }
        assert_eq!(scene.connect().call(NULL, b"", How::default()), Outcome::Executed(vec![]));
    });
}
