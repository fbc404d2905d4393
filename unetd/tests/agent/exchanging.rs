//! The same program text as without an agent: who listens or connects by one need not know.

use unet::{Fbuf, Offer};

use super::*;

fn is_near(address: std::net::IpAddr) -> bool {
    address.is_loopback() || IS_DPDK && address.to_string().starts_with("10.66.")
}

pub fn exchange(listens: &Address, connects: &Address, connect: ConnectOptions) {
    let mut server = listening(listens);
    let options = ConnectOptions { private: b"who I am".to_vec(), ..connect };
    let (id, mut client) = join(&mut server, connects, options);
    assert_eq!(client.private(), b"welcome");
    let far = server.channel_mut(id).expect("it is open");
    assert_eq!(far.private(), b"who I am");
    assert!(far.peer_address().is_some_and(|address| is_near(address.ip())));
    for len in (0..100).chain([500, 1400]) {
        let sent: Vec<u8> = (0..len).map(|at| (at * 7 + len) as u8).collect();
        client.send(&sent).expect("there is room");
        assert_eq!(message(&mut server), (id, sent.clone()));
        server.channel_mut(id).expect("open").send(&sent).expect("there is room");
        let received = client.recv_timeout(LONG).expect("it is open").expect("it comes back");
        assert_eq!(received.to_vec().expect("it is not revoked"), sent);
        assert_eq!(received.inline().len(), if len <= unet::MAX_INLINE { len } else { 0 });
    }
    // A tag and bytes beside a buffer.
    let mut fbuf = client.alloc(1000).expect("there are buffers");
    fbuf.fill(9);
    let fbuf: Fbuf = fbuf.freeze();
    assert!(matches!(client.try_send_fbuf(77, fbuf, b"beside"), Ok(Offer::Taken)));
    let Some(Event::Message(_, received)) = server.recv_timeout(LONG) else { panic!("none came") };
    assert_eq!((received.tag(), received.inline()), (77, &b"beside"[..]));
    assert_eq!(received.message().to_vec().expect("it is not revoked"), vec![9; 1000]);
    // What is longer than the network carries is known before it is sent.
    let limit = client.limit();
    assert!(limit < 65_536, "{limit}");
    assert!(client.try_send(&vec![0; limit + 1]).is_err());
    drop(client);
    assert!(matches!(server.recv_timeout(LONG), Some(Event::Closed(closed, _)) if closed == id));
}

#[test]
fn both_sides_by_agents() {
    let (one, two) = (Agency::start(OPEN), Agency::start(OPEN));
    let at = one.own().to_string();
    exchange(&one.address(&at), &two.address(&at), client());
}

#[test]
fn both_sides_by_the_same_agent() {
    let agent = Agency::start(OPEN);
    let address = agent.address(&agent.own().to_string());
    exchange(&address, &address, client());
}

#[test]
fn one_side_by_an_agent_and_the_other_not() {
    let agent = Agency::start(OPEN);
    for _ in 0..2 {
        let (far, near) = (plain(), agent.own());
        exchange(&far, &agent.address(&far.to_string()), client());
        exchange(&agent.address(&near.to_string()), &near, direct());
    }
}

#[test]
fn over_the_simulator_too() {
    let network = driver_sim::Network::new(7, driver_sim::Faults::default());
    let drivers =
        unet::device::Drivers::default().with(driver_sim::Sim::default().with("net", network));
    let rules = r#"
        [[device]]
        open = "sim:net"
        [[allow]]
        everyone = true
        devices = ["sim:net"]
        listen = [9000]
        connect = ["10.0.0.0/8:9000"]
    "#;
    let agent = Agency::start_with(rules, drivers);
    let address = agent.address("sim:net@10.0.0.1:9000");
    let mut server = listening(&address);
    let (id, mut client) = join(&mut server, &address, client());
    client.send(b"over it").expect("there is room");
    assert_eq!(message(&mut server), (id, b"over it".to_vec()));
}

#[test]
fn a_port_is_free_when_its_listener_is_gone() {
    let agent = Agency::start(OPEN);
    let address = agent.address(&agent.own().to_string());
    for _ in 0..3 {
        let mut server = listening(&address);
        let (_, mut client) = join(&mut server, &address, client());
        drop(server);
        assert!(client.recv_timeout(LONG).is_err(), "the listener is gone");
        let listens = |agent: &Agency| agent.ask::<unetd::report::Status>("status").ports;
        support::eventually("the port is given back", || listens(&agent) == 0);
    }
    let mut server = listening(&address);
    assert!(server.stop_listening(&address));
    support::eventually("nobody listens", || {
        let options = ConnectOptions { timeout: Duration::from_millis(50), ..client() };
        Channel::connect(&address, options).is_err()
    });
}

#[test]
fn a_connection_by_an_agent_can_be_begun_without_waiting() {
    let agent = Agency::start(OPEN);
    let address = agent.address(&agent.own().to_string());
    let mut endpoint = listening(&address);
    endpoint.begin_connect(&address, client()).expect("it is begun");
    let (mut near, mut far) = (None, None);
    while near.is_none() || far.is_none() {
        match endpoint.recv_timeout(LONG) {
            Some(Event::Incoming(incoming)) => {
                far = Some(endpoint.accept(incoming, b"").expect("accepted"));
            }
            Some(Event::Connected(_, outcome)) => near = Some(outcome.expect("connected")),
            other => panic!("{other:?}"),
        }
    }
    let near = near.expect("it is connected");
    endpoint.channel_mut(near).expect("open").send(b"round").expect("there is room");
    assert_eq!(message(&mut endpoint), (far.expect("it is there"), b"round".to_vec()));
}
