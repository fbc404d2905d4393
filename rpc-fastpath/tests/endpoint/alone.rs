//! Who calls a server while nobody else does is told so.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rpc_fastpath::endpoint::Service;
use rpc_fastpath::protocol::{Body, Client, Limits, Timers};
use rpc_fastpath::wire::{Packet, Terms};
use unet::{Address, Channel};

use crate::scene::*;

/// So long who called counts.
const LATELY: Duration = Duration::from_millis(100);

/// A session, by hand.
struct Caller {
    channel: Channel,
    terms: Terms,
}

impl Caller {
    fn open(way: Way, address: &Address) -> Self {
        let mut channel = Channel::connect(address, of_client(way).connect).expect("a channel");
        // Short enough to stand within a message.
        let limits = Limits { fragment: 20, ..Limits::default() };
        let mut machine: Client<(), ()> = Client::new(0, 7, SERVICE, 0, limits, Timers::default());
        let open = machine.poll_transmit(0).expect("an opening");
        let Body::Control(offer, len) = open.body else { panic!("with an offer") };
        channel.send(&[&open.header[..], &offer[..len]].concat()).expect("room");
        let opened = channel.recv().expect("terms").inline().to_vec();
        assert!(machine.receive(0, &opened, opened.len() - 16, ()).is_some());
        let terms = Terms::decode(&opened[16..]).expect("terms");
        Self { channel, terms }
    }

    /// The kind and the flags of what the server says to it.
    fn say(&mut self, packet: Packet, payload: usize) -> (u8, u8) {
        self.channel.send(&[&packet.encode()[..], &vec![0; payload]].concat()).expect("room");
        let said = self.channel.recv_timeout(Duration::from_secs(10)).expect("a channel");
        let said = said.expect("an answer");
        (said.inline()[0], said.inline()[1])
    }

    /// Sends the first fragment of arguments, again and again. Whether the server says that nobody else calls.
    fn is_alone(&mut self) -> bool {
        let Terms { cookie, fragment, .. } = self.terms;
        // The first call of the first place in the window.
        let id = cookie.wrapping_add(u64::from(Limits::default().window));
        let (credit, one_way, ask) = (0, false, true);
        let begin = Packet::Request { id, method: NULL, time: 0, last: 1, credit, one_way, ask };
        let (kind, flags) = self.say(begin, fragment as usize);
        assert_eq!(kind, 0x84, "what the server has of it");
        flags & 0x80 != 0
    }

    fn ping(&mut self) {
        let said = self.say(Packet::Ping { id: self.terms.cookie }, 0);
        assert_eq!(said, (0x86, 0));
    }
}

#[test]
fn a_server_tells_who_calls_alone() {
    with_server(UDP, of_server(), |scene| {
        let [mut one, mut other] = [1, 2].map(|_| Caller::open(UDP, &scene.address));
        assert!(one.is_alone() && one.is_alone(), "the other has called nothing yet");
        other.ping();
        assert!(one.is_alone(), "a sign of life is no call");
        let begin = Instant::now();
        assert!(!other.is_alone() && !one.is_alone());
        let still = one.is_alone();
        assert!(!still || begin.elapsed() >= LATELY, "the other called just now");
        thread::sleep(LATELY);
        assert!(one.is_alone(), "nobody else called for a tenth of a second");
    });
}

#[test]
fn who_calls_from_the_same_host_crowds_nobody_and_is_told_nothing() {
    let addresses = [UDP, SHM].map(Way::address);
    let mut service = Service::listen(&addresses, of_server()).expect("listening");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let stops = Stops(&stop);
        scope.spawn(|| {
            let mut methods = Methods::new();
            while !stop.load(Ordering::Relaxed) {
                service.poll_timeout(&mut methods, Duration::from_millis(5));
            }
        });
        let mut far = Caller::open(UDP, &addresses[0]);
        let mut near = Caller::open(SHM, &addresses[1]);
        for _ in 0..3 {
            assert!(far.is_alone() && !near.is_alone());
        }
        drop(stops);
    });
}
