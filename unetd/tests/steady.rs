//! In steady state the agent passes messages on, either way, and allocates nothing.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use allocation_counter::measure;
use unet::{
    Address, Channel, ConnectOptions, Delivery, Endpoint, EndpointOptions, Event, ListenOptions,
    NetworkOptions,
};
use unetd::{Agent, Policy};

const RULES: &str = "[[device]]\nopen = \"udp:?path=sockets\"\n[[allow]]\neveryone = true\n\
                     devices = [\"udp:\"]\nconnect = [\"127.0.0.1:*\"]\n";

#[test]
fn messages_in_slots_and_in_buffers_are_passed_on_without_an_allocation() {
    let name = format!("steady-{}", std::process::id());
    let policy = Policy::parse(&format!("names = [{name:?}]\n{RULES}")).expect("it is valid");
    let mut agent = Agent::start(policy, drivers::linked()).expect("the name is free");
    let port = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let plain = format!("udp:{}", port.expect("there is a port"));
    let by_agent: Address = format!("{plain}?via={name}").parse().expect("valid");
    let plain: Address = plain.parse().expect("valid");
    let network = NetworkOptions { drivers: drivers::linked(), ..NetworkOptions::default() };
    let mut server = Endpoint::new(EndpointOptions::default()).expect("an endpoint");
    let options = ListenOptions { network, ..ListenOptions::default() };
    server.listen(&plain, options).expect("the port is free");
    let [stop, warm, leaves] = &[false; 3].map(AtomicBool::new);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                match server.recv_timeout(Duration::from_millis(5)) {
                    Some(Event::Incoming(incoming)) => _ = server.accept(incoming, b""),
                    Some(Event::Message(from, message)) => {
                        let bytes = message.to_vec().expect("it is not revoked");
                        if let Some(channel) = server.channel_mut(from) {
                            let _ = channel.try_send(&bytes);
                        }
                    }
                    _ => {}
                }
            }
        });
        let client = scope.spawn(move || {
            let mut channel =
                Channel::connect(&by_agent, ConnectOptions::default()).expect("connected");
            let mut message = Delivery::default();
            for number in 0..3000usize {
                channel.send(&[7; 1000][..[40, 1000][number % 2]]).expect("it is open");
                let answer = channel.recv_timeout(Duration::from_millis(500)).expect("it is open");
                message = answer.unwrap_or(message);
                warm.store(number > 300, Ordering::Relaxed);
            }
            leaves.store(true, Ordering::Release);
        });
        let (mut turns, mut allocated) = (0, 0);
        while !client.is_finished() {
            if !warm.load(Ordering::Relaxed) {
                agent.turn(Duration::from_millis(1));
                continue;
            }
            let counted = measure(|| {
                for _ in 0..100 {
                    agent.turn(Duration::from_millis(1));
                }
            });
            // The channel's end is no steady state.
            if !leaves.load(Ordering::Acquire) {
                turns += 100;
                allocated += counted.count_total;
            }
        }
        stop.store(true, Ordering::Relaxed);
        client.join().expect("no panic");
        assert!(turns > 1000, "{turns}");
        assert_eq!(allocated, 0, "in {turns} turns");
    });
}
