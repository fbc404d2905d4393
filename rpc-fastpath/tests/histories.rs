//! Calls over LRPC, and over channels of one host, with real servers that end and come back, and with clients and
//! servers that are killed: the checker of the simulation reads what happened.
//!
//! A seed determines what each run is to do: which calls, with what deadlines, whose handlers panic or take their
//! time, at which call or step a server ends or a process is killed, and for how long one is stopped. When it
//! happens beside the other calls, the machine decides: so a seed that failed may have to be repeated more than
//! once.
//!
//! `RPC_RUNS` says how many runs; `RPC_SEED` repeats one.

// Failpoints are in no program without debug assertions.
#![cfg(debug_assertions)]

#[path = "histories/account.rs"]
mod account;
#[path = "histories/client.rs"]
mod client;
#[allow(dead_code)]
#[path = "simulation/history.rs"]
mod history;
#[path = "histories/ledger.rs"]
mod ledger;
#[path = "histories/plan.rs"]
mod plan;
#[path = "simulation/random.rs"]
mod random;
#[path = "../../unet/tests/support/role.rs"]
#[allow(dead_code)]
mod role;
mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use account::Account;
use client::Client;
use history::{End, Entry};
use ledger::{Books, Carrier, Lrpc, Shm};
use plan::{Deed, Plan, Spec, Way};
use role::Role;
use rustix::process::{Signal, getpid, kill_process};
use unet::Address;

const PATIENCE: Duration = Duration::from_secs(20);

/// How the calls of all runs ended.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    executed: u64,
    failed: u64,
    refused: u64,
    unknown: u64,
    servers: u64,
    killed: u64,
}

impl Ends {
    fn add(&mut self, history: &[Entry]) {
        for entry in history {
            match entry {
                Entry::Ended { end: End::Executed { .. }, .. } => self.executed += 1,
                Entry::Ended { end: End::Failed(_), .. } => self.failed += 1,
                Entry::Ended { end: End::Refused(_), .. } => self.refused += 1,
                Entry::Ended { end: End::Unknown(_), .. } => self.unknown += 1,
                Entry::ClientDied { .. } => self.killed += 1,
                _ => {}
            }
        }
    }
}

/// A run of a seed: its account is checked when all is over.
struct Run {
    seed: u64,
    plan: Plan,
    address: Address,
    account: Account,
}

impl Run {
    fn new(seed: u64) -> Self {
        let address = support::address("history");
        Self { seed, plan: Plan::new(seed), address, account: Account::new() }
    }

    /// A client of threads of this process, or what is called when all is well.
    fn client<C: Carrier>(&self, number: u32) -> Client<'_, C> {
        Client::new(&self.address, &self.account, number)
    }

    /// Calls until one is executed: nothing ends the servers any more, or soon nothing will.
    fn end_well<C: Carrier>(&self) {
        let mut client = self.client::<C>(self.plan.clients);
        let spec = Spec {
            client: self.plan.clients,
            way: Way::Plain,
            deed: Deed::Nothing,
            len: 100,
            reply_len: 100,
            patience: None,
            alone: true,
        };
        let begin = Instant::now();
        let first = self.plan.calls.len();
        let mut calls = first..;
        while !client.make(&[(calls.next().expect("endless"), spec)]) {
            assert!(begin.elapsed() < PATIENCE, "no call succeeds: {}", self.text());
        }
    }

    fn text(&self) -> String {
        format!("RPC_SEED={} repeats it: {}", self.seed, self.account.text())
    }

    fn check(&self, ends: &mut Ends) {
        let history = self.account.entries();
        assert_eq!(history::check(&history), Ok(()), "{}", self.text());
        ends.add(&history);
        self.account.remove();
    }
}

