//! Calls within calls: cycles, their bounds, and handlers that fail in the middle of them.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use lrpc::{A_STACKS, Binding, Call, MAX_NESTING, Outcome, Reason, Server, UnknownReason};
use support::{PATIENCE, WAITS, address, beside, bind, bind_beside, eventually, export, serve_all};
use unet::Wait;

mod link {
    lrpc::interface! {
        /// A link of a chain of calls.
        pub Link = "link", version 1 {
            /// Counts down along the chain, and adds one on the way back.
            Even(u32) -> u32;
            /// The same, by a binding of its own: so a server can be in it more often than one
            /// binding has A-stacks.
            Odd(u32) -> u32;
        }
    }
}
use link::{Even, Link, Odd};

/// What a link declines with when the link behind it is too deep, has no A-stack left, or else.
const TOO_DEEP: u16 = 1;
const NO_A_STACK: u16 = 2;
const OTHER: u16 = 3;

/// Passes a call on, serving meanwhile.
fn pass_on(call: &Call<'_, Link>, next: &Binding<Link>, left: u32) -> Result<u32, u16> {
    let outcome = match left {
        0 => return Ok(0),
        _ if left % 2 == 1 => next.call_serving::<Even, _>(&(left - 1), call.server()),
        _ => next.call_serving::<Odd, _>(&(left - 1), call.server()),
    };
    match outcome {
        Outcome::Executed(below) => Ok(below + 1),
        Outcome::Refused(Reason::Declined(code)) => Err(code),
        Outcome::Refused(Reason::TooDeep) => Err(TOO_DEEP),
        Outcome::Refused(Reason::NoAStack) => Err(NO_A_STACK),
        _ => Err(OTHER),
    }
}

/// Gives a server its handlers: `Even` calls by one binding, `Odd` by the other, and each counts
/// how deep the server is.
fn with_links(
    server: Server<Link>,
    next: [Binding<Link>; 2],
    deepest: &Arc<AtomicU32>,
) -> Server<Link> {
    let depth = Arc::new(AtomicU32::new(0));
    let counting = |next: Binding<Link>| {
        let (depth, deepest) = (depth.clone(), deepest.clone());
        move |call: &Call<'_, Link>, left: u32| {
            deepest.fetch_max(depth.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            let below = pass_on(call, &next, left);
            depth.fetch_sub(1, Ordering::Relaxed);
            below
        }
    };
    let [even, odd] = next.map(counting);
    server.on::<Even>(even).on::<Odd>(odd)
}

/// Calls whichever procedure has the parity of the way that is left.
fn call(binding: &Binding<Link>, server: &Server<Link>, left: u32) -> Outcome<u32> {
    if left.is_multiple_of(2) {
        binding.call_serving::<Even, _>(&left, server)
    } else {
        binding.call_serving::<Odd, _>(&left, server)
    }
}

#[test]
fn a_server_that_calls_itself_is_bounded_by_the_depth_of_nesting() {
    for wait in WAITS {
        let address = address("self");
        let server = export::<Link>(&address, wait);
        let next = [0, 1].map(|_| bind_beside(&server, &address, wait));
        let client = bind_beside::<Link>(&server, &address, wait);
        let deepest = Arc::default();
        let server = with_links(server, next, &deepest);
        let most = MAX_NESTING as u32;
        for _ in 0..3 {
            assert_eq!(call(&client, &server, most - 1), Outcome::Executed(most - 1));
            for left in [most, most + 1, 1000] {
                let outcome = call(&client, &server, left);
                assert_eq!(outcome, Outcome::Refused(Reason::Declined(TOO_DEEP)), "{left}");
            }
        }
        assert_eq!(deepest.load(Ordering::Relaxed), most);
    }
}

