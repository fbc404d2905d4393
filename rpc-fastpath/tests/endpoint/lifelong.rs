//! What becomes of a connection that outlives its sessions.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rpc_fastpath::endpoint::*;

use crate::scene::*;

const EXECUTED: Outcome<Vec<u8>> = Outcome::Executed(Vec::new());

fn soon(milliseconds: u64) -> How {
    let deadline = Instant::now() + Duration::from_millis(milliseconds);
    How { deadline: Some(deadline), ..How::default() }
}

/// Arguments for which no room can ever be.
fn with_small_quota(scene: &Scene) -> Connection {
    let mut options = of_client(scene.way);
    options.connect.channel.quota.bytes = 10_000;
    options.connect.channel.quota.resume_bytes = 10_000;
    scene.connect_with(options)
}

#[test]
fn a_call_that_the_channel_cannot_carry_ends() {
    with_server(SHM, of_server(), |scene| {
        let mut connection = with_small_quota(scene);
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let large = connection.call(NULL, &[1; 100_000], soon(1_000));
            let _ = tell.send((large, connection.call(NULL, b"", How::default())));
        });
        let outcomes = told.recv_timeout(Duration::from_secs(10)).expect("both calls end");
        assert_eq!(outcomes, (Outcome::Unknown(Doubt::SessionLost), EXECUTED));
    });
}

#[test]
fn nobody_sleeps_while_ends_are_to_be_told() {
    with_server(SHM, of_server(), |scene| {
        let mut connection = with_small_quota(scene);
        connection.start(NULL, vec![1; 100_000], How::default()).expect("room");
        assert!(!connection.arm(), "its end is to be told");
        let mut ends = Vec::new();
        connection.poll(|end| ends.push(end.outcome.map(|_| ())));
        assert_eq!(ends, [Outcome::Unknown(Doubt::SessionLost)]);
    });
}

/// A connection with a call of the epoch before, which lasts so long, and with the next epoch known.
fn between_epochs(scene: &Scene, patience: u64, milliseconds: u64) -> (Connection, Token) {
    let mut options = of_client(scene.way);
    options.timers.patience = patience * 1_000_000;
    options.timers.rto_max = 50_000_000;
    let mut connection = scene.connect_with(options);
    let epoch = connection.terms().expect("a session").epoch;
    let old = connection.start(KEEP, b"", soon(milliseconds)).expect("room");
    connection.poll_timeout(Duration::from_millis(20), |_| {});
    scene.epoch.store(epoch + 1, std::sync::atomic::Ordering::Relaxed);
    until("the epoch is over", || {
        connection.call(NULL, b"", How::default()) == Outcome::Refused(Refusal::WrongEpoch)
    });
    (connection, old)
}

#[test]
fn a_deadline_holds_for_a_call_that_waits_for_the_next_session() {
    with_server(SHM, of_server(), |scene| {
        let (mut connection, _) = between_epochs(scene, 5_000, 10_000);
        let begin = Instant::now();
        let outcome = connection.call(NULL, b"", soon(100));
        assert_eq!(outcome, Outcome::Refused(Refusal::DeadlinePassed));
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    });
}

#[test]
fn calls_that_wait_for_the_next_session_are_executed_in_it() {
    with_server(SHM, of_server(), |scene| {
        let begin = Instant::now();
        let (mut connection, old) = between_epochs(scene, 400, 1_500);
        let mut waiting: Vec<Token> = Vec::new();
        let refused = loop {
            match connection.start(NULL, b"", How::default()) {
                Ok(token) => waiting.push(token),
                Err(why) => break why,
            }
        };
        let most = usize::from(of_client(SHM).limits.backlog);
        assert_eq!((refused, waiting.len()), (Refusal::Overload, most));
        assert_eq!(connection.under_way(), most + 1);
        let mut ends = Vec::new();
        while connection.under_way() > 0 && begin.elapsed() < Duration::from_secs(15) {
            connection.poll_timeout(Duration::from_millis(100), |end| {
                ends.push((end.token, copied(end.outcome)));
            });
        }
        // As long as the call before them, and longer than the patience.
        assert!(begin.elapsed() >= Duration::from_millis(1_500), "{:?}", begin.elapsed());
        let executed = waiting.into_iter().map(|token| (token, EXECUTED));
        let first = (old, Outcome::Unknown(Doubt::DeadlinePassed));
        // What is asked for again, on a busy machine, may end later than what was called after it.
        ends[1..].sort_by_key(|(token, _)| *token);
        assert_eq!(ends, [first].into_iter().chain(executed).collect::<Vec<_>>());
    });
}

