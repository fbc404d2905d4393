//! A client that says what no honest one would, to a server that serves an honest one beside it.
//!
//! Whatever it says, it gets the named outcome, which is counted; the server neither panics nor waits,
//! and the other binding does not notice.

mod support;

use std::collections::BTreeSet;
use std::hint::black_box;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lrpc::{A_STACKS, Binding, Interface, Outcome, Reason, Server};
use support::raw::{
    self, BAD_ARGUMENTS, DECLINED, EXECUTED, IN_A_STACK, LAYOUT, NOT_SERVED, UNKNOWN_INTERFACE,
    VERSION, Word, message,
};
use support::{Random, address, beside, bind_beside, export, serve_all};
use unet::{
    Channel, CloseReason, ConnectError, Counter, Delivery, Fault, Offer, Refusal, SendError,
    Snapshot, Wait,
};

lrpc::interface! {
    /// What is lied to.
    Target = "target", version 3 {
        /// Nothing.
        Null(()) -> ();
        /// The same number; it needs no A-stack.
        Echo(u64) -> u64;
        /// Backwards; it stands in an A-stack.
        Reverse([u8; 1000]) -> [u8; 1000];
        /// Not every byte is a boolean.
        Negate([bool; 4]) -> [bool; 4];
        /// The same, in an A-stack.
        NegateMany([bool; 100]) -> [bool; 100];
        /// Little in, much out.
        Fill(u8) -> [u8; 1000];
        /// A buffer in, its length out.
        Measure(()) -> u64;
        /// A buffer out.
        Give(()) -> ();
        /// Nobody serves it.
        Unserved(()) -> ();
    }
}

const NULL: u16 = 0;
const ECHO: u16 = 1;
const REVERSE: u16 = 2;
const NEGATE: u16 = 3;
const NEGATE_MANY: u16 = 4;
const FILL: u16 = 5;
const MEASURE: u16 = 6;
const GIVE: u16 = 7;
const UNSERVED: u16 = 8;
const PROCEDURES: u16 = 9;

/// What `Give` declines with when it has no buffer, and `Measure` when it got none.
const NO_BUFFER: u16 = 5;

/// As large as the interface needs: both kinds of A-stacks of 1,000 bytes, and those of 100.
const AREA: u32 = 8 * (1024 + 128 + 1024);

/// The first A-stack of a procedure.
fn a_stack(procedure: u16) -> u16 {
    procedure * A_STACKS as u16
}

fn target(server: Server<Target>) -> Server<Target> {
    server
        .on::<Null>(|_, ()| Ok(()))
        .on::<Echo>(|_, number| Ok(number))
        .on::<Reverse>(|_, mut bytes| {
            bytes.reverse();
            Ok(bytes)
        })
        .on::<Negate>(|_, values| Ok(values.map(negated)))
        .on::<NegateMany>(|_, values| Ok(values.map(negated)))
        .on::<Fill>(|_, byte| Ok([byte; 1000]))
        .on::<Measure>(|call, ()| {
            let bulk = call.take_bulk().ok_or(NO_BUFFER)?;
            match bulk.to_vec() {
                Ok(bytes) => assert_eq!(bytes.len(), bulk.len()),
                Err(error) => assert_eq!(error, unet::ReadError::Revoked),
            }
            Ok(bulk.len() as u64)
        })
        .on::<Give>(|call, ()| {
            call.reply_with(call.alloc(4000).map_err(|_| NO_BUFFER)?.freeze());
            Ok(())
        })
}

/// Looks at a boolean as a number, as nobody should have to.
fn negated(value: bool) -> bool {
    let byte = black_box(value) as u8;
    assert!(black_box(byte) <= 1, "a boolean is {byte}");
    !value
}

/// A server with a lying client and an honest one.
struct Scene {
    server: Server<Target>,
    liar: Channel,
    /// Away while it calls from another thread.
    honest: Option<Binding<Target>>,
    /// The server's counters on the liar's channel.
    page: std::fs::File,
    number: u32,
    _alone: MutexGuard<'static, ()>,
}

/// The pages of counters in this process, which must not change but by this test.
fn pages() -> Vec<(u64, std::fs::File)> {
    let pages = Snapshot::pages_of(std::process::id()).expect("it is this process");
    let inode = |page: std::fs::File| (page.metadata().expect("it is open").ino(), page);
    pages.into_iter().map(inode).collect()
}

fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn scene() -> Scene {
    scene_with(AREA)
}

/// A scene whose liar has an area of this size.
fn scene_with(area_bytes: u32) -> Scene {
    let alone = alone();
    let address = address("hostile-client");
    let server = target(export::<Target>(&address, Wait::Adaptive));
    let honest = bind_beside(&server, &address, Wait::Adaptive);
    let before: BTreeSet<u64> = pages().into_iter().map(|(inode, _)| inode).collect();
    let connect = || raw::connect(&address, raw::request::<Target>(), area_bytes);
    let liar = beside(&server, connect).expect("it was accepted");
    let own = liar.segment().try_clone_to_owned().expect("a descriptor is left");
    let own = std::fs::File::from(own).metadata().expect("it is open").ino();
    let new = |(inode, _): &(u64, std::fs::File)| *inode != own && !before.contains(inode);
    let (_, page) = pages().into_iter().find(new).expect("the server's segment is new");
    Scene { server, liar, honest: Some(honest), page, number: 0, _alone: alone }
}

impl Scene {
    fn counted(&self) -> Snapshot {
        Snapshot::read(self.page.as_fd()).expect("it is a page of counters")
    }

    /// Says something, and has the server hear it.
    fn say(&mut self, tag: u16, bytes: &[u8]) {
        raw::send(&mut self.liar, tag, bytes);
        serve_all(&self.server);
    }

    /// The one reply that has come.
    fn reply(&mut self) -> (u16, Word, Delivery) {
        let message = self.liar.try_recv().expect("the channel is open").expect("it replied");
        assert!(self.liar.try_recv().expect("the channel is open").is_none(), "it replied once");
        (message.tag(), Word::of(&message), message)
    }

    /// Says something that is refused with `status`, and counted.
    fn is_refused(&mut self, what: &str, status: u16, tag: u16, word: Word, rest: &[u8]) {
        let refused = self.counted().get(Counter::CallsRefused);
        self.say(tag, &message(word, rest));
        let (answer, echo, _) = self.reply();
        assert_eq!(answer, status, "{what}");
        assert_eq!(echo, Word { flags: 0, ..word }, "{what}");
        assert_eq!(self.counted().get(Counter::CallsRefused), refused + 1, "{what}");
        self.works(what);
    }

    /// Calls as an honest client would, with arguments in the message; the results.
    fn calls(&mut self, tag: u16, arguments: &[u8]) -> (u16, Delivery) {
        self.number += 1;
        let word = Word::new(self.number, a_stack(tag), 0);
        self.say(tag, &message(word, arguments));
        let (status, echo, message) = self.reply();
        assert_eq!((echo.number, echo.a_stack), (word.number, word.a_stack));
        (status, message)
    }

    /// Both clients can still call.
    fn works(&mut self, what: &str) {
        let (status, message) = self.calls(ECHO, &7u64.to_le_bytes());
        assert_eq!((status, &message.inline()[8..]), (EXECUTED, &7u64.to_le_bytes()[..]), "{what}");
        self.honest_works(what);
    }

    fn honest_works(&self, what: &str) {
        let honest = self.honest.as_ref().expect("it came back");
        let outcome = honest.call_serving::<Echo, _>(&9, &self.server);
        assert_eq!(outcome, Outcome::Executed(9), "{what}");
        let bytes = std::array::from_fn(|at| at as u8);
        let mut reversed = bytes;
        reversed.reverse();
        let outcome = honest.call_serving::<Reverse, _>(&bytes, &self.server);
        assert_eq!(outcome, Outcome::Executed(reversed), "{what}");
        assert_eq!(honest.closed(), None, "{what}");
    }

    /// The liar was found out: its channel is closed, once, by the name of the rule it broke, and
    /// nobody else's.
    fn ends_poisoned(self, what: &str) {
        serve_all(&self.server);
        let counted = self.counted();
        for fault in Fault::ALL {
            let expected = u64::from(fault == Fault::Protocol);
            assert_eq!(counted.faults(fault), expected, "{} after {what}", fault.name());
        }
        assert_eq!(self.server.bindings(), 1, "{what}");
        self.honest_works(what);
        let mut liar = self.liar;
        let closed = loop {
            match liar.recv_timeout(support::PATIENCE) {
                Ok(Some(_)) => {}
                Ok(None) => panic!("{what}: the liar was to be told that it is closed"),
                Err(reason) => break reason,
            }
        };
        assert_eq!(closed, CloseReason::PeerClosed, "{what}");
    }
}

