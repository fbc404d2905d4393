//! What the tests are made of: running agents, clients and peers.

pub use std::net::UdpSocket;
pub use std::sync::atomic::{AtomicU32, Ordering};
pub use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
pub use std::time::Duration;

pub use unet::{
    Address, Channel, ChannelId, ConnectOptions, Endpoint, EndpointOptions, Event, ListenOptions,
    NetworkOptions,
};
pub use unetd::{Agent, Policy};

pub use crate::over::{HOST, Over};
use crate::support;

/// As long as nothing hangs, nothing takes so long.
pub const LONG: Duration = Duration::from_secs(20);

/// A running agent, in a thread of this process.
pub struct Agency {
    pub name: String,
    pub over: Over,
    orders: Sender<Order>,
    thread: Option<JoinHandle<()>>,
}

pub enum Order {
    Reload(Policy),
    Stop,
}

/// A name that no other test and no other run has.
pub fn fresh_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("agent-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("there is one");
    socket.local_addr().expect("it is bound").port()
}

/// Everything near, to everybody.
pub const OPEN: &str = r#"
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
    pub fn start(rules: &str) -> Self {
        Self::start_with(rules, drivers::linked())
    }

    pub fn start_with(rules: &str, drivers: unet::device::Drivers) -> Self {
        let (name, over) = (fresh_name(), Over::new());
        let policy = policy(&name, &over.rules(rules));
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
        Self { name, over, orders, thread: Some(thread) }
    }

    pub fn reload(&self, rules: &str) {
        self.orders
            .send(Order::Reload(policy(&self.name, &self.over.rules(rules))))
            .expect("the agent runs");
    }

    /// An address by way of this agent.
    pub fn address(&self, rest: &str) -> Address {
        self.over.address(rest, &self.name)
    }

    /// A free port of this agent's host, as peers without an agent see it.
    pub fn own(&self) -> Address {
        format!("udp:{}:{}", self.over.host(), free_port()).parse().expect("it is valid")
    }

    /// What it answers to a question.
    pub fn ask<T: serde::de::DeserializeOwned>(&self, question: &str) -> T {
        let bytes = unetd::ctl::ask(&self.name, question, LONG).expect("it answers");
        serde_json::from_slice(&bytes).expect("it is an answer")
    }

    /// How often something was refused or dropped, of all users.
    pub fn count(&self, reason: &str) -> u64 {
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

pub fn policy(name: &str, rules: &str) -> Policy {
    Policy::parse(&format!("names = [{name:?}]\n{rules}")).expect("the policy is valid")
}

/// A free port of peers without an agent.
pub fn plain() -> Address {
    format!("udp:{HOST}:{}", free_port()).parse().expect("it is valid")
}

/// Options of a client's end, small, and without any driver but where it needs one itself.
pub fn client() -> ConnectOptions {
    support::connect_options(unet::Wait::Adaptive)
}

pub fn direct() -> ConnectOptions {
    let network = NetworkOptions { drivers: drivers::linked(), ..NetworkOptions::default() };
    ConnectOptions { network, ..client() }
}

pub fn listen_options() -> ListenOptions {
    let network = NetworkOptions { drivers: drivers::linked(), ..NetworkOptions::default() };
    ListenOptions { network, ..support::listen_options() }
}

/// An endpoint that listens, by an agent or not.
pub fn listening(address: &Address) -> Endpoint {
    let mut endpoint = Endpoint::new(EndpointOptions::default()).expect("an endpoint");
    endpoint.listen(address, listen_options()).expect("the port is free");
    endpoint
}

/// Connects while `endpoint` accepts.
pub fn join(
    endpoint: &mut Endpoint,
    to: &Address,
    options: ConnectOptions,
) -> (ChannelId, Channel) {
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
pub fn message(endpoint: &mut Endpoint) -> (ChannelId, Vec<u8>) {
    match endpoint.recv_timeout(LONG) {
        Some(Event::Message(id, message)) => (id, message.to_vec().expect("it is not revoked")),
        other => panic!("a message was to come, not {other:?}"),
    }
}

/// Sends back whatever comes until `stop` says so; how many messages that were.
pub fn echo(endpoint: &mut Endpoint, mut stop: impl FnMut() -> bool) -> u64 {
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
