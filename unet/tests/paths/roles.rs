//! The domains of a path that are processes of their own.

use std::time::Duration;

use allocation_counter::measure;
use segment::failpoint::arm;
use unet::{Channel, ChannelId, Delivery, Endpoint, Event, Message, Path, Pool, Quota, Wait};

use crate::domains::{
    ANSWER, HEADER, Line, MEASURE, PART, REPORT, check, connecting, fill, listening, pool,
};
use crate::support::role;
use crate::support::{self, PATIENCE};

pub fn wait_of(name: &str) -> Wait {
    support::WAITS.into_iter().find(|wait| format!("{wait:?}") == name).expect("it is a wait")
}

pub fn arm_step(step: &str, nth: &str) {
    let nth = nth.parse().expect("a number");
    if step != "none" {
        assert!(arm(step, nth, rustix::process::Signal::KILL), "{step} is a step");
    }
}

/// The first domain, where it is no test: it sends until it cannot. Its arguments: the next domain's
/// address, how it waits, and the step at whose nth time it dies.
#[test]
#[ignore = "a part that other tests run in a process of its own"]
fn role_first() {
    let Some(arguments) = role::arguments() else { return };
    let [next, wait, step, nth] = &arguments[..] else { panic!("{arguments:?}") };
    arm_step(step, nth);
    let pool = pool();
    let options = connecting(Path::of(&pool).expect("a region"), wait_of(wait), Quota::default());
    let address = next.parse().expect("an address");
    let channel = Channel::connect(&address, options).expect("it listens");
    let mut line = Line { pool, channel, others: Vec::new() };
    let why = line.converse();
    role::say(&format!("{why:?}"));
}

/// A domain in the middle. Its arguments: its own address, the next one's, the manner, how it waits, and
/// the step at whose nth time it dies.
#[test]
#[ignore = "a part that other tests run in a process of its own"]
fn role_middle() {
    let Some(arguments) = role::arguments() else { return };
    let [here, next, manner, wait, step, nth] = &arguments[..] else { panic!("{arguments:?}") };
    arm_step(step, nth);
    let wait = wait_of(wait);
    let mut endpoint = listening(&here.parse().expect("an address"), wait);
    role::say("listening");
    let Some(Event::Incoming(mut incoming)) = endpoint.recv_timeout(PATIENCE) else {
        return role::say("nobody came");
    };
    let pool = pool();
    let path = incoming.path().expect("it is sealed").then(&pool).expect("it is a region");
    let options = connecting(path, wait, Quota::default());
    let down = match endpoint.connect(&next.parse().expect("an address"), options) {
        Ok(down) => down,
        Err(error) => return role::say(&format!("not connected: {error:?}")),
    };
    let channel = endpoint.channel_mut(down).expect("just connected");
    let back = channel.path().then(&pool).expect("it is a region");
    let up = match endpoint.accept_along(incoming, b"", &back) {
        Ok(up) => up,
        Err(error) => return role::say(&format!("not accepted: {error:?}")),
    };
    drop(back);
    let mut middle = Middle { endpoint, pool, up, down, headers: manner != "bare" };
    let end = middle.live();
    let (free, total) = (middle.pool.free(), middle.pool.total());
    drop(middle.endpoint);
    role::say(&format!("{end}; {} of {total} free", free));
}

struct Middle {
    endpoint: Endpoint,
    pool: Pool,
    up: ChannelId,
    down: ChannelId,
    headers: bool,
}

impl Middle {
    /// Passes messages on until one of the neighbours is gone; which one, and how.
    fn live(&mut self) -> String {
        let mut delivery = Delivery::default();
        loop {
            match self.endpoint.recv_into(&mut delivery) {
                unet::Arrival::Message(from) => {
                    if let Some(end) = self.pass_on(from, &mut delivery) {
                        return end;
                    }
                }
                unet::Arrival::Other => match self.endpoint.take_event() {
                    Some(Event::Closed(id, why)) => {
                        let which = if id == self.up { "up" } else { "down" };
                        // What it passed on comes back with the channels.
                        self.endpoint.close(self.down);
                        self.endpoint.close(self.up);
                        return format!("{which} {why:?}");
                    }
                    other => return format!("{other:?}"),
                },
            }
        }
    }

    fn pass_on(&mut self, from: ChannelId, delivery: &mut Delivery) -> Option<String> {
        let (tag, mut message) = (delivery.tag(), delivery.take_message());
        match tag {
            REPORT => self.say_copied(),
            PART => {
                self.endpoint.close(self.down);
                role::say("parted");
                return None;
            }
            MEASURE => {
                let count = u64::from_le_bytes(delivery.inline().try_into().expect("a number"));
                let down = self.endpoint.channel_mut(self.down)?;
                down.send_message(tag, message, delivery.inline()).expect("it is there");
                let counted = measure(|| (0..count).for_each(|_| self.one(delivery)));
                role::say(&format!("allocated {}", counted.count_total));
                return None;
            }
            _ => {}
        }
        if self.headers && !message.is_empty() {
            let pushed = message.push_with(&mut self.pool, &HEADER);
            assert_eq!(pushed, Ok(()), "headers come back as quickly as messages");
        }
        let to = if from == self.up { self.down } else { self.up };
        let channel = self.endpoint.channel_mut(to)?;
        // A refusal shows as the end of the channel, with the next event.
        let sent = channel.send_message(tag, message, delivery.inline());
        match sent {
            Err(unet::SendError::Closed(_)) | Ok(()) => None,
            Err(error) => Some(format!("{error:?}")),
        }
    }

