//! Names of the author's that are also names in what the attribute writes.

mod support;

use rpc_fastpath::service::{Call, Message, Outcome, Server, ServerOptions};
use serde::{Deserialize, Serialize};
use support::{address, bind_options, server_options};

macro_rules! value {
    ($($name:ident)*) => {$(
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub struct $name(pub u64);
    )*};
}

mod generic {
    use super::*;

    value! { C H R S T M Caller Server Service Outcome Reason Pending Local }

    /// Types that are called as generic parameters and as the crate's own are.
    #[rpc_fastpath::service::service(name = "types", version = 1)]
    pub trait Types {
        fn letters(&self, c: C, h: H, r: R, s: S, t: T, m: M) -> C;
        fn words(&self, caller: Caller, server: Server, service: Service) -> Outcome;
        fn more(&self, reason: Reason, pending: Pending, local: Local) -> Vec<Local>;
    }

    pub struct All;

    impl Types for All {
        fn letters(&self, c: C, h: H, r: R, s: S, t: T, m: M) -> C {
            C(c.0 + h.0 + r.0 + s.0 + t.0 + m.0)
        }

        fn words(&self, caller: Caller, server: Server, service: Service) -> Outcome {
            Outcome(caller.0 + server.0 + service.0)
        }

        fn more(&self, reason: Reason, pending: Pending, local: Local) -> Vec<Local> {
            vec![Local(reason.0), Local(pending.0), local]
        }
    }

    pub fn one<T>(make: impl Fn(u64) -> T) -> T {
        make(1)
    }
}

/// Methods and arguments that are called as what is written for them.
#[rpc_fastpath::service::service(name = "words", version = 1)]
trait Words {
    fn call(&self, call: u64, handler: u64, bulk: u64) -> u64;
    fn handler(&self, context: &Call<'_>, call: u64, handler: &str) -> u64;
    fn bulk(&self, handler: u64, bulk: Message, call: u64) -> u64;
    fn send(&self, registry: u64, gives: &str) -> String;
    fn start(&self, address: u64, options: u64);
    fn method(&self, takes: u64) -> u64;
    fn handle(&self, source: String) -> String;
    fn join(&self) -> Message;
    fn split(&self) -> Option<Message>;
    fn wait(&self, r#type: u8) -> u8;
    fn r#loop(&self, r#fn: &str) -> usize;
    fn fmt(&self);
    fn clone(&self);
    fn arm(&self);
    fn poll(&self);
    #[one_way]
    #[slow]
    #[deadline("5s")]
    fn start_nothing(&self);
    #[one_way]
    #[plain]
    #[idempotent]
    fn nothing(&self);
}

struct Dictionary;

impl Words for Dictionary {
    fn call(&self, call: u64, handler: u64, bulk: u64) -> u64 {
        call * 100 + handler * 10 + bulk
    }

    fn handler(&self, context: &Call<'_>, call: u64, handler: &str) -> u64 {
        assert!(context.caller().is_some());
        call + handler.len() as u64
    }

    fn bulk(&self, handler: u64, bulk: Message, call: u64) -> u64 {
        handler * 10 + call + bulk.len() as u64
    }

    fn send(&self, registry: u64, gives: &str) -> String {
        format!("{registry}{gives}")
    }

    fn start(&self, address: u64, options: u64) {
        assert_eq!((address, options), (1, 2));
    }

    fn method(&self, takes: u64) -> u64 {
        takes
    }

    fn handle(&self, source: String) -> String {
        source
    }

    fn join(&self) -> Message {
        Message::new()
    }

    fn split(&self) -> Option<Message> {
        None
    }

    fn wait(&self, r#type: u8) -> u8 {
        r#type
    }

    fn r#loop(&self, r#fn: &str) -> usize {
        r#fn.len()
    }

    fn fmt(&self) {}

    fn clone(&self) {}

    fn arm(&self) {}

    fn poll(&self) {}

    fn start_nothing(&self) {}

    fn nothing(&self) {}
}

#[test]
fn methods_and_arguments_may_be_called_as_what_is_written_for_them() {
    let address = address("words");
    let server = Server::<WordsService>::export(&address, Dictionary, server_options());
    let _running = server.expect("the name is free").spawn();
    let client = WordsClient::bind(&address, bind_options()).expect("bound");
    assert_eq!(client.call(1, 2, 3), Outcome::Executed(123));
    assert_eq!(client.handler(1, "two"), Outcome::Executed(4));
    let mut buffer = client.caller().alloc(100).expect("a buffer is free");
    buffer.fill(1);
    assert_eq!(client.bulk(1, buffer.freeze().into(), 2), Outcome::Executed(112));
    assert_eq!(client.send(1, "a"), Outcome::Executed("1a".into()));
    assert_eq!(client.start(1, 2), Outcome::Executed(()));
    assert_eq!(client.start_start(1, 2).expect("sent").wait(), Outcome::Executed(()));
    assert_eq!(client.method(7), Outcome::Executed(7));
    assert_eq!(client.handle("x".into()), Outcome::Executed("x".into()));
    assert!(matches!(client.join(), Outcome::Executed(message) if message.is_empty()));
    assert!(matches!(client.split(), Outcome::Executed(None)));
    assert_eq!(client.wait(9), Outcome::Executed(9));
    assert_eq!(client.r#loop("four"), Outcome::Executed(4));
    for nothing in [client.fmt(), client.clone(), client.arm(), client.poll()] {
        assert_eq!(nothing, Outcome::Executed(()));
    }
    assert_eq!((client.start_nothing(), client.nothing()), (Ok(()), Ok(())));
}

#[test]
fn types_may_be_called_as_what_is_written_for_them() {
    use generic::{All, C, Caller, H, Local, M, Pending, R, Reason, S, T, TypesClient, one};
    let address = address("types");
    let options = ServerOptions { workers: 1, ..server_options() };
    let server = Server::<generic::TypesService>::export(&address, All, options);
    let _running = server.expect("the name is free").spawn();
    let client = TypesClient::bind(&address, bind_options()).expect("bound");
    let sum = client.letters(one(C), one(H), one(R), one(S), one(T), one(M));
    assert_eq!(sum, Outcome::Executed(C(6)));
    let words = client.words(one(Caller), one(generic::Server), one(generic::Service));
    assert_eq!(words, Outcome::Executed(generic::Outcome(3)));
    let more = client.more(one(Reason), one(Pending), one(Local));
    assert_eq!(more.map(|more| more.len()), Outcome::Executed(3));
}
