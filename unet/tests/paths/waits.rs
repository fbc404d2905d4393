//! A domain in the middle that waits for buffers of its own.

use std::hint::spin_loop;
use std::time::{Duration, Instant};

use unet::{
    Address, Arrival, Channel, Class, Delivery, Endpoint, Event, Message, Path, Pool, PoolOptions,
    Quota, Wait,
};

use crate::domains::{connecting, listening, pool};
use crate::support::{PATIENCE, Random, accept, address, event};

/// Takes messages and gives each back after a moment, never the same, until the channel ends.
fn give_back_at_odd_times(mut endpoint: Endpoint) {
    accept(&mut endpoint);
    let mut random = Random::new(1);
    let mut delivery = Delivery::default();
    loop {
        match endpoint.recv_into(&mut delivery) {
            Arrival::Message(_) => {
                (0..random.below(400)).for_each(|_| spin_loop());
                drop(delivery.take_message());
            }
            Arrival::Other => return,
        }
    }
}

/// An originator connects and sends one message, which is kept and passed on again and again.
fn originator(address: &Address, own: &Pool, middle: &mut Endpoint) -> (Path, Message, Channel) {
    let mut pool = pool();
    std::thread::scope(|scope| {
        let path = Path::of(&pool).expect("it is a region");
        let options = connecting(path, Wait::Park, Quota::default());
        let connecting = scope.spawn(|| Channel::connect(address, options));
        let Event::Incoming(mut incoming) = event(middle) else { panic!("one connects") };
        let path = incoming.path().expect("it is sealed").then(own).expect("it is a region");
        middle.accept(incoming, b"").expect("it is honest");
        let mut channel = connecting.join().expect("no panic").expect("it is accepted");
        let message = pool.message(0, 100, |bytes| bytes.fill(1)).expect("one is free");
        channel.send_message(0, message, b"").expect("there is room");
        let Event::Message(_, mut delivery) = event(middle) else { panic!("it was sent") };
        (path, delivery.take_message(), channel)
    })
}

#[test]
fn who_passes_on_and_waits_for_a_buffer_of_its_own_is_not_left_asleep_with_one_free() {
    let (here, next) = (address("waits-middle"), address("waits-last"));
    let mut classes = <[Class; 6]>::default();
    classes[0] = Class { buffer_bytes: 2048, buffers: 1 };
    let mut own = Pool::new(PoolOptions { classes, ..PoolOptions::default() }).expect("memory");
    let mut middle = listening(&here, Wait::Park);
    let (path, passed_on, _originator) = originator(&here, &own, &mut middle);
    let last = listening(&next, Wait::Spin);
    std::thread::scope(|scope| {
        scope.spawn(|| give_back_at_odd_times(last));
        let options = connecting(path, Wait::Park, Quota::default());
        let mut down = Channel::connect(&next, options).expect("it listens");
        for round in 0..20_000 {
            // The only one: it is free as soon as the last domain has given the message back.
            let begun = Instant::now();
            let fbuf = down.alloc_from_timeout(&mut own, 8, Duration::from_secs(5));
            let Ok(Some(fbuf)) = fbuf else { panic!("round {round}: {fbuf:?}") };
            // Who slept to the deadline finds it at the last attempt.
            assert!(begun.elapsed() < Duration::from_secs(4), "asleep in round {round}");
            let mut message = Message::from(fbuf.freeze());
            message.append(passed_on.clone());
            down.send_message(0, message, b"").expect("there is room");
        }
        assert!(down.alloc_from_timeout(&mut own, 8, PATIENCE).is_ok_and(|fbuf| fbuf.is_some()));
    });
}
