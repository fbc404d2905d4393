//! Chains of calls that come back to a server whose handler waits for them.

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rpc_fastpath::service::{Call, Outcome, Remote, RemoteServer, RemoteServerOptions, Running};
use unet::Address;

use crate::carrying::{Carrier, Channels, LOSSY, SHM, SIM, UDP, of_client, of_server};
use crate::service::{Chain, EverywhereClient, EverywhereService, Handler, Seen};

thread_local! {
    /// The clients of this thread, by their servers' addresses.
    static CLIENTS: RefCell<HashMap<String, Rc<dyn Any>>> = RefCell::default();
}

struct ToNext<C> {
    carrier: C,
    next: Address,
}

impl<C: Carrier> ToNext<C> {
    /// The same each time, so that its calls are under way at once.
    fn client(&self) -> Rc<EverywhereClient<C::Caller>> {
        let name = self.next.to_string();
        let known = CLIENTS.with_borrow(|clients| clients.get(&name).cloned());
        let client = known.unwrap_or_else(|| {
            let caller = self.carrier.try_connect(&self.next).expect("a server");
            let client: Rc<dyn Any> = Rc::new(EverywhereClient::new(caller));
            CLIENTS.with_borrow_mut(|clients| clients.insert(name, Rc::clone(&client)));
            client
        });
        client.downcast().expect("of this carrier")
    }
}

impl<C: Carrier> Chain for ToNext<C> {
    fn descend(&self, call: &Call<'_>, depth: u32) -> Result<u32, String> {
        match self.client().serving(call).descend(depth) {
            Outcome::Executed(below) => below,
            other => Err(format!("{other:?}")),
        }
    }

    fn left(&self, call: &Call<'_>, depth: u32) -> u64 {
        std::thread::sleep(Duration::from_millis(100));
        self.client().serving(call).left(depth).executed().expect("in time")
    }
}

/// So many servers, of which each calls the next one, and the last the first; and the address of that.
fn circle<C: Carrier>(carrier: C, servers: usize) -> (Vec<Running>, Address) {
    let addresses: Vec<Address> = (0..servers).map(|_| carrier.address()).collect();
    let serve = |number: usize| {
        let next = addresses[(number + 1) % servers].clone();
        let mut handler = Handler::new(&Arc::new(Seen::default()));
        handler.next = Some(Box::new(ToNext { carrier, next }));
        carrier.try_serve(&addresses[number], handler).expect("a free name")
    };
    ((0..servers).map(serve).collect(), addresses[0].clone())
}

pub fn calls_come_back_to_a_server_that_waits(carrier: impl Carrier) {
    let (_running, first) = circle(carrier, 3);
    let client = EverywhereClient::new(carrier.try_connect(&first).expect("a server"));
    for depth in [2, 3, 7, 20] {
        assert_eq!(client.descend(depth), Outcome::Executed(Ok(depth)));
    }
    // No chain is without end: the first bound that is met says so.
    let Outcome::Executed(Err(why)) = client.descend(1000) else { panic!("it has an end") };
    assert!(["Refused(NoAStack)", "Refused(TooDeep)"].contains(&&*why), "{why}");
    assert_eq!(client.descend(5), Outcome::Executed(Ok(5)));
}

pub fn nested_calls_carry_the_deadline(carrier: impl Carrier) {
    let (_running, first) = circle(carrier, 2);
    let client = EverywhereClient::new(carrier.try_connect(&first).expect("a server"));
    let left = client.left(3).executed().expect("in time");
    assert!((1..=19_700_000).contains(&left), "{left} of 20 s after three tenths");
}

/// Channels whose window is larger than handlers may be nested.
#[derive(Clone, Copy)]
struct Wide(&'static str);

impl Carrier for Wide {
    type Caller = Remote<EverywhereService>;

    fn address(self) -> Address {
        Channels(self.0).address()
    }

    fn try_serve(self, address: &Address, handler: Handler) -> Option<Running> {
        let mut options: RemoteServerOptions = of_server();
        options.service.limits.window = 32;
        let addresses = std::slice::from_ref(address);
        let server = RemoteServer::<EverywhereService>::listen(addresses, handler, options);
        Some(server.ok()?.spawn())
    }

    fn try_connect(self, address: &Address) -> Option<Self::Caller> {
        let mut options = of_client();
        options.connection.limits.window = 32;
        Remote::open(std::slice::from_ref(address), options).ok()
    }
}

#[test]
fn a_server_runs_sixteen_handlers_within_one_another_and_refuses_more() {
    for form in [SHM, UDP, SIM, LOSSY] {
        let (_running, first) = circle(Wide(form), 2);
        let client = EverywhereClient::new(Wide(form).try_connect(&first).expect("a server"));
        // Sixteen at either.
        assert_eq!(client.descend(31), Outcome::Executed(Ok(31)), "{form}");
        let deeper = Outcome::Executed(Err("Refused(TooDeep)".into()));
        assert_eq!(client.descend(32), deeper, "{form}");
        assert_eq!(client.descend(31), Outcome::Executed(Ok(31)), "{form}");
        assert_eq!(client.caller().under_way(), 0);
    }
}