#[test]
fn a_call_of_no_procedure_is_refused_as_not_served() {
    let mut scene = scene();
    for tag in [UNSERVED, PROCEDURES, 100, 0x7fff, 0x8000, u16::MAX] {
        scene.is_refused(&format!("tag {tag}"), NOT_SERVED, tag, Word::new(1, 0, 0), &[]);
    }
}

#[test]
fn arguments_of_the_wrong_length_are_refused() {
    let mut scene = scene();
    let bytes = [1; 48];
    for (tag, right) in [(NULL, 0), (ECHO, 8), (NEGATE, 4), (FILL, 1), (MEASURE, 0)] {
        for len in (0..=48).filter(|len| *len != right) {
            let what = format!("{len} bytes for procedure {tag}");
            let word = Word::new(len as u32, a_stack(tag), 0);
            scene.is_refused(&what, BAD_ARGUMENTS, tag, word, &bytes[..len]);
        }
    }
    // These never fit into a message.
    for tag in [REVERSE, NEGATE_MANY] {
        let word = Word::new(1, a_stack(tag), 0);
        scene.is_refused("too large", BAD_ARGUMENTS, tag, word, &bytes);
    }
}

#[test]
fn arguments_that_are_no_value_are_refused() {
    let mut scene = scene();
    for (at, byte) in [(0, 2), (1, 255), (3, 128)] {
        let mut bytes = [1; 4];
        bytes[at] = byte;
        let word = Word::new(1, a_stack(NEGATE), 0);
        scene.is_refused("no boolean in a message", BAD_ARGUMENTS, NEGATE, word, &bytes);
    }
    let offset = 8 * 1024 + 3 * 128;
    for (at, byte) in [(0, 2), (50, 255), (99, 3)] {
        scene.liar.area_mut()[offset..offset + 100].fill(1);
        scene.liar.area_mut()[offset + at] = byte;
        let word = Word::new(1, a_stack(NEGATE_MANY) + 3, IN_A_STACK);
        scene.is_refused("no boolean in an A-stack", BAD_ARGUMENTS, NEGATE_MANY, word, &[]);
    }
    scene.liar.area_mut()[offset..offset + 100].fill(0);
    let word = Word::new(1, a_stack(NEGATE_MANY) + 3, IN_A_STACK);
    scene.say(NEGATE_MANY, &message(word, &[]));
    let (status, echo, _) = scene.reply();
    assert_eq!((status, echo), (EXECUTED, word));
    assert!(read_area(&scene.liar, offset, 100).iter().all(|byte| *byte == 1));
}

fn read_area(channel: &Channel, offset: usize, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let area = channel.peer_area().expect("it is of this host");
    assert!(area.copy_to(offset, &mut bytes), "the area is as large");
    bytes
}

#[test]
fn an_a_stack_that_is_not_the_procedures_is_refused() {
    let mut scene = scene();
    let own = a_stack(REVERSE)..a_stack(REVERSE) + A_STACKS as u16;
    for number in (0..80).chain([255, 256, 0x7fff, 0x8000, u16::MAX - 1, u16::MAX]) {
        if own.contains(&number) {
            continue;
        }
        let word = Word::new(1, number, IN_A_STACK);
        scene.is_refused(&format!("A-stack {number}"), BAD_ARGUMENTS, REVERSE, word, &[]);
    }
}

#[test]
fn an_a_stack_of_a_procedure_without_any_is_refused() {
    let mut scene = scene();
    for tag in [ECHO, NEGATE] {
        for number in [0, a_stack(tag), a_stack(tag) + 7, u16::MAX] {
            let word = Word::new(1, number, IN_A_STACK);
            scene.is_refused("no A-stacks", BAD_ARGUMENTS, tag, word, &[]);
        }
    }
}

#[test]
fn unknown_flags_are_refused() {
    let mut scene = scene();
    for flags in [2, 3, 4, 0x100, 0x8000, 0x8001, 0xfffe, 0xffff] {
        let word = Word::new(1, a_stack(ECHO), flags);
        scene.is_refused("inline", BAD_ARGUMENTS, ECHO, word, &[0; 8]);
        let word = Word::new(1, a_stack(REVERSE), flags);
        scene.is_refused("in an A-stack", BAD_ARGUMENTS, REVERSE, word, &[]);
        let word = Word::new(1, a_stack(NULL), flags);
        scene.is_refused("nothing", BAD_ARGUMENTS, NULL, word, &[]);
    }
}

