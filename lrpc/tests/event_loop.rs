//! A binding in an event loop: whoever awaits a reply is woken, whatever else is done meanwhile.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lrpc::{Answer, Binding, Later, Outcome, Pending, Reason, Server, UnknownReason};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use unet::Wait;

mod support;
use support::{address, bind, bind_beside, export, serve_all};

lrpc::interface! {
    /// What the tests call.
    pub Desk = "desk", version 1 {
        /// Twice as much.
        Double(u64) -> u64;
        /// Answered by the next `Take`.
        Put(u64) -> u64;
        /// Answers what was put.
        Take(()) -> ();
        /// Takes so many milliseconds.
        Sleep(u64) -> ();
    }
}

// A server and what was put there are of one thread.
thread_local! {
    static PUT: RefCell<Vec<(Later<Put>, u64)>> = const { RefCell::new(Vec::new()) };
}

fn desk(name: &unet::Address) -> Server<Desk> {
    export::<Desk>(name, Wait::Adaptive)
        .on::<Double>(|_, number| Ok(number * 2))
        .on_answering::<Put>(|call, number| {
            PUT.with_borrow_mut(|put| put.push((call.later(), number)));
            Answer::Later
        })
        .on::<Take>(|call, ()| {
            for (later, number) in PUT.take() {
                call.server().answer_later(later, Answer::Results(number), None);
            }
            Ok(())
        })
        .on::<Sleep>(|_, millis| {
            std::thread::sleep(Duration::from_millis(millis));
            Ok(())
        })
}

/// A server and a binding of this thread.
fn beside(test: &str) -> (Server<Desk>, Binding<Desk>) {
    let address = address(test);
    let server = desk(&address);
    let binding = bind_beside(&server, &address, Wait::Adaptive);
    (server, binding)
}

/// A server of another thread, until the first is dropped.
fn apart(test: &str) -> (Sender<()>, JoinHandle<()>, Binding<Desk>) {
    let address = address(test);
    let (until, over) = channel();
    let (ready, is_ready) = channel();
    let exported = address.clone();
    let thread = std::thread::spawn(move || {
        let server = desk(&exported);
        ready.send(()).expect("the test listens");
        let ended = || over.try_recv() == Err(std::sync::mpsc::TryRecvError::Disconnected);
        server.serve_until(ended);
    });
    is_ready.recv().expect("it is exported");
    (until, thread, bind(&address, Wait::Park))
}

