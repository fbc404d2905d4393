//! A service that its test drives itself: how it sleeps, what it counts, and what it does not begin.

use std::os::fd::AsFd;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rpc_fastpath::endpoint::*;
use rpc_fastpath::protocol::{Body, Call, Client};
use rpc_fastpath::wire::Packet;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use unet::Channel;

use crate::scene::*;

fn listen(options: ServiceOptions) -> (Service, unet::Address) {
    let address = SHM.address();
    let service = Service::listen(std::slice::from_ref(&address), options).expect("listening");
    (service, address)
}

fn begin(address: &unet::Address) -> Connection {
    Connection::begin(std::slice::from_ref(address), of_client(SHM)).expect("a connection")
}

/// Whether the descriptor is readable before so long.
fn is_woken(service: &Service, most: Duration) -> bool {
    let most = Timespec { tv_sec: 0, tv_nsec: most.as_nanos().min(999_999_999) as _ };
    let descriptor = service.as_fd();
    poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&most)) == Ok(1)
}

fn nothing(_: &Context, _: Bytes<'_>, _: &mut Reply<'_>) -> Result<(), Decline> {
    Ok(())
}

/// One call that is put off, and its token.
fn put_off(service: &mut Service, client: &mut Connection) -> Later {
    client.start(LATER, b"", How::default()).expect("room");
    let mut later = None;
    until("it is put off", || {
        client.poll(|_| {});
        service.poll(&mut |_: &Context, _: Bytes<'_>, reply: &mut Reply<'_>| {
            later = Some(reply.later()?);
            Ok(())
        });
        later.is_some()
    });
    later.expect("it was put off")
}

fn arm(service: &mut Service) {
    until("it may sleep", || {
        service.poll(&mut nothing);
        service.arm()
    });
}

#[test]
fn a_loop_is_woken_by_a_late_answer_and_sleeps_again() {
    let (mut service, address) = listen(of_server());
    let mut client = begin(&address);
    let later = put_off(&mut service, &mut client);
    arm(&mut service);
    thread::spawn(move || later.reply(b"late")).join().expect("no panic");
    // Now, and not only when it next looks for idle clients, which is at most a second away.
    assert!(is_woken(&service, Duration::ZERO), "the answer wakes");
    arm(&mut service);
    assert_eq!(service.later(), 0);
    until("it is answered", || {
        client.poll(|end| assert!(matches!(end.outcome, Outcome::Executed(_))));
        client.under_way() == 0
    });
    // Nobody wants anything: it wakes to look for idle clients, and for what the client's last word was.
    let begin = Instant::now();
    let mut wakes = 0;
    while begin.elapsed() < Duration::from_millis(400) {
        service.poll(&mut nothing);
        if service.arm() {
            wakes += usize::from(is_woken(&service, Duration::from_millis(50)));
        }
    }
    assert!(wakes < 20, "{wakes} wakes for nothing");
}

#[test]
fn a_service_may_sleep_however_answers_meet_it() {
    let (mut service, address) = listen(of_server());
    let mut client = begin(&address);
    let workers: Vec<_> = (0..3)
        .map(|_| {
            let (worker, work) = mpsc::channel::<Later>();
            thread::spawn(move || work.into_iter().for_each(|later| later.reply(b"late")));
            worker
        })
        .collect();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(3) {
        for _ in &workers {
            client.start(LATER, b"", How::default()).expect("room");
        }
        let mut work = workers.iter().cycle();
        let mut handler = |_: &Context, _: Bytes<'_>, reply: &mut Reply<'_>| {
            work.next().expect("endless").send(reply.later()?).expect("it lives");
            Ok(())
        };
        until("all are answered", || {
            for _ in 0..1_000 {
                client.poll(|_| {});
                service.poll(&mut handler);
                if client.under_way() == 0 {
                    return true;
                }
            }
            false
        });
        assert_eq!(service.later(), 0);
        arm(&mut service);
    }
}