#[test]
fn a_message_without_a_call_word_poisons() {
    for len in 0..8 {
        let mut scene = scene();
        scene.say(NULL, &[0; 8][..len]);
        scene.ends_poisoned(&format!("{len} bytes"));
    }
}

#[test]
fn results_that_belong_into_no_a_stack_poison() {
    for number in [0, a_stack(FILL) - 1, a_stack(FILL) + 8, 0x8000, u16::MAX] {
        let mut scene = scene();
        scene.say(FILL, &message(Word::new(1, number, 0), &[7]));
        scene.ends_poisoned(&format!("A-stack {number}"));
    }
}

#[test]
fn a_client_with_too_small_an_area_is_refused_what_would_stand_there() {
    for area_bytes in [0, 64, 1024, AREA - 128, AREA - 64] {
        let what = format!("an area of {area_bytes} bytes");
        let mut scene = scene_with(area_bytes);
        // The last A-stack of all stands at the end, and that of a small area is not there.
        let word = Word::new(1, a_stack(REVERSE) + 7, IN_A_STACK);
        if area_bytes < 8 * 1024 {
            scene.is_refused(&what, BAD_ARGUMENTS, REVERSE, word, &[]);
        }
        scene.works(&what);
        // The results stand in the server's area, which is as large as it must be.
        let (status, echo) = scene.calls(FILL, &[3]);
        assert_eq!((status, Word::of(&echo).flags), (EXECUTED, IN_A_STACK), "{what}");
        scene.works(&what);
    }
}

#[test]
fn arguments_that_change_while_they_are_read_are_values_or_refused() {
    let Scene { server, mut liar, honest, _alone, .. } = scene();
    let honest = honest.expect("it is there");
    let done = AtomicBool::new(false);
    let offset = 8 * 1024;
    let word = Word::new(1, a_stack(NEGATE_MANY), IN_A_STACK);
    let (executed, refused) = std::thread::scope(|scope| {
        let done = &done;
        let scribbler = scope.spawn(move || {
            let mut random = Random::new(7);
            let (mut executed, mut refused) = (0u32, 0u32);
            while !done.load(Ordering::Relaxed) {
                let call = message(word, &[]);
                if liar.try_send_parts(NEGATE_MANY, &call, &[]) != Ok(Offer::Taken) {
                    break;
                }
                let reply = loop {
                    let at = offset + random.below(100);
                    liar.area_mut()[at] = if random.below(3) == 0 { 2 } else { 1 };
                    liar.area_mut()[offset..offset + 100].fill(random.below(2) as u8);
                    match liar.try_recv() {
                        Ok(Some(reply)) => break reply,
                        Ok(None) if done.load(Ordering::Relaxed) => return (executed, refused),
                        Ok(None) => {}
                        Err(reason) => panic!("nothing it said closes: {reason}"),
                    }
                };
                match reply.tag() {
                    EXECUTED => executed += 1,
                    BAD_ARGUMENTS => refused += 1,
                    other => panic!("status {other}"),
                }
            }
            (executed, refused)
        });
        let until = Instant::now() + Duration::from_millis(500);
        while Instant::now() < until {
            server.poll();
        }
        done.store(true, Ordering::Relaxed);
        scribbler.join().expect("no panic")
    });
    assert!(executed > 0, "{executed} executed, {refused} refused");
    assert_eq!(honest.call_serving::<Echo, _>(&1, &server), Outcome::Executed(1));
}

#[test]
fn a_client_that_never_takes_its_replies_is_closed_and_nobody_waits_for_it() {
    for (tag, arguments) in [(NULL, &[][..]), (UNSERVED, &[]), (ECHO, &[1]), (FILL, &[1])] {
        let mut scene = scene();
        let began = Instant::now();
        let mut said = 0u32;
        let refused = loop {
            assert!(said < 10_000, "its queue of replies has no end");
            let word = message(Word::new(said, a_stack(tag), 0), arguments);
            match scene.liar.try_send_parts(tag, &word, &[]) {
                Ok(Offer::Taken) => said += 1,
                Ok(Offer::Full(())) => {}
                Err(refused) => break refused,
            }
            scene.server.poll();
            if said.is_multiple_of(16) {
                scene.honest_works("while the liar floods");
            }
        };
        assert!(said >= 64, "it was closed after {said} calls");
        assert_eq!(refused, SendError::Closed(CloseReason::PeerClosed));
        assert!(began.elapsed() < Duration::from_secs(5), "the server waited");
        scene.ends_poisoned("replies not taken");
    }
}