fn results<T>(outcome: Outcome<lrpc::Reply<T>>) -> Outcome<T> {
    outcome.map(|reply| reply.results)
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A task of an executor that does nothing by itself.
struct Task {
    woken: Arc<Woken>,
    waker: Waker,
}

impl Task {
    fn new() -> Self {
        let woken = Arc::new(Woken::default());
        Self { waker: Waker::from(woken.clone()), woken }
    }

    fn poll<P: lrpc::Procedure>(&self, call: &mut Pending<'_, P>) -> Option<Outcome<P::Results>> {
        match Pin::new(call).poll(&mut Context::from_waker(&self.waker)) {
            Poll::Ready(outcome) => Some(results(outcome)),
            Poll::Pending => None,
        }
    }

    /// How often it was woken since the last time.
    fn woken(&self) -> usize {
        self.woken.0.swap(0, Ordering::Relaxed)
    }
}

/// Whether the binding's descriptor becomes readable in time.
fn rings(binding: &Binding<Desk>, within: Duration) -> bool {
    let within =
        Timespec { tv_sec: within.as_secs() as i64, tv_nsec: within.subsec_nanos().into() };
    let polled = binding.with_fd(|fd| {
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        poll(&mut fds, Some(&within)).expect("polled")
    });
    polled.expect("there is a descriptor") == 1
}

const NOW: Duration = Duration::ZERO;
const SOON: Duration = Duration::from_secs(5);

#[test]
fn a_future_is_woken_by_its_reply_and_by_the_end_of_the_server() {
    let (server, binding) = beside("future");
    let task = Task::new();
    let mut one = binding.start::<Double>(&1, None).expect("sent");
    let mut two = binding.start::<Put>(&2, None).expect("sent");
    assert_eq!((task.poll(&mut one), task.poll(&mut two)), (None, None));
    assert!(binding.arm(), "nothing is there yet");
    assert!(!rings(&binding, NOW));
    serve_all(&server);
    assert!(rings(&binding, NOW), "the reply rings");
    assert!(binding.progress());
    assert_eq!(task.woken(), 1);
    assert_eq!(task.poll(&mut one), Some(Outcome::Executed(2)));
    assert_eq!(task.poll(&mut two), None);
    while !binding.arm() {
        binding.progress();
    }
    drop(server);
    assert!(rings(&binding, NOW), "the end rings");
    assert!(binding.progress());
    assert_eq!(task.woken(), 1);
    assert!(matches!(task.poll(&mut two), Some(Outcome::Unknown(UnknownReason::Closed(_)))));
    drop((one, two));
    let Task { woken, waker } = task;
    drop(waker);
    assert_eq!(Arc::strong_count(&woken), 1, "no waker is kept");
}

#[test]
fn there_is_progress_for_each_reply_and_once_for_the_end() {
    let (server, binding) = beside("progress");
    assert!(!binding.progress(), "nothing was called");
    let call = binding.start::<Double>(&1, None).expect("sent");
    let put = binding.start::<Put>(&2, None).expect("sent");
    serve_all(&server);
    assert!(binding.progress());
    assert!(!binding.progress(), "that reply is known");
    assert_eq!(results(call.wait()), Outcome::Executed(2));
    let other = binding.start::<Double>(&2, None).expect("sent");
    serve_all(&server);
    let last = binding.start::<Double>(&3, None).expect("sent");
    serve_all(&server);
    // Taken by another call, and yet news for the event loop.
    assert_eq!(results(last.wait()), Outcome::Executed(6));
    assert!(!binding.arm());
    assert!(binding.progress());
    assert!(binding.arm());
    assert_eq!(results(other.wait()), Outcome::Executed(4));
    drop(server);
    assert!(binding.progress(), "the end");
    for _ in 0..3 {
        assert!(!binding.progress(), "the end is known");
        assert!(!binding.arm());
    }
    assert!(binding.closed().is_some());
    assert!(matches!(put.wait(), Outcome::Unknown(UnknownReason::Closed(_))));
    assert!(matches!(binding.start::<Double>(&1, None).err(), Some(Reason::Closed(_))));
    assert!(!binding.progress());
}

#[test]
fn no_waker_is_kept_of_a_call_that_is_over() {
    let (server, binding) = beside("wakers");
    let task = Task::new();
    for how in 0..4 {
        let mut call = binding.start::<Double>(&1, None).expect("sent");
        assert_eq!(task.poll(&mut call), None);
        assert_eq!(Arc::strong_count(&task.woken), 3);
        match how {
            0 => drop(call),
            1 => {
                let outcome = call.wait_timeout(Duration::from_millis(1));
                assert!(matches!(outcome, Outcome::Unknown(UnknownReason::TimedOut)));
            }
            2 => {
                serve_all(&server);
                assert_eq!(results(call.wait()), Outcome::Executed(2));
            }
            _ => {
                serve_all(&server);
                assert_eq!(task.poll(&mut call), Some(Outcome::Executed(2)));
                drop(call);
            }
        }
        assert_eq!(Arc::strong_count(&task.woken), 2, "{how}");
        serve_all(&server);
    }
}

#[test]
fn an_end_that_a_call_finds_is_told_to_the_event_loop_too() {
    let (server, binding) = beside("end-by-call");
    let task = Task::new();
    let mut put = binding.start::<Put>(&1, None).expect("sent");
    assert_eq!(task.poll(&mut put), None);
    assert!(binding.arm());
    drop(server);
    let outcome = binding.call::<Double>(&1);
    assert!(matches!(
        outcome,
        Outcome::Unknown(UnknownReason::Closed(_)) | Outcome::Refused(Reason::Closed(_))
    ));
    assert!(rings(&binding, NOW));
    assert!(binding.progress());
    assert!(!binding.progress());
    assert!(task.woken() > 0);
    assert!(matches!(task.poll(&mut put), Some(Outcome::Unknown(_))));
}

#[test]
fn looks_leave_the_bell_to_the_event_loop() {
    let (server, binding) = beside("looks");
    let task = Task::new();
    let mut put = binding.start::<Put>(&1, None).expect("sent");
    let mut double = binding.start::<Double>(&1, None).expect("sent");
    assert_eq!(task.poll(&mut put), None);
    assert!(binding.arm());
    serve_all(&server);
    // So long that the kernel is asked about the peer, several times.
    let start = Instant::now();
    let mut doubled = None;
    while start.elapsed() < Duration::from_millis(30) {
        doubled = doubled.or_else(|| double.try_take().map(results));
        assert!(put.try_take().is_none());
    }
    assert_eq!(doubled, Some(Outcome::Executed(2)));
    binding.call_one_way::<Take>(&(), None).expect("sent");
    serve_all(&server);
    assert!(rings(&binding, NOW), "the reply does not ring");
    assert!(binding.progress());
    assert!(task.woken() > 0);
    assert_eq!(task.poll(&mut put), Some(Outcome::Executed(1)));
}

#[test]
fn who_spins_beside_an_event_loop_learns_of_the_servers_end() {
    let address = address("spins");
    let server = desk(&address);
    let binding = bind_beside(&server, &address, Wait::Spin);
    let mut double = binding.start::<Double>(&1, None).expect("sent");
    let put = binding.start::<Put>(&1, None).expect("sent");
    assert!(binding.arm());
    serve_all(&server);
    assert_eq!(double.try_take().map(results), Some(Outcome::Executed(2)));
    // The bell for the reply stands before the hang-up.
    drop(server);
    assert!(matches!(put.wait(), Outcome::Unknown(UnknownReason::Closed(_))));
}

thread_local! {
    static CALLED: Cell<Option<&'static Binding<Desk>>> = const { Cell::new(None) };
    static TAKEN_UP: Cell<usize> = const { Cell::new(0) };
}

/// What a small executor does when it is woken, and when a task's last waker goes: it runs tasks, which
/// call.
struct Calls;

impl Calls {
    fn call() {
        let Some(binding) = CALLED.get() else { return };
        binding.progress();
        let _ = binding.call_one_way::<Double>(&1, None);
        TAKEN_UP.set(TAKEN_UP.get() + 1);
    }
}

impl Wake for Calls {
    fn wake(self: Arc<Self>) {
        Self::call();
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        Self::call();
    }
}

#[test]
fn who_is_woken_or_forgotten_may_call_on_the_binding() {
    let (server, binding) = beside("reentrant");
    let binding: &'static Binding<Desk> = Box::leak(Box::new(binding));
    CALLED.set(Some(binding));
    // A waker of its own for each poll: woken, and dropped, it is heard of twice.
    let poll = |call: &mut Pending<'_, Double>| {
        Pin::new(call).poll(&mut Context::from_waker(&Waker::from(Arc::new(Calls)))).is_ready()
    };
    let start = || binding.start::<Double>(&1, None).expect("sent");
    let heard = |times: usize| assert_eq!(TAKEN_UP.replace(0), times);
    let mut first = start();
    assert!(!poll(&mut first));
    heard(0);
    assert!(!poll(&mut first));
    heard(1);
    serve_all(&server);
    assert!(binding.progress());
    heard(2);
    assert!(matches!(first.wait(), Outcome::Executed(_)));
    // Found by another call.
    let (mut second, other) = (start(), start());
    assert!(!poll(&mut second));
    serve_all(&server);
    assert!(matches!(other.wait(), Outcome::Executed(_)));
    heard(2);
    drop(second);
    let mut third = start();
    assert!(!poll(&mut third));
    drop(third);
    heard(1);
    serve_all(&server);
    let mut last = start();
    assert!(!poll(&mut last));
    drop(server);
    assert!(matches!(binding.call::<Double>(&1), Outcome::Refused(_) | Outcome::Unknown(_)));
    heard(2);
    assert!(matches!(last.wait(), Outcome::Unknown(_)));
    CALLED.set(None);
}

