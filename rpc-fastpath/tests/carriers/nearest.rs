//! Clients that take whichever carrier is nearest, and those that come to the wrong one.

use std::sync::Arc;

use rpc_fastpath::endpoint::{OpenError, Rejection, SessionEnd};
use rpc_fastpath::service::{
    BindError, BindOptions, Local, Nearest, NearestOptions, Outcome, PendingCall, RemoteServer,
    Server, ServerOptions, service,
};
use unet::Address;

use crate::carrying::{Carrier, Channels, Lrpc, SHM, UDP, of_client, of_server};
use crate::channels::version;
use crate::service::{EverywhereClient, EverywhereService, Handler, Seen};

fn open(addresses: &[Address]) -> Result<Nearest<EverywhereService>, OpenError> {
    Nearest::open(addresses, NearestOptions { remote: of_client(), ..NearestOptions::default() })
}

fn handler() -> Handler {
    Handler::new(&Arc::new(Seen::default()))
}

fn assert_serves(nearest: Nearest<EverywhereService>) {
    let client = EverywhereClient::new(nearest);
    assert_eq!(client.double(1), Outcome::Executed(2));
    let started = client.start_double(2).expect("it is sent");
    assert_eq!(started.wait(), Outcome::Executed(4));
    let text = "x".repeat(1000);
    assert_eq!(client.join(vec![&text], ""), Outcome::Executed(text));
}

struct Twice;

impl version::Everywhere for Twice {
    fn double(&self, number: u64) -> u64 {
        number * 2
    }
}

#[test]
fn lrpc_comes_first_then_the_channels() {
    let [near, far] = [SHM, UDP].map(|form| Channels(form).address());
    let both = [far.clone(), near.clone()];
    let _far = Channels(UDP).try_serve(&far, handler()).expect("a free name");
    let nearest = open(&both).expect("a server");
    assert!(matches!(nearest, Nearest::Remote(_)));
    assert_serves(nearest);
    let by_lrpc = Lrpc.try_serve(&near, handler()).expect("a free name");
    let nearest = open(&both).expect("a server");
    assert!(matches!(nearest, Nearest::Local(_)));
    assert_serves(nearest);
    drop(by_lrpc);
    let _by_channel = Channels(SHM).try_serve(&near, handler()).expect("a free name");
    let nearest = open(&[near]).expect("a server");
    assert!(matches!(nearest, Nearest::Remote(_)));
    assert_serves(nearest);
}

#[test]
fn a_server_of_another_version_is_passed_by_or_told() {
    let [near, far] = [SHM, UDP].map(|form| Channels(form).address());
    let other =
        Server::<version::EverywhereService>::export(&near, Twice, ServerOptions::default());
    let _other = other.expect("a free name").spawn();
    let told = OpenError::Session(SessionEnd::Rejected(Rejection::ServiceVersion));
    assert_eq!(open(std::slice::from_ref(&near)).expect_err("of another version"), told);
    let _far = Channels(UDP).try_serve(&far, handler()).expect("a free name");
    assert_serves(open(&[near, far]).expect("the other"));
}

#[service(name = "without A-stacks", version = 1)]
trait Small {
    fn null(&self);
}

struct Nothing;

impl Small for Nothing {
    fn null(&self) {}
}

#[test]
fn a_client_over_lrpc_is_refused_by_a_server_over_channels() {
    let addresses = [Channels(SHM).address()];
    let server = RemoteServer::<SmallService>::listen(&addresses, Nothing, of_server());
    let _running = server.expect("a free name").spawn();
    let error = Local::<SmallService>::bind(&addresses[0], BindOptions::default());
    assert_eq!(error.expect_err("it is no LRPC server"), BindError::Refused);
}