#[test]
fn a_flood_of_calls_keeps_nobody_else_from_being_served() {
    let Scene { server, mut liar, honest, _alone, .. } = scene();
    let honest = honest.expect("it is there");
    let done = AtomicBool::new(false);
    let waits = std::thread::scope(|scope| {
        let done = &done;
        scope.spawn(move || {
            let mut number = 0;
            while !done.load(Ordering::Relaxed) {
                let word = message(Word::new(number, a_stack(ECHO), 0), &[0; 8]);
                if let Ok(Offer::Taken) = liar.try_send_parts(ECHO, &word, &[]) {
                    number += 1;
                }
                while let Ok(Some(_)) = liar.try_recv() {}
            }
        });
        let caller = scope.spawn(move || {
            let mut waits = Vec::new();
            for number in 0..300 {
                let began = Instant::now();
                assert_eq!(honest.call::<Echo>(&number), Outcome::Executed(number));
                waits.push(began.elapsed());
            }
            waits
        });
        while !caller.is_finished() {
            server.serve_timeout(Duration::from_millis(1));
        }
        done.store(true, Ordering::Relaxed);
        caller.join().expect("no panic")
    });
    // Three threads on what cores there are: it is about turns, not about time.
    let mut waits = waits;
    waits.sort();
    assert!(waits[waits.len() / 2] < Duration::from_millis(50), "{:?}", waits[waits.len() / 2]);
}

#[test]
fn a_buffer_nobody_expects_comes_back() {
    let mut scene = scene();
    for round in 0..30 {
        for (tag, arguments, status) in
            [(NULL, &[][..], EXECUTED), (ECHO, &[1, 2], BAD_ARGUMENTS), (200, &[], NOT_SERVED)]
        {
            let mut fbuf = scene.liar.alloc(4000).expect("they come back");
            fbuf.fill(1);
            let word = message(Word::new(round, a_stack(tag), 0), arguments);
            let sent = scene.liar.try_send_fbuf(tag, fbuf.freeze(), &word);
            assert!(matches!(sent, Ok(Offer::Taken)), "there is room");
            serve_all(&scene.server);
            assert_eq!(scene.reply().0, status);
            let (free, lent, total) = scene.liar.buffers();
            assert_eq!((free, lent), (total, 0));
        }
        let (status, _) = scene.calls(MEASURE, &[]);
        assert_eq!(status, DECLINED + NO_BUFFER, "a procedure that expects one gets none");
    }
    scene.works("buffers nobody expects");
}

#[test]
fn a_client_that_keeps_its_buffers_exhausts_its_own_and_nobody_elses() {
    let mut scene = scene();
    let mut kept = Vec::new();
    // 8 of 4 KiB and 2 of 64 KiB.
    for _ in 0..10 {
        let (status, message) = scene.calls(GIVE, &[]);
        assert_eq!(status, EXECUTED);
        kept.push(message);
    }
    for _ in 0..3 {
        assert_eq!(scene.calls(GIVE, &[]).0, DECLINED + NO_BUFFER);
        let honest = scene.honest.take().expect("it is there");
        let (honest, given) = beside(&scene.server, move || {
            let Outcome::Executed(reply) = honest.call_bulk::<Give>(&(), None) else {
                panic!("the honest client gets its own");
            };
            (honest, reply.bulk.map(|bulk| bulk.len()))
        });
        assert_eq!(given, Some(4000));
        scene.honest = Some(honest);
    }
    assert!(scene.counted().get(Counter::NoBuffer) >= 3);
    kept.truncate(9);
    assert_eq!(scene.calls(GIVE, &[]).0, EXECUTED);
    drop(kept);
    scene.works("buffers kept");
}