/// Who awaits a reply while `sleeps` does, and so takes the bell, is woken all the same: by a reply
/// that comes meanwhile, and by one that comes later.
fn survives(test: &str, sleeps: impl Fn(&Binding<Desk>)) {
    let (until, server, binding) = apart(test);
    let task = Task::new();
    for comes_meanwhile in [false, true] {
        let mut put = binding.start::<Put>(&7, None).expect("sent");
        assert_eq!(task.poll(&mut put), None);
        while !binding.arm() {
            binding.progress();
        }
        task.woken();
        if comes_meanwhile {
            binding.call_one_way::<Take>(&(), None).expect("sent");
            sleeps(&binding);
            assert!(task.woken() > 0 || rings(&binding, SOON), "a reply without a bell");
        } else {
            sleeps(&binding);
            binding.call_one_way::<Take>(&(), None).expect("sent");
            assert!(rings(&binding, SOON), "a reply without a bell");
        }
        let outcome = loop {
            binding.progress();
            if let Some(outcome) = task.poll(&mut put) {
                break outcome;
            }
            assert!(!binding.arm() || rings(&binding, SOON), "a reply without a bell");
        };
        assert_eq!(outcome, Outcome::Executed(7));
    }
    drop((binding, until));
    server.join().expect("no panic");
}