#[test]
fn closing_ends_what_waits_for_the_next_session() {
    with_server(SHM, of_server(), |scene| {
        let (mut connection, old) = between_epochs(scene, 5_000, 10_000);
        let waiting = connection.start(NULL, b"", How::default()).expect("room");
        let mut ends = Vec::new();
        connection.close(|end| ends.push((end.token, copied(end.outcome))));
        let unknown = Outcome::Unknown(Doubt::Closed);
        assert_eq!(ends, [(old, unknown), (waiting, Outcome::Refused(Refusal::NoSession))]);
    });
}

fn copied(outcome: Outcome<Bytes<'_>>) -> Outcome<Vec<u8>> {
    outcome.map(|reply| reply.to_vec().expect("readable"))
}

#[test]
fn a_suspicion_ends_with_its_session() {
    let address = SHM.address();
    let serve = || Service::listen(std::slice::from_ref(&address), of_server()).expect("listening");
    let mut options = of_client(SHM);
    options.timers.keepalive = 20_000_000;
    options.timers.suspicion = 100_000_000;
    let mut connection =
        Connection::begin(std::slice::from_ref(&address), options).expect("an endpoint");
    let (mut service, mut methods) = (serve(), Methods::new());
    until("there is a session", || {
        connection.poll(|_| {});
        service.poll(&mut methods);
        connection.terms().is_some()
    });
    until("its silence is noticed", || {
        connection.poll(|_| {});
        connection.is_suspected()
    });
    drop(service);
    let mut service = serve();
    let mut executed = false;
    until("there is another session", || {
        if connection.under_way() == 0 {
            let _ = connection.start(NULL, b"", How::default());
        }
        connection.poll(|end| executed |= matches!(end.outcome, Outcome::Executed(_)));
        service.poll(&mut methods);
        executed
    });
    assert!(!connection.is_suspected());
}

#[test]
fn messages_are_split_where_the_channel_has_a_limit() {
    with_server(SHM, of_server(), |scene| {
        let mut options = of_client(scene.way);
        options.connect.limit = Some(1_000);
        let mut connection = scene.connect_with(options);
        for len in [983, 984, 985, 1_000, 2_000, 50_000] {
            for method in [MAKE, HAND_OVER] {
                let asked = (len as u64).to_le_bytes();
                let outcome = connection.call(method, &asked, How::default());
                assert_eq!(outcome, Outcome::Executed(pattern(len)), "{len} by {method}");
            }
            let outcome = connection.call(ECHO, &pattern(len), How::default());
            assert_eq!(outcome, Outcome::Executed(pattern(len)), "{len} there and back");
        }
    });
}

/// Calls until one is executed; what came before it.
fn call_until_executed(connection: &mut Connection) -> Vec<Outcome<Vec<u8>>> {
    let mut before = Vec::new();
    until("a call is executed", || match connection.call(NULL, b"", How::default()) {
        Outcome::Executed(_) => true,
        other => {
            before.push(other);
            false
        }
    });
    before
}

