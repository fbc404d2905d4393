//! A process dies, or is stopped, at each numbered step of a call, and the other side is told the truth.
//!
//! The steps are those of `segment::failpoint::STEPS` that begin with `call.` and `reply.`; those below
//! are walked by the tests of `unet`. For each the tables say what becomes of the call. Besides,
//! whatever the step: the survivor knows within 50 ms, others are served meanwhile, all buffers come
//! back, no file is left anywhere, and the name can be exported at once.

// Failpoints are in no program without debug assertions, so nothing of this can be tested there.
#![cfg(debug_assertions)]

mod support;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lrpc::{Binding, ExportError, NotExecuted, Outcome, Reason, Server, UnknownReason};
use rustix::process::{Signal, set_parent_process_death_signal};
use segment::failpoint::{STEPS, arm};
use support::role::{self, Role};
use support::{PATIENCE, WAITS, address, beside, bind, bind_beside, eventually, export};
use unet::{Address, CloseReason, Wait};

/// The promise. Where others use the machine as well, the median of ten deaths must keep it.
const PROMISE: Duration = Duration::from_millis(50);

lrpc::interface! {
    /// What is under way when somebody dies.
    Ledger = "ledger", version 1 {
        /// Counts itself.
        Null(()) -> ();
        /// Counts itself, and has arguments and results in an A-stack.
        Large([u8; 1000]) -> [u8; 1000];
        /// Counts itself, takes a buffer and gives one.
        Bulk(()) -> u64;
        /// How many of the others were executed.
        Count(()) -> u64;
    }
}

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Null,
    Large,
    Bulk,
}

const KINDS: [Kind; 3] = [Kind::Null, Kind::Large, Kind::Bulk];
const BULK: usize = 3000;

/// Calls, and checks the results if there are any.
fn call(binding: &Binding<Ledger>, kind: Kind) -> Outcome<()> {
    match kind {
        Kind::Null => binding.call::<Null>(&()),
        Kind::Large => binding.call::<Large>(&[3; 1000]).map(|bytes| assert_eq!(bytes, [4; 1000])),
        Kind::Bulk => {
            let mut bulk = binding.alloc(BULK).expect("a buffer is free");
            bulk.fill(3);
            binding.call_bulk::<Bulk>(&(), Some(bulk.freeze())).map(|reply| {
                assert_eq!(reply.results, BULK as u64);
                // A dead server's memory can still be read.
                assert_eq!(
                    reply.bulk.expect("one came back").to_vec().expect("nothing was revoked"),
                    [4; BULK]
                );
            })
        }
    }
}

/// A server of the ledger, and how many calls it has executed.
fn ledger(address: &Address, wait: Wait) -> (Server<Ledger>, Arc<AtomicU64>) {
    let executed = Arc::new(AtomicU64::new(0));
    let counting = || {
        let executed = executed.clone();
        move || executed.fetch_add(1, Ordering::SeqCst)
    };
    let (null, large, bulk, count) = (counting(), counting(), counting(), executed.clone());
    let server = export::<Ledger>(address, wait)
        .on::<Null>(move |_, ()| {
            null();
            Ok(())
        })
        .on::<Large>(move |_, bytes| {
            large();
            Ok(bytes.map(|byte| byte + 1))
        })
        .on::<Bulk>(move |call, ()| {
            bulk();
            let taken = call.take_bulk().ok_or(1u16)?.to_vec().map_err(|_| 2u16)?;
            let mut reply = call.alloc(taken.len()).map_err(|_| 2u16)?;
            reply.copy_from_slice(&taken);
            reply.iter_mut().for_each(|byte| *byte += 1);
            call.reply_with(reply.freeze());
            Ok(taken.len() as u64)
        })
        .on::<Count>(move |_, ()| Ok(count.load(Ordering::SeqCst)));
    (server, executed)
}

// ---------------------------------------------------------------------------------------------
// The victim.

fn parse_wait(text: &str) -> Wait {
    WAITS.into_iter().find(|wait| format!("{wait:?}") == text).expect("a way to wait")
}

fn parse_kind(text: &str) -> Kind {
    KINDS.into_iter().find(|kind| format!("{kind:?}") == text).expect("a kind of call")
}

