//! Channels over ports of DPDK, by address: within a process, and between two of them.
#![cfg(dpdk)]

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use driver_dpdk::Dpdk;
use unet::device::{Driver, Drivers, OpenError, Opening};
use unet::{
    Address, Channel, ConnectError, ConnectOptions, Endpoint, EndpointOptions, Event, ListenError,
    ListenOptions, NetworkOptions,
};

const SOCKET: &str = "DPDK_SOCKET";

fn network() -> NetworkOptions {
    NetworkOptions { drivers: Drivers::default().with(Dpdk), ..NetworkOptions::default() }
}

fn server(socket: &str) -> Endpoint {
    let address =
        format!("dpdk:net_memif0,role=server,socket={socket}@10.9.0.1:9000?ip=10.9.0.1/24");
    let address: Address = address.parse().expect("valid");
    let mut endpoint = Endpoint::new(EndpointOptions::default()).expect("an endpoint");
    let options = ListenOptions { network: network(), ..ListenOptions::default() };
    endpoint.listen(&address, options).expect("listening");
    endpoint
}

/// A port's name is its process's: each client has one of its own.
fn client(name: &str, socket: &str) -> Channel {
    let address = format!("dpdk:{name},role=client,socket={socket}@10.9.0.1:9000?ip=10.9.0.2/24");
    let timeout = Duration::from_secs(2);
    let options = ConnectOptions { network: network(), timeout, ..ConnectOptions::default() };
    let address = address.parse().expect("valid");
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match Channel::connect(&address, options.clone()) {
            Ok(channel) => return channel,
            // A client's port does not start before there is a server's, and stays alone where that was not ready.
            Err(ConnectError::Open(OpenError::Kernel { .. }) | ConnectError::TimedOut)
                if Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => panic!("no channel: {error}"),
        }
    }
}

/// Answers so many messages with themselves. The endpoint stays: what is in shared memory when a port closes is lost.
fn echo(mut endpoint: Endpoint, messages: usize) -> Endpoint {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut echoed = 0;
    while echoed < messages {
        assert!(Instant::now() < deadline, "{echoed} of {messages} messages came");
        match endpoint.recv_timeout(Duration::from_millis(20)) {
            Some(Event::Incoming(incoming)) => {
                _ = endpoint.accept(incoming, b"").expect("accepted")
            }
            Some(Event::Message(from, message)) => {
                let bytes = message.to_vec().expect("it is not revoked");
                let channel = endpoint.channel_mut(from).expect("it is open");
                channel.send(&bytes).expect("it is open");
                echoed += 1;
            }
            _ => {}
        }
    }
    endpoint
}

fn converse(channel: &mut Channel, messages: usize) {
    for number in 0..messages {
        let sent = vec![number as u8; [8, 40, 1000, 1400][number % 4]];
        channel.send(&sent).expect("it is open");
        let answer = channel.recv_timeout(Duration::from_secs(10)).expect("it is open");
        let answer = answer.expect("memory between two ports loses nothing");
        assert_eq!(answer.to_vec().expect("it is not revoked"), sent, "{number}");
    }
}

#[test]
fn a_channel_within_a_process_finds_its_neighbour() {
    let socket = format!("addresses-{}", std::process::id());
    let endpoint = server(&socket);
    let serving = std::thread::spawn(|| echo(endpoint, 1000));
    converse(&mut client("net_memif1", &socket), 1000);
    serving.join().expect("no panic");
}

