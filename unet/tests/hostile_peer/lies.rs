//! One lie at a time: each is named by the check that catches it.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use fbufs::Descriptor;
use segment::control::{Kind, Sent};
use segment::geometry::{EPOCHS, SEND_QUEUE};
use unet::{
    AllocError, Channel, ChannelId, Class, CloseReason, Counter, Endpoint, Event, Fault, Offer,
    ReadError, SendError, Snapshot, Wait,
};

use crate::hostile_in;
use crate::support::hostile::{Hostile, ask_with};
use crate::support::{self, PATIENCE, Random, accept, address, event, join, listening};

/// In a slot's count of descriptors: further ones follow in the next slot.
const MORE: u8 = 0x80;

/// An endpoint with a hostile peer on one channel and an honest one on another.
struct Scene {
    endpoint: Endpoint,
    id: ChannelId,
    hostile: Hostile,
    /// The honest side's counters on the hostile channel, which outlive the channel.
    page: OwnedFd,
    honest_id: ChannelId,
    honest: Channel,
}

fn scene() -> Scene {
    let address = address("hostile");
    let mut endpoint = listening(&address, Wait::Park);
    let (honest_id, honest) = join(&mut endpoint, &address, Wait::Adaptive);
    let (id, hostile) = hostile_in(&mut endpoint, &address);
    let channel = endpoint.channel_mut(id).expect("just accepted");
    let page = channel.segment().try_clone_to_owned().expect("a descriptor is left");
    Scene { endpoint, id, hostile, page, honest_id, honest }
}

impl Scene {
    fn channel(&mut self) -> &mut Channel {
        self.endpoint.channel_mut(self.id).expect("its end was not received yet")
    }

    /// Receives until the hostile channel is closed: the reason, and what came on it before.
    fn until_closed(&mut self) -> (CloseReason, Vec<unet::Delivery>) {
        let mut messages = Vec::new();
        loop {
            match event(&mut self.endpoint) {
                Event::Message(id, message) if id == self.id => messages.push(message),
                Event::Closed(id, reason) if id == self.id => return (reason, messages),
                other => panic!("nothing else was to happen: {other:?}"),
            }
        }
    }

    /// The lie was told: it must be named, counted once, and concern nobody else.
    fn is_caught(&mut self, fault: Fault) {
        let name = fault.name();
        let (reason, _) = self.until_closed();
        assert_eq!(reason, CloseReason::Poisoned(fault));
        assert!(self.endpoint.channel_mut(self.id).is_none(), "{name}: the channel is gone");
        let counted = Snapshot::read(self.page.as_fd()).expect("the page is still there");
        for other in Fault::ALL {
            let expected = u64::from(other == fault);
            assert_eq!(counted.faults(other), expected, "{} after {name}", other.name());
        }
        self.honest_channel_works(name);
        let more = self.endpoint.recv_timeout(Duration::from_millis(5));
        assert!(more.is_none(), "{name}: it is closed once, not again by {more:?}");
    }

    fn honest_channel_works(&mut self, what: &str) {
        self.honest.send(what.as_bytes()).expect("the honest channel is open");
        let Event::Message(id, message) = event(&mut self.endpoint) else {
            panic!("{what}: only the honest peer speaks now");
        };
        assert_eq!(id, self.honest_id, "{what}");
        let back = self.endpoint.channel_mut(id).expect("it just spoke");
        back.send(&message.to_vec().expect("nothing was revoked"))
            .expect("the honest channel is open");
        assert_eq!(self.honest.recv().expect("it answers").inline(), what.as_bytes());
    }
}

/// Tells a lie in a scene of its own, and sees it caught by that check.
fn lie(fault: Fault, tell: impl FnOnce(&mut Scene)) {
    let mut scene = scene();
    tell(&mut scene);
    scene.is_caught(fault);
}

