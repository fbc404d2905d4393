//! The halves do not know what their channels lead through: here it is shared memory.

use super::*;
use crate::measure::halves::{Arrival, Echo, EchoServer, Receiver, Sender};
use crate::measure::load::{Mailbox, Stamp};

fn task(bench: Bench, payload: usize) -> Task {
    Task {
        system: "unet".to_owned(),
        bench,
        payload,
        wait: Wait::Park,
        same_core: false,
        idle_bindings: 0,
        domains: 2,
        position: 0,
        rendezvous: String::new(),
        port: 0,
        agent_cpu: 0,
        calls: crate::task::Calls::default(),
    }
}

/// Runs a server's part beside a client's, over one channel.
fn joined<T: Send + 'static>(
    name: &str,
    server: impl FnOnce(Endpoint, ChannelId) -> T + Send + 'static,
    client: impl FnOnce(Channel),
) -> T {
    let name = format!("shm:bench-halves-{name}-{}", std::process::id());
    let address: Address = name.parse().unwrap();
    let options = EndpointOptions { wait: unet::Wait::Park, ..EndpointOptions::default() };
    let mut endpoint = Endpoint::new(options).unwrap();
    endpoint.listen(&address, ListenOptions::default()).unwrap();
    let serving = std::thread::spawn(move || {
        let id = accept(&mut endpoint).unwrap();
        server(endpoint, id)
    });
    let mut options = ConnectOptions::default();
    options.channel.wait = unet::Wait::Park;
    client(Channel::connect(&address, options).unwrap());
    serving.join().unwrap()
}

#[test]
fn messages_of_every_size_come_back() {
    for payload in [8, 64, 1024] {
        let task = task(Bench::Rtt, payload);
        let theirs = task.clone();
        let answered = joined(
            &format!("echo-{payload}"),
            move |endpoint, _| {
                let mut mirror = Mirror::new(endpoint, &theirs);
                let mut answered = 0;
                while mirror.answer().unwrap() {
                    answered += 1;
                }
                answered
            },
            |channel| {
                let mut client = Client::new(channel, &task);
                (0..100).for_each(|_| client.round_trip().unwrap());
                Echo::finish(&mut client).unwrap();
            },
        );
        assert_eq!(answered, 100);
    }
}

#[test]
fn an_end_that_comes_twice_ends_one_phase_only() {
    let task = task(Bench::Rate, 64);
    let theirs = task.clone();
    let phases = joined(
        "phases",
        move |endpoint, _| {
            let mut mirror = Mirror::new(endpoint, &theirs);
            let mut phase = || {
                Receiver::begin(&mut mirror).unwrap();
                let mut count = 0;
                while let Arrival::Messages(more) = mirror.receive().unwrap() {
                    count += more;
                }
                (count, mirror.lost())
            };
            [phase(), phase()]
        },
        |channel| {
            let mut client = Client::new(channel, &task);
            (0..50).for_each(|_| client.send().unwrap());
            Sender::finish(&mut client).unwrap();
            Sender::finish(&mut client).unwrap();
            (0..20).for_each(|_| client.send().unwrap());
            Sender::finish(&mut client).unwrap();
        },
    );
    assert_eq!(phases, [(50, 0), (20, 0)]);
}

#[test]
fn a_load_goes_there_and_back_with_its_stamps() {
    for payload in [16, 64, 1024] {
        let task = task(Bench::Sweep, payload);
        let theirs = task.clone();
        joined(
            &format!("load-{payload}"),
            move |endpoint, id| {
                let mut mailbox = AtEndpoint::new(endpoint, id, &theirs);
                let mut returned = 0;
                while returned < 100 {
                    match mailbox.try_receive().unwrap() {
                        Some(stamp) => {
                            while !mailbox.try_send(stamp).unwrap() {}
                            returned += 1;
                        }
                        None => _ = mailbox.wait().unwrap(),
                    }
                }
            },
            |channel| {
                let mut mailbox = AtChannel::new(channel, &task);
                for sequence in 0..100 {
                    let stamp = Stamp { sequence, due_ns: 7 };
                    assert!(mailbox.try_send(stamp).unwrap());
                    let back = loop {
                        match mailbox.try_receive().unwrap() {
                            Some(back) => break back,
                            None => std::thread::yield_now(),
                        }
                    };
                    assert_eq!(back, stamp);
                }
            },
        );
    }
}
