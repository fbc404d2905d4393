//! What is refused, what comes too late, and what workers do.

mod support;

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use rpc_fastpath::service::{Call, Outcome, Reason, Server, ServerOptions, UnknownReason, service};
use serde::{Deserialize, Serialize};
use support::{LARGEST, address, bind_options, server_options};

#[service(name = "office", version = 1)]
trait Office {
    fn quick(&self, number: u64) -> u64;
    /// Waits until the test lets it go.
    #[slow]
    fn slow(&self, call: &Call<'_>, text: &str) -> String;
    #[slow]
    #[deadline("2s")]
    fn slow_until(&self, number: u64) -> u64;
    #[deadline("2s")]
    fn until(&self, number: u64) -> u64;
    #[deadline("2s")]
    fn until_encoded(&self, call: &Call<'_>, text: &str) -> bool;
    #[slow]
    fn slow_panic(&self);
    #[slow]
    fn slow_zeros(&self, len: u32) -> Vec<u8>;
}

struct Desk {
    /// One for each slow call that may end.
    go: Mutex<Receiver<()>>,
    began: Sender<u64>,
}

impl Office for Desk {
    fn quick(&self, number: u64) -> u64 {
        number + 1
    }

    fn slow(&self, call: &Call<'_>, text: &str) -> String {
        assert_eq!(call.caller().map(|caller| caller.pid), Some(std::process::id()));
        assert!(call.alloc(1).is_err(), "a worker has no buffers of the channel");
        self.began.send(0).expect("the test listens");
        self.go.lock().expect("no panic").recv().expect("the test lets it go");
        text.to_uppercase()
    }

    fn slow_until(&self, number: u64) -> u64 {
        self.began.send(number).expect("the test listens");
        number
    }

    fn until(&self, number: u64) -> u64 {
        self.began.send(number).expect("the test listens");
        number
    }

    fn until_encoded(&self, call: &Call<'_>, text: &str) -> bool {
        let remaining = call.remaining().expect("it has a deadline");
        remaining > Duration::ZERO && remaining <= Duration::from_secs(2) && text == "text"
    }

    fn slow_panic(&self) {
        panic!("of the test");
    }

    fn slow_zeros(&self, len: u32) -> Vec<u8> {
        vec![0; len as usize]
    }
}

struct Test {
    server: Server<OfficeService>,
    client: OfficeClient,
    go: Sender<()>,
    began: Receiver<u64>,
}

/// Client and server in this thread.
fn office(test: &str, workers: usize, backlog: usize) -> Test {
    let address = address(test);
    let (go, wait) = channel();
    let (began, beginnings) = channel();
    let desk = Desk { go: Mutex::new(wait), began };
    let options = ServerOptions { workers, backlog, ..server_options() };
    let server = Server::<OfficeService>::export(&address, desk, options).expect("a free name");
    let client = std::thread::scope(|scope| {
        let client = scope.spawn(|| OfficeClient::bind(&address, bind_options()).expect("bound"));
        server.serve_until(|| client.is_finished());
        client.join().expect("no panic")
    });
    Test { server, client, go, began: beginnings }
}

/// Serves until that is there.
fn serve_for<T>(server: &Server<OfficeService>, mut there: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(it) = there() {
            return it;
        }
        server.serve_timeout(Duration::from_millis(5));
        assert!(start.elapsed() < Duration::from_secs(20), "it does not come");
    }
}

#[test]
fn a_slow_method_keeps_nobody_waiting() {
    let Test { server, client, go, began } = office("slow", 1, 8);
    let long = "x".repeat(LARGEST - 10);
    let mut slow = client.start_slow(&long).expect("it is sent");
    serve_for(&server, || began.try_recv().ok());
    for number in 0..100 {
        let mut quick = client.start_quick(number).expect("it is sent");
        let outcome = serve_for(&server, || quick.try_take());
        assert_eq!(outcome, Outcome::Executed(number + 1));
    }
    assert!(slow.try_take().is_none());
    go.send(()).expect("the worker waits");
    assert_eq!(serve_for(&server, || slow.try_take()), Outcome::Executed(long.to_uppercase()));
}

#[test]
fn more_slow_calls_than_may_wait_are_refused_at_once() {
    let Test { server, client, go, began } = office("overload", 2, 3);
    let mut calls: Vec<_> = (0..8).map(|_| client.start_slow("a").expect("it is sent")).collect();
    // Two are run and three wait; a worker may be late to take one.
    serve_for(&server, || began.try_recv().ok());
    let mut refused = 0;
    serve_for(&server, || {
        calls.retain_mut(|call| match call.try_take() {
            Some(outcome) => {
                assert_eq!(outcome, Outcome::Refused(Reason::Overloaded));
                refused += 1;
                false
            }
            None => true,
        });
        (refused >= 3).then_some(())
    });
    assert!(refused <= 5);
    (0..8).for_each(|_| go.send(()).expect("workers wait"));
    for mut call in calls {
        let outcome = serve_for(&server, || call.try_take());
        assert_eq!(outcome, Outcome::Executed("A".into()));
    }
}

#[test]
fn what_a_worker_cannot_do_is_told() {
    let Test { server, client, .. } = office("worker-fails", 1, 8);
    let mut call = client.start_slow_panic().expect("it is sent");
    let outcome = serve_for(&server, || call.try_take());
    assert_eq!(outcome, Outcome::Unknown(UnknownReason::Failed));
    for (len, expected) in [
        (100, Outcome::Executed(vec![0; 100])),
        (LARGEST, Outcome::Unknown(UnknownReason::ResultsTooLarge)),
        (5, Outcome::Executed(vec![0; 5])),
    ] {
        let mut call = client.start_slow_zeros(len as u32).expect("it is sent");
        assert_eq!(serve_for(&server, || call.try_take()), expected);
    }
}

#[test]
fn a_call_whose_deadline_has_passed_is_not_executed() {
    let Test { server, client, began, .. } = office("deadline", 1, 8);
    let mut call = client.start_until(1).expect("it is sent");
    let mut encoded = client.start_until_encoded("text").expect("it is sent");
    std::thread::sleep(Duration::from_millis(2_010));
    assert_eq!(serve_for(&server, || call.try_take()), Outcome::Refused(Reason::TooLate));
    assert_eq!(serve_for(&server, || encoded.try_take()), Outcome::Refused(Reason::TooLate));
    assert!(began.try_recv().is_err());
    let mut call = client.start_until(2).expect("it is sent");
    assert_eq!(serve_for(&server, || call.try_take()), Outcome::Executed(2));
    let mut encoded = client.start_until_encoded("text").expect("it is sent");
    assert_eq!(serve_for(&server, || encoded.try_take()), Outcome::Executed(true));
}

#[test]
fn a_deadline_that_passes_in_the_backlog_counts_too() {
    let Test { server, client, go, began } = office("backlog", 1, 8);
    let mut blocking = client.start_slow("a").expect("it is sent");
    serve_for(&server, || began.try_recv().ok());
    let mut late = client.start_slow_until(1).expect("it is sent");
    while server.poll() {}
    std::thread::sleep(Duration::from_millis(2_010));
    go.send(()).expect("the worker waits");
    assert_eq!(serve_for(&server, || blocking.try_take()), Outcome::Executed("A".into()));
    assert_eq!(serve_for(&server, || late.try_take()), Outcome::Refused(Reason::TooLate));
    assert!(began.try_recv().is_err());
}

#[test]
fn the_caller_waits_no_longer_than_the_deadline() {
    let Test { server, client, .. } = office("caller", 1, 8);
    let start = Instant::now();
    assert_eq!(client.until(1), Outcome::Unknown(UnknownReason::TimedOut));
    assert!(start.elapsed() < Duration::from_secs(20));
    // What it did not wait for is refused, and nobody minds.
    while server.poll() {}
    let mut quick = client.start_quick(1).expect("it is sent");
    assert_eq!(serve_for(&server, || quick.try_take()), Outcome::Executed(2));
}

#[test]
fn an_event_loop_is_woken_by_calls_and_by_workers() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let Test { server, client, go, began } = office("event-loop", 1, 8);
    let turn = || {
        if !server.poll() && server.arm() {
            let second = Timespec { tv_sec: 1, tv_nsec: 0 };
            let woken = server.with_fd(|fd| {
                let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
                poll(&mut fds, Some(&second)).expect("polled")
            });
            assert_eq!(woken, 1, "nothing woke the loop");
        }
    };
    for _ in 0..20 {
        let mut slow = client.start_slow("a").expect("it is sent");
        while began.try_recv().is_err() {
            server.poll();
        }
        go.send(()).expect("the worker waits");
        let outcome = loop {
            if let Some(outcome) = slow.try_take() {
                break outcome;
            }
            turn();
        };
        assert_eq!(outcome, Outcome::Executed("A".into()));
    }
}