#[test]
fn a_slot_out_of_sequence_poisons() {
    for sequence in [2, 3, 16, 17, 0, u32::MAX, 0x8000_0000] {
        lie(Fault::SlotSequence, |scene| scene.hostile.slot_at(0, sequence, 8, &[1]));
    }
    // The second slot skips one.
    lie(Fault::SlotSequence, |scene| {
        scene.hostile.send(0, 8, &[1]);
        scene.hostile.slot_at(1, 3, 8, &[1]);
    });
}

#[test]
fn a_slot_longer_than_a_slot_poisons() {
    for len in [57, 64, 128, 255] {
        lie(Fault::SlotLength, |scene| scene.hostile.send(0, len, &[1; 7]));
    }
}

#[test]
fn an_impossible_number_of_descriptors_poisons() {
    let few = [(1, 0), (1, 15), (2, 31), (3, 47), (MORE | 1, 15), (MORE | 3, 47)];
    let none_or_many = [(4, 56), (127, 56), (MORE, 0), (MORE, 56), (MORE | 4, 56), (255, 56)];
    for (descriptors, len) in few.into_iter().chain(none_or_many) {
        lie(Fault::DescriptorCount, |scene| scene.hostile.send(descriptors, len, &[0; 7]));
    }
}

/// Begins a message of several slots.
fn begin(scene: &mut Scene) {
    let parts: [Descriptor; 3] =
        std::array::from_fn(|at| scene.hostile.descriptor(at as u8, at as u16, 8));
    scene.hostile.send_descriptors(MORE, &parts);
    assert!(matches!(scene.channel().try_recv(), Ok(None)), "it has only begun");
}

#[test]
fn a_message_that_goes_on_with_nothing_or_too_much_poisons() {
    for (descriptors, len) in [(0, 0), (0, 8), (MORE, 8), (4, 56), (MORE | 4, 56), (1, 15)] {
        lie(Fault::DescriptorCount, |scene| {
            begin(scene);
            scene.hostile.send(descriptors, len, &[0; 7]);
        });
    }
}

#[test]
fn a_message_in_several_slots_arrives_as_one() {
    let mut scene = scene();
    begin(&mut scene);
    let last = scene.hostile.descriptor(9, 9, 100);
    scene.hostile.send_descriptors(0, &[last]);
    let Event::Message(_, message) = event(&mut scene.endpoint) else {
        panic!("a message was to come");
    };
    assert_eq!((message.message().parts().len(), message.len()), (4, 124));
    assert_eq!(scene.channel().held(), 4);
    drop(message);
    assert_eq!(scene.channel().held(), 0);
}

#[test]
fn a_message_that_never_ends_poisons() {
    // As many leases as there are, and one without end of empty parts.
    for len in [8, 0] {
        lie(Fault::DescriptorCount, |scene| {
            for slot in 0..86 {
                let parts: [Descriptor; 3] = std::array::from_fn(|at| {
                    let lease = if len == 0 { 0 } else { slot * 3 + at };
                    scene.hostile.descriptor(lease as u8, at as u16, len)
                });
                scene.hostile.send_descriptors(MORE, &parts);
                if slot < 85 {
                    assert!(matches!(scene.channel().try_recv(), Ok(None)), "slot {slot}");
                }
            }
        });
    }
}

#[test]
fn a_message_of_the_same_bytes_again_and_again_poisons() {
    let address = address("again");
    let mut endpoint = listening(&address, Wait::Park);
    let mut geometry = support::small();
    geometry.classes = Default::default();
    geometry.classes[0] = Class { buffer_bytes: 16 << 20, buffers: 60 };
    let asking = ask_with(&address, geometry).expect("the listener is there");
    let id = accept(&mut endpoint);
    let mut hostile = asking.welcomed().expect("accepted");
    // All of the pool is one run. What is read of a message is set aside by its length.
    for slot in 0..2 {
        let parts: [Descriptor; 3] =
            std::array::from_fn(|at| hostile.descriptor(slot * 3 + at as u8, 0, 960 << 20));
        hostile.send_descriptors(if slot == 1 { 0 } else { MORE }, &parts);
    }
    match event(&mut endpoint) {
        Event::Closed(closed, reason) => {
            assert_eq!((closed, reason), (id, CloseReason::Poisoned(Fault::BufferRange)));
        }
        other => panic!("it has almost 6 GiB: {other:?}"),
    }
}

