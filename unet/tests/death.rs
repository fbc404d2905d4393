//! A process dies at each numbered step, on either side, and the other side is told the truth.
//!
//! The steps are those of `segment::failpoint::STEPS`; those of calls belong to the layer above. For
//! each the tables below say what the survivor is told. Besides, whatever the step: the survivor
//! knows within 50 ms, all its buffers come back, no file is left anywhere, and the name can be
//! bound at once.

// Failpoints are in no program without debug assertions, so nothing of this can be tested there.
#![cfg(debug_assertions)]

mod support;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use segment::failpoint::{STEPS, arm};
use support::role::{self, Role};
use support::{PATIENCE, WAITS, address, connect_options, event, eventually, listening};
use unet::{
    AcceptError, Address, Channel, CloseReason, ConnectError, Counter, Endpoint, EndpointOptions,
    Event, Wait,
};

/// The promise. Where others use the machine as well, the median of ten deaths must keep it.
const PROMISE: Duration = Duration::from_millis(50);
const BUFFER: [u8; 3000] = [0xB0; 3000];

/// The layer above's steps, which its own tests walk.
const CALLS: [&str; 2] = ["call.", "reply."];

// ---------------------------------------------------------------------------------------------
// The victim.

/// The process that dies. Its arguments: side, step, address.
#[test]
#[ignore = "a part that other tests run in a process of its own"]
fn role_victim() {
    let Some(arguments) = role::arguments() else { return };
    let [side, step, address] = &arguments[..] else { panic!("{arguments:?}") };
    let address: Address = address.parse().expect("an address");
    if step != "none" {
        assert!(arm(step, 1, Signal::KILL), "{step} is a step");
    }
    match side.as_str() {
        "client" => {
            // The survivor listens already.
            let mut channel =
                Channel::connect(&address, connect_options(Wait::Adaptive)).expect("connected");
            role::say("connected");
            live(&mut channel, step);
        }
        _ => {
            let mut endpoint = listening(&address, Wait::Adaptive);
            role::say("listening");
            let id = support::accept(&mut endpoint);
            role::say("connected");
            live(endpoint.channel_mut(id).expect("just accepted"), step);
        }
    }
    panic!("{step} was never reached");
}

/// Does what leads to the step.
fn live(channel: &mut Channel, step: &str) {
    let family = step.split('.').next().expect("a step has a family");
    match family {
        "send" => {
            assert!(role::hear(), "the survivor waits");
            channel.send(b"last words").expect("the survivor is there");
        }
        "handoff" => {
            assert!(role::hear(), "the survivor waits");
            let mut fbuf = channel.alloc(BUFFER.len()).expect("a buffer is free");
            fbuf.copy_from_slice(&BUFFER);
            channel.send_fbuf(0, fbuf.freeze(), b"beside").expect("the survivor is there");
        }
        "receive" => {
            drop(channel.recv().expect("the survivor sends").to_vec().expect("nothing was revoked"))
        }
        // Until it is killed, or stopped.
        _ => loop {
            match channel.recv() {
                Ok(message) => channel
                    .send(&message.to_vec().expect("nothing was revoked"))
                    .expect("the survivor is there"),
                Err(_) => std::thread::sleep(PATIENCE),
            }
        },
    }
    // A step may lie behind what was done: the buffer of a message goes back when it is dropped.
}

fn start(side: &str, step: &str, address: &Address) -> Role {
    let mut command = role::command("role_victim", &[side, step, &address.to_string()]);
    let scratch = scratch();
    // What it would leave in files, it would leave here.
    command.env("TMPDIR", &scratch).env("XDG_RUNTIME_DIR", &scratch);
    role::start(&mut command)
}

// ---------------------------------------------------------------------------------------------
// What must not be left.

/// A folder that must stay empty.
fn scratch() -> PathBuf {
    let name = format!("death-{}", std::process::id());
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&path).expect("there is space for files");
    path
}

/// The files there are, where such things are left: all of /dev/shm and of the victim's own folders,
/// and of the shared ones what bears our name, since others write there too.
fn files() -> BTreeSet<PathBuf> {
    let list = |folder: PathBuf, all: bool| -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
        let named = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            all || name.starts_with("unet") || name.contains("test-death")
        };
        entries.flatten().map(|entry| entry.path()).filter(named).collect()
    };
    let mut found = list(scratch(), true);
    found.extend(list("/dev/shm".into(), true));
    found.extend(list("/tmp".into(), false));
    found.extend(list("/run".into(), false));
    if let Some(runtime) = std::env::var_os("XDG_RUNTIME_DIR") {
        found.extend(list(runtime.into(), false));
    }
    found.into_iter().collect()
}

