//! What two honest sides can expect of calls.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lrpc::{BindError, BindOptions, Binding, ExportOptions, NotExecuted, Outcome, Reason, Server};
use unet::{Address, Wait};

lrpc::interface! {
    /// What the tests call.
    pub Calculator = "calculator", version 1 {
        /// Nothing.
        Null(()) -> ();
        /// The sum.
        Add([u64; 2]) -> u64;
        /// Fits beside no descriptor and into no slot.
        Reverse([u8; 1000]) -> [u8; 1000];
        /// Which bytes are not all booleans.
        Negate([bool; 4]) -> [bool; 4];
        /// Who calls.
        Whoami(()) -> [u32; 2];
        /// Doubles every byte of a buffer.
        Double(()) -> u64;
        /// Declines.
        Decline(u16) -> ();
        /// Nobody serves it.
        Unserved(()) -> ();
        /// Takes longer than its caller waits.
        Slow(()) -> ();
    }
}

fn address(test: &str) -> Address {
    format!("shm:test-{test}-{}", std::process::id()).parse().expect("the name is valid")
}

fn calculator(address: &Address, wait: Wait) -> Server<Calculator> {
    let options = ExportOptions { wait, ..ExportOptions::default() };
    Server::export(address, options)
        .expect("the name is free")
        .on::<Null>(|_, ()| Ok(()))
        .on::<Add>(|_, [a, b]| Ok(a.wrapping_add(b)))
        .on::<Reverse>(|_, mut bytes| {
            bytes.reverse();
            Ok(bytes)
        })
        .on::<Negate>(|_, values| Ok(values.map(|value| !value)))
        .on::<Whoami>(|call, ()| {
            let caller = call.caller().ok_or(1u16)?;
            Ok([caller.pid, caller.uid])
        })
        .on::<Double>(|call, ()| {
            let bytes = call.take_bulk().ok_or(1u16)?.to_vec().map_err(|_| 2u16)?;
            let mut reply = call.alloc(bytes.len()).map_err(|_| 2u16)?;
            for (to, from) in reply.iter_mut().zip(&bytes) {
                *to = from.wrapping_mul(2);
            }
            call.reply_with(reply.freeze());
            Ok(bytes.len() as u64)
        })
        .on::<Decline>(|_, code| Err(code))
        .on::<Slow>(|_, ()| {
            std::thread::sleep(Duration::from_millis(50));
            Ok(())
        })
}

fn with_calculator(test: &str, wait: Wait, client: impl FnOnce(&Address)) {
    let address = address(test);
    let server = calculator(&address, wait);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let done = &done;
        scope.spawn(move || server.serve_until(|| done.load(Ordering::Relaxed)));
        // So that a failed client ends the server too.
        let _end = End(done);
        client(&address);
    });
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn bind(address: &Address, wait: Wait) -> Binding<Calculator> {
    Binding::bind(address, BindOptions { wait, ..BindOptions::default() }).expect("bound")
}

#[test]
fn results_come_back_by_every_wait_strategy() {
    for wait in [Wait::Spin, Wait::Adaptive, Wait::Park] {
        with_calculator("results", wait, |address| {
            let binding = bind(address, wait);
            for number in 0..2_000 {
                assert_eq!(binding.call::<Null>(&()), Outcome::Executed(()));
                assert_eq!(binding.call::<Add>(&[number, 3]), Outcome::Executed(number + 3));
            }
        });
    }
}

#[test]
fn large_arguments_and_results_travel_in_a_stacks() {
    with_calculator("a-stacks", Wait::Adaptive, |address| {
        let binding = bind(address, Wait::Adaptive);
        for round in 0..100 {
            let bytes = std::array::from_fn(|at| (at + round) as u8);
            let mut reversed = bytes;
            reversed.reverse();
            assert_eq!(binding.call::<Reverse>(&bytes), Outcome::Executed(reversed));
        }
    });
}

#[test]
fn a_call_hands_over_a_buffer_and_gets_one_back() {
    with_calculator("bulk", Wait::Adaptive, |address| {
        let binding = bind(address, Wait::Adaptive);
        for _ in 0..100 {
            let mut bulk = binding.alloc(100_000).expect("a buffer is free");
            bulk.fill(21);
            let Outcome::Executed(reply) = binding.call_bulk::<Double>(&(), Some(bulk.freeze()))
            else {
                panic!("the call was not executed");
            };
            assert_eq!(reply.results, 100_000);
            assert_eq!(
                reply.bulk.expect("a buffer came back").to_vec().expect("nothing was revoked"),
                vec![42; 100_000]
            );
        }
        let (free, lent, total) = binding.buffers();
        assert_eq!((free, lent), (total, 0));
    });
}

#[test]
fn a_handler_knows_its_caller() {
    with_calculator("whoami", Wait::Adaptive, |address| {
        let own = [std::process::id(), rustix::process::geteuid().as_raw()];
        assert_eq!(bind(address, Wait::Adaptive).call::<Whoami>(&()), Outcome::Executed(own));
    });
}

#[test]
fn refusals_are_certain_and_say_why() {
    with_calculator("refusals", Wait::Adaptive, |address| {
        let binding = bind(address, Wait::Adaptive);
        assert_eq!(binding.call::<Unserved>(&()), Outcome::Refused(Reason::NotServed));
        assert_eq!(binding.call::<Decline>(&7), Outcome::Refused(Reason::Declined(7)));
        let error = binding.call::<Decline>(&7).executed().expect_err("it declined");
        assert_eq!(error, NotExecuted::Refused(Reason::Declined(7)));
        assert_eq!(binding.call::<Add>(&[1, 1]), Outcome::Executed(2));
    });
}

