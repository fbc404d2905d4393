//! Clients that do whatever they like: the agent goes on, others notice nothing, and what was done is counted.

use std::time::Instant;

use fbufs::Descriptor;
use support::hostile::{self, Hostile};
use unet::mediated::Request;
use unet::{ConnectError, NetworkAddress, Refusal};
use unetd::report::Drops;

use super::*;

fn network(address: &Address) -> NetworkAddress {
    match address {
        Address::Network(address) => address.without_via(),
        other => panic!("{other}"),
    }
}

/// An agent, a server that accepts everybody and echoes, and a hostile client of both.
struct Scene {
    agent: Agency,
    server: Endpoint,
    plain: Address,
}

impl Scene {
    fn new() -> Self {
        let agent = Agency::start(OPEN);
        let plain = plain();
        let server = listening(&plain);
        Self { agent, server, plain }
    }

    fn hostile(&mut self) -> Hostile {
        let shm: Address = format!("shm:{}", self.agent.name).parse().expect("valid");
        let to = network(&self.agent.address(&self.plain.to_string()));
        let private = Request::Connect { to, private: Vec::new() }.encode().expect("it fits");
        let asking = hostile::ask_saying(&shm, support::small(), &[], &private).expect("it asks");
        let Some(Event::Incoming(incoming)) = self.server.recv_timeout(LONG) else {
            panic!("it was to be introduced")
        };
        self.server.accept(incoming, b"").expect("accepted");
        asking.welcomed().expect("it is welcome")
    }

    /// An honest client still gets what it wants.
    fn is_served(&mut self) {
        let address = self.agent.address(&self.plain.to_string());
        let (id, mut client) = join(&mut self.server, &address, client());
        client.send(b"honest").expect("there is room");
        let deadline = Instant::now() + LONG;
        loop {
            assert!(Instant::now() < deadline, "the honest client is not heard");
            if let Some(Event::Message(from, message)) = self.server.recv_timeout(LONG)
                && from == id
            {
                assert_eq!(message.inline(), b"honest");
                return;
            }
        }
    }