#[test]
fn a_server_that_rejects_is_left_for_the_next_address() {
    let mut other = of_server();
    other.service.name += 1;
    with_server(SHM, other, |wrong| {
        with_server(SHM, of_server(), |right| {
            let addresses = [wrong.address.clone(), right.address.clone()];
            let mut connection =
                Connection::begin(&addresses, of_client(SHM)).expect("an endpoint");
            let before = call_until_executed(&mut connection);
            assert_eq!(before, [Outcome::Refused(Refusal::NoSession)]);
            assert_eq!((wrong.clients(), connection.session_end()), (0, None));
        });
        // And where every one rejects, all are asked again and again, after pauses.
        let addresses = [wrong.address.clone(), wrong.address.clone()];
        let mut connection = Connection::begin(&addresses, of_client(SHM)).expect("an endpoint");
        let (begin, mut refused) = (Instant::now(), 0);
        while refused < 3 || begin.elapsed() < Duration::from_millis(500) {
            let outcome = connection.call(NULL, b"", How::default());
            assert_eq!(outcome, Outcome::Refused(Refusal::NoSession));
            refused += 1;
        }
        let most = begin.elapsed().as_millis() / 25;
        assert!(refused < most, "{refused} of {most} at most");
    });
}

#[test]
fn a_server_that_does_not_answer_is_left_for_the_next_address() {
    let deaf = SHM.address();
    let mut endpoint = unet::Endpoint::new(unet::EndpointOptions::default()).expect("an endpoint");
    endpoint.listen(&deaf, unet::ListenOptions::default()).expect("listening");
    let (hear_no_more, no_more) = mpsc::channel::<()>();
    let hears = thread::spawn(move || {
        let (mut delivery, mut heard) = (unet::Delivery::default(), 0);
        while no_more.try_recv() == Err(mpsc::TryRecvError::Empty) {
            let moment = Duration::from_millis(5);
            match endpoint.recv_timeout_into(&mut delivery, moment) {
                Some(unet::Arrival::Message(_)) => heard += 1,
                Some(unet::Arrival::Other) => {
                    if let Some(unet::Event::Incoming(client)) = endpoint.take_event() {
                        endpoint.accept(client, &[]).expect("accepted");
                    }
                }
                None => {}
            }
        }
        heard
    });
    with_server(SHM, of_server(), |scene| {
        let mut options = of_client(SHM);
        options.timers.patience = 300_000_000;
        let addresses = [deaf.clone(), scene.address.clone()];
        let mut connection = Connection::begin(&addresses, options).expect("an endpoint");
        let before = call_until_executed(&mut connection);
        assert_eq!(before, [Outcome::Refused(Refusal::NoSession)]);
    });
    drop(hear_no_more);
    assert!(hears.join().expect("it ends") > 0, "it was asked first");
}

#[test]
fn a_server_that_does_not_read_is_let_go_of() {
    let address = SHM.address();
    let mut service =
        Service::listen(std::slice::from_ref(&address), of_server()).expect("listening");
    let mut options = of_client(SHM);
    options.timers.patience = 300_000_000;
    options.connect.channel.quota.bytes = 100_000;
    options.connect.channel.quota.resume_bytes = 100_000;
    let mut connection =
        Connection::begin(std::slice::from_ref(&address), options).expect("an endpoint");
    let mut methods = Methods::new();
    until("there is a session", || {
        connection.poll(|_| {});
        service.poll(&mut methods);
        connection.terms().is_some()
    });
    let begin = Instant::now();
    for _ in 0..3 {
        connection.start(NULL, vec![1; 60_000], How::default()).expect("a place");
    }
    let mut ends = Vec::new();
    until("the session is given up", || {
        connection.poll_timeout(Duration::from_millis(10), |end| ends.push(copied(end.outcome)));
        connection.session_end() == Some(SessionEnd::Lost)
    });
    // On one host the patience counts from the kernel's last tick.
    assert!(begin.elapsed() > Duration::from_millis(290), "{:?}", begin.elapsed());
    assert_eq!((ends.len(), connection.under_way()), (3, 0), "{ends:?}");
    until("the next session executes calls", || {
        if connection.under_way() == 0 {
            let _ = connection.start(NULL, b"", How::default());
        }
        service.poll(&mut methods);
        connection.poll(|end| ends.push(copied(end.outcome)));
        ends.last() == Some(&EXECUTED)
    });
}