/// The dead had the name: it is free at once.
fn can_be_bound(address: &Address) {
    let endpoint = listening(address, Wait::Park);
    assert_eq!(endpoint.channels(), 0);
}

/// This process had the name: it is free as soon as no other test is in the middle of starting a
/// process, which until its exec has a copy of everything here.
fn can_soon_be_bound(address: &Address) {
    let mut endpoint = Endpoint::new(EndpointOptions::default()).expect("an endpoint");
    eventually("the name can be bound", || {
        endpoint.listen(address, support::listen_options()).is_ok()
    });
}

// ---------------------------------------------------------------------------------------------
// The survivor.

/// What the survivor was told, and when.
struct Told<T> {
    what: T,
    at: Instant,
}

fn told<T>(what: T) -> Told<T> {
    Told { what, at: Instant::now() }
}

/// Waits for the victim's death while `survive` runs, and says how long after it that returned.
fn measure<T: Send>(victim: &mut Role, survive: impl FnOnce() -> Told<T> + Send) -> (T, Duration) {
    std::thread::scope(|scope| {
        let survivor = scope.spawn(survive);
        victim.wait_killed();
        let died = Instant::now();
        let told = survivor.join().expect("the survivor does not panic");
        (told.what, told.at.saturating_duration_since(died))
    })
}

/// Repeats a case until its promise is seen to be kept: once, or in the median of ten.
fn in_time(what: &str, mut case: impl FnMut() -> Duration) {
    let first = case();
    if first <= PROMISE {
        return;
    }
    let mut all: Vec<Duration> = (0..9).map(|_| case()).chain([first]).collect();
    all.sort();
    assert!(all[5] <= PROMISE, "{what}: the survivor was told too late, after {all:?}");
}

/// What is received before the end, as the bytes in the slot and those of the buffer.
type Received = Vec<(Vec<u8>, Vec<u8>)>;

fn until_closed(channel: &mut Channel) -> (Received, CloseReason) {
    let mut received = Vec::new();
    loop {
        match channel.recv() {
            Ok(message) => {
                // The dead sender's memory can still be read.
                let bulk = message
                    .fbuf()
                    .map(|fbuf| fbuf.to_vec().expect("nothing was revoked"))
                    .unwrap_or_default();
                received.push((message.inline().to_vec(), bulk));
            }
            Err(reason) => return (received, reason),
        }
    }
}

/// A message that arrives before the end: the bytes in the slot and those of the buffer.
type Arrives = (&'static [u8], &'static [u8]);

/// The steps of a connected channel: what arrives before the end, and how many of the survivor's
/// buffers had to be reclaimed from the dead.
const CONNECTED: &[(&str, &[Arrives], u64)] = &[
    ("send.1-before-publish", &[], 0),
    ("send.2-published", &[(b"last words", b"")], 0),
    ("send.3-doorbell-rung", &[(b"last words", b"")], 0),
    ("handoff.1-buffer-taken", &[], 0),
    ("handoff.2-lent", &[], 0),
    ("handoff.3-published", &[(b"beside", &BUFFER)], 0),
    ("receive.1-popped", &[], 1),
    ("receive.2-buffer-held", &[], 1),
    ("receive.3-buffer-returned", &[], 0),
];