#[test]
fn a_call_too_deep_is_refused_to_a_client_beside_the_cycle() {
    lrpc::interface! {
        /// Two procedures: one keeps the server inside, the other only counts.
        Well = "well", version 1 {
            /// Calls itself, and at the bottom the other one.
            Down(u32) -> u32;
            /// Nothing.
            Null(()) -> ();
        }
    }
    let address = address("well");
    let server = export::<Well>(&address, Wait::Adaptive);
    // As deep as the server may be takes two bindings' A-stacks.
    let next = [0, 1].map(|_| bind_beside::<Well>(&server, &address, Wait::Adaptive));
    let other = bind_beside::<Well>(&server, &address, Wait::Adaptive);
    let client = bind_beside::<Well>(&server, &address, Wait::Adaptive);
    let refused = Arc::new(AtomicBool::new(false));
    let told = refused.clone();
    let server = server.on::<Null>(|_, ()| Ok(())).on::<Down>(move |call, left| {
        if left == 0 {
            let outcome = other.call_serving::<Null, _>(&(), call.server());
            told.store(outcome == Outcome::Refused(Reason::TooDeep), Ordering::Relaxed);
            return Ok(0);
        }
        let next = &next[left as usize % 2];
        next.call_serving::<Down, _>(&(left - 1), call.server()).executed().map_err(|_| OTHER)
    });
    let outcome = client.call_serving::<Down, _>(&(MAX_NESTING as u32 - 1), &server);
    assert_eq!(outcome, Outcome::Executed(0));
    assert!(refused.load(Ordering::Relaxed), "the one call too many was refused");
    assert_eq!(client.call_serving::<Null, _>(&(), &server), Outcome::Executed(()));
}

/// So that a test that fails ends its servers too.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Three servers, x → y → z → x, each on a thread of its own, and what `client` does with x.
fn with_cycle(wait: Wait, client: impl FnOnce(&Binding<Link>)) {
    let names = ["x", "y", "z"].map(address);
    let (done, exported, ready) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        let (done, exported, ready) = (&done, &exported, &ready);
        let _end = End(done);
        for at in 0..3 {
            let (own, next) = (names[at].clone(), names[(at + 1) % 3].clone());
            scope.spawn(move || {
                let server = export::<Link>(&own, wait);
                exported.fetch_add(1, Ordering::Release);
                let next = beside(&server, || {
                    eventually("all are exported", || exported.load(Ordering::Acquire) == 3);
                    [bind(&next, wait), bind(&next, wait)]
                });
                let server = with_links(server, next, &Arc::default());
                ready.fetch_add(1, Ordering::Release);
                server.serve_until(|| done.load(Ordering::Relaxed));
            });
        }
        eventually("all are bound", || ready.load(Ordering::Acquire) == 3);
        client(&bind(&names[0], wait));
    });
}

#[test]
fn a_cycle_of_three_servers_is_bounded_and_works_again_afterwards() {
    for wait in [Wait::Adaptive, Wait::Park] {
        with_cycle(wait, |binding| {
            // Each server is in MAX_NESTING calls at most, so the chain has three times as many.
            let most = 3 * MAX_NESTING as u32;
            for _ in 0..3 {
                for left in [0, 2, 6, most - 2] {
                    assert_eq!(binding.call::<Even>(&left), Outcome::Executed(left));
                }
                for left in [most, most + 2, 1000] {
                    let outcome = binding.call::<Even>(&left);
                    assert_eq!(outcome, Outcome::Refused(Reason::Declined(TOO_DEEP)), "{left}");
                }
            }
        });
    }
}

#[test]
fn a_cycle_through_one_binding_is_bounded_by_its_a_stacks() {
    lrpc::interface! {
        /// A procedure that calls itself.
        Loop = "loop", version 1 {
            /// Calls itself as often as it is told.
            Again(u32) -> u32;
        }
    }
    let address = address("loop");
    let server = export::<Loop>(&address, Wait::Adaptive);
    let next = bind_beside::<Loop>(&server, &address, Wait::Adaptive);
    let client = bind_beside::<Loop>(&server, &address, Wait::Adaptive);
    let server = server.on::<Again>(move |call, left| {
        if left == 0 {
            return Ok(0);
        }
        match next.call_serving::<Again, _>(&(left - 1), call.server()) {
            Outcome::Executed(below) => Ok(below + 1),
            Outcome::Refused(Reason::NoAStack) => Err(NO_A_STACK),
            Outcome::Refused(Reason::Declined(code)) => Err(code),
            _ => Err(OTHER),
        }
    });
    let most = A_STACKS as u32;
    for _ in 0..3 {
        assert_eq!(client.call_serving::<Again, _>(&most, &server), Outcome::Executed(most));
        let outcome = client.call_serving::<Again, _>(&(most + 1), &server);
        assert_eq!(outcome, Outcome::Refused(Reason::Declined(NO_A_STACK)));
    }
}

