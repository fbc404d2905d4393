//! Any domain of a path dies at any step, and the others end with a word and with all their buffers.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use segment::failpoint::STEPS;
use unet::{Channel, CloseReason, ConnectError, Message, Path, Quota, Wait};

use crate::domains::{Line, connecting, pool, start};
use crate::support::role::{self, Role};
use crate::support::{PATIENCE, address};

/// Until the farthest domain knows: the nearest one needs at most 50 ms, and each passes it on. The
/// machine is shared with the other tests.
const BOUND: Duration = Duration::from_secs(3);

/// The steps that a domain passes: those of connecting, of accepting, and of traffic.
fn steps(connects: bool, accepts: bool) -> impl Iterator<Item = (&'static str, u32)> {
    STEPS.iter().filter_map(move |step| match step.split('.').next()? {
        "connect" => connects.then_some((*step, 1)),
        "accept" => accepts.then_some((*step, 1)),
        // In the middle of the traffic.
        "send" | "handoff" | "receive" => Some((*step, 7)),
        _ => None,
    })
}

/// Waits for a role's death, and says when it was, while the test does something else.
fn watch(mut victim: Role) -> mpsc::Receiver<Instant> {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        victim.wait_killed();
        // Nobody waits any more if the test has failed.
        let _ = tell.send(Instant::now());
    });
    told
}

fn knows_in_time(what: &str, died: &mpsc::Receiver<Instant>) {
    let died = died.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{what}: never reached"));
    assert!(died.elapsed() < BOUND, "{what}: known after {:?}", died.elapsed());
}

/// What each of the survivors says at its end: all its buffers are free.
fn end_well(what: &str, survivors: &[Role]) {
    for survivor in survivors {
        let word = survivor.word().unwrap_or_else(|| panic!("{what}: a survivor is silent"));
        let total = pool().total();
        assert!(word.ends_with(&format!("{total} of {total} free")), "{what}: {word}");
        let typed = ["PeerDied", "PeerClosed"].iter().any(|reason| word.contains(reason));
        assert!(typed, "{what}: {word}");
    }
}

/// A domain after the first one dies; the test is the originator.
fn later_domain_dies(domain: usize, step: &str, nth: u32, wait: Wait) {
    let what = format!("domain {domain} from the end dies at {step}, waiting by {wait:?}");
    let mut next = address("death");
    let mut others = start(2, "check", wait, &mut next, Some((domain, step, nth)));
    let died = watch(others.remove(domain));
    let mut pool = pool();
    let path = Path::of(&pool).expect("it is a region");
    match Channel::connect(&next, connecting(path, wait, Quota::default())) {
        Ok(channel) => {
            let mut line = Line { pool, channel, others };
            let why = line.converse();
            knows_in_time(&what, &died);
            let neighbour =
                if domain == 2 { CloseReason::PeerDied } else { CloseReason::PeerClosed };
            assert_eq!(why, neighbour, "{what}");
            assert_eq!(line.channel.lent(), (0, 0), "{what}");
            assert_eq!(line.channel.held(), 0, "{what}");
            assert_eq!(line.pool.free(), line.pool.total(), "{what}");
            end_well(&what, &line.others);
        }
        Err(error) => {
            knows_in_time(&what, &died);
            let typed = matches!(error, ConnectError::PeerDied | ConnectError::Refused(_));
            assert!(typed, "{what}: {error:?}");
            assert_eq!(pool.free(), pool.total(), "{what}");
        }
    }
}

#[test]
fn the_last_domain_dies_at_every_step() {
    for (step, nth) in steps(false, true) {
        later_domain_dies(0, step, nth, Wait::Park);
        // Who polls is not rung for.
        if step != "send.3-doorbell-rung" {
            later_domain_dies(0, step, nth, Wait::Adaptive);
        }
    }
}

#[test]
fn a_domain_in_the_middle_dies_at_every_step() {
    for (step, nth) in steps(true, true) {
        later_domain_dies(1, step, nth, Wait::Park);
        later_domain_dies(2, step, nth, Wait::Park);
    }
}

#[test]
fn the_originator_dies_at_every_step() {
    for (step, nth) in steps(true, false) {
        let what = format!("the originator dies at {step}");
        let mut next = address("death");
        let others = start(2, "check", Wait::Park, &mut next, None);
        let arguments = [&next.to_string(), "Park", step, &nth.to_string()];
        let died = watch(role::spawn("roles::role_first", &arguments));
        if step.starts_with("connect.") && step < "connect.4" {
            // Nobody has heard of it: the others wait for another.
            assert!(died.recv_timeout(PATIENCE).is_ok(), "{what}: never reached");
            let mut pool = pool();
            let path = Path::of(&pool).expect("it is a region");
            let options = connecting(path, Wait::Park, Quota::default());
            let channel = Channel::connect(&next, options).expect("they listen still");
            let fbuf = pool.alloc(8).expect("all are free");
            let mut line = Line { pool, channel, others };
            drop(fbuf);
            line.send(0, 100);
            assert_eq!(line.report()[0], "received 1 copied 0", "{what}");
            continue;
        }
        assert!(died.recv_timeout(PATIENCE).is_ok(), "{what}: never reached");
        let begin = Instant::now();
        // The middle one that it connected to may not have accepted it yet.
        let next_one = others[2].word().expect("it says how it ended");
        if !next_one.contains("not accepted") {
            assert!(next_one.starts_with("up PeerDied"), "{what}: {next_one}");
            end_well(&what, &others[..2]);
        }
        assert!(begin.elapsed() < BOUND, "{what}: known after {:?}", begin.elapsed());
    }
}

#[test]
fn the_beginning_of_a_message_whose_sender_died_is_dropped_and_given_back() {
    // A message of ten parts takes four slots: the middle domain dies when it has published two.
    let mut next = address("death");
    let mut others = start(1, "bare", Wait::Park, &mut next, Some((1, "send.2-published", 2)));
    let died = watch(others.pop().expect("the middle one"));
    let pool = pool();
    let path = Path::of(&pool).expect("it is a region");
    let options = connecting(path, Wait::Park, Quota::default());
    let channel = Channel::connect(&next, options).expect("it listens");
    let mut line = Line { pool, channel, others };
    let mut rest = line.message(0, 1000);
    let mut message = Message::new();
    (0..9).for_each(|_| message.append(rest.split_to(7).expect("it is longer")));
    message.append(rest);
    line.channel.send_message(0, message, b"").expect("there is room");
    assert_eq!(line.channel.recv().err(), Some(CloseReason::PeerDied));
    knows_in_time("in the middle of a message", &died);
    assert_eq!(line.pool.free(), line.pool.total());
    // It was not taken for a message: that would have been said.
    end_well("the last domain", &line.others);
}