    /// Receives one message and passes it on.
    fn one(&mut self, delivery: &mut Delivery) {
        match self.endpoint.recv_into(delivery) {
            unet::Arrival::Message(from) => assert!(self.pass_on(from, delivery).is_none()),
            unet::Arrival::Other => panic!("nobody was to leave"),
        }
    }

    fn say_copied(&mut self) {
        let mut copied = self.pool.copied();
        for id in [self.up, self.down] {
            copied += self.endpoint.channel_mut(id).expect("it is open").copied();
        }
        role::say(&format!("copied {copied}"));
    }
}

/// The last domain. Its arguments: its address, its manner, how many headers are before each message,
/// how it waits, and the step at whose nth time it dies.
#[test]
#[ignore = "a part that other tests run in a process of its own"]
fn role_last() {
    let Some(arguments) = role::arguments() else { return };
    let [here, manner, headers, wait, step, nth] = &arguments[..] else { panic!("{arguments:?}") };
    arm_step(step, nth);
    let mut endpoint = listening(&here.parse().expect("an address"), wait_of(wait));
    role::say("listening");
    let pool = pool();
    let Some(Event::Incoming(incoming)) = endpoint.recv_timeout(PATIENCE) else {
        return role::say("nobody came");
    };
    let path = Path::of(&pool).expect("it is a region");
    let up = match endpoint.accept_along(incoming, b"", &path) {
        Ok(up) => up,
        Err(error) => return role::say(&format!("not accepted: {error:?}")),
    };
    drop(path);
    let headers = headers.parse().expect("a number");
    let held = Vec::new();
    let mut last = Last { endpoint, pool, up, headers, received: 0, held };
    let end = if manner == "hold" { last.hold() } else { last.check_all() };
    let (free, total) = (last.pool.free(), last.pool.total());
    role::say(&format!("{end}; {} of {total} free", free));
}

struct Last {
    endpoint: Endpoint,
    pool: Pool,
    up: ChannelId,
    headers: usize,
    received: u64,
    held: Vec<Message>,
}

impl Last {
    /// Checks all messages, which are numbered from 0, and answers those that ask for it.
    fn check_all(&mut self) -> String {
        let mut delivery = Delivery::default();
        loop {
            match self.endpoint.recv_into(&mut delivery) {
                unet::Arrival::Message(_) => match self.check_one(&mut delivery) {
                    Ok(()) => {}
                    // A domain before this one is at its end, and so will be the channel.
                    Err(wrong) if wrong == "Revoked" => self.received += 1,
                    Err(wrong) => return wrong,
                },
                unet::Arrival::Other => match self.endpoint.take_event() {
                    Some(Event::Closed(_, why)) => return format!("up {why:?}"),
                    other => return format!("{other:?}"),
                },
            }
        }
    }

    fn check_one(&mut self, delivery: &mut Delivery) -> Result<(), String> {
        match delivery.tag() {
            REPORT => {
                let channel = self.endpoint.channel_mut(self.up).expect("it is open");
                let copied = channel.copied() + self.pool.copied();
                role::say(&format!("received {} copied {copied}", self.received));
                return Ok(());
            }
            MEASURE => {
                let count = u64::from_le_bytes(delivery.inline().try_into().expect("a number"));
                let mut wrong = Ok(());
                let counted = measure(|| {
                    for _ in 0..count {
                        self.endpoint.recv_into(delivery);
                        wrong = std::mem::replace(&mut wrong, Ok(())).and(self.check_one(delivery));
                    }
                });
                role::say(&format!("allocated {}", counted.count_total));
                return wrong;
            }
            _ => {}
        }
        let mut message = delivery.take_message();
        let number = check(&mut message, self.headers)?;
        if number != self.received {
            return Err(format!("{number} came instead of {}", self.received));
        }
        self.received += 1;
        if delivery.tag() == ANSWER {
            let bytes = fill(number, message.len());
            let channel = self.endpoint.channel_mut(self.up).ok_or("it is closed")?;
            let answer = channel.alloc_from_timeout(&mut self.pool, bytes.len(), PATIENCE);
            let answer = answer.map_err(|error| format!("{error:?}"))?;
            let mut answer = answer.ok_or("no buffer came back")?;
            answer.copy_from_slice(&bytes);
            let sent = channel.send_message(ANSWER, answer.freeze().into(), b"");
            sent.map_err(|error| format!("{error:?}"))?;
        }
        Ok(())
    }

    /// Keeps every message; for each line of the parent's it says what the oldest one reads as, and
    /// gives it back.
    fn hold(&mut self) -> String {
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || while role::hear() && tell.send(()).is_ok() {});
        loop {
            match self.endpoint.recv_timeout(Duration::from_millis(1)) {
                Some(Event::Message(_, mut delivery)) => {
                    self.held.push(delivery.take_message());
                    role::say(&format!("held {}", self.held.len()));
                }
                Some(Event::Closed(_, why)) => role::say(&format!("up {why:?}")),
                Some(other) => return format!("{other:?}"),
                None => {}
            }
            if told.try_recv().is_ok() {
                if self.held.is_empty() {
                    return "done".to_owned();
                }
                let mut message = self.held.remove(0);
                let read = check(&mut message, self.headers);
                drop(message);
                role::say(&format!("{read:?}"));
            }
        }
    }
}
