//! What the two sides of a service can expect of calls, each way in which values travel.

mod support;

use std::sync::atomic::{AtomicU64, Ordering};

use rpc_fastpath::service::{
    BindError, Call, Message, Outcome, Reason, Running, Server, UnknownReason, service,
};
use serde::{Deserialize, Serialize};
use support::{LARGEST, address, bind_options, server_options};
use zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};

#[derive(Clone, Copy, Debug, PartialEq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Point {
    x: i32,
    y: i32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Person {
    name: String,
    mails: Vec<String>,
    boss: Option<Box<Person>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum NotFound {
    Never,
    Gone { since: u64 },
}

/// One method for each way.
#[service(name = "ways", version = 3)]
trait Ways {
    /// Nothing at all.
    fn null(&self);
    /// One plain value.
    fn double(&self, number: u64) -> u64;
    /// Plain values of several alignments.
    fn mix(&self, a: u8, b: u64, c: bool, d: [u16; 3]) -> i128;
    /// Plain data by its author's word, through an A-stack.
    #[plain]
    fn mirror(&self, points: [Point; 9], last: Point) -> [Point; 10];
    /// Borrowed and encoded, small enough for the slot or not.
    fn join(&self, parts: Vec<&str>, with: &str) -> String;
    /// Nested.
    fn promote(&self, person: Person) -> Person;
    /// Fails in its own way.
    fn find(&self, key: &str) -> Result<u64, NotFound>;
    /// Bulk in, with a long key.
    fn put(&self, key: &str, value: Message) -> u64;
    /// Bulk in and out.
    fn double_all(&self, call: &Call<'_>, bytes: Message) -> Message;
    /// Bulk out, or none.
    fn get(&self, call: &Call<'_>, len: u32) -> Result<Message, NotFound>;
    /// Who calls.
    fn whoami(&self, call: &Call<'_>) -> u32;
    /// So many bytes.
    fn zeros(&self, len: u32) -> Vec<u8>;
    /// Panics.
    #[idempotent]
    fn panic(&self, why: &str);
    /// Counted, and no more.
    #[one_way]
    fn count(&self, by: u64);
    /// What was counted.
    fn counted(&self) -> u64;
}

#[derive(Default)]
struct Handler {
    counted: AtomicU64,
}

fn reply(call: &Call<'_>, bytes: &[u8]) -> Message {
    let mut buffer = call.alloc(bytes.len()).expect("a buffer is free");
    buffer.copy_from_slice(bytes);
    buffer.freeze().into()
}

impl Ways for Handler {
    fn null(&self) {}

    fn double(&self, number: u64) -> u64 {
        number.wrapping_mul(2)
    }

    fn mix(&self, a: u8, b: u64, c: bool, d: [u16; 3]) -> i128 {
        i128::from(a) + i128::from(b) + i128::from(c) - i128::from(d[0] + d[1] + d[2])
    }

    fn mirror(&self, points: [Point; 9], last: Point) -> [Point; 10] {
        std::array::from_fn(|at| {
            let Point { x, y } = points.get(at).copied().unwrap_or(last);
            Point { x: y, y: x }
        })
    }

    fn join(&self, parts: Vec<&str>, with: &str) -> String {
        parts.join(with)
    }

    fn promote(&self, person: Person) -> Person {
        person.boss.map_or_else(
            || Person { name: "nobody".into(), mails: vec![], boss: None },
            |boss| *boss,
        )
    }

    fn find(&self, key: &str) -> Result<u64, NotFound> {
        match key {
            "here" => Ok(7),
            "gone" => Err(NotFound::Gone { since: u64::MAX }),
            _ => Err(NotFound::Never),
        }
    }

    fn put(&self, key: &str, value: Message) -> u64 {
        let bytes = value.to_vec().expect("it was not revoked");
        key.len() as u64 + bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>()
    }

    fn double_all(&self, call: &Call<'_>, bytes: Message) -> Message {
        let mut bytes = bytes.to_vec().expect("it was not revoked");
        bytes.iter_mut().for_each(|byte| *byte = byte.wrapping_mul(2));
        reply(call, &bytes)
    }

    fn get(&self, call: &Call<'_>, len: u32) -> Result<Message, NotFound> {
        if len == 0 { Err(NotFound::Never) } else { Ok(reply(call, &vec![9; len as usize])) }
    }

    fn whoami(&self, call: &Call<'_>) -> u32 {
        call.caller().expect("the client is there").pid
    }

    fn zeros(&self, len: u32) -> Vec<u8> {
        vec![0; len as usize]
    }

    fn panic(&self, why: &str) {
        panic!("{why}");
    }

    fn count(&self, by: u64) {
        self.counted.fetch_add(by, Ordering::Relaxed);
    }

    fn counted(&self) -> u64 {
        self.counted.load(Ordering::Relaxed)
    }
}

fn serve(test: &str) -> (Running, WaysClient) {
    let address = address(test);
    let server = Server::<WaysService>::export(&address, Handler::default(), server_options());
    let running = server.expect("the name is free").spawn();
    let client = WaysClient::bind(&address, bind_options()).expect("bound");
    (running, client)
}

/// All buffers of either direction are back.
fn nothing_is_held(client: &WaysClient) {
    let (free, lent, total) = client.caller().binding().buffers();
    assert_eq!((free, lent), (total, 0));
}

#[test]
fn plain_values_come_through_in_place() {
    let (_server, client) = serve("plain");
    for number in 0..1000 {
        assert_eq!(client.null(), Outcome::Executed(()));
        assert_eq!(client.double(number), Outcome::Executed(number * 2));
    }
    assert_eq!(client.mix(255, u64::MAX, true, [1, 2, 3]).executed(), Ok((1 << 64) + 249));
    let points = std::array::from_fn(|at| Point { x: at as i32, y: -(at as i32) });
    let mirrored = client.mirror(points, Point { x: 100, y: 200 }).executed().expect("executed");
    assert_eq!((mirrored[3], mirrored[9]), (Point { x: -3, y: 3 }, Point { x: 200, y: 100 }));
}

#[test]
fn encoded_values_come_through_in_the_slot_and_in_buffers() {
    let (_server, client) = serve("encoded");
    assert_eq!(client.join(vec!["a", "é"], ", ").executed(), Ok("a, é".into()));
    // Around what a slot holds, around the first class of buffers, and up to the largest.
    for len in (0..60).chain(4080..4100).chain([LARGEST - 20]) {
        let part = "x".repeat(len);
        assert_eq!(client.join(vec![&part], "").executed().as_ref(), Ok(&part), "{len}");
    }
    let boss = Person { name: "Grace".into(), mails: vec!["g@navy".into(); 100], boss: None };
    let person = Person { name: "Ada".into(), mails: vec![], boss: Some(Box::new(boss.clone())) };
    assert_eq!(client.promote(person).executed(), Ok(boss));
    nothing_is_held(&client);
}

#[test]
fn a_services_own_errors_are_results() {
    let (_server, client) = serve("errors");
    assert_eq!(client.find("here"), Outcome::Executed(Ok(7)));
    let gone = NotFound::Gone { since: u64::MAX };
    assert_eq!(client.find("gone"), Outcome::Executed(Err(gone)));
    assert_eq!(client.find("elsewhere"), Outcome::Executed(Err(NotFound::Never)));
}

#[test]
fn bulk_changes_hands_beside_arguments_and_results() {
    let (_server, client) = serve("bulk");
    for round in 0..50 {
        let mut buffer = client.caller().alloc(10_000).expect("a buffer is free");
        buffer.fill(round);
        let outcome = client.double_all(buffer.freeze().into());
        let doubled = outcome.executed().expect("executed").to_vec().expect("it was not revoked");
        assert_eq!(doubled, vec![round * 2; 10_000]);
    }
    let mut buffer = client.caller().alloc(3).expect("a buffer is free");
    buffer.fill(1);
    let key = "k".repeat(500);
    assert_eq!(client.put(&key, buffer.freeze().into()).executed(), Ok(503));
    assert_eq!(client.put("empty", Message::new()).executed(), Ok(5), "none is an empty one");
    let got = client.get(4096).executed().expect("executed").expect("it is there");
    assert_eq!(got.to_vec().expect("it was not revoked"), vec![9; 4096]);
    assert_eq!(client.get(0).executed().expect("executed").err(), Some(NotFound::Never));
    drop(got);
    nothing_is_held(&client);
}

#[test]
fn a_handler_knows_its_caller() {
    let (_server, client) = serve("whoami");
    assert_eq!(client.whoami().executed(), Ok(std::process::id()));
}

#[test]
fn what_is_too_large_is_refused_before_and_told_after() {
    let (_server, client) = serve("too-large");
    let long = "x".repeat(LARGEST);
    assert_eq!(client.join(vec![&long], ""), Outcome::Refused(Reason::TooLarge));
    let key = "k".repeat(511);
    assert_eq!(client.put(&key, Message::new()), Outcome::Refused(Reason::TooLarge));
    assert_eq!(client.zeros(100).executed(), Ok(vec![0; 100]));
    let reply = client.zeros(LARGEST as u32);
    assert_eq!(reply, Outcome::Unknown(UnknownReason::ResultsTooLarge));
    assert_eq!(client.double(2).executed(), Ok(4));
    nothing_is_held(&client);
}

#[test]
fn a_message_that_cannot_change_hands_is_refused() {
    let (_server, client) = serve("foreign");
    let (_other_server, other) = serve("foreign-other");
    let foreign = other.caller().alloc(10).expect("a buffer is free").freeze();
    assert_eq!(client.put("k", foreign.into()), Outcome::Refused(Reason::ForeignBuffer));
    let part = || client.caller().alloc(10).expect("a buffer is free").freeze();
    let mut rope = Message::from(part());
    rope.append(part().into());
    assert_eq!(client.put("k", rope), Outcome::Refused(Reason::ForeignBuffer));
    nothing_is_held(&client);
    nothing_is_held(&other);
}

#[test]
fn a_handler_that_panics_fails_its_call_and_no_other() {
    let (_server, client) = serve("panics");
    for _ in 0..20 {
        assert_eq!(client.panic("of the test"), Outcome::Unknown(UnknownReason::Failed));
        assert_eq!(client.double(2), Outcome::Executed(4));
    }
}

#[test]
fn one_way_calls_arrive_in_order_before_what_follows() {
    let (_server, client) = serve("one-way");
    let mut sent = 0;
    for by in 1..100 {
        match client.count(by) {
            Ok(()) => sent += by,
            // As many are under way as may be.
            Err(reason) => assert_eq!(reason, Reason::NoAStack),
        }
    }
    assert!(sent > 0);
    assert_eq!(client.counted().executed(), Ok(sent));
}

#[test]
fn calls_are_pipelined() {
    let (_server, client) = serve("pipelined");
    for round in 0..100u64 {
        let calls: Vec<_> =
            (0..8).map(|n| client.start_double(round + n).expect("it is sent")).collect();
        let strings = client.start_join(vec!["a", "b"], "-").expect("it is sent");
        for (n, call) in calls.into_iter().enumerate().rev() {
            assert_eq!(call.wait(), Outcome::Executed((round + n as u64) * 2));
        }
        assert_eq!(strings.wait(), Outcome::Executed("a-b".into()));
    }
    drop(client.start_zeros(5000).expect("it is sent"));
    assert_eq!(client.null(), Outcome::Executed(()));
    nothing_is_held(&client);
}

mod version {
    #[rpc_fastpath::service::service(name = "ways", version = 4)]
    pub trait Ways {
        fn null(&self);
    }
}
mod layout {
    #[rpc_fastpath::service::service(name = "ways", version = 3)]
    pub trait Ways {
        fn null(&self);
    }
}
mod name {
    #[rpc_fastpath::service::service(name = "other ways", version = 3)]
    pub trait Ways {
        fn null(&self);
    }
}

#[test]
fn a_client_of_another_service_is_told_what_differs() {
    let address = address("differs");
    let server = Server::<WaysService>::export(&address, Handler::default(), server_options());
    let _server = server.expect("the name is free").spawn();
    let error = version::WaysClient::bind(&address, bind_options()).err();
    assert_eq!(error, Some(BindError::VersionMismatch));
    let error = layout::WaysClient::bind(&address, bind_options()).err();
    assert_eq!(error, Some(BindError::LayoutMismatch));
    let error = name::WaysClient::bind(&address, bind_options()).err();
    assert_eq!(error, Some(BindError::UnknownInterface));
}

#[test]
fn whatever_changes_how_a_call_travels_changes_the_layout() {
    use rpc_fastpath::service::service;
    macro_rules! layouts {
        ($($(#[$mark:meta])* ($($arguments:tt)*) -> $result:ty;)*) => {
            [$({
                #[service(name = "n", version = 1)]
                trait S {
                    $(#[$mark])*
                    fn method(&self, $($arguments)*) -> $result;
                }
                <SService as lrpc::Interface>::LAYOUT
            }),*]
        };
    }
    let layouts = layouts! {
        (a: u64) -> u64;
        (a: i64) -> u64;
        (a: u64) -> i64;
        (a: u64, b: u64) -> u64;
        (a: String) -> u64;
        (a: &str) -> u64;
        (a: u64, b: Message) -> u64;
        #[deadline("5ms")] (a: u64) -> u64;
        (a: u64) -> Result<u64, u64>;
        (a: u64) -> Message;
    };
    for (at, layout) in layouts.iter().enumerate() {
        assert!(!layouts[..at].contains(layout), "{at}");
    }
    // How long, and who runs it, is each side's own business.
    let same = layouts! {
        #[deadline("5ms")] (a: u64) -> u64;
        #[deadline("6ms")] (a: u64) -> u64;
        #[deadline("5ms")] #[slow] #[idempotent] (a: u64) -> u64;
    };
    assert!(same.iter().all(|layout| *layout == same[0]));
}