#[test]
#[ignore = "a part of the next one, which starts it"]
fn echo_in_a_process_of_its_own() {
    let socket = std::env::var(SOCKET).expect("who started it says where");
    let _endpoint = echo(server(&socket), 1000);
    // Until it is told to go.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

#[test]
fn two_processes_have_a_port_each() {
    let socket = format!("processes-{}", std::process::id());
    let program = std::env::current_exe().expect("this program");
    let mut server = Command::new(program)
        .args(["--exact", "echo_in_a_process_of_its_own", "--ignored", "--nocapture"])
        .env(SOCKET, &socket)
        .stdin(Stdio::piped())
        .spawn()
        .expect("it starts");
    converse(&mut client("net_memif2", &socket), 1000);
    drop(server.stdin.take());
    assert!(server.wait().expect("it ends").success());
}

#[test]
fn an_address_that_says_too_little_or_nonsense_is_refused() {
    let open = |device: &str, options: &str| {
        let pair =
            |option: &str| option.split_once('=').map(|(key, value)| (key.into(), value.into()));
        let options: Vec<_> = options.split('&').filter_map(pair).collect();
        let (local, port, remote, buffers) = (None, 9000, None, 256);
        let opening = Opening { device, local, port, remote, options: &options, buffers };
        Dpdk.open(&opening).map(|_| ()).expect_err("it makes no sense")
    };
    for options in [
        "",
        "ip=10.0.0.1",
        "ip=::1/64",
        "ip=10.0.0.1/33",
        "ip=10.0.0.1/24&gateway=10.0.1.1",
        "ip=10.0.0.1/24&ring=many",
        "ip=10.0.0.1/24&memory=64&huge=64",
    ] {
        assert!(matches!(open("net_null5", options), OpenError::BadValue(_)), "{options}");
    }
    assert!(matches!(open("net_null5", "color=red"), OpenError::UnknownOption(_)));
    assert_eq!(open("net_none5", "ip=10.0.0.1/24"), OpenError::NoDevice);
}

/// An endpoint with ports and channels over one port of DPDK, and one at the other end of it.
#[test]
fn listeners_and_channels_of_a_process_share_a_port() {
    let socket = format!("shared-{}", std::process::id());
    let near = |host: &str, port: u16, how: &str| -> Address {
        let text = format!(
            "dpdk:net_memif8,role=server,socket={socket}@{host}:{port}?ip=10.9.0.1/24{how}"
        );
        text.parse().expect("valid")
    };
    let far = |host: &str, port: u16| -> Address {
        let text = format!(
            "dpdk:net_memif9,role=client,socket={socket}@{host}:{port}?ip=10.9.0.2/24&shared=yes"
        );
        text.parse().expect("valid")
    };
    let (ours, theirs) = ("10.9.0.1", "10.9.0.2");
    let shared = "&shared=yes";
    let mut endpoint = Endpoint::new(EndpointOptions::default()).expect("an endpoint");
    let mut listen = |address: &Address| {
        let options = ListenOptions { network: network(), ..ListenOptions::default() };
        endpoint.listen(address, options)
    };
    for port in [9000, 9001] {
        listen(&near(ours, port, shared)).expect("it is free");
    }
    let open = |outcome: Result<(), ListenError>| match outcome {
        Err(ListenError::Open(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(open(listen(&near(ours, 9001, shared))), OpenError::AddressInUse);
    let other = open(listen(&near(ours, 9002, "&shared=yes&gateway=10.9.0.2")));
    assert!(matches!(other, OpenError::Busy(why) if why.contains("other options")), "{other}");
    assert!(matches!(open(listen(&near(ours, 9002, ""))), OpenError::Busy(_)));
    let mut there = Endpoint::new(EndpointOptions::default()).expect("an endpoint");
    let options = ListenOptions { network: network(), ..ListenOptions::default() };
    there.listen(&far(theirs, 9000), options).expect("it is free");
    // From either end, and from an end to itself: six channels, one of them to each.
    let timeout = Duration::from_secs(10);
    let options = ConnectOptions { network: network(), timeout, ..ConnectOptions::default() };
    for to in [far(ours, 9000), far(ours, 9001), far(theirs, 9000)] {
        there.begin_connect(&to, options.clone()).expect("it is begun");
    }
    for to in [near(ours, 9000, shared), near(ours, 9001, shared), near(theirs, 9000, shared)] {
        endpoint.begin_connect(&to, options.clone()).expect("it is begun");
    }
    let (mut connected, mut heard) = (0, Vec::new());
    let deadline = Instant::now() + Duration::from_secs(20);
    while heard.len() < 6 {
        assert!(Instant::now() < deadline, "{connected} connected, {heard:?} heard");
        for (number, end) in [&mut endpoint, &mut there].into_iter().enumerate() {
            match end.recv_timeout(Duration::from_millis(1)) {
                Some(Event::Incoming(incoming)) => {
                    _ = end.accept(incoming, b"").expect("accepted");
                }
                Some(Event::Connected(_, outcome)) => {
                    let channel = outcome.expect("connected");
                    let channel = end.channel_mut(channel).expect("it is open");
                    channel.send(&[number as u8; 1400]).expect("there is room");
                    connected += 1;
                }
                Some(Event::Message(_, message)) => {
                    heard.push((number, message.to_vec().expect("it is not revoked")));
                }
                other => assert!(other.is_none(), "{other:?}"),
            }
        }
    }
    heard.sort();
    let at = |number: usize, from: u8| (number, vec![from; 1400]);
    assert_eq!(heard, [at(0, 0), at(0, 0), at(0, 1), at(0, 1), at(1, 0), at(1, 1)]);
    drop(there);
    // Who is left has the port still; and when nobody has, it can be opened again.
    drop(endpoint);
    let mut again = Endpoint::new(EndpointOptions::default()).expect("an endpoint");
    let options = ListenOptions { network: network(), ..ListenOptions::default() };
    let address = near(ours, 9000, "");
    again.listen(&address, options).expect("the port is free again");
}

#[test]
fn a_card_is_named_by_its_pci_address() {
    let text = "dpdk:0000:3b:00.0@10.9.0.1:9000?ip=10.9.0.2/24";
    let address: Address = text.parse().expect("valid");
    assert_eq!(address.to_string(), text);
    let Address::Network(network) = &address else { panic!("{address:?}") };
    assert_eq!(network.device, "0000:3b:00.0");
}
