//! A domain on a path lies about what it holds and what it passes on: it is caught once, and nobody else
//! loses a message or a buffer by it.

use std::time::Duration;

use fbufs::Descriptor;
use unet::{
    Channel, ChannelId, CloseReason, Counter, Delivery, Endpoint, Event, Fault, Path, Pool, Quota,
    ReadError, Wait,
};

use crate::domains::{check, connecting, fill, listening, pool};
use crate::support::hostile::{Hostile, ask, ask_along};
use crate::support::{PATIENCE, accept, address, event, eventually, small};

/// The buffers of the middle domain's segment, which come before those of the path in descriptors.
const SEGMENT: u16 = 10;

/// An honest originator and an honest domain in the middle, which passes everything on to two others:
/// one is honest, one hostile.
struct Scene {
    pool: Pool,
    originator: Channel,
    middle: Endpoint,
    up: ChannelId,
    /// To the honest last domain, and to the hostile one.
    down: [ChannelId; 2],
    last: Channel,
    hostile: Hostile,
    sent: u64,
}

fn scene() -> Scene {
    let address = address("misuse");
    let mut middle = listening(&address, Wait::Park);
    let pool = pool();
    let (up, path, originator) = std::thread::scope(|scope| {
        let path = Path::of(&pool).expect("it is a region");
        let options = connecting(path, Wait::Adaptive, Quota::default());
        let connecting = scope.spawn(|| Channel::connect(&address, options));
        let Event::Incoming(mut incoming) = event(&mut middle) else { panic!("one connects") };
        let path = incoming.path().expect("it is sealed").clone();
        let up = middle.accept(incoming, b"").expect("it is honest");
        (up, path, connecting.join().expect("no panic").expect("it is accepted"))
    });
    let last = std::thread::scope(|scope| {
        let options = connecting(Path::default(), Wait::Adaptive, Quota::default());
        let connecting = scope.spawn(|| Channel::connect(&address, options));
        let Event::Incoming(incoming) = event(&mut middle) else { panic!("one connects") };
        let id = middle.accept_along(incoming, b"", &path).expect("it is honest");
        (id, connecting.join().expect("no panic").expect("it is accepted"))
    });
    let asking = ask(&address).expect("it listens");
    let Event::Incoming(incoming) = event(&mut middle) else { panic!("one connects") };
    let liar = middle.accept_along(incoming, b"", &path).expect("it looks honest");
    let hostile = asking.welcomed().expect("it was accepted");
    let down = [last.0, liar];
    Scene { pool, originator, middle, up, down, last: last.1, hostile, sent: 0 }
}

impl Scene {
    /// Sends a message, which the middle domain passes on to both.
    fn send(&mut self) {
        if self.pool.free() < 10 {
            // It sleeps, is woken by what was given back, and passes it back.
            let more = self.middle.recv_timeout(Duration::from_millis(5));
            assert!(more.is_none(), "{more:?}");
        }
        let fbuf = self.originator.alloc_from_timeout(&mut self.pool, 1000, PATIENCE);
        let mut fbuf = fbuf.expect("they come back").expect("in time");
        fbuf.copy_from_slice(&fill(self.sent, 1000));
        self.sent += 1;
        self.originator.send_message(0, fbuf.freeze().into(), b"").expect("it is open");
        let Event::Message(from, mut delivery) = event(&mut self.middle) else {
            panic!("a message was to come");
        };
        assert_eq!(from, self.up);
        let message = delivery.take_message();
        for id in self.down {
            if let Some(channel) = self.middle.channel_mut(id) {
                channel.send_message(0, message.clone(), b"").expect("it is open");
            }
        }
    }

    /// The honest last domain takes a message, which is whole.
    fn take(&mut self, number: u64) {
        let delivery = self.last.recv_timeout(PATIENCE).expect("it is open");
        let mut delivery = delivery.expect("it was passed on");
        assert_eq!(check(&mut delivery.take_message(), 0), Ok(number));
    }

    /// The hostile channel is closed for that reason, once; everybody else goes on, and every buffer
    /// comes back.
    fn is_caught(&mut self, fault: Fault) {
        let liar = self.down[1];
        // What it gives back is looked at when there is reason to.
        self.middle.channel_mut(liar).expect("its end was not received yet").lent();
        match event(&mut self.middle) {
            Event::Closed(id, reason) => {
                assert_eq!((id, reason), (liar, CloseReason::Poisoned(fault)));
            }
            other => panic!("it was to be caught: {other:?}"),
        }
        assert_eq!(self.middle.counters().faults(fault), 1, "counted once");
        let begun = self.sent;
        for _ in 0..5 {
            self.send();
        }
        for number in begun..self.sent {
            self.take(number);
        }
        self.all_free();
    }

    fn all_free(&mut self) {
        let Self { pool, originator, middle, .. } = self;
        eventually("every buffer is the originator's again", || {
            assert!(middle.try_recv().is_none(), "nothing more happens");
            originator.lent() == (0, 0) && pool.free() == pool.total()
        });
        assert_eq!(originator.closed(), None);
    }
}

