//! The server: one store, at as many addresses as are named.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rpc_fastpath::endpoint;
use rpc_fastpath::service::{
    ExportError, ExportOptions, RemoteServer, RemoteServerOptions, Server, ServerOptions,
};
use unet::{Address, NetworkOptions, Wait};

use crate::service::{KeyValueService, Shared};

/// How to serve.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServeOptions {
    /// How each thread waits for calls.
    pub wait: Wait,
    /// Serve clients of this host too by the protocol of channels, in place of LRPC.
    pub channels: bool,
}

/// Serves a store at these addresses until `stop` is set: a thread for each that LRPC leads to, and one for
/// all others. `ready` is called when clients can come to all of them.
///
/// # Errors
/// Which address cannot be served, and why; then none is.
pub fn serve(
    addresses: &[Address],
    store: &Arc<Shared>,
    options: ServeOptions,
    stop: &AtomicBool,
    ready: impl FnOnce(),
) -> Result<(), ServeError> {
    let by_lrpc = |address: &Address| !options.channels && matches!(address, Address::Shm(_));
    let (local, distant): (Vec<_>, Vec<_>) = addresses.iter().cloned().partition(by_lrpc);
    let export = |address: &Address| {
        let export = ExportOptions { wait: options.wait, ..ExportOptions::default() };
        let lrpc = ServerOptions { export, ..ServerOptions::default() };
        let server = Server::<KeyValueService>::export(address, Arc::clone(store), lrpc);
        server.map_err(|why| ServeError::Export { address: address.to_string(), why })
    };
    let servers: Vec<_> = local.iter().map(export).collect::<Result<_, _>>()?;
    let listening = (!distant.is_empty()).then(|| listen(&distant, store, options.wait));
    let listening = listening.transpose()?;
    ready();
    let over = || stop.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        for server in servers {
            scope.spawn(move || server.serve_until(over));
        }
        if let Some(mut server) = listening {
            scope.spawn(move || server.serve_until(over));
        }
    });
    Ok(())
}

fn listen(
    addresses: &[Address],
    store: &Arc<Shared>,
    wait: Wait,
) -> Result<RemoteServer<KeyValueService>, ServeError> {
    let mut options = RemoteServerOptions::default();
    options.service.wait = wait;
    options.service.listen.network = network();
    // What is a little too large is refused by the store, which says why; what is far too large is not
    // even received.
    let limits = &mut options.service.limits;
    let largest = store.limits().value.saturating_mul(2).saturating_add(64 << 10);
    limits.max_message = limits.max_message.min(u32::try_from(largest).unwrap_or(u32::MAX));
    limits.unfinished = limits.unfinished.min(limits.max_message.saturating_mul(2));
    Ok(RemoteServer::listen(addresses, Arc::clone(store), options)?)
}

/// All networks that there are drivers for.
pub(crate) fn network() -> NetworkOptions {
    NetworkOptions { drivers: drivers::linked(), ..NetworkOptions::default() }
}

/// An address cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// By LRPC.
    #[error("{address} cannot be served: {why}")]
    Export {
        /// Which.
        address: String,
        /// Why.
        why: ExportError,
    },
    /// By channels.
    #[error("one of the addresses cannot be served: {0}")]
    Listen(#[from] endpoint::ServeError),
}