#[test]
fn what_waits_beyond_its_deadline_behind_a_slow_call_is_not_begun() {
    let (mut service, address) = listen(of_server());
    let mut client = begin(&address);
    // In one message with the slow call, and in one of its own.
    for is_packed in [true, false] {
        until("a session", || {
            client.poll(|_| {});
            service.poll(&mut nothing);
            client.terms().is_some()
        });
        let mut begun = Vec::new();
        let mut handler = |context: &Context, _: Bytes<'_>, _: &mut Reply<'_>| {
            let left = context.deadline().map(|at| at.saturating_duration_since(Instant::now()));
            begun.push((context.method, left));
            if context.method == WAIT {
                thread::sleep(Duration::from_millis(150));
            }
            Ok(())
        };
        let slow = client.start(WAIT, b"", How::default()).expect("room");
        if !is_packed {
            client.flush();
        }
        let within = |time| How { deadline: Some(Instant::now() + time), ..How::default() };
        let short = within(Duration::from_millis(100));
        let short = client.start(NULL, b"", short).expect("room");
        let long = within(Duration::from_secs(10));
        let long = client.start(ECHO, b"", long).expect("room");
        client.flush();
        let (mut ended, mut doubtful) = (Vec::new(), None);
        until("all have ended", || {
            service.poll(&mut handler);
            client.poll(|end| match end.outcome {
                Outcome::Unknown(Doubt::DeadlinePassed) => doubtful = end.request,
                outcome => ended.push((end.token, outcome.map(|_| ()))),
            });
            if let Some(request) = doubtful.take() {
                client.query(request).expect("it is in doubt");
            }
            ended.len() == 3
        });
        for (token, expected) in [
            (slow, Outcome::Executed(())),
            (short, Outcome::Refused(Refusal::DeadlinePassed)),
            (long, Outcome::Executed(())),
        ] {
            assert!(ended.contains(&(token, expected)), "{ended:?}, packed: {is_packed}");
        }
        let methods: Vec<_> = begun.iter().map(|(method, _)| *method).collect();
        assert_eq!(methods, [WAIT, ECHO]);
        assert!(begun[1].1.is_some_and(|left| left > Duration::from_secs(5)), "{begun:?}");
    }
}

#[test]
fn a_time_that_is_over_does_not_keep_a_service_awake() {
    let (mut service, address) = listen(ServiceOptions { wait: unet::Wait::Park, ..of_server() });
    let mut client = begin(&address);
    let later = put_off(&mut service, &mut client);
    arm(&mut service);
    // The time of the next look for idle clients, at most a second, passes.
    thread::sleep(Duration::from_millis(1_100));
    assert!(is_woken(&service, Duration::ZERO), "it is over");
    while service.poll(&mut nothing) > 0 {}
    let worked = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::try_from(time).expect("positive")
    };
    let (begin, before) = (Instant::now(), worked());
    while begin.elapsed() < Duration::from_millis(400) {
        service.poll_timeout(&mut nothing, Duration::from_millis(400));
    }
    let worked = worked() - before;
    assert!(worked < Duration::from_millis(100), "{worked:?} of work in 400 ms of sleep");
    later.reply(b"");
}

/// A client of packets, with a channel alone.
fn hostile(service: &mut Service, address: &unet::Address) -> Channel {
    let (address, options) = (address.clone(), of_client(SHM).connect);
    let connecting = thread::spawn(move || Channel::connect(&address, options));
    until("a channel", || {
        service.poll(&mut nothing);
        connecting.is_finished()
    });
    connecting.join().expect("no panic").expect("a channel")
}

/// A session over a channel, in place of the one before.
fn session(service: &mut Service, channel: &mut Channel, nonce: u64) -> Client<(), ()> {
    let mut machine = Client::new(0, nonce, SERVICE, 0, Limits::default(), Timers::default());
    let open = machine.poll_transmit(0).expect("an opening");
    let Body::Control(offer, len) = open.body else { panic!("with an offer") };
    channel.send(&[&open.header[..], &offer[..len]].concat()).expect("room");
    until("a session", || {
        service.poll(&mut nothing);
        let Some(packet) = channel.try_recv().expect("open") else { return false };
        let len = packet.inline().len() - 16;
        machine.receive(0, packet.inline(), len, ()).is_some()
    });
    machine
}

fn end(channel: &mut Channel, session: &Client<(), ()>) {
    let id = session.terms().expect("open").cookie;
    channel.send(&Packet::Close { id }.encode()).expect("room");
}

