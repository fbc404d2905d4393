//! The agent, with honest clients and others, over the kernel's UDP on the loopback interface and over the
//! simulator.

mod dying;
mod exchanging;
mod fairness;
mod hostility;
mod isolation;
mod programs;
mod refusing;
mod reloading;
#[path = "../../../unet/tests/support/mod.rs"]
mod support;

use std::net::UdpSocket;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use unet::{
    Address, Channel, ChannelId, ConnectOptions, Endpoint, EndpointOptions, Event, ListenOptions,
    NetworkOptions,
};
use unetd::{Agent, Policy};

/// As long as nothing hangs, nothing takes so long.
const LONG: Duration = Duration::from_secs(20);

/// A running agent, in a thread of this process.
struct Agency {
    name: String,
    orders: Sender<Order>,
    thread: Option<JoinHandle<()>>,
}

enum Order {
    Reload(Policy),
    Stop,
}

/// A name that no other test and no other run has.
fn fresh_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("agent-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("there is one");
    socket.local_addr().expect("it is bound").port()
}

/// Everything on the loopback interface, to everybody.
const OPEN: &str = r#"
    [[device]]
    open = "udp:"
    buffers = 256
    [[allow]]
    everyone = true
    devices = ["udp:"]
    listen = ["1024-65535"]
    connect = ["127.0.0.0/8:1024-65535"]
    channels = 64
    bytes = "256MiB"
"#;

impl Agency {
    fn start(rules: &str) -> Self {
        Self::start_with(rules, drivers::linked())
    }

    fn start_with(rules: &str, drivers: unet::device::Drivers) -> Self {
        let name = fresh_name();
        let policy = policy(&name, rules);
        let (orders, taken) = channel();
        let mut agent = Agent::start(policy, drivers).expect("the name is free");
        let thread = std::thread::spawn(move || {
            loop {
                match taken.try_recv() {
                    Ok(Order::Reload(policy)) => _ = agent.reload(policy),
                    Ok(Order::Stop) => return,
                    Err(_) => {}
                }
                agent.turn(Duration::from_millis(20));
            }
        });
        Self { name, orders, thread: Some(thread) }
    }

    fn reload(&self, rules: &str) {
        self.orders.send(Order::Reload(policy(&self.name, rules))).expect("the agent runs");
    }

    /// An address by way of this agent.
    fn address(&self, rest: &str) -> Address {
        format!("{rest}?via={}", self.name).parse().expect("it is valid")
    }

    /// What it answers to a question.
    fn ask<T: serde::de::DeserializeOwned>(&self, question: &str) -> T {
        let bytes = unetd::ctl::ask(&self.name, question, LONG).expect("it answers");
        serde_json::from_slice(&bytes).expect("it is an answer")
    }

    /// How often something was refused or dropped, of all users.
    fn count(&self, reason: &str) -> u64 {
        let drops: unetd::report::Drops = self.ask("drops");
        drops.rows.iter().filter(|row| row.reason == reason).map(|row| row.count).sum()
    }
}

impl Drop for Agency {
    fn drop(&mut self) {
        let _ = self.orders.send(Order::Stop);
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(matches!(ended, Some(Ok(()))), "the agent panicked");
        }
    }
}

fn policy(name: &str, rules: &str) -> Policy {
    Policy::parse(&format!("names = [{name:?}]\n{rules}")).expect("the policy is valid")
}

/// Options of a client's end, small, and without any driver but where it needs one itself.
fn client() -> ConnectOptions {
    support::connect_options(unet::Wait::Adaptive)
}

fn direct() -> ConnectOptions {
    let network = NetworkOptions { drivers: drivers::linked(), ..NetworkOptions::default() };
    ConnectOptions { network, ..client() }
}

fn listen_options() -> ListenOptions {
    let network = NetworkOptions { drivers: drivers::linked(), ..NetworkOptions::default() };
    ListenOptions { network, ..support::listen_options() }
}

/// An endpoint that listens, by an agent or not.
fn listening(address: &Address) -> Endpoint {
    let mut endpoint = Endpoint::new(EndpointOptions::default()).expect("an endpoint");
    endpoint.listen(address, listen_options()).expect("the port is free");
    endpoint
}

/// Connects while `endpoint` accepts.
fn join(endpoint: &mut Endpoint, to: &Address, options: ConnectOptions) -> (ChannelId, Channel) {
    std::thread::scope(|scope| {
        let client = scope.spawn(move || Channel::connect(to, options));
        let mut id = None;
        while !client.is_finished() {
            if let Some(Event::Incoming(incoming)) = endpoint.recv_timeout(Duration::from_millis(2))
            {
                id = Some(endpoint.accept(incoming, b"welcome").expect("accepted"));
            }
        }
        let client = client.join().expect("no panic").expect("connected");
        (id.expect("it was accepted"), client)
    })
}

/// The next message; it must come.
fn message(endpoint: &mut Endpoint) -> (ChannelId, Vec<u8>) {
    match endpoint.recv_timeout(LONG) {
        Some(Event::Message(id, message)) => (id, message.to_vec().expect("it is not revoked")),
        other => panic!("a message was to come, not {other:?}"),
    }
}

/// Sends back whatever comes until `stop` says so; how many messages that were.
fn echo(endpoint: &mut Endpoint, mut stop: impl FnMut() -> bool) -> u64 {
    let mut count = 0;
    while !stop() {
        match endpoint.recv_timeout(Duration::from_millis(5)) {
            Some(Event::Incoming(incoming)) => _ = endpoint.accept(incoming, b""),
            Some(Event::Message(from, message)) => {
                let bytes = message.to_vec().expect("it is not revoked");
                if let Some(channel) = endpoint.channel_mut(from) {
                    let _ = channel.try_send(&bytes);
                }
                count += 1;
            }
            _ => {}
        }
    }
    count
}
