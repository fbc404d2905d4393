//! What is dropped stands in the page of counters, where other processes find it.

use std::fs::File;
use std::os::fd::AsFd;
use std::time::Duration;

use rpc_fastpath::endpoint::*;
use unet::{Channel, Counter, Endpoint, EndpointOptions, Event, ListenOptions, Snapshot};

use crate::scene::{SHM, of_client, of_server, until};

/// The page of this process that says so, if one does.
fn page(counter: Counter, count: u64) -> Option<File> {
    let pages = Snapshot::pages_of(std::process::id()).expect("it is this process");
    pages.into_iter().find(|page| {
        let page = Snapshot::read(page.as_fd());
        page.is_ok_and(|page| !page.of_channel && page.get(counter) == count)
    })
}

#[test]
fn what_a_service_drops_stands_in_its_page_also_when_it_is_gone() {
    let address = SHM.address();
    let mut service =
        Service::listen(std::slice::from_ref(&address), of_server()).expect("a free name");
    let mut nothing =
        |_: &Context, _: Bytes<'_>, _: &mut Reply<'_>| -> Result<(), Decline> { Ok(()) };
    let hostile = std::thread::scope(|scope| {
        let hostile = scope.spawn(|| Channel::connect(&address, of_client(SHM).connect));
        while !hostile.is_finished() {
            service.poll_timeout(&mut nothing, Duration::from_millis(1));
        }
        hostile.join().expect("no panic")
    });
    let mut hostile = hostile.expect("a channel");
    // As many as nobody else in this program has.
    for sent in 1..=613 {
        hostile.send(b"too short").expect("room");
        until("it is looked at", || {
            service.poll(&mut nothing);
            service.counts().malformed == sent
        });
    }
    let mut found = None;
    until("the page says so", || {
        service.poll_timeout(&mut nothing, Duration::from_millis(5));
        found = page(Counter::RpcMalformed, 613);
        found.is_some()
    });
    hostile.send(b"too short").expect("room");
    until("it is looked at", || {
        service.poll(&mut nothing);
        service.counts().malformed == 614
    });
    drop(service);
    let page = Snapshot::read(found.expect("found").as_fd()).expect("it is a page");
    assert_eq!(page.get(Counter::RpcMalformed), 614);
}

#[test]
fn what_a_client_drops_stands_in_its_page() {
    let address = SHM.address();
    let mut endpoint = Endpoint::new(EndpointOptions::default()).expect("memory");
    endpoint.listen(&address, ListenOptions::default()).expect("a free name");
    let mut client = Connection::begin(&[address], of_client(SHM)).expect("a connection");
    let mut told = 0;
    until("the page says so", || {
        client.poll_timeout(Duration::from_millis(1), |_| {});
        match endpoint.try_recv() {
            Some(Event::Incoming(incoming)) => _ = endpoint.accept(incoming, b""),
            // What it asks for is not given.
            Some(Event::Message(from, _)) if told < 617 => {
                let channel = endpoint.channel_mut(from).expect("it is open");
                while told < 617 && channel.try_send(b"too short") == Ok(unet::Offer::Taken) {
                    told += 1;
                }
            }
            _ => {}
        }
        page(Counter::RpcMalformed, 617).is_some()
    });
    assert_eq!(client.malformed(), 617);
}
