//! Cap'n Proto RPC over TCP. Its clients and servers stay on one thread, as in its own examples.
//!
//! What capnpc would generate from a schema is written by hand, since that takes the schema compiler: argument
//! and reply are a list of one word, which is as long as a struct of one.

use std::ops::Deref;
use std::rc::Rc;
use std::sync::mpsc::Sender;
use std::thread;

use capnp::any_pointer::Owned as Any;
use capnp::capability::{
    Client, DispatchCallResult, FromClientHook, FromServer, Params, Promise, Results, Server,
};
use capnp::message::ReaderOptions;
use capnp::primitive_list;
use capnp::private::capability::ClientHook;
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::twoparty::VatNetwork;
use capnp_rpc::{RpcSystem, new_client};
use futures::AsyncReadExt;
use futures::io::{BufReader, BufWriter};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};
use tokio_util::compat::TokioAsyncReadCompatExt;

use super::caller::{Call, Caller, Local};
use super::{Listener, Serving, Way, answer, failed};
use crate::fault::{During, Fault};
use crate::measure::halves::RoundTrips;

/// The interface and its method, as a schema would number them.
const INTERFACE: u64 = 0xB3C1_5A7E_0D42_9F61;
const CALL: u16 = 0;

/// The capability that is called.
struct Null(Client);

impl FromClientHook for Null {
    fn new(hook: Box<dyn ClientHook>) -> Self {
        Self(Client::new(hook))
    }

    fn into_client_hook(self) -> Box<dyn ClientHook> {
        self.0.hook
    }

    fn as_client_hook(&self) -> &dyn ClientHook {
        self.0.hook.as_ref()
    }
}

fn local() -> Result<Local, Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(Local { runtime: runtime.during("starting a runtime")?, tasks: LocalSet::new() })
}

/// The protocol over a connection, with what it offers to the other side.
fn system(stream: TcpStream, side: Side, offers: Option<Client>) -> RpcSystem<Side> {
    let (reader, writer) = stream.compat().split();
    let (reader, writer) = (BufReader::new(reader), BufWriter::new(writer));
    let network = VatNetwork::new(reader, writer, side, ReaderOptions::new());
    RpcSystem::new(Box::new(network), offers)
}

/// The word in a list of one.
fn word(list: primitive_list::Reader<'_, u64>) -> capnp::Result<u64> {
    list.try_get(0).ok_or_else(|| capnp::Error::failed("there is no word".to_owned()))
}

/// Connects.
pub fn client(way: Way) -> Result<Box<dyn RoundTrips>, Fault> {
    let stream = way.tcp()?;
    let local = local()?;
    let null = local.tasks.block_on(&local.runtime, async {
        let stream = TcpStream::from_std(stream).during("connecting by capnp-rpc")?;
        let mut system = system(stream, Side::Client, None);
        let null: Null = system.bootstrap(Side::Server);
        spawn_local(system);
        Ok(null)
    })?;
    Ok(Box::new(Caller::new(local, null)))
}

impl Call for Null {
    async fn call(&mut self, argument: u64) -> Result<u64, Fault> {
        let mut request = self.0.new_call::<Any, Any>(INTERFACE, CALL, None);
        request.get().initn_as::<primitive_list::Builder<'_, u64>>(1).set(0, argument);
        let reply = request.send().promise.await;
        reply
            .and_then(|reply| word(reply.get()?.get_as()?))
            .map_err(|error| failed("a call by capnp-rpc", error))
    }
}

/// Serves in a thread, which lasts as long as the process.
pub fn server(listener: Listener, finished: Sender<()>) -> Result<Serving, Fault> {
    const LISTENING: &str = "listening by capnp-rpc";
    let listener = listener.prepare().during(LISTENING)?.tcp()?;
    // A runtime that cannot be made is told where it can be.
    drop(local()?);
    thread::spawn(move || {
        let Ok(local) = local() else { return };
        local.tasks.block_on(&local.runtime, async {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            let null: Null = new_client(Answers(finished));
            while let Ok((stream, _)) = listener.accept().await {
                if stream.set_nodelay(true).is_ok() {
                    spawn_local(system(stream, Side::Server, Some(null.0.clone())));
                }
            }
        });
    });
    Ok(Serving::Thread)
}

/// The server, as its user would write it.
struct Answers(Sender<()>);

/// What capnpc would generate around it.
#[derive(Clone)]
struct Dispatch(Rc<Answers>);

impl Deref for Dispatch {
    type Target = Answers;

    fn deref(&self) -> &Answers {
        &self.0
    }
}

impl FromServer<Answers> for Null {
    type Dispatch = Dispatch;

    fn from_server(server: Rc<Answers>) -> Dispatch {
        Dispatch(server)
    }
}

impl Server for Dispatch {
    fn dispatch_call(
        self,
        interface: u64,
        method: u16,
        params: Params<Any>,
        mut results: Results<Any>,
    ) -> DispatchCallResult {
        let mut act = || {
            if (interface, method) != (INTERFACE, CALL) {
                return Err(capnp::Error::unimplemented("there is one method".to_owned()));
            }
            let word = answer(&self.0.0, word(params.get()?.get_as()?)?);
            results.get().initn_as::<primitive_list::Builder<'_, u64>>(1).set(0, word);
            Ok(())
        };
        DispatchCallResult::new(act().map_or_else(Promise::err, Promise::ok), false)
    }

    fn as_ptr(&self) -> usize {
        Rc::as_ptr(&self.0) as usize
    }
}