/// Servers of threads, one after the other, which end where the plan says so, and clients of threads.
fn run_in_threads<C: Carrier>(seed: u64, ends: &mut Ends) {
    let run = Run::new(seed);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let servers = scope.spawn(|| {
            let mut incarnation = 0;
            while !is_over.load(Ordering::Relaxed) {
                let ends = Arc::new(AtomicBool::new(false));
                let end = Arc::clone(&ends);
                let end = Box::new(move || end.store(true, Ordering::Relaxed));
                let books = Books { account: run.account.clone(), incarnation, end };
                let stop = || ends.load(Ordering::Relaxed) || is_over.load(Ordering::Relaxed);
                incarnation += u64::from(C::serve(&run.address, books, stop));
            }
            incarnation
        });
        // So that the servers end where a client fails.
        let told = AtEnd(&is_over);
        let clients: Vec<_> = (0..run.plan.clients)
            .map(|number| {
                scope.spawn({
                    let run = &run;
                    move || run.client::<C>(number).run(&run.plan)
                })
            })
            .collect();
        let clients: Vec<_> = clients.into_iter().map(|client| client.join()).collect();
        assert!(clients.iter().all(Result::is_ok), "{}", run.text());
        run.end_well::<C>();
        drop(told);
        ends.servers += servers.join().expect("the servers ended");
    });
    run.check(ends);
}

struct AtEnd<'a>(&'a AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Servers that are processes, and are killed by what the plan says, and a client that is one, beside those of
/// threads.
fn run_in_processes<C: Carrier>(seed: u64, ends: &mut Ends) {
    let run = Run::new(seed);
    let is_over = AtomicBool::new(false);
    let (address, account) = (run.address.to_string(), run.account.path.to_string_lossy());
    let spawn = |role: &str, number: u64| {
        let (seed, number) = (seed.to_string(), number.to_string());
        role::spawn(role, &[C::NAME, &seed, &number, &address, &account])
    };
    thread::scope(|scope| {
        let servers = scope.spawn(|| {
            let mut incarnation = 0;
            let mut server = spawn("role_server", incarnation);
            let (begin, mut pauses) = (Instant::now(), run.plan.server_pauses.iter());
            let mut pause = pauses.next();
            while !is_over.load(Ordering::Relaxed) {
                if server.has_ended() {
                    server.wait_killed();
                    incarnation += 1;
                    server = spawn("role_server", incarnation);
                }
                if let Some((_, long)) = pause.filter(|(at, _)| begin.elapsed() >= *at) {
                    pause_process(&server, *long);
                    pause = pauses.next();
                }
                thread::sleep(Duration::from_micros(500));
            }
            incarnation
        });
        let told = AtEnd(&is_over);
        let mut process = spawn("role_client", 0);
        let clients: Vec<_> = (1..run.plan.clients)
            .map(|number| {
                scope.spawn({
                    let run = &run;
                    move || run.client::<C>(number).run(&run.plan)
                })
            })
            .collect();
        for (at, long) in &run.plan.client_pauses {
            thread::sleep(*at);
            pause_process(&process, *long);
        }
        let clients: Vec<_> = clients.into_iter().map(|client| client.join()).collect();
        assert!(clients.iter().all(Result::is_ok), "{}", run.text());
        match process.wait() {
            status if status.success() => {}
            _ => run.account.died(0),
        }
        run.end_well::<C>();
        drop(told);
        ends.servers += servers.join().expect("the servers ended") + 1;
    });
    run.check(ends);
}

/// Stops a process, which may have ended, and lets it go on.
fn pause_process(process: &Role, long: Duration) {
    process.signal(Signal::STOP);
    thread::sleep(long);
    process.signal(Signal::CONT);
}

/// What a process of a run is told.
struct Told(Plan, u64, Address, Account);

fn told() -> Option<(String, Told)> {
    let arguments = role::arguments()?;
    let [carrier, seed, number, address, account] = &arguments[..] else { panic!("five") };
    let [seed, number] = [seed, number].map(|text| text.parse().expect("a number"));
    let address = address.parse().expect("an address");
    let told = Told(Plan::new(seed), number, address, Account::open(Path::new(account)));
    Some((carrier.clone(), told))
}

