//! What arrives at the end of a path is what was sent, in order, and nobody has copied it.

use std::collections::BTreeSet;

use fbufs::MAX_PARTS;
use unet::{Counter, Message, Part, SendError, Wait};

use crate::domains::{ANSWER, Line, check, fill};
use crate::support::{PATIENCE, Random, WAITS};

/// How many of so many messages are sent: four processes that spin have fewer cores than that here, and
/// each waits for its turn.
fn rounds(wait: Wait, rounds: u64) -> u64 {
    if wait == Wait::Spin { rounds / 10 } else { rounds }
}

#[test]
fn three_and_four_domains_pass_messages_on_in_order_without_a_copy() {
    for wait in WAITS {
        for middles in [1, 2] {
            let mut line = Line::new(middles, "check", wait);
            let mut random = Random::new(middles as u64);
            let messages = rounds(wait, 600);
            for number in 0..messages {
                // A large one now and then: it takes longer to be checked than to be passed on.
                let largest = if number % 100 == 0 { 1 << 20 } else { 5000 };
                line.send(number, 8 + random.below(largest - 8));
            }
            let said = line.report();
            assert_eq!(said[0], format!("received {messages} copied 0"), "{wait:?}");
            assert!(said[1..].iter().all(|said| said == "copied 0"), "{said:?}");
            assert_eq!(line.pool.copied() + line.channel.copied(), 0);
            line.all_free();
        }
    }
}

#[test]
fn a_message_of_many_parts_arrives_as_one() {
    let mut line = Line::new(1, "bare", Wait::Adaptive);
    for (number, parts) in [1, 2, 3, 4, 6, 7, 38, 255, MAX_PARTS].into_iter().enumerate() {
        // One buffer that is cut into crumbs, and a larger rest.
        let whole = line.message(number as u64, 40_000);
        let mut rest = whole;
        let mut message = Message::new();
        for _ in 1..parts {
            message.append(rest.split_to(9).expect("it is long enough"));
        }
        message.append(rest);
        assert_eq!(message.parts().len(), parts);
        line.channel.send_message(0, message, b"").expect("the next domain is there");
    }
    let too_many: Message = {
        let mut message = line.message(9, 2000);
        let mut cut = Message::new();
        (0..MAX_PARTS + 1).for_each(|_| cut.append(message.split_to(1).expect("it is longer")));
        cut
    };
    let refused = line.channel.try_send_message(0, too_many, b"");
    assert!(matches!(refused, Err(SendError::TooLarge { .. })), "{refused:?}");
    assert_eq!(line.report()[0], "received 9 copied 0");
    line.all_free();
}

#[test]
fn a_buffer_is_sent_twice_in_one_message_and_in_two() {
    let mut line = Line::new(2, "bare", Wait::Adaptive);
    // The second half repeats the first, so one buffer can stand for both.
    let bytes = fill(0, 8 + 256 * 4);
    let mut fbuf = line.pool.alloc(bytes.len()).expect("one is free");
    fbuf.copy_from_slice(&bytes);
    let fbuf = fbuf.freeze();
    let slice = |from, to| -> Part { Part::Own(fbuf.slice(from..to).expect("it is within")) };
    assert_eq!(fbuf[8..264], fbuf[264..520], "they are alike");
    let mut message = Message::new();
    for part in [slice(0, 264), slice(8, 264), slice(8, 264), slice(776, 1032)] {
        message.append_part(part);
    }
    line.channel.send_message(0, message, b"").expect("the next domain is there");
    assert_eq!(line.report()[0], "received 1 copied 0");

    // Fragments: the same buffer in messages of their own, whose numbers are other buffers'.
    for number in 1..=20u64 {
        let mut message = line.message(number, 8);
        let shift = (number as usize * 31 % 256) * 183 % 256;
        message.append_part(slice(8 + shift, 8 + shift + 500));
        line.channel.send_message(0, message, b"").expect("the next domain is there");
    }
    drop(fbuf);
    assert_eq!(line.report()[0], "received 21 copied 0");
    line.all_free();
}

#[test]
fn answers_come_back_along_the_path() {
    for wait in WAITS {
        let mut line = Line::new(2, "check", wait);
        let rounds = rounds(wait, 300);
        for number in 0..rounds {
            let message = line.message(number, 3000);
            line.channel.send_message(ANSWER, message, b"").expect("the next domain is there");
            let answer = line.channel.recv_timeout(PATIENCE);
            let answer = answer.unwrap_or_else(|why| panic!("{why}: {:?}", line.words()));
            let mut answer = answer.expect("it comes");
            // Three regions: the last domain's, and one a middle one.
            assert_eq!(answer.message().parts().len(), 3);
            let number_back = check(&mut answer.take_message(), 2);
            assert_eq!(number_back, Ok(number), "{wait:?}");
        }
        let received = format!("received {rounds} copied 0");
        assert_eq!(line.report(), [&received, "copied 0", "copied 0"]);
        line.all_free();
    }
}

#[test]
fn the_buffer_that_came_back_last_is_taken_first() {
    let mut line = Line::new(2, "check", Wait::Park);
    let mut places = BTreeSet::new();
    for number in 0..500 {
        let message = line.message(number, 1000);
        let Some(Part::Own(fbuf)) = message.parts().first() else { panic!("it is one's own") };
        places.insert(fbuf.as_ptr() as usize);
        line.channel.send_message(ANSWER, message, b"").expect("the next domain is there");
        drop(line.channel.recv_timeout(PATIENCE).expect("it is open").expect("it comes"));
        line.all_free();
    }
    assert_eq!(places.len(), 1, "one buffer at a time is under way");
}

#[test]
fn who_waits_for_a_buffer_gets_the_one_that_the_last_domain_gives_back() {
    for wait in WAITS {
        let mut line = Line::new(2, "check", wait);
        // Four large buffers: nearly every one is waited for.
        let rounds = rounds(wait, 30);
        (0..rounds).for_each(|number| line.send(number, 1 << 20));
        assert_eq!(line.report()[0], format!("received {rounds} copied 0"), "{wait:?}");
        assert_eq!(line.channel.counters().get(Counter::ForeignBuffer), 0);
        line.all_free();
    }
}