#[test]
fn malformed_requests_to_bind_are_refused_by_name() {
    let _alone = alone();
    let address = address("requests");
    let server = target(export::<Target>(&address, Wait::Adaptive));
    let good = raw::request::<Target>();
    let of = |magic: &[u8; 8], layout, version, len, name| {
        raw::request_of(*magic, layout, version, len, name)
    };
    let (magic, hash) = (b"LRPCBIND", Target::LAYOUT);
    let mut cases = vec![
        (of(b"LRPCBINE", hash, 3, 6, "target"), UNKNOWN_INTERFACE),
        (of(magic, hash, 3, 6, "Target"), UNKNOWN_INTERFACE),
        (of(magic, hash, 3, 5, "target"), UNKNOWN_INTERFACE),
        (of(magic, hash, 3, 7, "target"), UNKNOWN_INTERFACE),
        (of(magic, hash, 3, u32::MAX, "target"), UNKNOWN_INTERFACE),
        (of(magic, hash, 3, 6, "targetx"), UNKNOWN_INTERFACE),
        (of(magic, hash, 3, 64, &"x".repeat(64)), UNKNOWN_INTERFACE),
        (of(magic, hash, 2, 6, "target"), VERSION),
        (of(magic, hash ^ 1, u32::MAX, 6, "target"), VERSION),
        (of(magic, hash ^ 1, 3, 6, "target"), LAYOUT),
        (of(magic, 0, 3, 6, "target"), LAYOUT),
    ];
    for len in [0, 1, 8, 24, 87] {
        cases.push((good[..len].to_vec(), UNKNOWN_INTERFACE));
    }
    for len in [89, 100, 128] {
        let mut longer = good.clone();
        longer.resize(len, 0);
        cases.push((longer, UNKNOWN_INTERFACE));
    }
    let count = cases.len() as u64;
    for (request, code) in cases {
        let what = format!("{request:?}");
        let refused = beside(&server, || raw::connect(&address, request, AREA));
        let Err(ConnectError::Refused(Refusal::Application(told))) = refused else {
            panic!("{what}: {refused:?}");
        };
        assert_eq!(told, code, "{what}");
    }
    let refused = server.with_counters(|counters| counters.get(Counter::RefusedByApplication));
    assert_eq!((refused, server.bindings()), (count, 0));
    let honest = bind_beside::<Target>(&server, &address, Wait::Adaptive);
    assert_eq!(honest.call_serving::<Echo, _>(&1, &server), Outcome::Executed(1));
}

#[test]
fn random_calls_are_executed_refused_or_end_the_binding() {
    let mut random = Random::new(42);
    let mut poisoned = 0;
    for _ in 0..12 {
        let mut scene = scene();
        for at in scene.liar.area_mut().iter_mut() {
            *at = random.next() as u8;
        }
        for _ in 0..400 {
            let tag =
                if random.below(8) == 0 { random.next() as u16 } else { random.below(9) as u16 };
            let number = match random.below(4) {
                0 => random.next() as u16,
                _ => random.below(80) as u16,
            };
            let flags =
                if random.below(8) == 0 { random.next() as u16 } else { random.below(2) as u16 };
            let word = Word::new(random.next() as u32, number, flags);
            let rest: Vec<u8> = (0..random.below(49)).map(|_| random.next() as u8).collect();
            let mut bytes = message(word, &rest);
            if random.below(200) == 0 {
                bytes.truncate(random.below(9));
            }
            if scene.liar.try_send_parts(tag, &bytes, &[]) != Ok(Offer::Taken) {
                break;
            }
            scene.server.poll();
            while let Ok(Some(reply)) = scene.liar.try_recv() {
                let known = [EXECUTED, NOT_SERVED, BAD_ARGUMENTS, DECLINED + NO_BUFFER];
                assert!(known.contains(&reply.tag()), "status {}", reply.tag());
            }
        }
        poisoned += u32::from(scene.server.bindings() == 1);
        scene.honest_works("after a random liar");
    }
    assert!(poisoned > 0, "some of it was beyond refusal");
}

#[test]
fn a_binding_that_is_closed_refuses_the_next_call() {
    let mut scene = scene();
    scene.say(NULL, &[]);
    let Scene { server, honest, .. } = scene;
    let honest = honest.expect("it is there");
    drop(server);
    assert!(matches!(honest.call::<Null>(&()), Outcome::Unknown(_) | Outcome::Refused(_)));
    let closed = Reason::Closed(CloseReason::PeerClosed);
    assert_eq!(honest.call::<Null>(&()), Outcome::Refused(closed));
}
