//! A service that its test drives itself: how it sleeps, what it counts, and what it does not begin.

use std::os::fd::AsFd;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rpc_fastpath::endpoint::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

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
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        later.reply(b"late");
    });
    while service.later() > 0 {
        assert!(is_woken(&service, Duration::from_millis(900)), "the answer wakes");
        arm(&mut service);
    }
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
            if context.method == SLEEP {
                thread::sleep(Duration::from_millis(150));
            }
            Ok(())
        };
        let slow = client.start(SLEEP, b"", How::default()).expect("room");
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
        assert_eq!(methods, [SLEEP, ECHO]);
        assert!(begun[1].1.is_some_and(|left| left > Duration::from_secs(5)), "{begun:?}");
    }
}
