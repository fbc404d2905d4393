//! Publish and subscribe: a service in each direction for an echo, one for a stream.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;

use super::{Bytes, END, Header, failed, name, node, poll, private, refuses, remark};
use crate::fault::Fault;
use crate::measure::halves::{Arrival, Echo, EchoServer, Receiver, Sender};
use crate::process::server::{Request, Server};
use crate::systems::{ClientHalf, Ready, ServerHalf, System};
use crate::task::{Bench, Task, Wait};

/// iceoryx2's publish-subscribe.
pub struct PublishSubscribe;

impl System for PublishSubscribe {
    fn name(&self) -> &'static str {
        "iceoryx2/pubsub"
    }

    fn transport(&self) -> &'static str {
        "shm:"
    }

    fn about(&self) -> &'static str {
        "iceoryx2's publish-subscribe"
    }

    fn payload(&self, _: Bench, asked: usize) -> usize {
        asked.max(size_of::<Header>())
    }

    fn refuses(&self, bench: Bench, _: usize, wait: Wait) -> Option<String> {
        match bench {
            Bench::Scale => Some("has no bindings to a server thread".to_owned()),
            Bench::NullRpc => Some("has no calls; iceoryx2/reqres has".to_owned()),
            _ => refuses(wait),
        }
    }

    fn remark(&self, bench: Bench, _: usize) -> Option<String> {
        remark(bench)
    }

    fn client(&self, task: &Task, server: &Server) -> Result<ClientHalf, Fault> {
        server.ask(&Request::Open(task.clone()), &[])?;
        server.expect_ready()?;
        let there = Service::open(task, "there")?;
        let back = Service::open(task, "back")?;
        let client = Client {
            out: there.publisher(task.payload)?,
            back: back.subscriber()?,
            payload: task.payload,
            content: (task.bench == Bench::Bandwidth).then(|| private(task.payload)),
            sequence: 0,
            _services: [there, back],
        };
        server.expect_done()?;
        Ok(match task.bench.one_way() {
            true => ClientHalf::OneWay(Box::new(client)),
            false => ClientHalf::Echo(Box::new(client)),
        })
    }

    fn server(&self, task: &Task, _: Vec<OwnedFd>, ready: Ready<'_>) -> Result<ServerHalf, Fault> {
        let there = Service::open(task, "there")?;
        let back = Service::open(task, "back")?;
        let mirror = Mirror {
            incoming: there.subscriber()?,
            out: back.publisher(task.payload)?,
            payload: task.payload,
            copy: (task.bench == Bench::Bandwidth).then(|| private(task.payload)),
            expected: 0,
            _services: [there, back],
        };
        ready()?;
        Ok(match task.bench.one_way() {
            true => ServerHalf::OneWay(Box::new(mirror)),
            false => ServerHalf::Echo(Box::new(mirror)),
        })
    }
}

type Factory =
    iceoryx2::service::port_factory::publish_subscribe::PortFactory<ipc::Service, Bytes, Header>;

/// A service with the node that holds it.
struct Service {
    factory: Factory,
    _node: Node<ipc::Service>,
}

impl Service {
    fn open(task: &Task, direction: &str) -> Result<Self, Fault> {
        let node = node()?;
        let builder = node
            .service_builder(&name(&task.rendezvous, direction)?)
            .publish_subscribe::<Bytes>()
            .user_header::<Header>()
            // A full queue makes the publisher wait, so that every message arrives.
            .enable_safe_overflow(false)
            .subscriber_max_buffer_size(64);
        let factory = failed("opening a service", builder.open_or_create())?;
        Ok(Self { factory, _node: node })
    }

    fn publisher(&self, payload: usize) -> Result<Publisher<ipc::Service, Bytes, Header>, Fault> {
        let builder = self.factory.publisher_builder().initial_max_slice_len(payload);
        failed("creating a publisher", builder.create())
    }

    fn subscriber(&self) -> Result<Subscriber<ipc::Service, Bytes, Header>, Fault> {
        failed("creating a subscriber", self.factory.subscriber_builder().create())
    }
}

#[inline(always)]
fn publish(
    publisher: &Publisher<ipc::Service, Bytes, Header>,
    payload: usize,
    content: Option<&Bytes>,
    header: Header,
) -> Result<(), Fault> {
    let sample = failed("borrowing a sample", publisher.loan_slice_uninit(payload))?;
    let mut sample = match content {
        Some(content) => sample.write_from_slice(content),
        // Writing nothing into every byte is no work at all.
        None => sample.write_from_fn(|_| MaybeUninit::uninit()),
    };
    *sample.user_header_mut() = header;
    failed("publishing", sample.send()).map(|_| ())
}

struct Client {
    out: Publisher<ipc::Service, Bytes, Header>,
    back: Subscriber<ipc::Service, Bytes, Header>,
    payload: usize,
    content: Option<Vec<MaybeUninit<u8>>>,
    sequence: Header,
    _services: [Service; 2],
}

impl Client {
    #[inline]
    fn exchange(&mut self, header: Header) -> Result<(), Fault> {
        publish(&self.out, self.payload, None, header)?;
        match *poll(|| self.back.receive())?.user_header() {
            found if found == header => Ok(()),
            found => Err(Fault::OutOfOrder { expected: header, found }),
        }
    }
}

impl Echo for Client {
    #[inline]
    fn round_trip(&mut self) -> Result<(), Fault> {
        self.sequence += 1;
        self.exchange(self.sequence)
    }

    fn finish(&mut self) -> Result<(), Fault> {
        self.exchange(END)
    }
}

impl Sender for Client {
    fn begin(&mut self) {
        self.sequence = 0;
    }

    #[inline]
    fn send(&mut self) -> Result<(), Fault> {
        publish(&self.out, self.payload, self.content.as_deref(), self.sequence)?;
        self.sequence += 1;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Fault> {
        publish(&self.out, self.payload, None, END)
    }

    fn lossy(&self) -> bool {
        false
    }
}

struct Mirror {
    incoming: Subscriber<ipc::Service, Bytes, Header>,
    out: Publisher<ipc::Service, Bytes, Header>,
    payload: usize,
    copy: Option<Vec<MaybeUninit<u8>>>,
    expected: Header,
    _services: [Service; 2],
}

impl EchoServer for Mirror {
    #[inline]
    fn answer(&mut self) -> Result<bool, Fault> {
        let header = *poll(|| self.incoming.receive())?.user_header();
        publish(&self.out, self.payload, None, header)?;
        Ok(header != END)
    }
}

impl Receiver for Mirror {
    fn begin(&mut self) -> Result<(), Fault> {
        self.expected = 0;
        // Looking connects the subscriber to the publisher, which does not wait for one that is
        // not connected but drops what finds no room.
        failed("looking for samples", self.incoming.has_samples()).map(|_| ())
    }

    #[inline]
    fn receive(&mut self) -> Result<Arrival, Fault> {
        let sample = poll(|| self.incoming.receive())?;
        match *sample.user_header() {
            END => return Ok(Arrival::End),
            found if found == self.expected => self.expected += 1,
            found => return Err(Fault::OutOfOrder { expected: self.expected, found }),
        }
        if let Some(copy) = &mut self.copy {
            copy.copy_from_slice(sample.payload());
            std::hint::black_box(copy);
        }
        Ok(Arrival::Messages(1))
    }

    fn lost(&self) -> u64 {
        0
    }
}