fn connected_case(side: &str, step: &str, wait: Wait) -> Duration {
    let (_, arrives, reclaimed) =
        CONNECTED.iter().find(|(name, ..)| *name == step).expect("it is in the table");
    let what = format!("the {side} dies at {step}, the survivor waits by {wait:?}");
    let before = files();
    let address = address("death");
    let (mut endpoint, mut victim, mut channel, id) = match side {
        "client" => {
            let mut endpoint = listening(&address, wait);
            let victim = start(side, step, &address);
            let id = support::accept(&mut endpoint);
            (Some(endpoint), victim, None, Some(id))
        }
        _ => {
            let victim = start(side, step, &address);
            victim.expect("listening");
            let channel = Channel::connect(&address, connect_options(wait)).expect("connected");
            (None, victim, Some(channel), None)
        }
    };
    victim.expect("connected");
    let channel = match (&mut endpoint, id, &mut channel) {
        (Some(endpoint), Some(id), _) => endpoint.channel_mut(id).expect("just accepted"),
        (_, _, Some(channel)) => channel,
        _ => unreachable!("it is one or the other"),
    };
    if step.starts_with("receive") {
        channel.send(&BUFFER).expect("there is room");
    }
    let begun = &AtomicBool::new(false);
    let (outcome, after) = std::thread::scope(|scope| {
        let survivor = scope.spawn(move || {
            begun.store(true, Ordering::Release);
            let (received, reason) = until_closed(channel);
            let told = told(());
            let buffers = channel.buffers();
            let reclaimed = channel.counters().get(Counter::BuffersReclaimed);
            let held = channel.held();
            // Sending to the dead is refused by the same name.
            let sent = channel.try_send(b"x");
            (received, reason, told.at, buffers, reclaimed, held, sent)
        });
        if !step.starts_with("receive") {
            eventually("the survivor begins to wait", || begun.load(Ordering::Acquire));
            if step == "send.3-doorbell-rung" {
                // A doorbell is rung for who sleeps: give it time to fall asleep.
                std::thread::sleep(Duration::from_millis(20));
            }
            victim.tell();
        }
        victim.wait_killed();
        let died = Instant::now();
        let outcome = survivor.join().expect("the survivor does not panic");
        let after = outcome.2.saturating_duration_since(died);
        (outcome, after)
    });
    let (received, reason, _, (free, lent, total), taken, held, sent) = outcome;
    assert_eq!(reason, CloseReason::PeerDied, "{what}");
    let arrives: Received =
        arrives.iter().map(|(inline, bulk)| (inline.to_vec(), bulk.to_vec())).collect();
    assert!(received == arrives, "{what}: {} messages", received.len());
    assert_eq!((free, lent), (total, 0), "{what}: the survivor's buffers come back");
    assert_eq!((taken, held), (*reclaimed, 0), "{what}: buffers taken back, buffers held");
    assert_eq!(sent, Err(CloseReason::PeerDied.into()), "{what}");
    match endpoint {
        Some(endpoint) => {
            drop(endpoint);
            can_soon_be_bound(&address);
        }
        None => can_be_bound(&address),
    }
    assert_eq!(files(), before, "{what}: files are left");
    after
}

#[test]
fn who_dies_in_a_channel_is_missed_at_once_and_takes_nothing_along() {
    for (step, ..) in CONNECTED {
        for side in ["client", "server"] {
            for wait in WAITS {
                // Nobody rings for who never sleeps.
                if *step == "send.3-doorbell-rung" && wait == Wait::Spin {
                    continue;
                }
                in_time(step, || connected_case(side, step, wait));
            }
        }
    }
}

