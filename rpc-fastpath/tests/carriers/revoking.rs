//! Bulk that its originator takes back: before the call, before it is sent, and of a reply.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rpc_fastpath::endpoint::{
    self, Bytes, Connection, ConnectionOptions, Failure, How, Refusal, Reply, Service,
    ServiceOptions,
};
use rpc_fastpath::service::{Message, Outcome, Reason, id_of};

use crate::carrying::{Carrier, Channels, SHM, UDP};
use crate::service::{EverywhereService, Handler, Seen, until};

/// Bulk that is lent by a server, and what ends that server, which takes it back.
fn lent() -> (Message, impl FnOnce()) {
    let scene = Channels(SHM).scene();
    let lent = scene.client.make(3000, 7).executed().expect("made").expect("made");
    let bulk = lent.clone();
    let take_back = move || {
        drop(scene.running);
        until("it is taken back", || {
            scene.client.caller().progress();
            lent.to_vec().is_err()
        });
    };
    (bulk, take_back)
}

#[test]
fn bulk_that_was_taken_back_is_refused_at_once_by_every_carrier() {
    fn refused_over(form: &'static str, bulk: Message) {
        let scene = Channels(form).scene();
        let outcome = scene.client.sum("key", bulk);
        assert_eq!(outcome, Outcome::Refused(Reason::ForeignBuffer), "{form}");
    }
    let (bulk, take_back) = lent();
    take_back();
    refused_over(SHM, bulk.clone());
    refused_over(UDP, bulk);
}

#[test]
fn arguments_that_are_taken_back_before_they_are_sent_are_refused_then() {
    let (bulk, take_back) = lent();
    let address = Channels(SHM).address();
    let service = id_of::<EverywhereService>();
    let options = ConnectionOptions { service, ..ConnectionOptions::default() };
    let mut connection =
        Connection::begin(std::slice::from_ref(&address), options).expect("a connection");
    let token = connection.start(0, bulk, How::default()).expect("it waits for a session");
    take_back();
    let handler = Handler::new(&Arc::new(Seen::default()));
    let _running = Channels(SHM).try_serve(&address, handler).expect("a free name");
    let mut outcome = None;
    until("it ends", || {
        connection.poll_timeout(Duration::from_millis(10), |end| {
            assert_eq!(end.token, token);
            outcome = Some(end.outcome.map(|_| ()));
        });
        outcome.is_some()
    });
    assert_eq!(outcome, Some(endpoint::Outcome::Refused(Refusal::Revoked)));
    let doubled = connection.call(0, &4u64.to_le_bytes(), How::default());
    assert_eq!(doubled, endpoint::Outcome::Executed(8u64.to_le_bytes().into()));
}

#[test]
fn a_reply_that_was_taken_back_is_a_failure_and_not_silence() {
    let (bulk, take_back) = lent();
    take_back();
    let address = Channels(SHM).address();
    let mut service =
        Service::listen(std::slice::from_ref(&address), ServiceOptions::default()).expect("free");
    let stop = AtomicBool::new(false);
    let outcomes = std::thread::scope(|scope| {
        let calls = scope.spawn(|| {
            let mut connection =
                Connection::open(&address, ConnectionOptions::default()).expect("a session");
            let outcomes = [0, 1].map(|method| connection.call(method, b"", How::default()));
            stop.store(true, Ordering::SeqCst);
            outcomes
        });
        service.serve(
            &mut |context: &endpoint::Context, _: Bytes<'_>, reply: &mut Reply<'_>| {
                if context.method == 0 {
                    reply.give(bulk.clone());
                }
                Ok(())
            },
            &stop,
        );
        calls.join().expect("no panic")
    });
    let failed = endpoint::Outcome::Failed(Failure::Abandoned);
    assert_eq!(outcomes, [failed, endpoint::Outcome::Executed(Vec::new())]);
}
