//! Ten thousand successors are killed with buffers in their hands, and nothing is lost.
//!
//! The driver outlives them all, and so does the last domain, which some of them pass messages on to.

use std::collections::VecDeque;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Signal, WaitOptions};
use unet::{
    Channel, ChannelId, Endpoint, Event, Message, Offer, Path, Pool, Quota, SendError, Wait,
};

use crate::domains::{check, connecting, fill, listening, pool};
use crate::roles::arm_step;
use crate::support::role::{self, Role};
use crate::support::{PATIENCE, Random, address, eventually};

const KILLS: usize = 10_000;
/// How many successors live at a time.
const ALIVE: usize = 4;
/// The steps at which some of them die; the others are killed from outside.
const STEPS: [&str; 12] = [
    "connect.3-segment-made",
    "connect.4-hello-sent",
    "connect.5-welcome-received",
    "connect.6-mapped",
    "send.1-before-publish",
    "send.2-published",
    "handoff.1-buffer-taken",
    "handoff.2-lent",
    "handoff.3-published",
    "receive.1-popped",
    "receive.2-buffer-held",
    "receive.3-buffer-returned",
];

/// The shared mappings of this process, and how many descriptors it has open.
fn state() -> (usize, usize) {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("procfs is mounted");
    let open = std::fs::read_dir("/proc/self/fd").expect("procfs is mounted").count();
    (maps.matches("/memfd:").count(), open)
}

/// A successor that holds some messages, and passes them on if it has where. Its arguments: the
/// driver's address, the last domain's or "none", and the step at whose nth time it dies.
#[test]
#[ignore = "a part that other tests run in a process of its own"]
fn role_successor() {
    let Some(arguments) = role::arguments() else { return };
    let [driver, last, step, nth] = &arguments[..] else { panic!("{arguments:?}") };
    arm_step(step, nth);
    let options = connecting(Path::default(), Wait::Adaptive, Quota::default());
    let mut up =
        Channel::connect(&driver.parse().expect("an address"), options).expect("it listens");
    let own = pool();
    let mut down = (last != "none").then(|| {
        let path = up.path().then(&own).expect("it is a region");
        let options = connecting(path, Wait::Adaptive, Quota::default());
        Channel::connect(&last.parse().expect("an address"), options).expect("it listens")
    });
    let mut held = VecDeque::new();
    // Until it is killed.
    while let Ok(mut delivery) = up.recv() {
        held.push_back(delivery.take_message());
        let oldest = if held.len() > 3 { held.pop_front() } else { None };
        if let (Some(message), Some(down)) = (oldest, &mut down) {
            let _ = down.try_send_message(0, message, b"").expect("it lives for ever");
        }
    }
}

/// The last domain: it keeps some messages, also of the dead, and checks each before it lets go of it.
/// Its argument: its address. Asked by a line, it drops everything and says what it has.
#[test]
#[ignore = "a part that other tests run in a process of its own"]
fn role_keeper() {
    let Some(arguments) = role::arguments() else { return };
    let before = state();
    let mut endpoint = listening(&arguments[0].parse().expect("an address"), Wait::Adaptive);
    let (tell, told) = std::sync::mpsc::channel();
    role::say("listening");
    let hearing = std::thread::spawn(move || {
        role::hear();
        let _ = tell.send(());
    });
    let mut keeper = Keeper::default();
    while told.try_recv().is_err() || endpoint.channels() > 0 {
        match endpoint.recv_timeout(Duration::from_millis(5)) {
            Some(Event::Message(_, mut delivery)) => keeper.keep(delivery.take_message()),
            // It may be dead already.
            Some(Event::Incoming(incoming)) => drop(endpoint.accept(incoming, b"")),
            Some(Event::Closed(..)) | None => {}
            other => panic!("not to happen: {other:?}"),
        }
    }
    while !keeper.held.is_empty() {
        keeper.let_go();
    }
    drop(endpoint);
    hearing.join().expect("it does not panic");
    let Keeper { whole, revoked, .. } = keeper;
    let left = if state() == before { "nothing left" } else { "something left" };
    role::say(&format!("{left} {} {} {:?}", whole > 0, revoked > 0, keeper.wrong));
}

#[derive(Default)]
struct Keeper {
    held: VecDeque<Message>,
    whole: u64,
    revoked: u64,
    wrong: Option<String>,
}

impl Keeper {
    fn keep(&mut self, message: Message) {
        self.held.push_back(message);
        if self.held.len() > 6 {
            self.let_go();
        }
    }

    fn let_go(&mut self) {
        let Some(mut message) = self.held.pop_front() else { return };
        match check(&mut message, 0) {
            Ok(_) => self.whole += 1,
            Err(error) if error == "Revoked" => self.revoked += 1,
            Err(wrong) => self.wrong = Some(wrong),
        }
    }
}

struct Successor {
    child: Child,
    /// When it is killed at the latest.
    until: Instant,
}

struct Driver {
    endpoint: Endpoint,
    pool: Pool,
    path: Path,
    open: Vec<ChannelId>,
    random: Random,
    number: u64,
    addresses: [String; 2],
}

