//! Awaited calls over channels, in an event loop that waits for a descriptor and nothing else.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use rpc_fastpath::service::{Outcome, Reason, Remote, UnknownReason};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{Interest, unix::AsyncFd};

use crate::carrying::{Carrier, Channels, LOSSY, SHM, SIM, Scene, UDP, of_server};
use crate::service::{EverywhereClient, EverywhereService, Handler, Seen, until};

type Client = EverywhereClient<Remote<EverywhereService>>;

/// Runs `with` beside the task that takes the replies. How often that was woken.
fn driven<T>(client: &Client, with: impl Future<Output = T>) -> (T, u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let remote = client.caller();
        let fd = remote.as_fd().try_clone_to_owned().expect("cloned");
        // tokio would rather have its `unsafe` constructor called, since a type may lie about its
        // descriptor; `OwnedFd` does not.
        #[allow(deprecated)]
        let readiness = AsyncFd::with_interest(fd, Interest::READABLE).expect("registered");
        let wakes = std::cell::Cell::new(0);
        let driver = async {
            loop {
                while remote.progress() {}
                if remote.arm() {
                    readiness.readable().await.expect("the runtime runs").clear_ready();
                    wakes.set(wakes.get() + 1);
                }
            }
        };
        let limited = tokio::time::timeout(Duration::from_secs(20), with);
        let done = tokio::select! {
            done = limited => done.expect("it does not end"),
            never = driver => never,
        };
        (done, wakes.get())
    })
}

fn calls_are_awaited_while_others_are_waited_for(form: &'static str) {
    let Scene { client, seen, running: _running } = Channels(form).scene();
    driven(&client, async {
        for round in 0..20 {
            let (slow, quick) = (client.start_slowly("a"), client.start_double(round));
            let (slow, quick) = (slow.expect("sent"), quick.expect("sent"));
            assert_eq!(quick.await, Outcome::Executed(round * 2));
            // The task that takes the replies waits for the descriptor meanwhile.
            tokio::time::sleep(Duration::from_millis(2)).await;
            assert_eq!(client.double(1), Outcome::Executed(2));
            seen.go.fetch_add(1, SeqCst);
            assert_eq!(slow.await, Outcome::Executed("A".into()));
        }
        // Its deadline ends it, with nobody there to answer.
        let sleeping = client.start_sleep(400).expect("sent");
        let until = client.start_until(1).expect("sent");
        let ended = until.await;
        // Where its fellow was lost on the way, it came first; where it was, it came too late.
        let may_end = [
            Outcome::Unknown(UnknownReason::TimedOut),
            Outcome::Executed(1),
            Outcome::Refused(Reason::TooLate),
        ];
        assert!(may_end.contains(&ended), "{ended:?}");
        assert_eq!(sleeping.await, Outcome::Executed(()));
    });
}

#[test]
fn calls_are_awaited_over_shared_memory() {
    calls_are_awaited_while_others_are_waited_for(SHM);
}

#[test]
fn calls_are_awaited_over_udp() {
    calls_are_awaited_while_others_are_waited_for(UDP);
}

#[test]
fn calls_are_awaited_over_the_simulator() {
    calls_are_awaited_while_others_are_waited_for(SIM);
}

#[test]
fn calls_are_awaited_over_the_simulator_with_faults() {
    calls_are_awaited_while_others_are_waited_for(LOSSY);
}

fn who_awaits_sleeps(form: &'static str) {
    let Scene { client, seen, running: _running } = Channels(form).scene();
    let ((), wakes) = driven(&client, async {
        let slow = client.start_slowly("a").expect("sent");
        tokio::time::sleep(Duration::from_millis(600)).await;
        seen.go.store(1, SeqCst);
        assert_eq!(slow.await, Outcome::Executed("A".into()));
    });
    // Timers of the protocol and of the network's, and the reply.
    assert!((1..200).contains(&wakes), "woken {wakes} times in 600 ms");
}

#[test]
fn who_awaits_sleeps_over_shared_memory() {
    who_awaits_sleeps(SHM);
}

#[test]
fn who_awaits_sleeps_over_udp() {
    who_awaits_sleeps(UDP);
}

#[test]
fn a_waker_and_a_deserialize_may_call_on_the_client() {
    struct Calls(Arc<std::sync::atomic::AtomicU64>);
    impl std::task::Wake for Calls {
        fn wake(self: Arc<Self>) {
            CLIENT.with_borrow(|client| {
                let client = client.as_ref().expect("it is there");
                assert_eq!(client.double(4), Outcome::Executed(8));
                let _ = client.caller().progress();
            });
            self.0.fetch_add(1, SeqCst);
        }
    }
    thread_local! {
        static CLIENT: std::cell::RefCell<Option<std::rc::Rc<Client>>> = Default::default();
    }
    let Scene { client, running: _running, .. } = Channels(SHM).scene();
    let client = std::rc::Rc::new(client);
    CLIENT.set(Some(std::rc::Rc::clone(&client)));
    let woken = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let waker = std::task::Waker::from(Arc::new(Calls(Arc::clone(&woken))));
    let mut pending = std::pin::pin!(client.start_sleep(20).expect("sent"));
    let mut context = std::task::Context::from_waker(&waker);
    assert!(pending.as_mut().poll(&mut context).is_pending());
    until("it is woken", || {
        client.caller().progress();
        woken.load(SeqCst) == 1
    });
    let outcome = pending.as_mut().poll(&mut context);
    assert_eq!(outcome, std::task::Poll::Ready(Outcome::Executed(())));
    CLIENT.set(None);
}

#[test]
fn a_server_is_a_part_of_an_event_loop() {
    use rpc_fastpath::service::RemoteServer;
    let (address, seen) = (Channels(SHM).address(), Arc::new(Seen::default()));
    let addresses = [address.clone()];
    let mut server =
        RemoteServer::<EverywhereService>::listen(&addresses, Handler::new(&seen), of_server())
            .expect("a free name");
    let client = std::thread::spawn(move || {
        let client = Channels(SHM).try_connect(&address).expect("a server");
        let client = EverywhereClient::new(client);
        for number in 0..20 {
            assert_eq!(client.double(number), Outcome::Executed(number * 2));
            assert_eq!(client.slowly("a"), Outcome::Executed("A".into()));
        }
    });
    seen.go.store(u64::MAX, SeqCst);
    let begin = Instant::now();
    while !client.is_finished() {
        assert!(begin.elapsed() < Duration::from_secs(20), "nothing woke the loop");
        if !server.poll() && server.arm() {
            let second = Timespec { tv_sec: 1, tv_nsec: 0 };
            let descriptor = server.as_fd();
            let _ = poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&second));
        }
    }
    client.join().expect("no panic");
    assert_eq!(server.endpoint().counts().malformed, 0);
}