#[test]
fn a_handler_calls_on_the_binding_that_waits_for_it() {
    lrpc::interface! {
        /// Calls that meet on one binding.
        Knot = "knot", version 1 {
            /// Has the waiting binding called again, three times, by each procedure.
            Outer([u8; 100]) -> [u8; 100];
            /// Adds one.
            Inner(u32) -> u32;
            /// Reverses.
            Large([u8; 100]) -> [u8; 100];
        }
    }
    let address = address("knot");
    let server = export::<Knot>(&address, Wait::Adaptive);
    let binding = bind_beside::<Knot>(&server, &address, Wait::Adaptive);
    let binding = std::rc::Rc::new(binding);
    // The handler must be `Send`, and a binding cannot be shared with it: it is lent by this thread.
    thread_local! {
        static LENT: std::cell::RefCell<Option<std::rc::Rc<Binding<Knot>>>> =
            const { std::cell::RefCell::new(None) };
    }
    LENT.set(Some(binding.clone()));
    let server = server
        .on::<Inner>(|_, number| Ok(number + 1))
        .on::<Large>(|_, mut bytes| {
            bytes.reverse();
            Ok(bytes)
        })
        .on::<Outer>(|call, bytes| {
            let lent = LENT.with_borrow(Clone::clone).expect("it was lent");
            for round in 0..3 {
                let inner = lent.call_serving::<Inner, _>(&round, call.server());
                assert_eq!(inner, Outcome::Executed(round + 1));
                let large = lent.call_serving::<Large, _>(&[7; 100], call.server());
                assert_eq!(large, Outcome::Executed([7; 100]));
            }
            Ok(bytes)
        });
    for round in 0..20 {
        let bytes = std::array::from_fn(|at| at as u8 ^ round);
        assert_eq!(binding.call_serving::<Outer, _>(&bytes, &server), Outcome::Executed(bytes));
    }
    LENT.set(None);
}

mod tank {
    lrpc::interface! {
        /// A server that is not served until a test does.
        pub Tank = "tank", version 1 {
            /// Counts.
            Fill(u32) -> u32;
            /// Nothing.
            Null(()) -> ();
        }
    }
}
use tank::{Fill, Null, Tank};

#[test]
fn a_procedure_whose_a_stacks_are_all_abandoned_is_refused_until_the_replies_are_there() {
    for wait in WAITS {
        let address = address("tank");
        let server = export::<Tank>(&address, wait);
        let client = bind_beside::<Tank>(&server, &address, wait);
        let sum = Arc::new(AtomicU32::new(0));
        let filled = sum.clone();
        let server = server
            .on::<Null>(|_, ()| Ok(()))
            .on::<Fill>(move |_, by| Ok(filled.fetch_add(by, Ordering::Relaxed) + by));
        for round in 1..=3 {
            for _ in 0..A_STACKS {
                let outcome = client.call_timeout::<Fill>(&1, Duration::ZERO);
                assert_eq!(outcome, Outcome::Unknown(UnknownReason::TimedOut));
            }
            for _ in 0..3 {
                let outcome = client.call_timeout::<Fill>(&100, Duration::ZERO);
                assert_eq!(outcome, Outcome::Refused(Reason::NoAStack));
            }
            // The server was never asked by the refused ones. No other procedure is called here:
            // nothing but the next call itself can find the replies.
            serve_all(&server);
            assert_eq!(sum.load(Ordering::Relaxed), round * (A_STACKS as u32 + 1) - 1);
            let outcome = client.call_serving::<Fill, _>(&1, &server);
            assert_eq!(outcome, Outcome::Executed(round * (A_STACKS as u32 + 1)), "{wait:?}");
        }
    }
}