fn kill_this_process() {
    kill_process(getpid(), Signal::KILL).expect("it is this process");
    loop {
        thread::park();
    }
}

fn serve<C: Carrier>(Told(plan, incarnation, address, account): Told) {
    if let Some((step, nth)) = plan.server_steps.get(incarnation as usize) {
        assert!(segment::failpoint::arm(step, *nth as u32, Signal::KILL));
    }
    loop {
        let (account, end) = (account.clone(), Box::new(kill_this_process));
        // The one before may hold the address until the kernel has ended it.
        C::serve(&address, Books { account, incarnation, end }, || false);
        thread::sleep(Duration::from_micros(200));
    }
}

#[test]
#[ignore = "a part of other tests"]
fn role_server() {
    match told() {
        Some((carrier, told)) if carrier == Lrpc::NAME => serve::<Lrpc>(told),
        Some((_, told)) => serve::<Shm>(told),
        None => {}
    }
}

fn call<C: Carrier>(Told(plan, number, address, account): Told) {
    let (step, nth) = plan.client_step;
    assert!(segment::failpoint::arm(step, nth as u32, Signal::KILL));
    Client::<C>::new(&address, &account, number as u32).run(&plan);
}

#[test]
#[ignore = "a part of other tests"]
fn role_client() {
    match told() {
        Some((carrier, told)) if carrier == Lrpc::NAME => call::<Lrpc>(told),
        Some((_, told)) => call::<Shm>(told),
        None => {}
    }
}

/// Runs the seeds from zero on, some at a time.
fn runs(usual: u64, run: fn(u64, &mut Ends)) -> Ends {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let mut sum = Ends::default();
    if let Some(seed) = number("RPC_SEED") {
        run(seed, &mut sum);
        return sum;
    }
    let runs = number("RPC_RUNS").unwrap_or(usual);
    let next = AtomicU64::new(0);
    let work = || {
        let mut ends = Ends::default();
        loop {
            match next.fetch_add(1, Ordering::Relaxed) {
                seed if seed < runs => run(seed, &mut ends),
                _ => return ends,
            }
        }
    };
    thread::scope(|scope| {
        let workers = [0; 2].map(|_| scope.spawn(work));
        for worker in workers {
            let one = worker.join().expect("a run failed");
            sum.executed += one.executed;
            sum.failed += one.failed;
            sum.refused += one.refused;
            sum.unknown += one.unknown;
            sum.servers += one.servers;
            sum.killed += one.killed;
        }
    });
    println!("{runs} runs: {sum:?}");
    sum
}

/// Whatever can happen did: runs in which nothing goes wrong show nothing.
fn assert_eventful(Ends { executed, failed, refused, unknown, servers, .. }: Ends) {
    if std::env::var("RPC_SEED").or(std::env::var("RPC_RUNS")).is_err() {
        let counts = [executed, failed, refused, unknown, servers];
        assert!(counts.iter().all(|count| *count > 50), "{counts:?}");
    }
}

#[test]
fn every_history_over_lrpc_is_one_that_may_be() {
    assert_eventful(runs(1200, run_in_threads::<Lrpc>));
}

#[test]
fn every_history_over_channels_is_one_that_may_be() {
    assert_eventful(runs(600, run_in_threads::<Shm>));
}

/// Killed processes refuse little.
fn assert_deadly(Ends { executed, unknown, servers, killed, .. }: Ends) {
    if std::env::var("RPC_SEED").or(std::env::var("RPC_RUNS")).is_err() {
        let counts = [executed, unknown, servers, killed];
        assert!(counts.iter().all(|count| *count > 10), "{counts:?}");
    }
}

#[test]
fn every_history_over_lrpc_with_killed_processes_is_one_that_may_be() {
    assert_deadly(runs(70, run_in_processes::<Lrpc>));
}

#[test]
fn every_history_over_channels_with_killed_processes_is_one_that_may_be() {
    assert_deadly(runs(70, run_in_processes::<Shm>));
}