/// Must not outlive the test, whatever becomes of that.
fn mortal() -> Instant {
    set_parent_process_death_signal(Some(Signal::KILL)).expect("the kernel can");
    Instant::now() + 2 * PATIENCE
}

/// The server that is killed or stopped. Its arguments: step, kill or stop, wait, address.
#[test]
#[ignore = "a part that other tests run in a process of its own"]
fn role_server() {
    let Some(arguments) = role::arguments() else { return };
    let [step, signal, wait, address] = &arguments[..] else { panic!("{arguments:?}") };
    let deadline = mortal();
    let signal = if signal == "stop" { Signal::STOP } else { Signal::KILL };
    let address = address.parse().expect("an address");
    let (server, _) = ledger(&address, parse_wait(wait));
    role::say("exported");
    if step != "none" {
        assert!(arm(step, 1, signal), "{step} is a step");
    }
    server.serve_until(|| Instant::now() > deadline);
}

/// The client that is killed or stopped. Its arguments: step, kill or stop, wait, kind, address.
#[test]
#[ignore = "a part that other tests run in a process of its own"]
fn role_client() {
    let Some(arguments) = role::arguments() else { return };
    let [step, signal, wait, kind, address] = &arguments[..] else { panic!("{arguments:?}") };
    mortal();
    let signal = if signal == "stop" { Signal::STOP } else { Signal::KILL };
    let binding = bind::<Ledger>(&address.parse().expect("an address"), parse_wait(wait));
    role::say("bound");
    assert!(role::hear(), "the survivor waits");
    assert!(arm(step, 1, signal), "{step} is a step");
    let outcome = call(&binding, parse_kind(kind));
    role::say(if outcome == Outcome::Executed(()) { "executed" } else { "not-executed" });
    assert!(role::hear(), "the survivor waits");
}

fn start(role: &str, arguments: &[&str]) -> Role {
    let mut command = role::command(role, arguments);
    let scratch = scratch();
    // What it would leave in files, it would leave here.
    command.env("TMPDIR", &scratch).env("XDG_RUNTIME_DIR", &scratch);
    role::start(&mut command)
}

fn start_server(step: &str, signal: &str, wait: Wait, address: &Address) -> Role {
    let wait = format!("{wait:?}");
    let server = start("role_server", &[step, signal, &wait, &address.to_string()]);
    server.expect("exported");
    server
}

// ---------------------------------------------------------------------------------------------
// What must not be left.

/// One test at a time: they count files, descriptors and mappings of this process, and time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A folder that must stay empty.
fn scratch() -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("lrpc-death");
    std::fs::create_dir_all(&path).expect("there is space for files");
    path
}

/// The files there are, where such things are left: all of the victim's own folders, and of the shared
/// ones what bears our names, since others write there too.
fn files() -> BTreeSet<PathBuf> {
    let list = |folder: PathBuf, all: bool| -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
        let named = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            all || ["unet", "lrpc.", "test-ledger"].iter().any(|part| name.contains(part))
        };
        entries.flatten().map(|entry| entry.path()).filter(named).collect()
    };
    let mut found = list(scratch(), true);
    for folder in ["/dev/shm", "/tmp", "/run"] {
        found.extend(list(folder.into(), false));
    }
    if let Some(runtime) = std::env::var_os("XDG_RUNTIME_DIR") {
        found.extend(list(runtime.into(), false));
    }
    found.into_iter().collect()
}

/// How many segments this process has mapped, and how many descriptors of bindings open.
fn held() -> (usize, usize) {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("it is there");
    let segments = maps.lines().filter(|line| line.contains("unet-segment")).count();
    let of_binding = |link: PathBuf| {
        let link = link.to_string_lossy().into_owned();
        ["memfd:unet", "socket:", "pidfd"].iter().any(|part| link.contains(part))
    };
    let descriptors = std::fs::read_dir("/proc/self/fd").expect("it is there").flatten();
    let links = descriptors.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    (segments, links.filter(|link| of_binding(link.clone())).count())
}

// ---------------------------------------------------------------------------------------------
// The survivor.

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

const DIED: CloseReason = CloseReason::PeerDied;
const UNKNOWN: Outcome<()> = Outcome::Unknown(UnknownReason::Closed(DIED));

