//! Clients die at every step, and the agent dies: each time the others are told, and nothing is left behind.

// Failpoints are in no program without debug assertions.
#![cfg(debug_assertions)]

use rustix::process::Signal;
use segment::failpoint::{STEPS, arm};
use support::role;
use unet::CloseReason;
use unetd::report::Status;

use super::*;

/// Those that a client of an agent passes when it connects, sends and receives.
fn steps(families: &[&'static str]) -> Vec<&'static str> {
    let of = |step: &&str| families.iter().any(|family| step.starts_with(family));
    STEPS.iter().copied().filter(of).collect()
}

/// The process that dies. Its arguments: what it does, step, address.
#[test]
#[ignore = "a part that other tests run in a process of its own"]
fn role_victim() {
    let Some(arguments) = role::arguments() else { return };
    let [what, step, address] = &arguments[..] else { panic!("{arguments:?}") };
    let address: Address = address.parse().expect("an address");
    if what == "listen" {
        let mut endpoint = listening(&address);
        // What it passed to get the port is not what it is to die of.
        assert!(arm(step, 1, Signal::KILL), "{step} is a step");
        role::say("listening");
        echo(&mut endpoint, || false);
    }
    assert!(arm(step, 1, Signal::KILL), "{step} is a step");
    role::say("begins");
    let mut channel = Channel::connect(&address, client()).expect("connected");
    let mut fbuf = channel.alloc(1000).expect("a buffer is free");
    fbuf.fill(1);
    channel.send_fbuf(0, fbuf.freeze(), b"").expect("the agent is there");
    channel.send(b"small").expect("the agent is there");
    loop {
        // The server echoes both.
        drop(channel.recv());
    }
}

fn nothing_is_left(agent: &Agency, step: &str) {
    support::eventually(&format!("{step}: nothing is left of it"), || {
        let status: Status = agent.ask("status");
        // Who asks counts itself.
        (status.channels, status.ports, status.pending, status.processes) == (0, 0, 0, 1)
    });
}

#[test]
fn of_a_client_that_dies_at_any_step_nothing_is_left_and_its_peer_is_told() {
    let agent = Agency::start(OPEN);
    let plain = plain();
    let mut server = listening(&plain);
    let by_agent = agent.address(&plain.to_string()).to_string();
    for step in steps(&["connect.", "send.1", "send.2", "handoff.", "receive."]) {
        let mut victim = role::spawn("dying::role_victim", &["connect", step, &by_agent]);
        victim.expect("begins");
        let (mut open, mut dead) = (Vec::new(), false);
        while !dead || !open.is_empty() {
            match server.recv_timeout(Duration::from_millis(5)) {
                Some(Event::Incoming(incoming)) => {
                    open.push(server.accept(incoming, b"").expect("accepted"));
                }
                Some(Event::Message(from, message)) => {
                    let bytes = message.to_vec().expect("it is not revoked");
                    if let Some(channel) = server.channel_mut(from) {
                        let _ = channel.try_send(&bytes);
                    }
                }
                Some(Event::Closed(id, reason)) => {
                    // The agent's farewell is one packet; who misses it learns by his next word.
                    let is_told =
                        matches!(reason, CloseReason::PeerClosed | CloseReason::PeerRestarted);
                    assert!(is_told, "{step}: {reason:?}");
                    open.retain(|other| *other != id);
                }
                other => assert!(other.is_none(), "{step}: {other:?}"),
            }
            if !dead && victim.has_ended() {
                victim.wait_killed();
                dead = true;
            }
        }
        nothing_is_left(&agent, step);
    }
}

#[test]
fn of_a_listener_that_dies_at_any_step_nothing_is_left_and_its_clients_are_told() {
    let agent = Agency::start(OPEN);
    for step in steps(&["accept.", "receive.1", "send.1", "send.2"]) {
        let plain = agent.own();
        let by_agent = agent.address(&plain.to_string()).to_string();
        let mut victim = role::spawn("dying::role_victim", &["listen", step, &by_agent]);
        victim.expect("listening");
        let options = ConnectOptions { timeout: LONG, ..direct() };
        match Channel::connect(&plain, options) {
            Err(refused) => assert!(step.starts_with("accept."), "{step}: {refused}"),
            Ok(mut channel) => {
                let _ = channel.send(b"last words");
                let told = loop {
                    match channel.recv_timeout(LONG) {
                        Ok(Some(_)) => {}
                        Ok(None) => panic!("{step}: nobody tells"),
                        Err(reason) => break reason,
                    }
                };
                assert_eq!(told, CloseReason::PeerClosed, "{step}");
            }
        }
        victim.wait_killed();
        nothing_is_left(&agent, step);
    }
}

/// An agent that can be killed. Its arguments: its name, and its device.
#[test]
#[ignore = "a part that other tests run in a process of its own"]
fn role_agent() {
    let Some(arguments) = role::arguments() else { return };
    let policy = policy(&arguments[0], &Over::of(&arguments[1]).rules(OPEN));
    let mut agent = Agent::start(policy, drivers::linked()).expect("the name is free");
    role::say("ready");
    loop {
        agent.turn(Duration::from_millis(20));
    }
}

#[test]
fn the_agents_death_ends_its_channels_at_once_and_they_can_be_opened_again() {
    let (name, over) = (fresh_name(), Over::new());
    let plain = plain();
    let by_agent = over.address(&plain.to_string(), &name);
    let at = over.address(&format!("udp:{}:{}", over.host(), free_port()), &name);
    let mut far = listening(&plain);
    for _ in 0..2 {
        let mut agent = role::spawn("dying::role_agent", &[&name, &over.number()]);
        agent.expect("ready");
        let (id, mut near) = join(&mut far, &by_agent, client());
        let mut listener = listening(&at);
        near.send(b"before").expect("it is open");
        assert_eq!(message(&mut far), (id, b"before".to_vec()));
        agent.signal(Signal::KILL);
        agent.wait_killed();
        assert_eq!(near.recv_timeout(LONG).err(), Some(CloseReason::PeerDied));
        let lost = listener.recv_timeout(LONG);
        assert!(matches!(lost, Some(Event::NotListening(_, CloseReason::PeerDied))), "{lost:?}");
        // The remote side learns it when it speaks to who is not there any more, or by silence.
        far.close(id);
    }
}