    /// Everything that comes to the server, until the hostile client's channel is closed there.
    fn until_closed(&mut self) -> Vec<Vec<u8>> {
        let mut received = Vec::new();
        loop {
            match self.server.recv_timeout(LONG) {
                Some(Event::Message(_, message)) => {
                    received.push(message.to_vec().expect("it is not revoked"));
                }
                Some(Event::Closed(..)) => return received,
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn forged_descriptors_poison_the_queue_and_nothing_of_them_reaches_the_network() {
    let honest = Descriptor { lease: 0, index: 0, generation: 0, epoch: 0, offset: 0, len: 8 };
    let forged = [
        Descriptor { index: u16::MAX, ..honest },
        Descriptor { offset: 4090, len: 100, ..honest },
        Descriptor { len: u32::MAX, ..honest },
        Descriptor { offset: u32::MAX, ..honest },
        Descriptor { generation: 77, ..honest },
    ];
    let mut scene = Scene::new();
    for (number, descriptor) in forged.into_iter().enumerate() {
        let mut hostile = scene.hostile();
        hostile.send_descriptor(descriptor);
        assert_eq!(scene.until_closed(), Vec::<Vec<u8>>::new(), "{descriptor:?}");
        let drops: Drops = scene.agent.ask("drops");
        assert_eq!(drops.poisoned.len(), number + 1, "{descriptor:?}");
        assert_eq!(drops.poisoned[number].pid, std::process::id());
    }
    assert_eq!(scene.agent.count("poisoned"), 5);
    scene.is_served();
}

#[test]
fn forged_headers_are_payload_like_any_other() {
    let mut scene = Scene::new();
    let mut hostile = scene.hostile();
    // The words of a header of ours, as a client would write it to pass for somebody else.
    let forged = [0x0000_0000_0000_1155u64, 0x0123_4567_89ab_cdef, 1, 0];
    hostile.send(0, 32, &forged);
    let Some(Event::Message(_, message)) = scene.server.recv_timeout(LONG) else { panic!("none") };
    let bytes: Vec<u8> = forged.iter().flat_map(|word| word.to_le_bytes()).collect();
    assert_eq!(message.to_vec().expect("it is not revoked"), bytes);
    let counts = |server: &Endpoint| {
        let link = &server.links()[0];
        [unet::Counter::WireForeign, unet::Counter::WireUnknown, unet::Counter::WireMalformed]
            .map(|counter| link.get(counter))
    };
    assert_eq!(counts(&scene.server), [0, 0, 0]);
    scene.is_served();
}

#[test]
fn a_buffer_that_changes_while_it_is_read_arrives_whole_by_its_checksum() {
    let mut scene = Scene::new();
    let mut hostile = scene.hostile();
    let at = hostile.geometry().class_offset(0);
    for round in 0..200u64 {
        let descriptor = hostile.descriptor((round % 8) as u8, 0, 1024);
        hostile.send_descriptor(descriptor);
        // While the agent copies it.
        for turn in 0..64u64 {
            for word in 0..128 {
                hostile.own.store(at + word * 8, turn << 32 | round);
            }
        }
        match scene.server.recv_timeout(Duration::from_millis(50)) {
            // Some mixture, but of this client's bytes, and of that length.
            Some(Event::Message(_, message)) => assert_eq!(message.len(), 1024),
            Some(Event::Closed(..)) => break,
            other => assert!(other.is_none(), "{other:?}"),
        }
    }
    let link = &scene.server.links()[0];
    assert_eq!(link.get(unet::Counter::WireChecksum), 0, "the checksum is made after the copy");
    scene.is_served();
}

#[test]
fn requests_that_make_no_sense_are_refused_and_cost_nothing_else() {
    let mut scene = Scene::new();
    let shm: Address = format!("shm:{}", scene.agent.name).parse().expect("valid");
    let mut random = support::Random::new(5);
    let mut refused = 0;
    for len in 0..=128usize {
        let bytes: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
        let policy = unet::Policy::AnyUser;
        let options = ConnectOptions { private: bytes, policy, ..client() };
        match Channel::connect(&shm, options) {
            Err(ConnectError::Refused(Refusal::Other | Refusal::Version | Refusal::Busy)) => {
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(refused, 129);
    assert!(scene.agent.count("refused-malformed") > 100);
    scene.is_served();
}

#[test]
fn a_client_that_never_takes_what_comes_loses_it_and_others_do_not() {
    let mut scene = Scene::new();
    let mut hostile = scene.hostile();
    hostile.send(0, 4, &[7]);
    let Some(Event::Message(to, _)) = scene.server.recv_timeout(LONG) else { panic!("none") };
    // It takes none of these, nor gives any buffer back.
    for _ in 0..1000 {
        let channel = scene.server.channel_mut(to).expect("it is open");
        let _ = channel.try_send(&[1; 1000]);
        std::thread::sleep(Duration::from_micros(50));
    }
    let dropped = scene.agent.count("queue-full") + scene.agent.count("no-buffer");
    assert!(dropped > 100, "{dropped}");
    scene.is_served();
}

#[test]
fn a_listener_that_never_answers_costs_bounded_time_and_a_bounded_number() {
    let mut scene = Scene::new();
    let plain = scene.agent.own();
    let silent = scene.agent.address(&plain.to_string());
    // It never looks.
    let _endpoint = listening(&silent);
    let mut asking = Endpoint::new(EndpointOptions::default()).expect("an endpoint");
    for _ in 0..100 {
        asking.begin_connect(&plain, direct()).expect("it is begun");
    }
    scene.is_served();
    for _ in 0..100 {
        match asking.recv_timeout(LONG) {
            Some(Event::Connected(_, Err(_))) => {}
            other => panic!("{other:?}"),
        }
    }
    support::eventually("nothing is pending", || {
        scene.agent.ask::<unetd::report::Status>("status").pending == 0
    });
    scene.is_served();
}

#[test]
fn clients_that_connect_and_say_nothing_do_not_keep_others_out() {
    let mut scene = Scene::new();
    let silent: Vec<_> =
        (0..64).filter_map(|_| segment::control::Socket::connect(&scene.agent.name).ok()).collect();
    assert!(silent.len() > 32);
    // Of one user, a few may be there at once, and each for a second only.
    let address = scene.agent.address(&scene.plain.to_string());
    support::eventually("they have been let go", || {
        let name = format!("shm:{}", scene.agent.name).parse().expect("valid");
        let private = Request::Inspect.encode().expect("it fits");
        let policy = unet::Policy::AnyUser;
        Channel::connect(&name, ConnectOptions { private, policy, ..client() }).is_ok()
    });
    drop(address);
    scene.is_served();
}