#[test]
fn a_late_reply_is_discarded_and_its_a_stack_freed() {
    with_calculator("late", Wait::Adaptive, |address| {
        let binding = bind(address, Wait::Adaptive);
        for _ in 0..lrpc::A_STACKS + 2 {
            let outcome = binding.call_timeout::<Slow>(&(), Duration::from_millis(5));
            assert!(matches!(outcome, Outcome::Unknown(lrpc::UnknownReason::TimedOut)));
            assert_eq!(binding.call::<Add>(&[1, 1]), Outcome::Executed(2));
        }
    });
}

mod other_version {
    lrpc::interface! { pub Calculator = "calculator", version 2 { Null(()) -> (); } }
}
mod other_layout {
    lrpc::interface! { pub Calculator = "calculator", version 1 { Null(()) -> (); } }
}
mod other_name {
    lrpc::interface! { pub Abacus = "abacus", version 1 { Null(()) -> (); } }
}

#[test]
fn a_binding_to_the_wrong_interface_says_what_is_wrong() {
    with_calculator("mismatch", Wait::Adaptive, |address| {
        fn refused<I: lrpc::Interface>(address: &Address) -> BindError {
            Binding::<I>::bind(address, BindOptions::default()).expect_err("it is refused")
        }
        assert_eq!(refused::<other_version::Calculator>(address), BindError::VersionMismatch);
        assert_eq!(refused::<other_layout::Calculator>(address), BindError::LayoutMismatch);
        assert_eq!(refused::<other_name::Abacus>(address), BindError::UnknownInterface);
    });
}

#[test]
fn who_admits_may_look_at_the_server() {
    use std::cell::RefCell;
    use std::rc::Rc;
    thread_local! {
        static SERVER: RefCell<Option<Rc<Server<Calculator>>>> = const { RefCell::new(None) };
    }
    let address = address("admit-by-number");
    let first_two =
        |_| SERVER.with_borrow(|server| server.as_ref().expect("it was set").bindings() < 2);
    let options = ExportOptions { admit: Some(Box::new(first_two)), ..ExportOptions::default() };
    let server =
        Rc::new(Server::<Calculator>::export(&address, options).expect("the name is free"));
    SERVER.set(Some(server.clone()));
    let clients = std::thread::spawn(move || {
        let bind = || Binding::<Calculator>::bind(&address, BindOptions::default());
        let clients = [bind(), bind(), bind()];
        clients.map(|client| client.map(drop).err())
    });
    while !clients.is_finished() {
        server.serve_timeout(Duration::from_millis(1));
    }
    let refused = clients.join().expect("no panic");
    // Those that were admitted are dropped only when all have asked.
    assert_eq!(refused, [None, None, Some(BindError::Refused)]);
    SERVER.set(None);
}

#[test]
fn a_server_refuses_whom_it_does_not_admit() {
    let address = address("admit");
    let options = ExportOptions { admit: Some(Box::new(|_| false)), ..ExportOptions::default() };
    let server = Server::<Calculator>::export(&address, options).expect("the name is free");
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            Binding::<Calculator>::bind(&address, BindOptions::default()).expect_err("refused")
        });
        while !client.is_finished() {
            server.serve_timeout(Duration::from_millis(5));
        }
        assert_eq!(client.join().expect("no panic"), BindError::Refused);
    });
    let refused =
        server.with_counters(|counters| counters.get(unet::Counter::RefusedByApplication));
    assert_eq!(refused, 1);
}

mod chain {
    lrpc::interface! {
        /// A link of a chain of calls.
        pub Link = "link", version 1 {
            /// Counts down along the chain, and adds one on the way back.
            Descend(u32) -> u32;
        }
    }
}

/// Starts a server of `Link` that passes every call on to `next`, serving meanwhile.
fn link(own: Address, next: Address, done: &AtomicBool) {
    let forward = RefCell::new(None::<Binding<chain::Link>>);
    let server = Server::<chain::Link>::export(&own, ExportOptions::default())
        .expect("the name is free")
        .on::<chain::Descend>(move |call, depth| {
            if depth == 0 {
                return Ok(0);
            }
            if forward.borrow().is_none() {
                let binding = loop {
                    match Binding::bind(
                        &next,
                        BindOptions {
                            timeout: Duration::from_millis(20),
                            ..BindOptions::default()
                        },
                    ) {
                        Ok(binding) => break binding,
                        Err(_) => drop(call.server().poll()),
                    }
                };
                forward.replace(Some(binding));
            }
            let forward = forward.borrow();
            let next = forward.as_ref().expect("just bound");
            match next.call_serving::<chain::Descend, _>(&(depth - 1), call.server()) {
                Outcome::Executed(below) => Ok(below + 1),
                Outcome::Refused(Reason::TooDeep) => Err(1),
                _ => Err(2),
            }
        });
    server.serve_until(|| done.load(Ordering::Relaxed));
}

#[test]
fn a_cycle_of_calls_comes_back_to_its_own_server() {
    let names = ["cycle-x", "cycle-y", "cycle-z"].map(address);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let done = &done;
        let _end = End(done);
        for at in 0..3 {
            let (own, next) = (names[at].clone(), names[(at + 1) % 3].clone());
            scope.spawn(move || link(own, next, done));
        }
        let binding = loop {
            match Binding::<chain::Link>::bind(&names[0], BindOptions::default()) {
                Ok(binding) => break binding,
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        // x → y → z → x → y → z → x, each thread serving while it waits.
        assert_eq!(binding.call::<chain::Descend>(&6), Outcome::Executed(6));
        assert_eq!(binding.call::<chain::Descend>(&20), Outcome::Executed(20));
    });
}