/// Where the server dies, and what becomes of the call.
const SERVER_DIES: &[(&str, Outcome<()>)] = &[
    ("reply.1-call-taken", UNKNOWN),
    ("reply.2-handled", UNKNOWN),
    ("reply.3-result-written", UNKNOWN),
    ("reply.4-posted", Outcome::Executed(())),
];

/// Where the client dies, and how many calls the server has then executed.
const CLIENT_DIES: &[(&str, u64)] =
    &[("call.1-arguments-written", 0), ("call.2-posted", 1), ("call.3-waiting", 1)];

#[test]
fn the_tables_name_every_step_of_a_call() {
    let of = |family: &str| {
        STEPS.iter().copied().filter(|step| step.starts_with(family)).collect::<Vec<_>>()
    };
    assert_eq!(SERVER_DIES.iter().map(|(step, _)| *step).collect::<Vec<_>>(), of("reply."));
    assert_eq!(CLIENT_DIES.iter().map(|(step, _)| *step).collect::<Vec<_>>(), of("call."));
}

/// After a server's death: the binding is of no more use, not even when there is a new server; that
/// one can be there at once.
fn the_old_binding_reaches_no_new_server(what: &str, old: &Binding<Ledger>, address: &Address) {
    let (server, executed) = ledger(address, Wait::Adaptive);
    let new = bind_beside::<Ledger>(&server, address, Wait::Adaptive);
    for kind in KINDS {
        let outcome = call(old, kind);
        let refused = Outcome::Refused(Reason::Closed(DIED));
        // It may find out by this very call.
        assert!([UNKNOWN, refused].contains(&outcome), "{what}: {outcome:?}");
        assert_eq!(call(old, kind), refused, "{what}");
    }
    assert_eq!(old.closed(), Some(DIED), "{what}");
    assert_eq!(new.call_serving::<Count, _>(&(), &server), Outcome::Executed(0), "{what}");
    assert_eq!(executed.load(Ordering::SeqCst), 0, "{what}");
}

fn server_dies(step: &str, expected: &Outcome<()>, kind: Kind, wait: Wait) -> Duration {
    let what = format!("a {kind:?} call, the server dies at {step}, the client waits by {wait:?}");
    let before = (files(), held());
    let address = address("ledger");
    let mut server = start_server(step, "kill", wait, &address);
    let binding = bind::<Ledger>(&address, wait);
    let (binding, outcome, after) = std::thread::scope(|scope| {
        let caller = scope.spawn(move || {
            let outcome = call(&binding, kind);
            (binding, outcome, Instant::now())
        });
        server.wait_killed();
        let died = Instant::now();
        let (binding, outcome, at) = caller.join().expect("the client does not panic");
        (binding, outcome, at.saturating_duration_since(died))
    });
    assert_eq!(outcome, *expected, "{what}");
    the_old_binding_reaches_no_new_server(&what, &binding, &address);
    let (free, lent, total) = binding.buffers();
    assert_eq!((free, lent), (total, 0), "{what}: the buffers come back");
    drop((binding, server));
    assert_eq!((files(), held()), before, "{what}: something is left");
    after
}

#[test]
fn a_servers_death_ends_its_callers_calls_at_once_and_never_says_what_is_not_known() {
    let _alone = alone();
    for (step, expected) in SERVER_DIES {
        for kind in KINDS {
            for wait in WAITS {
                in_time(step, || server_dies(step, expected, kind, wait));
            }
        }
    }
}

