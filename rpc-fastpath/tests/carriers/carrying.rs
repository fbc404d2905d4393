//! The carriers: how a service is reached over each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rpc_fastpath::service::{
    BindOptions, Caller, ExportOptions, Local, Remote, RemoteOptions, RemoteServer,
    RemoteServerOptions, Running, Server, ServerOptions,
};
use unet::{Address, Class, ConnectOptions, Geometry, ListenOptions, NetworkOptions};

use crate::service::{EverywhereClient, EverywhereService, Handler, Seen};

/// What the longest arguments and results are, over every carrier.
pub const LARGEST: usize = 65_536;

pub const SHM: &str = "shm:NAME";
pub const UDP: &str = "udp:127.0.0.1:PORT";
pub const SIM: &str = "sim:NAME@127.0.0.1:PORT";
pub const LOSSY: &str = "sim:NAME@127.0.0.1:PORT?loss=0.02&duplicate=0.02&reorder=0.02";

/// An address of that form which nobody else has.
pub fn address(form: &str) -> Address {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("carry-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let port = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port").local_addr();
    let port = port.expect("bound").port().to_string();
    form.replace("NAME", &name).replace("PORT", &port).parse().expect("an address")
}

/// A way of calls.
pub trait Carrier: Copy + Send + Sync + 'static {
    type Caller: Caller<EverywhereService>;

    fn address(self) -> Address;
    fn try_serve(self, address: &Address, handler: Handler) -> Option<Running>;
    fn try_connect(self, address: &Address) -> Option<Self::Caller>;

    /// A server, and its client.
    fn scene(self) -> Scene<Self> {
        let (address, seen) = (self.address(), Arc::new(Seen::default()));
        let running = self.try_serve(&address, Handler::new(&seen)).expect("a free name");
        let client = EverywhereClient::new(self.try_connect(&address).expect("a server"));
        Scene { client, seen, running }
    }
}

pub struct Scene<C: Carrier> {
    // The first to go.
    pub client: EverywhereClient<C::Caller>,
    pub seen: Arc<Seen>,
    pub running: Running,
}

/// Few workers, so that they have soon enough.
const WORKERS: usize = 1;
const OF_A_CLIENT: usize = 3;

#[derive(Clone, Copy)]
pub struct Lrpc;

fn small() -> Geometry {
    let mut geometry = Geometry { slots: 64, ..Geometry::default() };
    geometry.classes = Default::default();
    geometry.classes[0] = Class { buffer_bytes: 4096, buffers: 16 };
    geometry.classes[1] = Class { buffer_bytes: LARGEST as u32, buffers: 4 };
    geometry
}

impl Carrier for Lrpc {
    type Caller = Local<EverywhereService>;

    fn address(self) -> Address {
        address(SHM)
    }

    fn try_serve(self, address: &Address, handler: Handler) -> Option<Running> {
        let export = ExportOptions { geometry: small(), ..ExportOptions::default() };
        let (workers, backlog, backlog_of_a_client) = (WORKERS, 64, OF_A_CLIENT);
        let options = ServerOptions { export, workers, backlog, backlog_of_a_client };
        Some(Server::<EverywhereService>::export(address, handler, options).ok()?.spawn())
    }

    fn try_connect(self, address: &Address) -> Option<Self::Caller> {
        let options = BindOptions { geometry: small(), ..BindOptions::default() };
        Local::bind(address, options).ok()
    }
}

/// Channels by an address of that form.
#[derive(Clone, Copy)]
pub struct Channels(pub &'static str);

fn network() -> NetworkOptions {
    // Longer than a busy machine keeps a thread from its turn. A killed server is missed sooner, by the next one.
    let silence = Duration::from_secs(10);
    NetworkOptions { drivers: drivers::linked(), silence, ..NetworkOptions::default() }
}

pub fn of_client() -> RemoteOptions {
    let mut options = RemoteOptions::default();
    options.connection.connect = ConnectOptions { network: network(), ..ConnectOptions::default() };
    options.connection.limits.max_message = LARGEST as u32;
    options
}

pub fn of_server() -> RemoteServerOptions {
    let mut options = RemoteServerOptions {
        workers: WORKERS,
        backlog_of_a_client: OF_A_CLIENT,
        ..RemoteServerOptions::default()
    };
    options.service.listen = ListenOptions { network: network(), ..ListenOptions::default() };
    options.service.limits.max_message = LARGEST as u32;
    options
}

impl Carrier for Channels {
    type Caller = Remote<EverywhereService>;

    fn address(self) -> Address {
        address(self.0)
    }

    fn try_serve(self, address: &Address, handler: Handler) -> Option<Running> {
        let addresses = std::slice::from_ref(address);
        let server = RemoteServer::<EverywhereService>::listen(addresses, handler, of_server());
        Some(server.ok()?.spawn())
    }

    fn try_connect(self, address: &Address) -> Option<Self::Caller> {
        Remote::open(std::slice::from_ref(address), of_client()).ok()
    }
}
