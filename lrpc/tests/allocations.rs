//! Nothing is allocated on the way of a message, a buffer or a call, once they have been warmed up.

use allocation_counter::measure;
use lrpc::{BindOptions, Binding, ExportOptions, Server};
use unet::{
    Address, Channel, ChannelId, ConnectOptions, Delivery, Endpoint, EndpointOptions, Event,
    ListenOptions, Offer, Wait,
};

lrpc::interface! {
    /// What is called here.
    Calls = "allocations", version 1 {
        /// Nothing.
        Null(()) -> ();
        /// Four words.
        Words([u64; 4]) -> [u64; 4];
        /// More than a slot holds.
        Page([u64; 128]) -> [u64; 128];
        /// Takes a buffer and answers with one.
        Bulk(u64) -> u64;
    }
}

const WARM_UP: usize = 500;
const OPERATIONS: usize = 10_000;

fn address(test: &str) -> Address {
    format!("shm:allocations-{test}-{}", std::process::id()).parse().expect("the name is valid")
}

/// Runs an operation until it is warm, then counts.
fn allocates_nothing(what: &str, mut operation: impl FnMut()) {
    (0..WARM_UP).for_each(|_| operation());
    let counted = measure(|| (0..OPERATIONS).for_each(|_| operation()));
    assert_eq!(counted.count_total, 0, "{what}: {counted:?}");
}

/// A connected pair, one side of it in an endpoint.
fn join(test: &str, wait: Wait) -> (Endpoint, ChannelId, Channel) {
    let address = address(test);
    let options = EndpointOptions { wait, ..EndpointOptions::default() };
    let mut endpoint = Endpoint::new(options).expect("an endpoint");
    endpoint.listen(&address, ListenOptions::default()).expect("the name is free");
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut options = ConnectOptions::default();
            options.channel.wait = wait;
            Channel::connect(&address, options).expect("it listens")
        });
        let id = match endpoint.recv() {
            Event::Incoming(incoming) => endpoint.accept(incoming, b"").expect("accepted"),
            other => panic!("a client was to come: {other:?}"),
        };
        (endpoint, id, client.join().expect("no panic"))
    })
}

fn export(test: &str, wait: Wait) -> (Server<Calls>, Binding<Calls>) {
    let address = address(test);
    let options = ExportOptions { wait, ..ExportOptions::default() };
    let server = Server::<Calls>::export(&address, options)
        .expect("the name is free")
        .on::<Null>(|_, ()| Ok(()))
        .on::<Words>(|_, words| Ok(words))
        .on::<Page>(|_, words| Ok(words))
        .on::<Bulk>(|call, number| {
            let mut bytes = [0; 4096];
            assert!(call.take_bulk().expect("it came").copy_to(0, &mut bytes).is_ok());
            let mut answer = call.alloc(4096).map_err(|_| 1u16)?;
            answer.copy_from_slice(&bytes);
            call.reply_with(answer.freeze());
            Ok(number)
        });
    let binding = std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let options = BindOptions { wait, ..BindOptions::default() };
            Binding::<Calls>::bind(&address, options).expect("it serves")
        });
        server.serve_until(|| client.is_finished());
        client.join().expect("no panic")
    });
    (server, binding)
}

#[test]
fn the_counter_counts() {
    let counted = measure(|| drop(std::hint::black_box(vec![0u8; 100])));
    assert_eq!(counted.count_total, 1);
}

#[test]
fn messages_allocate_nothing() {
    let (mut endpoint, id, mut channel) = join("messages", Wait::Spin);
    let mut message = Delivery::default();
    allocates_nothing("a round trip, both sides in one thread", || {
        channel.send(&[1; 56]).expect("there is room");
        assert!(matches!(endpoint.recv(), Event::Message(_, got) if got.inline() == [1; 56]));
        endpoint.channel_mut(id).expect("it is open").send(b"back").expect("there is room");
        channel.recv_into(&mut message).expect("it is open");
        assert_eq!(message.inline(), b"back");
    });
}

#[test]
fn buffers_that_are_handed_over_allocate_nothing() {
    let (mut endpoint, id, mut channel) = join("buffers", Wait::Spin);
    let mut bytes = [0; 4096];
    allocates_nothing("a buffer there and another back", || {
        let mut fbuf = channel.alloc(4096).expect("one is free");
        fbuf.fill(7);
        let sent = channel.try_send_fbuf(1, fbuf.freeze(), b"beside").expect("it is open");
        assert!(matches!(sent, Offer::Taken));
        let Event::Message(_, message) = endpoint.recv() else { panic!("a message was to come") };
        assert!(message.fbuf().expect("it has a buffer").copy_to(0, &mut bytes).is_ok());
        drop(message);
        let server = endpoint.channel_mut(id).expect("it is open");
        // More than a slot holds, so this is copied into a buffer.
        server.send(&bytes).expect("there is room");
        let answer = channel.recv().expect("it is open");
        assert!(answer.fbuf().expect("it has a buffer").copy_to(0, &mut bytes).is_ok());
    });
}

#[test]
fn calls_allocate_nothing() {
    let (server, binding) = export("calls", Wait::Spin);
    allocates_nothing("null calls", || {
        binding.call_serving::<Null, _>(&(), &server).executed().expect("it is served");
    });
    allocates_nothing("calls with 32 bytes in and out", || {
        let words = binding.call_serving::<Words, _>(&[1, 2, 3, 4], &server);
        assert_eq!(words.executed(), Ok([1, 2, 3, 4]));
    });
    allocates_nothing("calls through the A-stacks", || {
        let words = binding.call_serving::<Page, _>(&[9; 128], &server);
        assert_eq!(words.executed(), Ok([9; 128]));
    });
}

/// Both sides in threads of their own, so that they also yield, park and wake each other.
#[test]
fn waiting_and_waking_allocate_nothing_on_either_side() {
    for wait in [Wait::Adaptive, Wait::Park] {
        let (server, binding) = export(&format!("wait-{wait:?}"), wait);
        std::thread::scope(|scope| {
            let serving = scope.spawn(move || {
                allocates_nothing("serving", || {
                    // Each of the client's operations below is one call.
                    while !server.serve_timeout(std::time::Duration::from_secs(20)) {}
                });
                // The client's last call may still be on its way.
                server
            });
            let calling = scope.spawn(move || {
                let mut number = 0;
                allocates_nothing("calling", || {
                    number += 1;
                    let mut fbuf = binding.alloc(4096).expect("one is free");
                    fbuf[0] = number as u8;
                    let reply = binding.call_bulk::<Bulk>(&number, Some(fbuf.freeze()));
                    let reply = reply.executed().expect("it is served");
                    assert_eq!(reply.results, number);
                });
                binding
            });
            drop((serving.join().expect("no panic"), calling.join().expect("no panic")));
        });
    }
}