/// A client that calls all the while, at least once.
fn bystander(binding: Binding<Ledger>, done: &AtomicBool) -> Binding<Ledger> {
    loop {
        let outcome = binding.call_timeout::<Count>(&(), PATIENCE);
        assert!(matches!(outcome, Outcome::Executed(_)), "{outcome:?}");
        if done.load(Ordering::Relaxed) {
            return binding;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn start_client(step: &str, signal: &str, wait: Wait, kind: Kind, address: &Address) -> Role {
    let (wait, kind) = (format!("{wait:?}"), format!("{kind:?}"));
    start("role_client", &[step, signal, &wait, &kind, &address.to_string()])
}

fn client_dies(step: &str, expected: u64, kind: Kind, wait: Wait) -> Duration {
    let what = format!("a {kind:?} call, the client dies at {step}, the server waits by {wait:?}");
    let before = files();
    let address = address("ledger");
    let (server, executed) = ledger(&address, wait);
    let other = bind_beside::<Ledger>(&server, &address, wait);
    let alone_with_other = held();
    let mut client = start_client(step, "kill", wait, kind, &address);
    while server.bindings() < 2 {
        server.serve_timeout(Duration::from_millis(1));
    }
    let done = AtomicBool::new(false);
    let after = std::thread::scope(|scope| {
        let beside = scope.spawn(|| bystander(other, &done));
        let client = &mut client;
        let waits = scope.spawn(move || {
            client.expect("bound");
            client.tell();
            client.wait_killed();
            Instant::now()
        });
        let deadline = Instant::now() + PATIENCE;
        while server.bindings() == 2 && Instant::now() < deadline {
            server.serve_timeout(Duration::from_millis(100));
        }
        let at = Instant::now();
        assert_eq!(server.bindings(), 1, "{what}: the server never knew");
        while !waits.is_finished() {
            server.serve_timeout(Duration::from_millis(1));
        }
        done.store(true, Ordering::Relaxed);
        while !beside.is_finished() {
            server.serve_timeout(Duration::from_millis(1));
        }
        let other = beside.join().expect("the other client is served");
        let outcome = other.call_serving::<Count, _>(&(), &server);
        assert_eq!(outcome, Outcome::Executed(expected), "{what}");
        assert_eq!(held(), alone_with_other, "{what}: the server keeps something of the dead");
        at.saturating_duration_since(waits.join().expect("it was killed"))
    });
    assert_eq!(executed.load(Ordering::SeqCst), expected, "{what}");
    drop((server, client));
    // The name is free at once.
    let (server, _) = ledger(&address, wait);
    let again = bind_beside::<Ledger>(&server, &address, wait);
    assert_eq!(again.call_serving::<Null, _>(&(), &server), Outcome::Executed(()), "{what}");
    drop((server, again));
    assert_eq!(files(), before, "{what}: files are left");
    after
}

#[test]
fn a_clients_death_is_known_at_once_and_costs_the_others_nothing() {
    let _alone = alone();
    for (step, expected) in CLIENT_DIES {
        for kind in KINDS {
            for wait in WAITS {
                in_time(step, || client_dies(step, *expected, kind, wait));
            }
        }
    }
}

fn stopped(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" T")))
}

#[test]
fn a_stopped_server_is_not_dead_and_its_callers_get_their_results_when_it_goes_on() {
    let _alone = alone();
    for (step, died) in SERVER_DIES {
        for kind in KINDS {
            for wait in WAITS {
                let what = format!("a {kind:?} call, the server stops at {step}, {wait:?}");
                let address = address("ledger");
                let server = start_server(step, "stop", wait, &address);
                let binding = bind::<Ledger>(&address, wait);
                let binding = std::thread::scope(|scope| {
                    let caller = scope.spawn(move || {
                        let outcome = call(&binding, kind);
                        (binding, outcome)
                    });
                    eventually("it stops", || stopped(server.pid()));
                    // Longer than it takes to notice a death.
                    std::thread::sleep(Duration::from_millis(20));
                    if *died == Outcome::Executed(()) {
                        eventually("the reply was posted", || caller.is_finished());
                    } else {
                        assert!(!caller.is_finished(), "{what}: ended before the server went on");
                    }
                    server.signal(Signal::CONT);
                    let (binding, outcome) = caller.join().expect("no panic");
                    assert_eq!(outcome, Outcome::Executed(()), "{what}");
                    binding
                });
                assert_eq!(call(&binding, kind), Outcome::Executed(()), "{what}");
                assert_eq!(binding.call::<Count>(&()), Outcome::Executed(2), "{what}");
                eventually("the buffers come back", || {
                    let (free, lent, total) = binding.buffers();
                    (free, lent) == (total, 0)
                });
                assert_eq!(binding.closed(), None, "{what}");
            }
        }
    }
}