#[test]
fn a_buffer_outside_the_pool_poisons() {
    for index in [10, 11, 255, 256, u16::MAX] {
        lie(Fault::BufferIndex, |scene| {
            let descriptor = scene.hostile.descriptor(0, index, 1);
            scene.hostile.send_descriptor(descriptor);
        });
    }
}

#[test]
fn a_range_outside_its_buffer_poisons() {
    let small = [(0, 4097), (1, 4096), (4096, 1), (4097, 0), (u32::MAX, 1), (1, u32::MAX)];
    for (offset, len) in small.into_iter().chain([(u32::MAX, u32::MAX)]) {
        lie(Fault::BufferRange, |scene| {
            let descriptor = scene.hostile.descriptor(0, 7, len);
            scene.hostile.send_descriptor(Descriptor { offset, ..descriptor });
        });
    }
    lie(Fault::BufferRange, |scene| {
        let descriptor = scene.hostile.descriptor(0, 9, 65_537);
        scene.hostile.send_descriptor(descriptor);
    });
}

#[test]
fn a_range_up_to_the_very_end_of_its_buffer_is_good() {
    let mut scene = scene();
    for (lease, index, offset, len) in [(0, 7, 0, 4096), (7, 6, 4096, 0), (255, 9, 65_535, 1)] {
        let descriptor = scene.hostile.descriptor(lease, index, len);
        scene.hostile.send_descriptor(Descriptor { offset, ..descriptor });
    }
    for len in [4096, 0, 1] {
        let Event::Message(_, message) = event(&mut scene.endpoint) else {
            panic!("a message was to come");
        };
        let bytes = message.fbuf().expect("it has one").to_vec();
        assert_eq!(bytes.expect("nothing was revoked").len(), len);
    }
}

#[test]
fn a_stale_or_future_generation_poisons() {
    for generation in [1, 7, 0x00ff_ffff] {
        lie(Fault::BufferGeneration, |scene| {
            let descriptor = scene.hostile.descriptor(0, 0, 1);
            scene.hostile.send_descriptor(Descriptor { generation, ..descriptor });
        });
    }
    // Replayed after the buffer went back, under its own lease or another.
    for lease in [0, 1] {
        lie(Fault::BufferGeneration, |scene| {
            let descriptor = scene.hostile.descriptor(0, 0, 1);
            scene.hostile.send_descriptor(descriptor);
            assert!(matches!(event(&mut scene.endpoint), Event::Message(..)));
            scene.hostile.send_descriptor(Descriptor { lease, ..descriptor });
        });
    }
    // One was left out.
    lie(Fault::BufferGeneration, |scene| {
        scene.hostile.descriptor(0, 0, 1);
        let next = scene.hostile.descriptor(0, 0, 1);
        scene.hostile.send_descriptor(next);
    });
}

#[test]
fn a_lease_handed_over_twice_poisons() {
    let mut scene = scene();
    let (first, second) = (scene.hostile.descriptor(3, 3, 8), scene.hostile.descriptor(3, 4, 8));
    scene.hostile.send_descriptor(first);
    let Event::Message(_, held) = event(&mut scene.endpoint) else {
        panic!("a message was to come");
    };
    scene.hostile.send_descriptor(second);
    scene.is_caught(Fault::BufferHeld);
    let bytes = held.fbuf().expect("it has one").to_vec();
    assert_eq!(bytes.expect("nothing was revoked"), [0; 8], "what is held stays readable");
    // In one slot.
    lie(Fault::BufferHeld, |scene| {
        let twice = [scene.hostile.descriptor(3, 3, 8), scene.hostile.descriptor(3, 4, 8)];
        scene.hostile.send_descriptors(0, &twice);
    });
}