/// Both last domains are sent three messages; the honest one reads them, the hostile one lies.
fn lie(fault: Fault, tell: impl FnOnce(&mut Scene)) {
    let mut scene = scene();
    for number in 0..3 {
        scene.send();
        scene.take(number);
    }
    tell(&mut scene);
    scene.is_caught(fault);
}

#[test]
fn a_last_domain_that_gives_back_what_it_has_not_is_caught_and_the_originator_loses_nothing() {
    // Leases are taken from 0 on, and each hand-off has the next generation.
    lie(Fault::FreeNotLent, |scene| {
        // A double free.
        scene.hostile.give_back(1, 1);
        scene.hostile.give_back(1, 1);
    });
    lie(Fault::FreeNotLent, |scene| scene.hostile.give_back(77, 0));
    lie(Fault::BufferIndex, |scene| scene.hostile.give_back(256, 0));
    for generation in [0, 2, u32::MAX] {
        lie(Fault::FreeGeneration, |scene| scene.hostile.give_back(1, generation));
    }
    lie(Fault::FreeSequence, |scene| scene.hostile.give_back_word(7 << 48));
}

#[test]
fn a_last_domain_that_sends_what_it_cannot_have_is_caught_and_the_originator_loses_nothing() {
    let good = Descriptor { lease: 0, index: 0, generation: 0, epoch: 0, offset: 0, len: 1 };
    // It has offered no region, so its own segment's buffers are all that it can name.
    let lies = [
        (Fault::BufferIndex, Descriptor { index: SEGMENT, ..good }),
        (Fault::BufferIndex, Descriptor { index: u16::MAX, ..good }),
        (Fault::BufferRange, Descriptor { len: 4097, ..good }),
        (Fault::BufferRange, Descriptor { offset: u32::MAX, len: u32::MAX, ..good }),
        (Fault::BufferGeneration, Descriptor { generation: 1, ..good }),
    ];
    for (fault, descriptor) in lies {
        lie(fault, |scene| scene.hostile.send_descriptor(descriptor));
    }
    // The same lease again while it is held, in the middle of a message that does not end.
    lie(Fault::BufferHeld, |scene| {
        let first = scene.hostile.descriptor(0, 1, 8);
        let second = scene.hostile.descriptor(0, 2, 8);
        scene.hostile.send_descriptors(0x80, &[first, second]);
    });
}

#[test]
fn who_says_that_buffers_were_left_behind_costs_a_revocation_and_nothing_else() {
    let mut scene = scene();
    for round in 0..1000 {
        scene.send();
        scene.take(round);
        // The one lease that is used again and again.
        scene.hostile.give_back(0x8000, round as u32);
        scene.hostile.set_credit(round + 1);
        let channel = scene.middle.channel_mut(scene.down[1]).expect("it is open");
        assert_eq!((channel.lent(), channel.closed()), ((0, 0), None));
    }
    scene.all_free();
}

#[test]
fn a_domain_in_the_middle_that_names_buffers_outside_the_path_is_caught_by_the_last() {
    let originator = pool();
    let regions = Path::of(&originator).expect("it is a region");
    let total = originator.total() as u16;
    let place = |hostile: &mut Hostile, index, epoch| {
        let descriptor = Descriptor { epoch, ..hostile.descriptor(0, index, 100) };
        hostile.send_descriptor(descriptor);
    };
    let meet = || {
        let address = address("hostile-middle");
        let mut last = listening(&address, Wait::Park);
        let fds: Vec<_> = regions.descriptors().collect();
        let asking = ask_along(&address, small(), &fds).expect("it listens");
        let id = accept(&mut last);
        (last, id, asking.welcomed().expect("it was accepted"))
    };
    // The last buffer of the path can be named, the next one not.
    let (mut last, id, mut hostile) = meet();
    place(&mut hostile, SEGMENT + total - 1, 0);
    let Event::Message(_, delivery) = event(&mut last) else { panic!("it was good") };
    assert_eq!(delivery.to_vec().map(|bytes| bytes.len()), Ok(100));
    drop(delivery);
    place(&mut hostile, SEGMENT + total, 0);
    match event(&mut last) {
        Event::Closed(closed, reason) => {
            assert_eq!((closed, reason), (id, CloseReason::Poisoned(Fault::BufferIndex)));
        }
        other => panic!("it was to be caught: {other:?}"),
    }
    assert_eq!(last.counters().faults(Fault::BufferIndex), 1);
    // An epoch that the originator has not had, or has no more, reads as revoked.
    for epoch in [1, 2, 0x8000, u16::MAX] {
        let (mut last, _, mut hostile) = meet();
        place(&mut hostile, SEGMENT, epoch);
        let Event::Message(_, delivery) = event(&mut last) else { panic!("it is a message") };
        let mut delivery: Delivery = delivery;
        assert_eq!(delivery.to_vec().err(), Some(ReadError::Revoked), "epoch {epoch}");
        assert_eq!(check(&mut delivery.take_message(), 0), Err("Revoked".to_owned()));
    }
    assert_eq!(last.counters().get(Counter::LostAtClose), 0);
}