#[test]
fn an_honest_client_that_abandons_every_call_is_not_taken_for_a_hostile_one() {
    lrpc::interface! {
        /// More A-stacks than a queue has slots by default.
        Wide = "wide", version 1 {
            P0(u32) -> u32; P1(u32) -> u32; P2(u32) -> u32; P3(u32) -> u32; P4(u32) -> u32;
            P5(u32) -> u32; P6(u32) -> u32; P7(u32) -> u32; P8(u32) -> u32; P9(u32) -> u32;
        }
    }
    let address = address("wide");
    let server = export::<Wide>(&address, Wait::Park);
    let client = bind_beside::<Wide>(&server, &address, Wait::Park);
    let server = server
        .on::<P0>(|_, n| Ok(n))
        .on::<P1>(|_, n| Ok(n))
        .on::<P2>(|_, n| Ok(n))
        .on::<P3>(|_, n| Ok(n))
        .on::<P4>(|_, n| Ok(n))
        .on::<P5>(|_, n| Ok(n))
        .on::<P6>(|_, n| Ok(n))
        .on::<P7>(|_, n| Ok(n))
        .on::<P8>(|_, n| Ok(n))
        .on::<P9>(|_, n| Ok(n));
    for _ in 0..5 {
        for _ in 0..A_STACKS {
            for abandon in [
                |client: &Binding<Wide>| client.call_timeout::<P0>(&0, Duration::ZERO),
                |client: &Binding<Wide>| client.call_timeout::<P1>(&0, Duration::ZERO),
                |client: &Binding<Wide>| client.call_timeout::<P2>(&0, Duration::ZERO),
                |client: &Binding<Wide>| client.call_timeout::<P3>(&0, Duration::ZERO),
                |client: &Binding<Wide>| client.call_timeout::<P4>(&0, Duration::ZERO),
                |client: &Binding<Wide>| client.call_timeout::<P5>(&0, Duration::ZERO),
                |client: &Binding<Wide>| client.call_timeout::<P6>(&0, Duration::ZERO),
                |client: &Binding<Wide>| client.call_timeout::<P7>(&0, Duration::ZERO),
                |client: &Binding<Wide>| client.call_timeout::<P8>(&0, Duration::ZERO),
                |client: &Binding<Wide>| client.call_timeout::<P9>(&0, Duration::ZERO),
            ] {
                assert_eq!(abandon(&client), Outcome::Unknown(UnknownReason::TimedOut));
                // The server is quick, the client slow: the replies gather.
                serve_all(&server);
            }
        }
        assert_eq!(client.call_serving::<P0, _>(&7, &server), Outcome::Executed(7));
    }
    assert_eq!(client.closed(), None);
}

mod bomb {
    lrpc::interface! {
        /// A server whose handlers panic.
        pub Bomb = "bomb", version 1 {
            /// Panics.
            Explode(()) -> ();
            /// Takes a buffer and one of its own, and panics.
            ExplodeHolding(()) -> ();
            /// Calls `Explode`, serving meanwhile.
            ExplodeBelow(()) -> ();
            /// The sum.
            Add([u32; 2]) -> u32;
        }
    }
}
use bomb::{Add, Bomb, Explode, ExplodeBelow, ExplodeHolding};

/// A panic without a message on the terminal.
fn explode() -> ! {
    resume_unwind(Box::new("boom"))
}

fn bomb(server: Server<Bomb>) -> Server<Bomb> {
    server.on::<Add>(|_, [a, b]| Ok(a + b)).on::<Explode>(|_, ()| explode()).on::<ExplodeHolding>(
        |call, ()| {
            let _taken = call.take_bulk().expect("a buffer came");
            call.reply_with(call.alloc(100).expect("a buffer is free").freeze());
            let _own = call.alloc(100).expect("a buffer is free");
            explode()
        },
    )
}