/// The steps of a client that connects, and what the listener is told.
const CONNECTING: &[(&str, Listener)] = &[
    ("connect.1-named", Listener::Nothing),
    ("connect.2-connected", Listener::HandshakeFailed),
    ("connect.3-segment-made", Listener::HandshakeFailed),
    ("connect.4-hello-sent", Listener::PeerGoneOrDied),
    ("connect.5-welcome-received", Listener::PeerDied),
    ("connect.6-mapped", Listener::PeerDied),
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Listener {
    /// Nobody ever connected.
    Nothing,
    /// The endpoint counts a handshake that came to nothing; the application hears nothing.
    HandshakeFailed,
    /// The application accepts, and is told that the client has gone; or it was quicker than death.
    PeerGoneOrDied,
    /// The channel is closed.
    PeerDied,
}

/// Serves until the client's death is known.
fn serve(endpoint: &mut Endpoint, expected: Listener, gone: &AtomicBool) -> Told<Listener> {
    loop {
        let Some(event) = endpoint.recv_timeout(Duration::from_millis(1)) else {
            if endpoint.counters().get(Counter::HandshakeFailed) > 0 {
                return told(Listener::HandshakeFailed);
            }
            if expected == Listener::Nothing && gone.load(Ordering::Acquire) {
                return told(Listener::Nothing);
            }
            continue;
        };
        match event {
            Event::Incoming(incoming) => match endpoint.accept(incoming, b"") {
                Ok(_) => {}
                Err(AcceptError::PeerGone) => return told(Listener::PeerGoneOrDied),
                Err(other) => panic!("a dead client is gone, not {other}"),
            },
            Event::Closed(_, CloseReason::PeerDied) => return told(Listener::PeerDied),
            other => panic!("nothing else can happen: {other:?}"),
        }
    }
}

fn connecting_case(step: &str, expected: Listener, wait: Wait) -> Duration {
    let before = files();
    let address = address("death");
    let mut endpoint = listening(&address, wait);
    let mut victim = start("client", step, &address);
    let gone = AtomicBool::new(false);
    let (outcome, after) = std::thread::scope(|scope| {
        let survivor = scope.spawn(|| serve(&mut endpoint, expected, &gone));
        victim.wait_killed();
        let died = Instant::now();
        gone.store(true, Ordering::Release);
        let told = survivor.join().expect("the survivor does not panic");
        (told.what, told.at.saturating_duration_since(died))
    });
    let expected_too = match expected {
        Listener::PeerGoneOrDied => Listener::PeerDied,
        other => other,
    };
    assert!(outcome == expected || outcome == expected_too, "{step}: {outcome:?}");
    assert_eq!(endpoint.channels(), 0, "{step}");
    // The endpoint goes on.
    let (_, client) = support::join(&mut endpoint, &address, Wait::Park);
    drop((client, endpoint));
    can_soon_be_bound(&address);
    assert_eq!(files(), before, "{step}: files are left");
    after
}

#[test]
fn a_client_that_dies_while_connecting_is_let_go() {
    for (step, expected) in CONNECTING {
        for wait in WAITS {
            in_time(step, || connecting_case(step, *expected, wait));
        }
    }
}

/// The steps of a listener that accepts, and what the client is told.
const ACCEPTING: &[(&str, Option<ConnectError>)] = &[
    ("accept.1-connected", Some(ConnectError::PeerDied)),
    ("accept.2-hello-received", Some(ConnectError::PeerDied)),
    ("accept.3-mapped", Some(ConnectError::PeerDied)),
    ("accept.4-segment-made", Some(ConnectError::PeerDied)),
    // It was welcomed, and finds the channel closed.
    ("accept.5-welcome-sent", None),
];

fn accepting_case(step: &str, expected: Option<ConnectError>, wait: Wait) -> Duration {
    let before = files();
    let address = address("death");
    let mut victim = start("server", step, &address);
    victim.expect("listening");
    let (outcome, after) = measure(&mut victim, || {
        let connected = Channel::connect(&address, connect_options(wait));
        let outcome = connected.map(|mut channel| until_closed(&mut channel));
        told(outcome)
    });
    match expected {
        Some(error) => assert_eq!(outcome.err(), Some(error), "{step}"),
        None => {
            let (received, reason) = outcome.expect(step);
            assert_eq!((received.len(), reason), (0, CloseReason::PeerDied), "{step}");
        }
    }
    let refused = Channel::connect(&address, connect_options(wait)).expect_err("it is dead");
    assert_eq!(refused, ConnectError::NobodyListens, "{step}");
    can_be_bound(&address);
    assert_eq!(files(), before, "{step}: files are left");
    after
}

#[test]
fn a_listener_that_dies_while_accepting_is_missed_at_once() {
    for (step, expected) in ACCEPTING {
        for wait in WAITS {
            in_time(step, || accepting_case(step, *expected, wait));
        }
    }
}

#[test]
fn every_step_of_this_layer_is_in_a_table() {
    let mut tables: Vec<&str> = CONNECTED.iter().map(|(step, ..)| *step).collect();
    tables.extend(CONNECTING.iter().map(|(step, _)| step));
    tables.extend(ACCEPTING.iter().map(|(step, _)| step));
    for step in STEPS.iter().filter(|step| !CALLS.iter().any(|call| step.starts_with(call))) {
        assert!(tables.contains(step), "nobody dies at {step}");
    }
    for step in &tables {
        assert!(STEPS.contains(step), "{step} is no step any more");
    }
}

// ---------------------------------------------------------------------------------------------
// Who waits for something else than a message.

fn dying_server(wait: Wait) -> (Role, Channel) {
    let address = address("death");
    let victim = start("server", "none", &address);
    victim.expect("listening");
    let channel = Channel::connect(&address, connect_options(wait)).expect("connected");
    victim.expect("connected");
    // A stopped process takes nothing, so that the survivor has to wait.
    victim.signal(Signal::STOP);
    eventually("every thread has stopped", || {
        let threads = std::fs::read_dir(format!("/proc/{}/task", victim.pid())).expect("it lives");
        threads.flatten().all(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).expect("it lives");
            stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
        })
    });
    (victim, channel)
}