#[test]
fn a_call_that_sleeps_leaves_the_event_loop_its_bell() {
    survives("sleeping-call", |binding| {
        assert_eq!(binding.call::<Sleep>(&20), Outcome::Executed(()));
    });
}

#[test]
fn a_call_that_is_given_up_leaves_the_event_loop_its_bell() {
    survives("given-up", |binding| {
        let outcome = binding.call_timeout::<Sleep>(&40, Duration::from_millis(5));
        assert_eq!(outcome, Outcome::Unknown(UnknownReason::TimedOut));
    });
}

#[test]
fn a_call_that_serves_and_sleeps_leaves_the_event_loop_its_bell() {
    survives("serving-call", |binding| {
        let own = desk(&address("serving-own"));
        assert_eq!(binding.call_serving::<Sleep, _>(&20, &own), Outcome::Executed(()));
    });
}

#[test]
fn a_limit_holds_however_much_is_served_meanwhile() {
    let (until, server, binding) = apart("limit");
    let name = address("limit-own");
    let own = desk(&name);
    let waits = AtomicBool::new(true);
    std::thread::scope(|scope| {
        // It calls for as long as the other waits, or far too long.
        let client = scope.spawn(|| {
            let client = bind::<Desk>(&name, Wait::Adaptive);
            let begun = Instant::now();
            while waits.load(Ordering::Relaxed) && begun.elapsed() < Duration::from_secs(20) {
                assert_eq!(client.call::<Double>(&1), Outcome::Executed(2));
            }
        });
        let call = binding.start::<Put>(&1, None).expect("sent");
        let start = Instant::now();
        let outcome = call.wait_serving(&own, Some(Duration::from_secs(1)));
        let waited = start.elapsed();
        waits.store(false, Ordering::Relaxed);
        while !client.is_finished() {
            own.serve_timeout(Duration::from_millis(1));
        }
        assert_eq!(results(outcome), Outcome::Unknown(UnknownReason::TimedOut));
        let limits = Duration::from_secs(1)..Duration::from_secs(10);
        assert!(limits.contains(&waited), "{waited:?}");
    });
    drop((binding, until));
    server.join().expect("no panic");
}