#[test]
fn a_peer_that_takes_back_what_it_lent_harms_only_the_message() {
    for (before, after) in [(0, 1), (1, 0), (0xFFFF, u64::MAX - 1)] {
        let mut scene = scene();
        scene.hostile.own.store(EPOCHS + 3 * 8, before);
        let descriptor = scene.hostile.descriptor(0, 3, 8);
        scene.hostile.send_descriptor(Descriptor { epoch: before as u16, ..descriptor });
        let Event::Message(_, message) = event(&mut scene.endpoint) else {
            panic!("a message was to come");
        };
        assert_eq!(message.to_vec().expect("not yet").len(), 8);
        scene.hostile.own.store(EPOCHS + 3 * 8, after);
        assert_eq!(message.to_vec(), Err(ReadError::Revoked));
        assert!(message.message().is_revoked());
        drop(message);
        assert_eq!((scene.channel().held(), scene.channel().closed()), (0, None));
        scene.honest_channel_works("beside one who takes back");
    }
}

/// Makes the queue full, so that the next send looks at the credit.
fn fill(scene: &mut Scene) {
    let mut sent = 0;
    while scene.channel().try_send(b"x").expect("the channel is open") == Offer::Taken {
        sent += 1;
    }
    assert_eq!(sent, 16, "as many as the queue has slots");
}

#[test]
fn a_credit_for_what_was_never_sent_poisons() {
    for credit in [17, 1 << 20, 1 << 32, u64::MAX] {
        lie(Fault::Credit, |scene| {
            fill(scene);
            scene.hostile.set_credit(credit);
            let refused = scene.channel().try_send(b"x");
            assert_eq!(refused, Err(SendError::Closed(CloseReason::Poisoned(Fault::Credit))));
        });
    }
}

#[test]
fn a_credit_that_is_taken_back_poisons() {
    lie(Fault::Credit, |scene| {
        fill(scene);
        scene.hostile.set_credit(1);
        assert_eq!(scene.channel().try_send(b"x"), Ok(Offer::Taken));
        scene.hostile.set_credit(0);
        assert!(scene.channel().try_send(b"x").is_err());
    });
}

#[test]
fn a_credit_that_lies_during_a_hand_off_poisons_and_frees_the_buffer() {
    let mut scene = scene();
    fill(&mut scene);
    scene.hostile.set_credit(99);
    let channel = scene.channel();
    let fbuf = channel.alloc(100).expect("a buffer is free").freeze();
    let refused = channel.try_send_fbuf(0, fbuf, b"");
    assert_eq!(
        refused.expect_err("the credit lies"),
        SendError::Closed(CloseReason::Poisoned(Fault::Credit))
    );
    let (free, lent, total) = channel.buffers();
    assert_eq!((free, lent), (total, 0), "every buffer is back");
    scene.is_caught(Fault::Credit);
}

#[test]
fn a_free_queue_out_of_sequence_poisons() {
    for sequence in [2u64, 0xFFFF, 0x8000, 0] {
        lie(Fault::FreeSequence, |scene| {
            scene.hostile.give_back_word(sequence << 48);
            scene.channel().buffers();
        });
    }
}

#[test]
fn a_return_of_what_was_never_lent_poisons() {
    for lease in [0, 5, 255] {
        lie(Fault::FreeNotLent, |scene| {
            scene.hostile.give_back(lease, 0);
            scene.channel().buffers();
        });
    }
    for lease in [256, u16::MAX] {
        lie(Fault::BufferIndex, |scene| {
            scene.hostile.give_back(lease, 0);
            scene.channel().buffers();
        });
    }
}