#[test]
fn a_call_to_a_stopped_server_can_be_given_up_and_is_executed_all_the_same() {
    let _alone = alone();
    for wait in WAITS {
        let address = address("ledger");
        let server = start_server("reply.1-call-taken", "stop", wait, &address);
        let binding = bind::<Ledger>(&address, wait);
        let outcome = binding.call_timeout::<Null>(&(), Duration::from_millis(30));
        assert_eq!(outcome, Outcome::Unknown(UnknownReason::TimedOut));
        eventually("it stopped", || stopped(server.pid()));
        server.signal(Signal::CONT);
        // The late reply stands before this one, and is dropped.
        assert_eq!(binding.call::<Count>(&()), Outcome::Executed(1), "{wait:?}");
        // Killed while stopped it is dead like any other.
        server.signal(Signal::STOP);
        eventually("it stops", || stopped(server.pid()));
        in_time("a stopped server is killed", || {
            if binding.closed().is_some() {
                return Duration::ZERO;
            }
            server.signal(Signal::KILL);
            let began = Instant::now();
            assert_eq!(binding.call::<Null>(&()), UNKNOWN);
            began.elapsed()
        });
    }
}

#[test]
fn a_stopped_client_costs_the_others_nothing_and_gets_its_results_when_it_goes_on() {
    let _alone = alone();
    for (step, executed_when_stopped) in CLIENT_DIES {
        for (kind, wait) in KINDS.into_iter().zip(WAITS) {
            let what = format!("a {kind:?} call, the client stops at {step}");
            let address = address("ledger");
            let (server, executed) = ledger(&address, wait);
            let other = bind_beside::<Ledger>(&server, &address, wait);
            let mut client = start_client(step, "stop", wait, kind, &address);
            let what = &what;
            let _other = beside(&server, move || {
                client.expect("bound");
                client.tell();
                eventually("it stops", || stopped(client.pid()));
                for _ in 0..100 {
                    let count = other.call::<Count>(&()).executed().expect("it is served");
                    assert!(count <= *executed_when_stopped, "{what}");
                }
                client.signal(Signal::CONT);
                client.expect("executed");
                client.tell();
                client.wait_success();
                other
            });
            assert_eq!(executed.load(Ordering::SeqCst), 1, "{what}");
            eventually("the client has gone", || {
                server.serve_timeout(Duration::from_millis(1));
                server.bindings() == 1
            });
        }
    }
}

#[test]
fn many_callers_of_a_dead_server_are_all_told() {
    let _alone = alone();
    for wait in [Wait::Adaptive, Wait::Park] {
        in_time("eight callers", || {
            let address = address("ledger");
            let mut server = start_server("reply.2-handled", "kill", wait, &address);
            let bindings: Vec<_> = (0..8).map(|_| bind::<Ledger>(&address, wait)).collect();
            std::thread::scope(|scope| {
                let calls: Vec<_> = bindings
                    .into_iter()
                    .map(|binding| {
                        scope.spawn(move || (call(&binding, Kind::Null), Instant::now()))
                    })
                    .collect();
                server.wait_killed();
                let died = Instant::now();
                let mut longest = Duration::ZERO;
                for call in calls {
                    let (outcome, at) = call.join().expect("no panic");
                    let refused = Outcome::Refused(Reason::Closed(DIED));
                    assert!(outcome == UNKNOWN || outcome == refused, "{outcome:?}");
                    longest = longest.max(at.saturating_duration_since(died));
                }
                longest
            })
        });
    }
}

#[test]
fn a_server_that_restarts_is_another_one_until_its_clients_bind_again() {
    let _alone = alone();
    let address = address("ledger");
    let mut old: Vec<Binding<Ledger>> = Vec::new();
    for generation in 0..4 {
        let mut server = start_server("none", "kill", Wait::Adaptive, &address);
        // Taken as long as it lives, and by nobody else.
        let taken = Server::<Ledger>::export(&address, lrpc::ExportOptions::default());
        assert!(matches!(taken.err(), Some(ExportError::Listen(_))), "the name is taken");
        let binding = bind::<Ledger>(&address, Wait::Adaptive);
        for _ in 0..generation {
            assert_eq!(call(&binding, Kind::Null), Outcome::Executed(()));
        }
        for stale in &old {
            let error = call(stale, Kind::Null).executed().expect_err("its server is dead");
            assert!(matches!(error, NotExecuted::Refused(_) | NotExecuted::Unknown(_)));
        }
        assert_eq!(binding.call::<Count>(&()), Outcome::Executed(generation));
        server.signal(Signal::KILL);
        server.wait_killed();
        old.push(binding);
    }
}