/// Serves a client that runs in a thread of its own, and survives its handlers' panics.
fn serve_and_survive<T: Send>(
    server: &Server<Bomb>,
    client: impl FnOnce() -> T + Send,
) -> (T, usize) {
    let mut panics = 0;
    let outcome = std::thread::scope(|scope| {
        let client = scope.spawn(client);
        while !client.is_finished() {
            let serve = AssertUnwindSafe(|| server.serve_timeout(Duration::from_millis(1)));
            panics += usize::from(catch_unwind(serve).is_err());
        }
        client.join().expect("the client does not panic")
    });
    (outcome, panics)
}

#[test]
fn a_handler_that_panics_leaves_its_caller_in_doubt_and_the_server_usable() {
    for wait in WAITS {
        let address = address("bomb");
        let server = bomb(export::<Bomb>(&address, wait));
        let client = bind_beside::<Bomb>(&server, &address, wait);
        let other = bind_beside::<Bomb>(&server, &address, wait);
        // More often than calls may nest, and than there are A-stacks or buffers.
        let rounds = 2 * MAX_NESTING + A_STACKS;
        let ((client, other), panics) = serve_and_survive(&server, move || {
            for round in 0..rounds {
                let outcome = client.call::<Explode>(&());
                assert_eq!(outcome, Outcome::Unknown(UnknownReason::Failed), "{round}");
                let bulk = client.alloc(100).expect("a buffer is free");
                let outcome = client.call_bulk::<ExplodeHolding>(&(), Some(bulk.freeze()));
                assert!(matches!(outcome, Outcome::Unknown(UnknownReason::Failed)), "{round}");
                assert_eq!(client.call::<Add>(&[2, 3]), Outcome::Executed(5));
                assert_eq!(other.call::<Add>(&[2, 3]), Outcome::Executed(5));
            }
            (client, other)
        });
        assert_eq!(panics, 2 * rounds);
        let (free, lent, total) = client.buffers();
        assert_eq!((free, lent), (total, 0), "the buffers came back");
        assert_eq!((client.closed(), other.closed(), server.bindings()), (None, None, 2));
    }
}

#[test]
fn a_panic_below_unwinds_through_the_calls_that_wait_above() {
    let address = address("below");
    let server = export::<Bomb>(&address, Wait::Adaptive);
    let own = bind_beside::<Bomb>(&server, &address, Wait::Adaptive);
    let client = bind_beside::<Bomb>(&server, &address, Wait::Adaptive);
    let server = bomb(server).on::<ExplodeBelow>(move |call, ()| {
        own.call_serving::<Explode, _>(&(), call.server()).executed().map_err(|_| OTHER)
    });
    let rounds = 2 * MAX_NESTING + A_STACKS;
    let (_, panics) = serve_and_survive(&server, move || {
        for round in 0..rounds {
            let outcome = client.call::<ExplodeBelow>(&());
            assert_eq!(outcome, Outcome::Unknown(UnknownReason::Failed), "{round}");
            assert_eq!(client.call::<Add>(&[2, 3]), Outcome::Executed(5));
        }
    });
    // One panic that unwound through both handlers, each round.
    assert_eq!(panics, rounds);
}

