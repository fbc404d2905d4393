//! A service's stub over LRPC: what `#[service]` adds to the same call by hand, which is `lrpc`.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lrpc::BindOptions;
use rpc_fastpath::service;

use crate::fault::Fault;
use crate::measure::halves::{Echo, EchoLoop};
use crate::process::server::{Request, Server};
use crate::systems::lrpc::{address, failed};
use crate::systems::unet::wait;
use crate::systems::{ClientHalf, Ready, ServerHalf, System};
use crate::task::{Bench, Task, Wait};

/// What is called.
#[service::service(name = "unet-bench", version = 1)]
trait Calls {
    /// Does nothing.
    fn null(&self);
    /// Ends the server's loop.
    fn finish(&self);
}

/// Local calls through a stub.
pub struct Stub;

/// How often the server asks whether to stop while nobody calls.
const LOOK: Duration = Duration::from_millis(100);

impl System for Stub {
    fn name(&self) -> &'static str {
        "service"
    }

    fn transport(&self) -> &'static str {
        "shm:"
    }

    fn about(&self) -> &'static str {
        "local calls through the stub of a service"
    }

    fn payload(&self, _: Bench, _: usize) -> usize {
        0
    }

    fn answers(&self, bench: Bench) -> bool {
        bench == Bench::NullRpc
    }

    fn refuses(&self, _: Bench, _: usize, _: Wait) -> Option<String> {
        None
    }

    fn remark(&self, _: Bench, _: usize) -> Option<String> {
        None
    }

    fn client(&self, task: &Task, server: &Server) -> Result<ClientHalf, Fault> {
        server.ask(&Request::Open(task.clone()), &[])?;
        server.expect_ready()?;
        let options = BindOptions { wait: wait(task.wait), ..BindOptions::default() };
        let client = CallsClient::bind(&address(task)?, options)
            .map_err(|error| Fault::Other(format!("binding failed: {error}")))?;
        server.expect_done()?;
        Ok(ClientHalf::Echo(Box::new(Caller(client))))
    }

    fn server(&self, task: &Task, _: Vec<OwnedFd>, ready: Ready<'_>) -> Result<ServerHalf, Fault> {
        let finished = Arc::new(AtomicBool::new(false));
        let mut options = service::ServerOptions::default();
        options.export.wait = wait(task.wait);
        let called = Called(Arc::clone(&finished));
        let server = service::Server::<CallsService>::export(&address(task)?, called, options)
            .map_err(|error| Fault::Other(format!("exporting failed: {error}")))?;
        ready()?;
        while server.exported().bindings() == 0 {
            server.serve_timeout(LOOK);
        }
        Ok(ServerHalf::Echo(Box::new(Serving { server, finished })))
    }
}

struct Called(Arc<AtomicBool>);

impl Calls for Called {
    fn null(&self) {}

    fn finish(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Caller(CallsClient);

impl Echo for Caller {
    #[inline]
    fn round_trip(&mut self) -> Result<(), Fault> {
        self.0.null().executed().map_err(failed)
    }

    fn finish(&mut self) -> Result<(), Fault> {
        self.0.finish().executed().map_err(failed)
    }
}

struct Serving {
    server: service::Server<CallsService>,
    finished: Arc<AtomicBool>,
}

impl EchoLoop for Serving {
    fn run(&mut self) -> Result<(), Fault> {
        self.finished.store(false, Ordering::Relaxed);
        self.server.serve_until(|| self.finished.load(Ordering::Relaxed));
        Ok(())
    }
}