#[test]
fn who_waits_for_room_learns_of_the_death() {
    for wait in WAITS {
        in_time("waiting for room", || {
            let (mut victim, mut channel) = dying_server(wait);
            let (outcome, after) = std::thread::scope(|scope| {
                let survivor = scope.spawn(|| {
                    let outcome = loop {
                        if let Err(error) = channel.send(b"more") {
                            break error;
                        }
                    };
                    told(outcome)
                });
                std::thread::sleep(Duration::from_millis(20));
                victim.signal(Signal::KILL);
                victim.wait_killed();
                let died = Instant::now();
                let told = survivor.join().expect("the survivor does not panic");
                (told.what, told.at.saturating_duration_since(died))
            });
            assert_eq!(outcome, CloseReason::PeerDied.into(), "{wait:?}");
            after
        });
    }
}

#[test]
fn who_waits_for_a_buffer_gets_one_back_from_the_dead() {
    for wait in WAITS {
        in_time("waiting for a buffer", || {
            let (mut victim, mut channel) = dying_server(wait);
            // Both large buffers are the victim's.
            for _ in 0..2 {
                channel.send(&[1; 10_000]).expect("a buffer is free");
            }
            let (outcome, after) = std::thread::scope(|scope| {
                let survivor = scope.spawn(|| {
                    let fbuf = channel.alloc_timeout(10_000, PATIENCE);
                    told(fbuf.map(|fbuf| fbuf.is_some()))
                });
                std::thread::sleep(Duration::from_millis(20));
                victim.signal(Signal::KILL);
                victim.wait_killed();
                let died = Instant::now();
                let told = survivor.join().expect("the survivor does not panic");
                (told.what, told.at.saturating_duration_since(died))
            });
            assert_eq!(outcome, Ok(true), "{wait:?}");
            assert_eq!(channel.counters().get(Counter::BuffersReclaimed), 2, "{wait:?}");
            assert_eq!(channel.closed(), Some(CloseReason::PeerDied), "{wait:?}");
            after
        });
    }
}

#[test]
fn a_death_during_a_hand_off_to_a_full_queue_frees_the_buffer() {
    let (mut victim, mut channel) = dying_server(Wait::Spin);
    while channel.try_send(b"x").expect("the victim lives") == unet::Offer::Taken {}
    victim.signal(Signal::KILL);
    victim.wait_killed();
    let fbuf = channel.alloc(100).expect("a buffer is free").freeze();
    let outcome = channel.send_fbuf(0, fbuf, b"");
    assert_eq!(outcome, Err(CloseReason::PeerDied.into()));
    let (free, lent, total) = channel.buffers();
    assert_eq!((free, lent), (total, 0));
}

#[test]
fn an_endpoint_loses_only_the_channel_of_the_dead() {
    let address = address("death");
    let mut endpoint = listening(&address, Wait::Park);
    let mut victims: Vec<(Role, unet::ChannelId)> = (0..3)
        .map(|_| {
            let victim = start("client", "none", &address);
            let id = support::accept(&mut endpoint);
            victim.expect("connected");
            (victim, id)
        })
        .collect();
    let (mut victim, dead) = victims.remove(1);
    victim.signal(Signal::KILL);
    victim.wait_killed();
    match event(&mut endpoint) {
        Event::Closed(id, CloseReason::PeerDied) => assert_eq!(id, dead),
        other => panic!("one has died: {other:?}"),
    }
    for (_, id) in &victims {
        endpoint.channel_mut(*id).expect("it is open").send(b"alive?").expect("it is open");
        match event(&mut endpoint) {
            Event::Message(from, message) => {
                assert_eq!((from, message.inline()), (*id, &b"alive?"[..]));
            }
            other => panic!("the others live: {other:?}"),
        }
    }
}

// ---------------------------------------------------------------------------------------------
// What is not death, and what only looks like life.

#[test]
fn a_stopped_process_is_alive() {
    for wait in WAITS {
        let (victim, mut channel) = dying_server(wait);
        channel.send(b"are you there?").expect("there is room");
        let silence = channel.recv_timeout(Duration::from_millis(300));
        assert!(matches!(silence, Ok(None)), "it says nothing, and is not dead: {silence:?}");
        assert_eq!(channel.closed(), None);
        victim.signal(Signal::CONT);
        let answer = channel.recv_timeout(PATIENCE).expect("it lives").expect("it goes on");
        assert_eq!(answer.inline(), b"are you there?");
    }
}