#[test]
fn a_return_with_another_generation_poisons_and_frees_the_buffer() {
    for generation in [1, 77, u32::MAX] {
        lie(Fault::FreeGeneration, |scene| {
            assert_eq!(scene.channel().try_send(&[7; 1000]), Ok(Offer::Taken));
            scene.hostile.give_back(0, generation);
            let (free, lent, total) = scene.channel().buffers();
            assert_eq!((free, lent), (total, 0), "every buffer is back");
            assert_eq!(scene.channel().counters().get(Counter::BuffersReclaimed), 1);
        });
    }
    // Returned twice.
    lie(Fault::FreeNotLent, |scene| {
        assert_eq!(scene.channel().try_send(&[7; 1000]), Ok(Offer::Taken));
        scene.hostile.give_back(0, 0);
        scene.hostile.give_back(0, 0);
        scene.channel().buffers();
    });
    // Returned again when the lease stands for another hand-over.
    lie(Fault::FreeGeneration, |scene| {
        assert_eq!(scene.channel().try_send(&[7; 1000]), Ok(Offer::Taken));
        scene.hostile.give_back(0, 0);
        assert_eq!(scene.channel().buffers().1, 0);
        assert_eq!(scene.channel().try_send(&[7; 1000]), Ok(Offer::Taken));
        scene.hostile.give_back(0, 0);
        scene.channel().buffers();
    });
    // Returned twice after it was revoked.
    lie(Fault::FreeNotLent, |scene| {
        assert_eq!(scene.channel().try_send(&[7; 1000]), Ok(Offer::Taken));
        assert_eq!((scene.channel().revoke(), scene.channel().lent()), (1, (1, 0)));
        scene.hostile.give_back(0, 0);
        assert_eq!(scene.channel().lent(), (0, 0));
        scene.hostile.give_back(0, 0);
        scene.channel().buffers();
    });
}

#[test]
fn a_wrong_return_is_caught_by_who_waits_for_a_buffer() {
    lie(Fault::FreeNotLent, |scene| {
        let channel = scene.channel();
        // Everything is taken here, nothing is lent.
        let held: Vec<_> = (0..10).map(|_| channel.alloc(1).expect("one is free")).collect();
        scene.hostile.give_back(0, 0);
        let begin = Instant::now();
        let outcome = scene.channel().alloc_timeout(1, PATIENCE);
        assert_eq!(outcome.err(), Some(AllocError::Exhausted));
        let poisoned = CloseReason::Poisoned(Fault::FreeNotLent);
        assert_eq!(scene.channel().closed(), Some(poisoned));
        assert!(begin.elapsed() < PATIENCE / 2, "it was told at once");
        drop(held);
    });
    // The same, told while the other side sleeps.
    let mut scene = scene();
    let page = scene.page.try_clone().expect("a descriptor is left");
    let channel = scene.endpoint.channel_mut(scene.id).expect("it is open");
    let held: Vec<_> = (0..10).map(|_| channel.alloc(1).expect("one is free")).collect();
    let hostile = &mut scene.hostile;
    let begin = Instant::now();
    let outcome = std::thread::scope(|scope| {
        let lies = scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(50));
            hostile.give_back(0, 0);
            // It sleeps for the first time, or was awake and did not need the bell.
            hostile.say(Kind::Doorbell, 1)
        });
        let outcome = channel.alloc_timeout(1, PATIENCE);
        assert_eq!(lies.join().expect("no panic"), Sent::Yes);
        outcome
    });
    assert!(begin.elapsed() < PATIENCE / 2, "it was told at once");
    assert_eq!(outcome.err(), Some(AllocError::Exhausted));
    assert_eq!(channel.closed(), Some(CloseReason::Poisoned(Fault::FreeNotLent)));
    let counted = Snapshot::read(page.as_fd()).expect("the page is there");
    assert_eq!(counted.faults(Fault::FreeNotLent), 1);
    drop(held);
}

