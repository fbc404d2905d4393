//! What one client gets of another's: nothing.

use super::*;

#[test]
fn clients_of_two_users_get_what_is_for_their_queue_and_port_and_nothing_else() {
    let (_ours, theirs) = joined(2);
    let agency = Agency::start();
    let clients = [echo(0, 0, 7000), echo(1, 1, 7100)];
    clients.iter().for_each(|client| client.expect("ready"));
    // Behind the native hook what goes out on a queue comes in on the same one.
    let native = Options { way: Way::Native, reserve: false, ..options(7000) };
    let mut peers = inside(&theirs, || {
        let interface = driver_af_xdp::Interface::find("vb").expect("it is there");
        let program = driver_af_xdp::open::attach(&interface, 1, &native).expect("free");
        let program = Arc::new(program);
        [0, 1].map(|queue| {
            let port = USERS[queue as usize].1;
            let options = Options { port, ..native };
            AfXdp::open_with(&program, &interface, queue, &options).expect("free")
        })
    });
    // What is for the port of one, on the queue of the other, goes to the kernel: to nobody.
    for round in 0..100u32 {
        for (queue, port) in [(0, 7000), (0, 7100), (1, 7000), (1, 7100), (0, 7001), (1, 7101)] {
            let payload = format!("{round} {queue} {port}");
            send(&mut peers[queue], &frame(port, [192, 0, 2, 2], payload.as_bytes()));
        }
        for (queue, port) in [(0, 7000), (1, 7100)] {
            let back = payloads(&mut peers[queue], 1, PATIENCE);
            let expected = format!("{round} {queue} {port}");
            assert_eq!(back, [expected.into_bytes()]);
        }
    }
    for peer in &mut peers {
        let more = payloads(peer, usize::MAX, Duration::from_millis(50));
        assert!(more.is_empty(), "nobody sent back what was not for it: {more:?}");
    }
    assert_eq!(agency.with(|service| service.lent().count()), 2);
}

#[test]
fn a_queue_or_port_that_one_has_is_refused_to_all_others() {
    let (_ours, _theirs) = joined(2);
    let agency = Agency::start();
    let first = ask(NAME, "va", Some(0), &options(7000)).expect("free");
    let busy = ask(NAME, "va", Some(0), &options(7001)).expect_err("it is taken");
    assert!(matches!(busy, OpenError::Busy(why) if why.contains("belongs to another")));
    let port = ask(NAME, "va", Some(1), &options(7000)).expect_err("it is taken");
    assert_eq!(port, OpenError::AddressInUse);
    // A refused one leaves nothing behind.
    let second = ask(NAME, "va", None, &options(7001)).expect("the other is free");
    assert_eq!((second.binding().queue, second.port()), (1, 7001));
    let none = ask(NAME, "va", None, &options(7002)).expect_err("this user has two");
    assert!(matches!(none, OpenError::NotPermitted(why) if why.contains("as many")));
    drop(first);
    let again = ask(NAME, "va", Some(0), &options(7000)).expect("it came back");
    assert_eq!(again.port(), 7000);
    drop((again, second));
    agency.until_free();
    let programs = || driver_af_xdp::Interface::find("va").expect("it is there").programs;
    until("the program is detached with the last client", || programs().is_empty());
}

#[test]
fn what_a_new_policy_does_not_allow_is_taken_back() {
    let (_ours, theirs) = joined(1);
    let agency = Agency::start();
    let client = echo(0, 0, 7000);
    client.expect("ready");
    let mut peer = peer(&theirs, 0, &options(7000));
    send(&mut peer, &frame(7000, [192, 0, 2, 2], b"one"));
    assert_eq!(payloads(&mut peer, 1, PATIENCE), [b"one"]);
    let revoked = agency.with(|service| service.replace(Box::new(|_, _| None)));
    assert_eq!(revoked, Ok(1));
    client.expect("gone");
    send(&mut peer, &frame(7000, [192, 0, 2, 2], b"two"));
    assert!(payloads(&mut peer, 1, Duration::from_millis(50)).is_empty());
    let refused = ask(NAME, "va", Some(0), &options(7000)).expect_err("nothing is allowed");
    assert!(matches!(refused, OpenError::NotPermitted(why) if why.contains("policy")));
}