#[test]
fn a_pack_that_is_too_long_is_dropped_whole() {
    let (mut service, address) = listen(of_server());
    let mut channel = hostile(&mut service, &address);
    let ping = Packet::Ping { id: 7 }.encode();
    let packed = [&16u16.to_le_bytes()[..], &ping].concat();
    for (packets, counts) in [(227, (227, 0)), (228, (227, 1)), (3_640, (227, 2))] {
        let pack = packed.repeat(packets);
        assert_eq!(channel.try_send_parts(1, &[], &pack), Ok(unet::Offer::Taken));
        until("it is looked at", || service.poll(&mut nothing) > 0);
        let found = service.counts();
        assert_eq!((found.sessionless, found.malformed), counts, "{packets} packets");
    }
}

#[test]
fn a_client_between_two_sessions_has_the_patience_for_the_next() {
    let mut options = of_server();
    options.timers.patience = 2_000_000_000;
    let (mut service, address) = listen(options);
    let mut channel = hostile(&mut service, &address);
    let first = session(&mut service, &mut channel, 1);
    // Longer than the patience, in a session.
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(2_100) {
        service.poll_timeout(&mut nothing, Duration::from_millis(5));
    }
    assert_eq!((service.clients(), service.counts().idle), (1, 0));
    // And then without one: it is looked for idle clients before patience ends, too.
    let ended = Instant::now();
    end(&mut channel, &first);
    until("patience ends", || {
        service.poll_timeout(&mut nothing, Duration::from_millis(5));
        service.counts().idle == 1
    });
    assert_eq!(service.clients(), 0);
    assert!(ended.elapsed() >= Duration::from_secs(2), "{:?}", ended.elapsed());
}

#[test]
fn answers_to_a_session_that_is_over_come_too_late() {
    let (mut service, address) = listen(of_server());
    let mut channel = hostile(&mut service, &address);
    let mut before = session(&mut service, &mut channel, 1);
    let mut put_off = Vec::new();
    for token in 0..3 {
        let (payload, len, deadline, max_reply, one_way) = ((), 0, None, u32::MAX, false);
        let call = Call { token, method: LATER, payload, len, deadline, max_reply, one_way };
        before.start(0, call).expect("room");
        let header = before.poll_transmit(0).expect("a request").header;
        channel.send(&header).expect("room");
        until("it is put off", || {
            service.poll(&mut |_: &Context, _: Bytes<'_>, reply: &mut Reply<'_>| {
                put_off.push(reply.later()?);
                Ok(())
            });
            put_off.len() as u64 > token
        });
    }
    assert_eq!((put_off.len(), service.later()), (3, 3));
    let mut answer = |service: &mut Service, answer: fn(Later), late| {
        answer(put_off.pop().expect("one is left"));
        service.poll(&mut nothing);
        let counts = service.counts();
        assert_eq!((counts.late, counts.failed, counts.refused), late);
    };
    answer(&mut service, |later| later.fail(Failure::Abandoned), (0, 1, 0));
    end(&mut channel, &before);
    until("it is over", || {
        service.poll(&mut nothing);
        service.clients() == 0
    });
    answer(&mut service, |later| later.refuse(Refusal::Overload), (1, 1, 0));
    session(&mut service, &mut channel, 2);
    answer(&mut service, |later| later.fail(Failure::Abandoned), (2, 1, 0));
    assert_eq!((service.later(), service.clients()), (0, 1));
}

#[test]
fn a_reply_that_its_channel_does_not_carry_is_counted() {
    let mut options = of_server();
    (options.listen.channel.quota.bytes, options.listen.channel.quota.resume_bytes) =
        (10_000, 10_000);
    let (mut service, address) = listen(options);
    let mut client = begin(&address);
    let mut handler = Methods::new();
    let asked = 100_000u64.to_le_bytes();
    let token = client.start(MAKE, &asked, How::default()).expect("room");
    let mut outcome = None;
    until("it ends", || {
        service.poll(&mut handler);
        client.poll(|end| outcome = Some((end.token, end.outcome.map(|_| ()))));
        outcome.is_some()
    });
    assert!(matches!(outcome, Some((ended, Outcome::Unknown(_))) if ended == token), "{outcome:?}");
    assert_eq!(service.counts().unsendable, 1);
}