#[test]
fn a_control_message_that_is_none_poisons() {
    let long = [0x55; 200];
    let head = b"UNET";
    let lies: [&[u8]; 6] = [b"x", &long, head, b"GARBAGE!GARBAGE!GARBAGE!", &long[..24], &[0; 24]];
    for bytes in lies {
        lie(Fault::Control, |scene| assert!(scene.hostile.say_bytes(bytes, 0)));
    }
}

#[test]
fn a_control_message_out_of_place_poisons() {
    for kind in [Kind::Hello, Kind::Welcome, Kind::Refusal] {
        lie(Fault::Control, |scene| assert_eq!(scene.hostile.say(kind, 1), Sent::Yes));
    }
}

#[test]
fn descriptors_nobody_asked_for_are_closed_and_poison() {
    let open = || std::fs::read_dir("/proc/self/fd").expect("procfs is mounted").count();
    for count in [1, 2, 3, 16] {
        let mut scene = scene();
        let before = open();
        assert!(scene.hostile.say_bytes(b"catch", count));
        let (reason, _) = scene.until_closed();
        assert_eq!(reason, CloseReason::Poisoned(Fault::Control));
        // Other tests of this program open and close descriptors at the same time.
        support::eventually("the descriptors are closed", || open() <= before + 40);
    }
    let bell = bell_bytes(1);
    lie(Fault::Control, |scene| assert!(scene.hostile.say_bytes(&bell, 1)));
}

/// A doorbell as an honest peer would say it.
fn bell_bytes(epoch: u64) -> Vec<u8> {
    let mut bytes = b"UNET\x04\0\x01\0".to_vec();
    bytes.extend(epoch.to_le_bytes());
    bytes.extend([0; 8]);
    bytes
}

#[test]
fn a_doorbell_that_nobody_armed_poisons() {
    for epoch in [0, 1000, u64::MAX, u64::MAX - 1] {
        lie(Fault::Doorbell, |scene| {
            assert_eq!(scene.hostile.say(Kind::Doorbell, epoch), Sent::Yes);
        });
    }
}

#[test]
fn a_doorbell_rung_twice_for_one_sleep_poisons() {
    lie(Fault::Doorbell, |scene| {
        for _ in 0..2 {
            assert!(scene.hostile.say_bytes(&bell_bytes(1), 0));
        }
    });
}

#[test]
fn a_flood_of_control_messages_poisons_once() {
    lie(Fault::Doorbell, |scene| {
        let mut said = 0;
        while scene.hostile.say(Kind::Doorbell, 0) == Sent::Yes {
            said += 1;
        }
        assert!(said > 10, "the flood was {said} high");
    });
}

#[test]
fn a_layer_above_that_catches_a_lie_closes_the_channel() {
    lie(Fault::Protocol, |scene| {
        let reason = scene.channel().poison_protocol();
        assert_eq!(reason, CloseReason::Poisoned(Fault::Protocol));
    });
}

#[test]
fn nothing_is_received_from_a_poisoned_channel() {
    let mut scene = scene();
    for _ in 0..5 {
        scene.hostile.send(0, 8, &[1]);
    }
    assert!(scene.hostile.say_bytes(b"nonsense", 0));
    scene.channel().check_liveness();
    let (reason, messages) = scene.until_closed();
    assert_eq!(reason, CloseReason::Poisoned(Fault::Control));
    assert_eq!(messages.len(), 0, "what a liar said before it was caught is not believed");
}

#[test]
fn a_slot_that_is_mended_after_it_was_caught_stays_caught() {
    let mut scene = scene();
    scene.hostile.slot_at(0, 1, 200, &[1]);
    let poisoned = CloseReason::Poisoned(Fault::SlotLength);
    assert_eq!(scene.channel().try_recv().err(), Some(poisoned));
    scene.hostile.slot_at(0, 1, 8, &[1]);
    assert_eq!(scene.channel().try_recv().err(), Some(poisoned));
    scene.is_caught(Fault::SlotLength);
}

