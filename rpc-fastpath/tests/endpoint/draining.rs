//! What a server that is about to end still sends.

use std::thread;
use std::time::Duration;

use rpc_fastpath::endpoint::*;

use crate::scene::*;

/// Serves until a handler has run, drains, and drops the service.
fn serve_once(address: &unet::Address, options: ServiceOptions) {
    let mut service = Service::listen(std::slice::from_ref(address), options).expect("listening");
    let mut has_run = false;
    while !has_run {
        let mut make = |_: &Context, _: Bytes<'_>, reply: &mut Reply<'_>| -> Result<(), Decline> {
            has_run = true;
            reply.give(pattern(2 << 20));
            Ok(())
        };
        service.poll_timeout(&mut make, Duration::from_millis(5));
    }
    service.drain();
}

#[test]
fn a_long_reply_arrives_whole_from_a_service_that_is_drained() {
    for suspicion in [1_000_000_000, 0] {
        let address = UDP.address();
        let mut options = of_server();
        options.timers.suspicion = suspicion;
        let asks = thread::spawn({
            let address = address.clone();
            move || {
                let mut connection = Connection::begin(&[address], of_client(UDP)).expect("memory");
                connection.call(MAKE, b"", How::default())
            }
        });
        serve_once(&address, options);
        let outcome = asks.join().expect("no panic");
        assert!(outcome == Outcome::Executed(pattern(2 << 20)), "with {suspicion}");
    }
}