/// Connects, leaves its socket to a child of its own, and waits to be killed.
#[test]
#[ignore = "a part that other tests run in a process of its own"]
fn role_parent() {
    let Some(arguments) = role::arguments() else { return };
    let address: Address = arguments[0].parse().expect("an address");
    let channel = Channel::connect(&address, connect_options(Wait::Park)).expect("connected");
    // A child that inherits everything: each descriptor is made to survive the exec.
    let open: Vec<_> =
        std::fs::read_dir("/proc/self/fd").expect("procfs is mounted").flatten().collect();
    for entry in open {
        let number: i32 = entry.file_name().to_string_lossy().parse().expect("a number");
        if number > 2 {
            keep_at_exec(number);
        }
    }
    let mut child = std::process::Command::new("sleep").arg("30").spawn().expect("coreutils");
    role::say(&format!("child {}", child.id()));
    std::thread::sleep(PATIENCE);
    let _ = (child.kill(), child.wait());
    drop(channel);
}

/// Clears the close-on-exec flag of a descriptor of this process, by the number that procfs shows.
fn keep_at_exec(number: i32) {
    use std::os::fd::AsFd;
    // Descriptors are not to be made of numbers in safe code: duplicate it through procfs instead.
    // Sockets cannot be opened there, so they are taken from the kernel by pidfd_getfd.
    let own = rustix::process::pidfd_open(
        rustix::process::getpid(),
        rustix::process::PidfdFlags::empty(),
    )
    .expect("a pidfd of this process");
    let flags = rustix::process::PidfdGetfdFlags::empty();
    if let Ok(copy) = rustix::process::pidfd_getfd(&own, number, flags) {
        let none = rustix::io::FdFlags::empty();
        rustix::io::fcntl_setfd(copy.as_fd(), none).expect("it is open");
        // It stays open as long as this process lives, and in the child.
        std::mem::forget(copy);
    }
}

#[test]
fn a_child_that_keeps_the_socket_open_does_not_hide_its_parents_death() {
    for wait in WAITS {
        in_time("a child holds the socket", || {
            let address = address("death");
            let mut endpoint = listening(&address, wait);
            let mut parent = role::spawn("role_parent", &[&address.to_string()]);
            let id = support::accept(&mut endpoint);
            let word = parent.word().expect("it says its child's number");
            let child = word.strip_prefix("child ").expect("a number").parse().expect("a number");
            let (outcome, after) = std::thread::scope(|scope| {
                let survivor = scope.spawn(|| told(event(&mut endpoint)));
                std::thread::sleep(Duration::from_millis(20));
                parent.signal(Signal::KILL);
                parent.wait_killed();
                let died = Instant::now();
                let told = survivor.join().expect("the survivor does not panic");
                (told.what, told.at.saturating_duration_since(died))
            });
            match outcome {
                Event::Closed(which, CloseReason::PeerDied) => assert_eq!(which, id),
                other => panic!("the parent has died: {other:?}"),
            }
            let child = rustix::process::Pid::from_raw(child).expect("a number");
            rustix::process::kill_process(child, Signal::KILL).expect("the child lives on");
            after
        });
    }
}

/// A peer that says something, closes its channel and ends. Its argument: address.
#[test]
#[ignore = "a part that other tests run in a process of its own"]
fn role_leaver() {
    let Some(arguments) = role::arguments() else { return };
    let address: Address = arguments[0].parse().expect("an address");
    let mut channel =
        Channel::connect(&address, connect_options(Wait::Adaptive)).expect("connected");
    assert!(role::hear(), "the survivor sleeps");
    channel.send(b"farewell").expect("the survivor is there");
}

#[test]
fn a_peer_that_closed_and_then_ended_did_not_die() {
    let address = address("leaver");
    let mut endpoint = listening(&address, Wait::Park);
    let mut leaver = role::spawn("role_leaver", &[&address.to_string()]);
    let id = support::accept(&mut endpoint);
    // What it sends comes with a doorbell, behind which stands its hang-up.
    eventually("there is nothing to be received", || endpoint.arm());
    leaver.tell();
    leaver.wait_success();
    let channel = endpoint.channel_mut(id).expect("it is not closed");
    let farewell = channel.try_recv().expect("not closed yet").expect("it was sent");
    assert_eq!(farewell.inline(), b"farewell");
    channel.check_liveness();
    assert_eq!(channel.closed(), Some(CloseReason::PeerClosed));
}