#[test]
fn a_peer_that_hangs_up_and_goes_on_sending_is_not_heard_for_ever() {
    let mut scene = scene();
    scene.hostile.socket.hang_up();
    scene.channel().check_liveness();
    assert_eq!(scene.channel().closed(), Some(CloseReason::PeerDied));
    let mut received = 0;
    let reason = loop {
        scene.hostile.send(0, 8, &[1]);
        match scene.channel().try_recv() {
            Ok(Some(_)) => received += 1,
            Ok(None) => panic!("one was there"),
            Err(reason) => break reason,
        }
        assert!(received <= 16, "the queue held no more than its slots when it hung up");
    };
    assert_eq!(reason, CloseReason::PeerDied);
}

#[test]
fn a_peer_that_claims_to_be_gone_is_gone() {
    let mut scene = scene();
    scene.hostile.set_armed(u64::MAX);
    assert_eq!(scene.channel().try_send(b"x"), Ok(Offer::Taken));
    let (reason, _) = scene.until_closed();
    assert_eq!(reason, CloseReason::PeerClosed);
    scene.honest_channel_works("after a false farewell");
}

#[test]
fn a_peer_that_asks_for_a_bell_at_every_message_does_not_stop_the_sender() {
    let mut scene = scene();
    for epoch in 1..20_000u64 {
        scene.hostile.set_armed(epoch);
        scene.hostile.set_credit(epoch - 1);
        let offered = scene.channel().try_send(b"x");
        assert_eq!(offered, Ok(Offer::Taken), "message {epoch}");
    }
    scene.honest_channel_works("beside one who wants bells");
}

#[test]
fn every_word_of_the_peers_memory_may_be_anything() {
    // Every word in turn, with values that look like something, in a channel that is in use.
    let mut random = Random::new(7);
    let interesting = [0, 1, u64::MAX, 1 << 63, 0x0000_0001_0000_0138, 0x0001_0000_0000_0000];
    let address = address("words");
    let mut endpoint = listening(&address, Wait::Adaptive);
    let (mut id, mut hostile) = hostile_in(&mut endpoint, &address);
    let mut closed = 0;
    for word in 0..support::small().area_offset() / 8 {
        // A slot is read when its turn comes: let it come.
        while word * 8 >= SEND_QUEUE + 64 * (hostile.next as usize + 1) && hostile.next < 16 {
            hostile.send(0, 8, &[1]);
            assert!(matches!(endpoint.try_recv(), Some(Event::Message(..))), "word {word}");
        }
        let value = interesting[word % interesting.len()] ^ (random.next() & 0x10_0000_0001);
        hostile.own.store(word * 8, value);
        let channel = endpoint.channel_mut(id).expect("it is open");
        // Any result will do; that there is one is the point.
        let _ = channel.try_send(b"small");
        let _ = channel.try_send(&[1; 100]);
        let _ = channel.buffers();
        let what = endpoint.try_recv();
        let reason = match what {
            Some(Event::Closed(which, reason)) if which == id => Some(reason),
            Some(Event::Message(which, _)) if which == id => None,
            None => None,
            other => panic!("word {word}: nobody else does anything, {other:?}"),
        };
        let poisoned = matches!(reason, Some(CloseReason::Poisoned(_) | CloseReason::PeerClosed));
        assert_eq!(reason.is_some(), poisoned, "word {word}: {reason:?}");
        // A word that changed nothing visible is undone with its channel, so that each word is
        // tried alone where it matters.
        if reason.is_some() || (word * 8 >= SEND_QUEUE && word.is_multiple_of(8)) {
            closed += u32::from(reason.is_some());
            endpoint.close(id);
            (id, hostile) = hostile_in(&mut endpoint, &address);
        }
    }
    assert!(closed > 10, "only {closed} words were of consequence");
}
