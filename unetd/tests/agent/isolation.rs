//! Users that distrust each other: none sends as another, or sees what is another's. These run clients as other
//! users, which takes root.

use std::os::unix::process::CommandExt;

use support::role::{self, Role};
use unet::{ConnectError, ListenError, Refusal};

use super::*;

/// Two users that have no rights here.
const USERS: [u32; 2] = [65_533, 65_534];

/// A client of a user's own. Its arguments: what it does, and addresses.
#[test]
#[ignore = "a part that other tests run in a process of its own"]
fn role_user() {
    let Some(arguments) = role::arguments() else { return };
    // The agent is root's, which a client allows by default.
    let address = |place: usize| arguments[place].parse::<Address>().expect("an address");
    match arguments[0].as_str() {
        // Listens, and says what it hears.
        "listen" => {
            let mut endpoint = listening(&address(1));
            role::say("listening");
            loop {
                match endpoint.recv() {
                    Event::Incoming(incoming) => _ = endpoint.accept(incoming, b""),
                    Event::Message(_, message) => {
                        let bytes = message.to_vec().expect("it is not revoked");
                        role::say(&String::from_utf8_lossy(&bytes));
                    }
                    _ => {}
                }
            }
        }
        // Tries what is not its own.
        "intrude" => {
            for to in [1, 2] {
                let outcome = Channel::connect(&address(to), client());
                assert_eq!(outcome.err(), Some(ConnectError::Refused(Refusal::Forbidden)));
            }
            let mut endpoint = Endpoint::new(EndpointOptions::default()).expect("an endpoint");
            let outcome = endpoint.listen(&address(3), listen_options());
            let refused = ConnectError::Refused(Refusal::Forbidden);
            assert_eq!(outcome, Err(ListenError::Agent(refused)));
            role::say("kept out");
        }
        // Counts what it is shown.
        _ => {
            let bytes = unetd::ctl::ask(&arguments[1], "list", LONG).expect("it answers");
            let list: unetd::report::List = serde_json::from_slice(&bytes).expect("an answer");
            let own = rustix::process::getuid().as_raw();
            assert!(list.rows.iter().all(|row| row.uid == own), "{list:?}");
            role::say(&format!("sees {}", list.rows.len()));
        }
    }
}

fn spawn_as(uid: u32, arguments: &[&str]) -> Role {
    let mut command = role::command("isolation::role_user", arguments);
    command.uid(uid).gid(uid);
    role::start(&mut command)
}

fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("{test}: left out, for it takes root to be other users");
    }
    root
}

#[test]
fn a_user_reaches_only_what_is_its_own_and_sees_only_its_own_channels() {
    if !is_root("isolation") {
        return;
    }
    let ports = [free_port(), free_port()];
    let rule = |who: usize| {
        format!(
            "[[allow]]\nuser = {}\ndevices = [\"udp:\"]\nlisten = [{}]\n\
             connect = [\"OWN:{}\"]\n",
            USERS[who], ports[who], ports[who]
        )
    };
    let root = "[[allow]]\nuser = 0\ndevices = [\"udp:\"]\nconnect = [\"OWN:*\"]\n";
    let rules = format!("[[device]]\nopen = \"udp:\"\n{}{}{root}", rule(0), rule(1));
    let agent = Agency::start(&rules);
    let at = |port: u16| agent.address(&format!("udp:{}:{port}", agent.over.host())).to_string();
    let listeners = [0, 1].map(|who| spawn_as(USERS[who], &["listen", &at(ports[who])]));
    for listener in &listeners {
        listener.expect("listening");
    }
    // Each hears what is sent to its port, and nothing of the other's.
    let mut channels = ports.map(|port| {
        let address: Address = at(port).parse().expect("valid");
        Channel::connect(&address, client()).expect("connected")
    });
    for round in 0..20 {
        for (who, channel) in channels.iter_mut().enumerate() {
            channel.send(format!("for-{who}-{round}").as_bytes()).expect("there is room");
        }
        for (who, listener) in listeners.iter().enumerate() {
            listener.expect(&format!("for-{who}-{round}"));
        }
    }
    // The second tries the first's port, from both sides, and an address of nobody's.
    let nobody = at(free_port());
    let intruder = spawn_as(USERS[1], &["intrude", &at(ports[0]), &nobody, &at(ports[0])]);
    intruder.expect("kept out");
    // A channel and a port each; and root sees all.
    for uid in USERS {
        spawn_as(uid, &["look", &agent.name]).expect("sees 2");
    }
    let all: unetd::report::List = agent.ask("list");
    assert_eq!(all.rows.len(), 6, "{all:?}");
}

#[test]
fn nobody_but_the_agent_introduces_clients_to_a_listener() {
    if !is_root("isolation") {
        return;
    }
    let agent = Agency::start(OPEN);
    let at = agent.address(&agent.own().to_string()).to_string();
    let listener = spawn_as(USERS[0], &["listen", &at]);
    listener.expect("listening");
    // Its name stands in /proc/net/unix, for everybody to read.
    let names = std::fs::read_to_string("/proc/net/unix").expect("procfs is mounted");
    let found = names.lines().filter_map(|line| line.split("@unet/by-agent-").nth(1));
    let names: Vec<String> = found.map(|rest| format!("shm:by-agent-{rest}")).collect();
    assert!(!names.is_empty());
    let mut command = role::command("isolation::role_intruder", &[&names.join(",")]);
    command.uid(USERS[1]).gid(USERS[1]);
    role::start(&mut command).expect("kept out");
}

/// Tries to pass for an agent, at every name of a listener.
#[test]
#[ignore = "a part that other tests run in a process of its own"]
fn role_intruder() {
    let Some(arguments) = role::arguments() else { return };
    let from = "10.1.2.3:4".parse().expect("an address");
    let forged = unet::mediated::Introduction { from, private: Vec::new() };
    for name in arguments[0].split(',') {
        let private = forged.encode().expect("it fits");
        let policy = unet::Policy::AnyUser;
        let options = ConnectOptions { private, policy, ..client() };
        match Channel::connect(&name.parse().expect("valid"), options) {
            Err(ConnectError::Refused(Refusal::Policy)) => {}
            // Other tests' listeners come and go.
            Err(ConnectError::NobodyListens | ConnectError::PeerDied) => {}
            other => panic!("{other:?}"),
        }
    }
    role::say("kept out");
}
