//! What the policy does not allow is refused, with the reason, and counted.

use unet::{ConnectError, ListenError, Refusal};

use super::*;

fn rules(more: &str) -> String {
    let uid = rustix::process::geteuid().as_raw();
    format!("[[device]]\nopen = \"udp:\"\n[[allow]]\nuser = {uid}\ndevices = [\"udp:\"]\n{more}")
}

fn refused(agent: &Agency, to: &str) -> Refusal {
    let options = ConnectOptions { timeout: LONG, ..client() };
    match Channel::connect(&agent.address(to), options) {
        Err(ConnectError::Refused(why)) => why,
        Err(other) => panic!("{to}: {other}"),
        Ok(_) => panic!("{to} was not to be reached"),
    }
}

fn not_listening(agent: &Agency, at: &str) -> Refusal {
    let mut endpoint = Endpoint::new(EndpointOptions::default()).expect("an endpoint");
    match endpoint.listen(&agent.address(at), listen_options()) {
        Err(ListenError::Agent(ConnectError::Refused(why))) => why,
        other => panic!("{at}: {other:?}"),
    }
}

#[test]
fn addresses_ports_devices_and_options_beside_the_policy_are_forbidden() {
    let agent = Agency::start(&rules("listen = [40000]\nconnect = [\"127.0.0.1:40000\"]"));
    let to = [
        "udp:127.0.0.1:40001",
        "udp:127.0.0.2:40000",
        "udp:localhost:40000",
        "udp:[::1]:40000",
        "xdp:eth0@127.0.0.1:40000",
        "udp:127.0.0.1:0",
    ];
    for to in to {
        assert_eq!(refused(&agent, to), Refusal::Forbidden, "{to}");
    }
    for at in ["udp:0.0.0.0:40001", "udp:0.0.0.0:0", "xdp:eth0@:40000", "udp:localhost:40000"] {
        assert_eq!(not_listening(&agent, at), Refusal::Forbidden, "{at}");
    }
    assert_eq!(agent.count("refused-forbidden"), 10);
    // How a device is opened is not for the client to say.
    let with_options: Address = format!("udp:127.0.0.1:40000?path=io-uring&via={}", agent.name)
        .parse()
        .expect("it is valid");
    let outcome = Channel::connect(&with_options, client());
    assert_eq!(outcome.err(), Some(ConnectError::Refused(Refusal::Forbidden)));
}

#[test]
fn who_is_in_no_rule_may_not_even_ask() {
    let agent = Agency::start("[[device]]\nopen = \"udp:\"\n");
    assert_eq!(refused(&agent, "udp:127.0.0.1:40000"), Refusal::Policy);
    let asked = unetd::ctl::ask(&agent.name, "status", LONG);
    let refused = unetd::ctl::AskError::Connect(ConnectError::Refused(Refusal::Policy));
    assert_eq!(asked, Err(refused));
}

#[test]
fn channels_and_bytes_are_bounded_and_come_back() {
    for bound in ["channels = 3", "bytes = \"2MiB\""] {
        let agent = Agency::start(&rules(&format!(
            "listen = [\"1024-65535\"]\nconnect = [\"127.0.0.1:*\"]\n{bound}"
        )));
        let plain = plain();
        let mut server = listening(&plain);
        let by_agent = agent.address(&plain.to_string());
        let mut open: Vec<_> = (0..3).map(|_| join(&mut server, &by_agent, client())).collect();
        assert_eq!(refused(&agent, &plain.to_string()), Refusal::Quota, "{bound}");
        let at = agent.own().to_string();
        assert_eq!(not_listening(&agent, &at), Refusal::Quota, "{bound}");
        open.pop();
        support::eventually("a channel's place comes back", || {
            std::thread::scope(|scope| {
                let client = scope.spawn(|| Channel::connect(&by_agent, client()));
                while !client.is_finished() {
                    if let Some(Event::Incoming(incoming)) =
                        server.recv_timeout(Duration::from_millis(2))
                    {
                        server.accept(incoming, b"").expect("accepted");
                    }
                }
                client.join().expect("no panic").is_ok()
            })
        });
    }
}

#[test]
fn a_port_is_lent_once() {
    let agent = Agency::start(OPEN);
    let at = agent.own().to_string();
    let _server = listening(&agent.address(&at));
    assert_eq!(not_listening(&agent, &at), Refusal::PortTaken);
    if IS_DPDK {
        // Nobody but the agent has ports at the address of its own device.
        return assert_eq!(agent.count("refused-port-taken"), 1);
    }
    let port = free_port();
    let _foreign = UdpSocket::bind(("127.0.0.1", port)).expect("it is free");
    assert_eq!(not_listening(&agent, &format!("udp:127.0.0.1:{port}")), Refusal::PortTaken);
    assert_eq!(agent.count("refused-port-taken"), 2);
}

#[test]
fn the_other_sides_refusal_and_its_silence_are_told_apart() {
    let agent = Agency::start(OPEN);
    for listens_by_agent in [false, true] {
        let plain = if listens_by_agent { agent.own() } else { plain() }.to_string();
        let by_agent = agent.address(&plain);
        let at = if listens_by_agent { by_agent.clone() } else { plain.parse().expect("valid") };
        let mut server = listening(&at);
        let refusal = std::thread::scope(|scope| {
            let client = scope.spawn(|| refused(&agent, &plain));
            let Some(Event::Incoming(incoming)) = server.recv_timeout(LONG) else { panic!("none") };
            server.refuse(incoming, 42);
            while !client.is_finished() {
                assert!(server.recv_timeout(Duration::from_millis(2)).is_none());
            }
            client.join().expect("no panic")
        });
        assert_eq!(refusal, Refusal::Application(42), "{listens_by_agent}");
    }
    assert_eq!(refused(&agent, &plain().to_string()), Refusal::NoAnswer);
}

#[test]
fn private_bytes_that_do_not_fit_are_refused_before_and_behind_the_agent() {
    let agent = Agency::start(OPEN);
    let plain = agent.own();
    let by_agent = agent.address(&plain.to_string());
    let _server = listening(&by_agent);
    let much = |options| ConnectOptions { private: vec![7; 125], ..options };
    let near = Channel::connect(&by_agent, much(client()));
    assert_eq!(near.err(), Some(ConnectError::PrivateTooLarge));
    let far = Channel::connect(&plain, much(direct()));
    assert_eq!(far.err(), Some(ConnectError::Refused(Refusal::PrivateTooLarge)));
}

#[test]
fn a_client_does_not_take_anybody_for_its_agent() {
    let name = fresh_name();
    let here: Address = format!("shm:{name}").parse().expect("it is valid");
    let _impostor = listening(&here);
    let mut options = client();
    options.network.agent = unet::Policy::Users(vec![4_000_000]);
    let address: Address = format!("udp:127.0.0.1:1?via={name}").parse().expect("it is valid");
    let uid = rustix::process::geteuid().as_raw();
    let outcome = Channel::connect(&address, options);
    assert_eq!(outcome.err(), Some(ConnectError::NameOfAnotherUser(uid)));
}
