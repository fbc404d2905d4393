//! The service of these runs, and how it is served and called over each carrier.

use std::panic::resume_unwind;
use std::thread::sleep;
use std::time::Duration;

use rpc_fastpath::service::{
    Caller, Local, Remote, RemoteOptions, RemoteServer, RemoteServerOptions, Server, ServerOptions,
    service,
};
use serde::{Deserialize, Serialize};
use unet::Address;

use crate::account::Account;
use crate::plan::Deed;
use crate::support::{LARGEST, bind_options, server_options};

/// A call, as its handler is told of it.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Order {
    pub call: u64,
    pub cookie: u64,
    pub deed: Deed,
    pub reply_len: u32,
}

#[service(name = "ledger", version = 1)]
pub trait Ledger {
    /// Which server it is.
    fn who(&self) -> u64;
    fn enter(&self, order: Order, filler: &[u8]) -> (u64, Vec<u8>);
    #[deadline("2ms")]
    fn enter_in_time(&self, order: Order, filler: &[u8]) -> (u64, Vec<u8>);
    #[slow]
    fn enter_slowly(&self, order: Order, filler: &[u8]) -> (u64, Vec<u8>);
    #[one_way]
    fn tell(&self, order: Order, filler: &[u8]);
}

/// A server's handler.
pub struct Books {
    pub account: Account,
    pub incarnation: u64,
    /// Ends the server, or lets it end.
    pub end: Box<dyn Fn() + Send + Sync>,
}

impl Ledger for Books {
    fn who(&self) -> u64 {
        self.incarnation
    }

    fn enter(&self, order: Order, _filler: &[u8]) -> (u64, Vec<u8>) {
        let call = order.call as usize;
        self.account.handed(call, order.cookie, self.incarnation);
        match order.deed {
            Deed::EndsBefore => (self.end)(),
            Deed::Lingers(micros) => sleep(Duration::from_micros(micros.into())),
            _ => {}
        }
        self.account.done(call);
        match order.deed {
            Deed::EndsAfter => (self.end)(),
            Deed::Panics => resume_unwind(Box::new("as it was asked to")),
            _ => {}
        }
        (order.call, vec![order.call as u8; order.reply_len as usize])
    }

    fn enter_in_time(&self, order: Order, filler: &[u8]) -> (u64, Vec<u8>) {
        self.enter(order, filler)
    }

    fn enter_slowly(&self, order: Order, filler: &[u8]) -> (u64, Vec<u8>) {
        self.enter(order, filler)
    }

    fn tell(&self, order: Order, filler: &[u8]) {
        self.enter(order, filler);
    }
}

/// How often a server looks whether it is to end.
const LOOK: Duration = Duration::from_millis(1);
/// So few that they are too few.
const BACKLOG: usize = 1;

pub trait Carrier {
    const NAME: &str;
    /// Whether a caller finds another server by itself.
    const REBINDS: bool;
    type Caller: Caller<LedgerService>;

    fn bind(address: &Address) -> Option<Self::Caller>;

    /// Serves until it is to end. `false` if the address is not free yet.
    fn serve(address: &Address, books: Books, stop: impl Fn() -> bool) -> bool;
}

pub struct Lrpc;

impl Carrier for Lrpc {
    const NAME: &str = "lrpc";
    const REBINDS: bool = false;
    type Caller = Local<LedgerService>;

    fn bind(address: &Address) -> Option<Self::Caller> {
        Local::bind(address, bind_options()).ok()
    }

    fn serve(address: &Address, books: Books, stop: impl Fn() -> bool) -> bool {
        let options = ServerOptions { backlog: BACKLOG, ..server_options() };
        let Ok(server) = Server::<LedgerService>::export(address, books, options) else {
            return false;
        };
        while !stop() {
            server.serve_timeout(LOOK);
        }
        true
    }
}

/// Channels through shared memory.
pub struct Shm;

impl Carrier for Shm {
    const NAME: &str = "shm";
    const REBINDS: bool = true;
    type Caller = Remote<LedgerService>;

    fn bind(address: &Address) -> Option<Self::Caller> {
        let mut options = RemoteOptions::default();
        options.connection.limits.max_message = LARGEST as u32;
        Remote::open(std::slice::from_ref(address), options).ok()
    }

    fn serve(address: &Address, books: Books, stop: impl Fn() -> bool) -> bool {
        let mut options =
            RemoteServerOptions { backlog: BACKLOG, ..RemoteServerOptions::default() };
        options.service.limits.max_message = LARGEST as u32;
        let at = std::slice::from_ref(address);
        let Ok(mut server) = RemoteServer::<LedgerService>::listen(at, books, options) else {
            return false;
        };
        while !stop() {
            server.serve_timeout(LOOK);
        }
        true
    }
}
