//! Channels over a queue that an agent lends: by nothing but an address.

use std::os::unix::process::CommandExt;

use unet::{
    Channel, ConnectOptions, Endpoint, EndpointOptions, Event, ListenOptions, NetworkOptions,
};

use super::*;

fn network() -> NetworkOptions {
    NetworkOptions { drivers: drivers::linked(), buffers: 256, ..NetworkOptions::default() }
}

#[test]
#[ignore = "a part that other tests run in a process of its own"]
fn role_server() {
    let Some(arguments) = role::arguments() else { return };
    assert!(rustix::thread::capabilities(None).expect("its own").effective.is_empty());
    let mut endpoint = Endpoint::new(EndpointOptions::default()).expect("descriptors");
    let options = ListenOptions { network: network(), ..ListenOptions::default() };
    endpoint.listen(&arguments[0].parse().expect("valid"), options).expect("allowed and free");
    role::say("ready");
    loop {
        match endpoint.recv_timeout(PATIENCE).expect("something happens") {
            Event::Incoming(incoming) => _ = endpoint.accept(incoming, b""),
            Event::Message(from, message) => {
                let bytes = message.to_vec().expect("nothing is revoked");
                let channel = endpoint.channel_mut(from).expect("it is open");
                _ = channel.try_send(&bytes);
            }
            Event::Closed(..) => return,
            _ => {}
        }
    }
}

#[test]
fn nobody_serves_a_channel_over_a_queue_of_its_own() {
    let (_ours, theirs) = joined(1);
    let agency = Agency::start();
    let at = format!("xdp:va@192.0.2.1:7000?agent={NAME}");
    let mut command = role::command("channels::role_server", &[&at]);
    let mut server = role::start(command.uid(USERS[0].0).gid(USERS[0].0));
    server.expect("ready");
    let lent: Vec<_> = agency.with(|it| it.lent().map(|it| (it.0.uid, it.2, it.3)).collect());
    assert_eq!(lent, [(USERS[0].0, 0, 7000)]);
    inside(&theirs, || {
        let options = ConnectOptions { network: network(), ..ConnectOptions::default() };
        let address = "xdp:vb@192.0.2.1:7000".parse().expect("valid");
        let mut channel = Channel::connect(&address, options).expect("it is served");
        for number in 0..1000u32 {
            channel.send(&number.to_be_bytes()).expect("there is room");
            let back = channel.recv_timeout(PATIENCE).expect("open").expect("it comes back");
            assert_eq!(back.to_vec().expect("nothing is revoked"), number.to_be_bytes());
        }
    });
    server.wait_success();
    agency.until_free();
    agency.with(|service| {
        let counts = service.counts();
        assert_eq!((counts.granted, counts.released, counts.spoke), (1, 1, 0));
    });
}

#[test]
fn an_address_says_what_is_wrong_with_it() {
    let (_ours, _theirs) = joined(1);
    let _agency = Agency::start();
    let listen = |address: &str| {
        let mut endpoint = Endpoint::new(EndpointOptions::default()).expect("descriptors");
        let options = ListenOptions { network: network(), ..ListenOptions::default() };
        let refused = endpoint.listen(&address.parse().expect("valid"), options);
        refused.expect_err(address).to_string()
    };
    for (address, why) in [
        ("xdp:va@:7000?agent=nobody-there", "no agent listens"),
        ("xdp:va@:7000?agent=a/b", "letters, digits"),
        ("xdp:va@:7000?agent=direct&huge-pages=yes", "leave out huge-pages"),
        ("xdp:va@:7000?agent=direct&busy-poll=20", "leave out huge-pages and busy-poll"),
        ("xdp:va@:7000?agent=direct&colour=red", "does not know"),
        ("xdp:va/all@:7000?agent=direct", "name one queue"),
        ("xdp:va/1@:7000?agent=direct", "a queue that the interface has"),
        ("xdp:va@:7000?agent=direct&mode=zero-copy", "another mode"),
        ("xdp:va@:7000?agent=direct&frames=65536", "as many queues"),
        ("xdp:nowhere@:7000?agent=direct", "no such device"),
    ] {
        let said = listen(address);
        assert!(said.contains(why), "{address}: {said}");
    }
}