#[test]
fn a_reply_that_a_nested_call_took_is_not_kept_for_a_call_that_was_unwound() {
    lrpc::interface! {
        /// A call is answered while a handler that panics waits on the same binding.
        Fuse = "fuse", version 1 {
            /// Adds one.
            Light(u32) -> u32;
            /// Nothing.
            Hiss(()) -> ();
            /// Calls `Hiss` on the binding that waits, and panics.
            Burn(()) -> ();
        }
    }
    let address = address("fuse");
    let server = export::<Fuse>(&address, Wait::Adaptive);
    let waiting = std::rc::Rc::new(bind_beside::<Fuse>(&server, &address, Wait::Adaptive));
    let other = bind_beside::<Fuse>(&server, &address, Wait::Adaptive);
    thread_local! {
        static LENT: std::cell::RefCell<Option<std::rc::Rc<Binding<Fuse>>>> =
            const { std::cell::RefCell::new(None) };
    }
    LENT.set(Some(waiting.clone()));
    let server = server.on::<Light>(|_, number| Ok(number + 1)).on::<Hiss>(|_, ()| Ok(()));
    let server = server.on::<Burn>(|call, ()| {
        let lent = LENT.with_borrow(Clone::clone).expect("it was lent");
        assert_eq!(lent.call_serving::<Hiss, _>(&(), call.server()), Outcome::Executed(()));
        explode()
    });
    // So often that each A-stack would be lost. Which binding's turn comes first is open.
    let (mut unwound, mut round) = (0, 0u32);
    let deadline = Instant::now() + PATIENCE;
    while unwound <= A_STACKS && Instant::now() < deadline {
        round += 1;
        let left: Outcome<()> = other.call_timeout::<Burn>(&(), Duration::ZERO);
        assert!(!matches!(left, Outcome::Executed(())));
        let call = AssertUnwindSafe(|| waiting.call_serving::<Light, _>(&round, &server));
        match catch_unwind(call) {
            Ok(outcome) => assert_eq!(outcome, Outcome::Executed(round + 1)),
            Err(_) => unwound += 1,
        }
    }
    assert_eq!(waiting.closed(), None);
    assert!(unwound > A_STACKS, "only {unwound} calls were unwound");
    LENT.set(None);
}

#[test]
fn a_reply_with_a_buffer_of_another_client_fails_that_call_alone() {
    lrpc::interface! {
        /// A handler that mixes its clients' buffers up.
        Muddle = "muddle", version 1 {
            /// Keeps a buffer of this caller's side of the server.
            Keep(()) -> ();
            /// Replies with the one that was kept.
            Give(()) -> ();
        }
    }
    let address = address("muddle");
    let server = export::<Muddle>(&address, Wait::Adaptive);
    let one = bind_beside::<Muddle>(&server, &address, Wait::Adaptive);
    let two = bind_beside::<Muddle>(&server, &address, Wait::Adaptive);
    let kept = Arc::new(std::sync::Mutex::new(None));
    let keep = kept.clone();
    let server = server
        .on::<Keep>(move |call, ()| {
            *keep.lock().expect("no panic") = Some(call.alloc(8).map_err(|_| OTHER)?.freeze());
            Ok(())
        })
        .on::<Give>(move |call, ()| {
            if let Some(fbuf) = kept.lock().expect("no panic").take() {
                call.reply_with(fbuf);
            }
            Ok(())
        });
    assert_eq!(one.call_serving::<Keep, _>(&(), &server), Outcome::Executed(()));
    // It is the server's own mistake: the client is neither told that all is well nor closed.
    let outcome = two.call_serving::<Give, _>(&(), &server);
    assert_eq!(outcome, Outcome::Unknown(UnknownReason::Failed));
    for client in [&one, &two] {
        assert_eq!(client.call_serving::<Keep, _>(&(), &server), Outcome::Executed(()));
    }
}

#[test]
fn a_call_that_serves_meanwhile_ends_when_its_own_server_dies() {
    let address = address("dies");
    let server = export::<Tank>(&address, Wait::Park).on::<Null>(|_, ()| Ok(()));
    let caller = bind_beside::<Tank>(&server, &address, Wait::Park);
    let beside = support::address("lives");
    let living = export::<Tank>(&beside, Wait::Park);
    std::thread::scope(|scope| {
        let call = scope.spawn(move || {
            let outcome = caller.call_serving::<Fill, _>(&1, &living);
            (outcome, Instant::now())
        });
        std::thread::sleep(Duration::from_millis(50));
        assert!(!call.is_finished());
        drop(server);
        let dropped = Instant::now();
        let (outcome, at) = call.join().expect("no panic");
        let closed = UnknownReason::Closed(unet::CloseReason::PeerClosed);
        assert_eq!(outcome, Outcome::Unknown(closed));
        assert!(at.saturating_duration_since(dropped) < PATIENCE);
    });
}
