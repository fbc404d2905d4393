//! Request and response: a client that calls, a server that answers.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use iceoryx2::port::client::Client as Port;
use iceoryx2::port::server::Server as ServerPort;
use iceoryx2::prelude::*;

use super::{Bytes, END, Header, failed, name, node, poll, refuses, remark};
use crate::fault::Fault;
use crate::measure::halves::{Echo, EchoServer};
use crate::process::server::{Request, Server};
use crate::systems::{ClientHalf, Ready, ServerHalf, System};
use crate::task::{Bench, Task, Wait};

/// iceoryx2's request-response.
pub struct RequestResponse;

impl System for RequestResponse {
    fn name(&self) -> &'static str {
        "iceoryx2/reqres"
    }

    fn transport(&self) -> &'static str {
        "shm:"
    }

    fn about(&self) -> &'static str {
        "iceoryx2's request-response"
    }

    fn payload(&self, _: Bench, asked: usize) -> usize {
        asked.max(size_of::<Header>())
    }

    fn refuses(&self, bench: Bench, _: usize, wait: Wait) -> Option<String> {
        match bench {
            Bench::Scale => Some("has no bindings to a server thread".to_owned()),
            Bench::Rate | Bench::Bandwidth => {
                Some("answers every message; iceoryx2/pubsub goes one way".to_owned())
            }
            _ => refuses(wait),
        }
    }

    fn remark(&self, bench: Bench, _: usize) -> Option<String> {
        remark(bench)
    }

    fn client(&self, task: &Task, server: &Server) -> Result<ClientHalf, Fault> {
        server.ask(&Request::Open(task.clone()), &[])?;
        server.expect_ready()?;
        let service = Service::open(task)?;
        let builder = service.factory.client_builder().initial_max_slice_len(task.payload);
        let port = failed("creating a client", builder.create())?;
        server.expect_done()?;
        let client = Client { port, payload: task.payload, sequence: 0, _service: service };
        Ok(ClientHalf::Echo(Box::new(client)))
    }

    fn server(&self, task: &Task, _: Vec<OwnedFd>, ready: Ready<'_>) -> Result<ServerHalf, Fault> {
        let service = Service::open(task)?;
        let builder = service.factory.server_builder().initial_max_slice_len(task.payload);
        let port = failed("creating a server", builder.create())?;
        ready()?;
        let mirror = Mirror { port, payload: task.payload, _service: service };
        Ok(ServerHalf::Echo(Box::new(mirror)))
    }
}

type Factory = iceoryx2::service::port_factory::request_response::PortFactory<
    ipc::Service,
    Bytes,
    Header,
    Bytes,
    Header,
>;

/// A service with the node that holds it.
struct Service {
    factory: Factory,
    _node: Node<ipc::Service>,
}

impl Service {
    fn open(task: &Task) -> Result<Self, Fault> {
        let node = node()?;
        let builder = node
            .service_builder(&name(&task.rendezvous, "calls")?)
            .request_response::<Bytes, Bytes>()
            .request_user_header::<Header>()
            .response_user_header::<Header>();
        let factory = failed("opening a service", builder.open_or_create())?;
        Ok(Self { factory, _node: node })
    }
}

struct Client {
    port: Port<ipc::Service, Bytes, Header, Bytes, Header>,
    payload: usize,
    sequence: Header,
    _service: Service,
}

impl Client {
    #[inline]
    fn call(&mut self, header: Header) -> Result<(), Fault> {
        let request = failed("borrowing a request", self.port.loan_slice_uninit(self.payload))?;
        let mut request = request.write_from_fn(|_| MaybeUninit::uninit());
        *request.user_header_mut() = header;
        let pending = failed("sending a request", request.send())?;
        match *poll(|| pending.receive())?.user_header() {
            found if found == header => Ok(()),
            found => Err(Fault::OutOfOrder { expected: header, found }),
        }
    }
}

impl Echo for Client {
    #[inline]
    fn round_trip(&mut self) -> Result<(), Fault> {
        self.sequence += 1;
        self.call(self.sequence)
    }

    fn finish(&mut self) -> Result<(), Fault> {
        self.call(END)
    }
}

struct Mirror {
    port: ServerPort<ipc::Service, Bytes, Header, Bytes, Header>,
    payload: usize,
    _service: Service,
}

impl EchoServer for Mirror {
    #[inline]
    fn answer(&mut self) -> Result<bool, Fault> {
        let request = poll(|| self.port.receive())?;
        let header = *request.user_header();
        let response = failed("borrowing a response", request.loan_slice_uninit(self.payload))?;
        let mut response = response.write_from_fn(|_| MaybeUninit::uninit());
        *response.user_header_mut() = header;
        failed("sending a response", response.send())?;
        Ok(header != END)
    }
}
