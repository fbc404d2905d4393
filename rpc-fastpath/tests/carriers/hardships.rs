//! What the authors of services and of wakers do wrong, and what is gone, harm nobody else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use rpc_fastpath::service::{Outcome, PendingCall, Reason, Remote, RemoteServer, service};
use serde::{Deserialize, Serialize};

use crate::carrying::{Carrier, Channels, SHM, UDP, of_client, of_server};
use crate::service::{EverywhereService, Handler, Seen, until};

/// Panics where it is dropped.
#[derive(Serialize, Deserialize)]
pub struct Fragile(u8);

impl Drop for Fragile {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "as it was asked to");
    }
}

#[service(name = "fragile", version = 1)]
pub trait Breaking {
    #[slow]
    fn fragile(&self) -> Fragile;
    #[slow]
    fn sound(&self) -> u8;
}

struct Breaks;

impl Breaking for Breaks {
    fn fragile(&self) -> Fragile {
        Fragile(1)
    }

    fn sound(&self) -> u8 {
        2
    }
}

#[test]
fn a_result_that_panics_when_it_is_dropped_costs_no_worker() {
    let address = Channels(SHM).address();
    let at = std::slice::from_ref(&address);
    let server = RemoteServer::<BreakingService>::listen(at, Breaks, of_server());
    let _running = server.expect("a free name").spawn();
    let client =
        BreakingClient::new(Remote::<BreakingService>::open(at, of_client()).expect("a server"));
    for _ in 0..3 {
        // It panics here, too.
        client.fragile().executed().map(std::mem::forget).unwrap_or_default();
        assert_eq!(client.sound(), Outcome::Executed(2));
    }
}

#[test]
fn the_address_of_a_server_that_does_not_answer_costs_no_more_than_its_time() {
    let addresses = [Channels(SHM).address(), Channels(UDP).address()];
    let [dead, good] = &addresses;
    let handler = || Handler::new(&Arc::new(Seen::default()));
    let at = std::slice::from_ref(dead);
    let _dead = RemoteServer::<EverywhereService>::listen(at, handler(), of_server());
    let _good = Channels(UDP).try_serve(good, handler()).expect("a free port");
    let remote = Remote::<EverywhereService>::open(&addresses, of_client());
    assert!(remote.is_ok(), "{:?}", remote.err());
}

#[test]
fn calls_that_were_given_up_leave_their_places_when_they_have_ended() {
    for form in [SHM, UDP] {
        let scene = Channels(form).scene();
        for number in 0..600 {
            // Fewer than may be under way, before the last of them ended.
            if number % 20 == 0 {
                std::thread::sleep(Duration::from_millis(5));
            }
            let started = scene.client.start_double(number);
            let refused = started.map(drop).err();
            // A busy machine keeps the server from its turn.
            assert!(matches!(refused, None | Some(Reason::Overloaded)), "{form}: {refused:?}");
        }
        until("a place", || scene.client.start_double(1).map(drop).is_ok());
        until("a call", || scene.client.double(1) == Outcome::Executed(2));
    }
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("as it was asked to");
    }
}

struct Counts(AtomicU64);

impl Wake for Counts {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_waker_that_panics_takes_nothing_from_others() {
    let scene = Channels(SHM).scene();
    let client = &scene.client;
    let (panics, counts) = (Waker::from(Arc::new(Panics)), Arc::new(Counts(AtomicU64::new(0))));
    let counting = Waker::from(Arc::clone(&counts));
    let mut first = client.start_sleep(30).expect("sent");
    let mut second = client.start_double(2).expect("sent");
    let mut third = client.start_double(3).expect("sent");
    assert!(Pin::new(&mut first).poll(&mut Context::from_waker(&panics)).is_pending());
    assert!(Pin::new(&mut second).poll(&mut Context::from_waker(&counting)).is_pending());
    let mut outcome = None;
    until("an outcome", || {
        let taken = catch_unwind(AssertUnwindSafe(|| third.try_take()));
        outcome = outcome.take().or(taken.expect("it is not theirs"));
        outcome.is_some()
    });
    assert_eq!(outcome, Some(Outcome::Executed(6)));
    assert_eq!(first.wait(), Outcome::Executed(()));
    assert_eq!(second.wait(), Outcome::Executed(4));
    assert_eq!(counts.0.load(Ordering::SeqCst), 1);
}