impl Driver {
    fn spawn(&mut self) -> Successor {
        let by_step = self.random.below(2) == 0;
        let step = if by_step { STEPS[self.random.below(STEPS.len())] } else { "none" };
        let nth = if step.starts_with("connect") { 1 } else { 1 + self.random.below(9) };
        let last = if self.random.below(2) == 0 { &self.addresses[1] } else { "none" };
        let arguments = [&self.addresses[0], last, step, &nth.to_string()];
        let mut command = role::command("kills::role_successor", &arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("this program can be run again");
        let life = Duration::from_micros(500 + self.random.next() % 12_000);
        Successor { child, until: Instant::now() + life }
    }

    fn turn(&mut self) {
        while let Some(event) = self.endpoint.try_recv() {
            match event {
                Event::Incoming(incoming) => {
                    // It may be dead already.
                    let accepted = self.endpoint.accept_along(incoming, b"", &self.path);
                    self.open.extend(accepted);
                }
                Event::Closed(id, _) => self.open.retain(|open| *open != id),
                Event::Message(..) => panic!("they say nothing"),
                other => panic!("not to happen: {other:?}"),
            }
        }
        for at in 0..self.open.len() {
            self.send(self.open[at]);
        }
    }

    /// Sends something, if there is room; also a buffer twice, and a message of several slots.
    fn send(&mut self, to: ChannelId) {
        let Some(channel) = self.endpoint.channel_mut(to) else { return };
        if channel.lent().0 > 40 {
            return;
        }
        let Ok(mut fbuf) = self.pool.alloc(200) else { return };
        self.number += 1;
        fbuf.copy_from_slice(&fill(self.number, 200));
        let mut message: Message = fbuf.freeze().into();
        if self.number.is_multiple_of(4) {
            let pieces: Vec<Message> = (0..4).filter_map(|_| message.split_to(20)).collect();
            let rest = std::mem::take(&mut message);
            pieces.into_iter().chain([rest]).for_each(|piece| message.append(piece));
        }
        let again = self.number.is_multiple_of(3).then(|| message.clone());
        for message in std::iter::once(message).chain(again) {
            match channel.try_send_message(0, message, b"") {
                Ok(Offer::Taken | Offer::Full(_)) | Err(SendError::Closed(_)) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    }
}

/// The driver, in a process of its own, so that what it has open is its own. Its argument: how many it
/// kills.
#[test]
#[ignore = "a part that other tests run in a process of its own"]
fn role_driver() {
    let Some(arguments) = role::arguments() else { return };
    let kills: usize = arguments[0].parse().expect("a number");
    let begin = Instant::now();
    let before = state();
    let (here, there) = (address("driver"), address("keeper"));
    let keeper = role::spawn("kills::role_keeper", &[&there.to_string()]);
    keeper.expect("listening");
    let pool = pool();
    let mut driver = Driver {
        endpoint: listening(&here, Wait::Adaptive),
        path: Path::of(&pool).expect("it is a region"),
        pool,
        open: Vec::new(),
        random: Random::new(10_000),
        number: 0,
        addresses: [here.to_string(), there.to_string()],
    };
    let killed = kill(&mut driver, kills);
    assert_eq!(killed, kills);
    eventually("the last channel is closed", || {
        driver.turn();
        driver.endpoint.channels() == 0
    });
    assert_eq!(driver.pool.free(), driver.pool.total(), "every buffer is free");
    assert!(driver.number > kills as u64 / 2, "{} messages", driver.number);
    finish(driver, keeper);
    eventually("descriptors and mappings are as at the start", || state() == before);
    let left = rustix::process::wait(WaitOptions::NOHANG);
    assert_eq!(left.err(), Some(rustix::io::Errno::CHILD), "no child is left, dead or alive");
    role::say(&format!("all free after {killed} kills in {:?}", begin.elapsed()));
}

/// Kills so many, one after the other, while it sends to all.
fn kill(driver: &mut Driver, kills: usize) -> usize {
    let mut alive: Vec<Successor> = Vec::new();
    let (mut started, mut killed) = (0, 0);
    while killed < kills {
        while alive.len() < ALIVE && started < kills {
            alive.push(driver.spawn());
            started += 1;
        }
        driver.turn();
        alive.retain_mut(|successor| {
            if Instant::now() >= successor.until {
                // It may have died at its step.
                successor.child.kill().expect("it has not been waited for");
                successor.until += PATIENCE;
            }
            match successor.child.try_wait().expect("it is a child") {
                None => true,
                Some(status) => {
                    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
                    assert_eq!(
                        signal,
                        Some(Signal::KILL.as_raw()),
                        "it was to be killed: {status}"
                    );
                    killed += 1;
                    false
                }
            }
        });
    }
    killed
}

/// The last domain too has nothing left of anybody, and everything it read was whole or an error.
fn finish(driver: Driver, mut keeper: Role) {
    drop(driver);
    keeper.tell();
    keeper.expect("nothing left true true None");
    keeper.wait_success();
}

#[test]
fn ten_thousand_deaths_with_buffers_in_hand_lose_none() {
    let driver = role::spawn("kills::role_driver", &[&KILLS.to_string()]);
    let word = driver.word_within(Duration::from_secs(300)).expect("it comes to its end");
    assert!(word.starts_with("all free after 10000 kills"), "{word}");
    println!("{word}");
}
