//! Who may have how much waiting for the workers, and what becomes of it when the server ends.

mod support;

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use rpc_fastpath::service::{Outcome, Reason, Running, Server, ServerOptions, service};
use support::{address, bind_options, server_options};

#[service(name = "mill", version = 1)]
trait Mill {
    fn quick(&self);
    /// Waits until the test lets it go.
    #[slow]
    fn grind(&self, grain: &[u8]) -> u64;
}

struct Stone {
    go: Mutex<Receiver<()>>,
    began: Sender<()>,
}

impl Mill for Stone {
    fn quick(&self) {}

    fn grind(&self, grain: &[u8]) -> u64 {
        self.began.send(()).expect("the test listens");
        self.go.lock().expect("no panic").recv().expect("the test lets it go");
        grain.len() as u64
    }
}

/// Where a test fails, the worker is let go before the server waits for it.
struct Test {
    address: unet::Address,
    go: Sender<()>,
    began: Receiver<()>,
    running: Running,
}

fn mill(test: &str, backlog: usize, backlog_of_a_client: usize) -> Test {
    let address = address(test);
    let ((go, wait), (began, beginnings)) = (channel(), channel());
    let options = ServerOptions { workers: 1, backlog, backlog_of_a_client, ..server_options() };
    let stone = Stone { go: Mutex::new(wait), began };
    let server = Server::<MillService>::export(&address, stone, options).expect("a free name");
    Test { address, running: server.spawn(), go, began: beginnings }
}

fn client(test: &Test) -> MillClient {
    MillClient::bind(&test.address, bind_options()).expect("bound")
}

const SOON: Duration = Duration::from_secs(10);

/// Makes slow calls, for which there is no place, until they are refused since the server ends.
fn until_it_stops<T: std::fmt::Debug>(call: impl Fn() -> Outcome<T>) {
    loop {
        match call() {
            Outcome::Refused(Reason::Overloaded) => {}
            Outcome::Refused(Reason::Stopping) => return,
            other => panic!("it is not served: {other:?}"),
        }
    }
}

#[test]
fn a_client_fills_its_own_share_of_the_backlog_and_no_more() {
    let test = mill("share", 20, 3);
    let (greedy, modest) = (client(&test), client(&test));
    for _ in 0..3 {
        let mut accepted = Vec::new();
        let mut refused = 0;
        for size in 0..8 {
            let mut call = greedy.start_grind(&vec![0; 1000 * size]).expect("sent");
            // It is taken in order, so that this one is answered if the last one is.
            assert_eq!(greedy.quick(), Outcome::Executed(()));
            match call.try_take() {
                None => accepted.push((size, call)),
                Some(outcome) => {
                    assert_eq!(outcome, Outcome::Refused(Reason::Overloaded));
                    refused += 1;
                }
            }
        }
        assert_eq!((accepted.len(), refused), (3, 5));
        let other = modest.start_grind(b"grain").expect("sent");
        assert_eq!(modest.quick(), Outcome::Executed(()));
        (0..4).for_each(|_| test.go.send(()).expect("the worker waits"));
        for (size, call) in accepted {
            assert_eq!(call.wait_timeout(SOON), Outcome::Executed(1000 * size as u64));
        }
        assert_eq!(other.wait_timeout(SOON), Outcome::Executed(5));
    }
}

#[test]
fn a_client_that_goes_leaves_its_share_when_its_calls_are_over() {
    let test = mill("share-of-the-gone", 20, 2);
    for _ in 0..5 {
        let client = client(&test);
        let calls: Vec<_> = (0..2).map(|_| client.start_grind(b"").expect("sent")).collect();
        assert_eq!(client.quick(), Outcome::Executed(()));
        drop(calls);
    }
    // Those of the gone are run all the same, and their places come back.
    (0..10).for_each(|_| test.go.send(()).expect("the worker waits"));
    (0..10).for_each(|_| test.began.recv_timeout(SOON).expect("it is run"));
    test.go.send(()).expect("the worker waits");
    assert_eq!(client(&test).grind(b"abc"), Outcome::Executed(3));
}

