//! An agent that dies: its keeper starts another one, and clients do not notice.

use driver_af_xdp::Interface;
use rustix::process::{Pid, Signal, kill_process};
use unetd::direct::{Store, keeper};

use super::*;

#[test]
#[ignore = "a part that other tests run in a process of its own"]
fn role_keeper() {
    let Some(_) = role::arguments() else { return };
    let worker = || {
        let mut command = role::command("restarting::role_worker", &["now"]);
        command.stderr(std::process::Stdio::inherit());
        command
    };
    let status = keeper::keep(worker, || keeper::Told::Nothing).expect("it can be started");
    role::say(&format!("ended {status}"));
}

#[test]
#[ignore = "a part that other tests run in a process of its own"]
fn role_worker() {
    let Some(_) = role::arguments() else { return };
    let store = Store::inherit().expect("it has a keeper");
    let mut service = Service::resume(NAME, allowed, store).expect("it goes on");
    role::say(&format!("worker {} {}", std::process::id(), service.counts().adopted));
    let deadline = Instant::now() + 4 * PATIENCE;
    while Instant::now() < deadline {
        if service.turn(Duration::from_millis(20)).is_err() {
            return;
        }
    }
}

/// A worker that has just begun: its number, and how many clients it took over.
fn began(keeper: &role::Role) -> (i32, usize) {
    let word = keeper.word().expect("a worker begins");
    let mut words = word.split(' ');
    assert_eq!(words.next(), Some("worker"), "{word}");
    let mut number = || words.next().and_then(|it| it.parse::<u32>().ok()).expect("a number");
    (number() as i32, number() as usize)
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).expect("a process"), Signal::KILL).expect("it lives");
}

fn programs() -> Vec<u32> {
    Interface::find("va").expect("it is there").programs
}

#[test]
fn traffic_goes_on_while_the_agent_is_killed_again_and_again_and_then_others_are_served() {
    let (_ours, theirs) = joined(2);
    let keeper = role::spawn("restarting::role_keeper", &["now"]);
    let (mut worker, adopted) = began(&keeper);
    assert_eq!(adopted, 0);
    let client = echo(0, 0, 7000);
    client.expect("ready");
    let native = Options { way: Way::Native, reserve: false, ..options(7000) };
    let mut peer = peer(&theirs, 0, &native);
    let program = programs();
    assert_eq!(program.len(), 1);
    let mut number = 0u32;
    for round in 0..5 {
        kill(worker);
        let mut next = None;
        let deadline = Instant::now() + PATIENCE;
        // With no worker, and with the next one: nothing is lost on the way there and back.
        while next.is_none() || number < 2000 * (round + 1) {
            assert!(Instant::now() < deadline, "{number} came back");
            let payload = number.to_be_bytes();
            send(&mut peer, &frame(7000, [192, 0, 2, 2], &payload));
            assert_eq!(payloads(&mut peer, 1, Duration::from_secs(5)), [payload]);
            number += 1;
            if next.is_none()
                && let Some(word) = keeper.word_within(Duration::ZERO)
            {
                let words: Vec<_> = word.split(' ').map(str::to_owned).collect();
                assert_eq!((&*words[0], &*words[2]), ("worker", "1"), "{word}");
                next = words[1].parse().ok();
            }
        }
        worker = next.expect("it began");
        assert_eq!(programs(), program, "it is the same program all the time");
    }
    // The client has its queue and port still, and the agent knows it.
    let taken = ask(NAME, "va", Some(0), &options(7001)).expect_err("the first client has it");
    assert!(matches!(taken, OpenError::Busy(_)));
    let taken = ask(NAME, "va", Some(1), &options(7000)).expect_err("the first client has it");
    assert_eq!(taken, OpenError::AddressInUse);
    let second = echo(1, 1, 7100);
    second.expect("ready");
    // What the first client had is free when it ends, though another worker gave it.
    drop(client);
    let first = ask(NAME, "va", Some(0), &options(7000)).expect("it is free");
    drop((first, second));
    until("the program goes with the last client", || programs().is_empty());
}

#[test]
fn a_client_that_dies_while_there_is_no_agent_leaves_nothing_behind() {
    let (_ours, _theirs) = joined(1);
    let keeper = role::spawn("restarting::role_keeper", &["now"]);
    let (worker, _) = began(&keeper);
    let client = echo(0, 0, 7000);
    client.expect("ready");
    kill(worker);
    drop(client);
    began(&keeper);
    ask(NAME, "va", Some(0), &options(7000)).expect("it is free");
    until("the program goes with the last client", || programs().is_empty());
}

#[test]
fn those_who_connect_while_there_is_no_agent_wait_for_the_next() {
    let (_ours, _theirs) = joined(1);
    let keeper = role::spawn("restarting::role_keeper", &["now"]);
    let (worker, _) = began(&keeper);
    kill(worker);
    // Its name is held all the time.
    ask(NAME, "va", Some(0), &options(7000)).expect("the next worker serves it");
    assert_eq!(began(&keeper).1, 0);
}

#[test]
fn with_keeper_and_worker_dead_all_is_detached_and_clients_are_told() {
    let (_ours, _theirs) = joined(1);
    let mut keeper = role::spawn("restarting::role_keeper", &["now"]);
    began(&keeper);
    let client = echo(0, 0, 7000);
    client.expect("ready");
    keeper.signal(Signal::KILL);
    keeper.wait_killed();
    client.expect("gone");
    until("the kernel detaches the program", || programs().is_empty());
    let absent = ask(NAME, "va", Some(0), &options(7000)).expect_err("nobody listens");
    assert!(matches!(absent, OpenError::NotPermitted(why) if why.contains("no agent")));
    // And a new one starts from nothing.
    let again = role::spawn("restarting::role_keeper", &["now"]);
    assert_eq!(began(&again).1, 0);
    ask(NAME, "va", Some(0), &options(7000)).expect("it is served");
}