mod chain {
    use super::*;

    #[service(name = "link", version = 1)]
    pub(super) trait Link {
        /// Counts down along a chain of calls, and adds one on the way back.
        fn descend(&self, call: &Call<'_>, depth: u32) -> Result<u32, Failed>;
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(super) struct Failed(pub String);

    pub(super) struct ToNext(pub unet::Address);

    thread_local! {
        static NEXT: std::cell::OnceCell<LinkClient> = const { std::cell::OnceCell::new() };
    }

    impl Link for ToNext {
        fn descend(&self, call: &Call<'_>, depth: u32) -> Result<u32, Failed> {
            if depth == 0 {
                return Ok(0);
            }
            NEXT.with(|next| {
                let next =
                    next.get_or_init(|| LinkClient::bind(&self.0, bind_options()).expect("bound"));
                match next.serving(call).descend(depth - 1) {
                    Outcome::Executed(Ok(below)) => Ok(below + 1),
                    Outcome::Executed(Err(failed)) => Err(failed),
                    other => Err(Failed(format!("{other:?}"))),
                }
            })
        }
    }
}

#[test]
fn a_cycle_of_calls_comes_back_to_its_own_server() {
    use chain::{LinkClient, LinkService, ToNext};
    let [x, y, z] = ["x", "y", "z"].map(address);
    let _chain: Vec<_> = [(&x, &y), (&y, &z)]
        .into_iter()
        .map(|(own, next)| {
            let server = Server::<LinkService>::export(own, ToNext(next.clone()), server_options());
            server.expect("a free name").spawn()
        })
        .collect();
    // The last link is bound to by the second only, when it is called.
    let server = Server::<LinkService>::export(&z, ToNext(x.clone()), server_options());
    let _last = server.expect("a free name").spawn();
    let client = LinkClient::bind(&x, bind_options()).expect("bound");
    assert_eq!(client.descend(7), Outcome::Executed(Ok(7)));
    assert_eq!(client.descend(20), Outcome::Executed(Ok(20)));
    // No chain is without end: the first bound that is met says so.
    let Outcome::Executed(Err(failed)) = client.descend(1000) else { panic!("it has an end") };
    assert!(["Refused(NoAStack)", "Refused(TooDeep)"].contains(&&*failed.0), "{}", failed.0);
}