#[test]
fn a_server_that_ends_finishes_what_has_begun_and_refuses_the_rest() {
    // The six fill it.
    let test = mill("ends", 5, 20);
    let client = client(&test);
    let calls: Vec<_> = (0..6).map(|_| client.start_grind(b"abc").expect("sent")).collect();
    test.began.recv_timeout(SOON).expect("the first is run");
    assert_eq!(client.quick(), Outcome::Executed(()));
    let Test { running, go, began, .. } = test;
    let end = std::thread::spawn(move || drop(running));
    until_it_stops(|| client.start_grind(b"").expect("sent").wait_timeout(SOON));
    // The other methods are served until the last worker has finished.
    let quick = client.start_quick().expect("sent");
    assert_eq!(quick.wait_timeout(SOON), Outcome::Executed(()));
    go.send(()).expect("the worker waits");
    let mut outcomes = calls.into_iter().map(|call| call.wait_timeout(SOON));
    assert_eq!(outcomes.next(), Some(Outcome::Executed(3)));
    for outcome in outcomes {
        assert_eq!(outcome, Outcome::Refused(Reason::Stopping));
    }
    end.join().expect("it ends");
    assert!(began.try_recv().is_err(), "nothing was begun any more");
}

/// A tick is the time in which the worker executes one call; each brings two.
#[test]
fn at_twice_its_capacity_a_server_refuses_at_once_and_keeps_nobody_longer_than_its_backlog() {
    const BACKLOG: usize = 4;
    let test = mill("twice", BACKLOG, 20);
    let client = client(&test);
    let (mut accepted, mut executed, mut refused) = (VecDeque::new(), 0, 0);
    for tick in 0..60 {
        for _ in 0..2 {
            let mut call = client.start_grind(b"grain").expect("sent");
            // It is taken in order, so that this one is answered if the last one is.
            assert_eq!(client.quick(), Outcome::Executed(()));
            match call.try_take() {
                None => accepted.push_back((tick, call)),
                Some(outcome) => {
                    assert_eq!(outcome, Outcome::Refused(Reason::Overloaded));
                    refused += 1;
                }
            }
        }
        test.go.send(()).expect("the worker waits");
        let (began, call) = accepted.pop_front().expect("the worker has one");
        assert_eq!(call.wait_timeout(SOON), Outcome::Executed(5));
        executed += 1;
        // The one that runs, those that wait, and itself.
        assert!(tick - began <= BACKLOG, "it waited for {} others", tick - began);
    }
    assert_eq!(executed, 60, "the worker was never idle");
    assert_eq!(refused + executed + accepted.len(), 120);
    assert!((60 - BACKLOG - 1..=60).contains(&refused), "{refused} of 120 were refused");
    (0..accepted.len()).for_each(|_| test.go.send(()).expect("the worker waits"));
}

#[service(name = "ring", version = 1)]
trait Ring {
    /// Waits until the test lets it go, and asks the server that it is of.
    #[slow]
    fn around(&self, address: &str) -> Option<u64>;
    fn seven(&self) -> u64;
}

impl Ring for Stone {
    fn around(&self, address: &str) -> Option<u64> {
        self.grind(&[]);
        let address = address.parse().expect("the test's");
        let own = RingClient::bind(&address, bind_options()).expect("it is still served");
        own.seven().executed().ok()
    }

    fn seven(&self) -> u64 {
        7
    }
}

#[test]
fn a_server_that_ends_serves_what_its_workers_call() {
    let address = address("around");
    let ((go, wait), (began, beginnings)) = (channel(), channel());
    let options = ServerOptions { workers: 1, backlog: 0, ..server_options() };
    let stone = Stone { go: Mutex::new(wait), began };
    let running = Server::<RingService>::export(&address, stone, options).expect("free").spawn();
    let client = RingClient::bind(&address, bind_options()).expect("bound");
    let call = client.start_around(&address.to_string()).expect("sent");
    beginnings.recv_timeout(SOON).expect("it is run");
    let (ended, end) = channel();
    std::thread::spawn(move || {
        drop(running);
        ended.send(()).expect("the test listens");
    });
    until_it_stops(|| client.start_around("").expect("sent").wait_timeout(SOON));
    go.send(()).expect("the worker waits");
    assert_eq!(call.wait_timeout(SOON), Outcome::Executed(Some(7)));
    end.recv_timeout(SOON).expect("it ends");
}
