//! Makes one kind of operation many times, both sides in one thread, for a tool that counts the
//! instructions: `cargo xtask bench --instructions` runs it under callgrind, twice, and divides the
//! difference by the operations that one run has more than the other.

use std::error::Error;
use std::process::ExitCode;

use lrpc::{BindOptions, Binding, ExportOptions, Server};
use protocols::{Graph, Instant, Kinds, Limits, Participants};
use rpc_fastpath::endpoint::{
    Bytes, Connection, ConnectionOptions, Context, How, Outcome, Reply, Service, ServiceOptions,
};
use rpc_fastpath::service;
use unet::{
    Address, Channel, ChannelId, ConnectOptions, Delivery, Endpoint, EndpointOptions, Event,
    ListenOptions, Offer, Pool, PoolOptions, Wait,
};

type Done = Result<(), Box<dyn Error>>;

lrpc::interface! {
    /// What is called here.
    Calls = "instructions", version 1 {
        /// Does nothing.
        Null(()) -> ();
        /// Gives four words back.
        Words([u64; 4]) -> [u64; 4];
    }
}

/// The same as a service.
#[service::service(name = "instructions of a service", version = 1)]
trait Stubs {
    /// Does nothing.
    fn null(&self);
    /// Gives text back.
    fn text(&self, text: &str) -> String;
}

struct Echo;

impl Stubs for Echo {
    fn null(&self) {}

    fn text(&self, text: &str) -> String {
        text.to_owned()
    }
}

/// So many that sending alone needs nobody who receives.
const SLOTS: u32 = 65_536;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let count = arguments.get(1).and_then(|count| count.parse().ok());
    let (Some(what), Some(count)) = (arguments.first(), count) else {
        eprintln!("say what, and how often: `instructions null-call 1000`");
        return ExitCode::FAILURE;
    };
    let done = match what.as_str() {
        "send" => send(count),
        "message" => message(count),
        "hand-off" => hand_off(count),
        "adjacent" => adjacent(count),
        "no-layers" => layers(0, count),
        "ten-layers" => layers(10, count),
        "null-call" => null_call(count),
        "call-32" => call_32(count),
        "started-call" => started_call(count),
        "service-call" => service_call(count),
        "service-text" => service_text(count),
        "channel-call" => channel_calls(1, count),
        "channel-calls" => channel_calls(8, count),
        _ => Err("there is no such operation: see the program's text".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn address() -> Result<Address, Box<dyn Error>> {
    Ok(format!("shm:instructions-{}", std::process::id()).parse()?)
}

/// A connected pair, the receiving side in an endpoint.
fn join() -> Result<(Endpoint, ChannelId, Channel), Box<dyn Error>> {
    let address = address()?;
    let options = EndpointOptions { wait: Wait::Spin, ..EndpointOptions::default() };
    let mut endpoint = Endpoint::new(options)?;
    endpoint.listen(&address, ListenOptions::default())?;
    let mut options = ConnectOptions::default();
    options.channel.wait = Wait::Spin;
    options.channel.geometry.slots = SLOTS;
    let client = std::thread::spawn(move || Channel::connect(&address, options));
    let Event::Incoming(incoming) = endpoint.recv() else { return Err("nobody came".into()) };
    let id = endpoint.accept(incoming, b"")?;
    let channel = client.join().map_err(|_| "the connecting thread panicked")??;
    Ok((endpoint, id, channel))
}

/// The loop. Callgrind is told to count within functions of this name, so that connecting, which
/// takes as long as it takes, is left out.
#[inline(never)]
fn measured(count: u32, mut operation: impl FnMut(u64) -> Done) -> Done {
    (0..u64::from(count)).try_for_each(&mut operation)
}

/// Eight bytes sent.
fn send(count: u32) -> Done {
    let (_endpoint, _, mut channel) = join()?;
    measured(count.min(SLOTS), |number| match channel.try_send(&number.to_ne_bytes())? {
        Offer::Taken => Ok(()),
        Offer::Full(()) => Err("the queue is full".into()),
    })
}

/// Eight bytes sent, and received by an endpoint.
fn message(count: u32) -> Done {
    let (mut endpoint, _, mut channel) = join()?;
    let mut message = Delivery::default();
    measured(count, |number| {
        if channel.try_send(&number.to_ne_bytes())? != Offer::Taken {
            return Err("the queue is full".into());
        }
        endpoint.recv_into(&mut message);
        let same = message.inline() == number.to_ne_bytes();
        if same { Ok(()) } else { Err("another message came".into()) }
    })
}

/// A buffer taken, handed over, received, given back and taken back.
fn hand_off(count: u32) -> Done {
    let (mut endpoint, _, mut channel) = join()?;
    let mut message = Delivery::default();
    measured(count, |number| {
        let fbuf = channel.alloc(4096)?.freeze();
        if !matches!(channel.try_send_fbuf(0, fbuf, &number.to_ne_bytes())?, Offer::Taken) {
            return Err("the queue is full".into());
        }
        endpoint.recv_into(&mut message);
        let buffer = message.take_fbuf();
        buffer.map(drop).ok_or_else(|| "a message without a buffer came".into())
    })
}

/// The same with adjacent buffers, given back by receiving the next.
fn adjacent(count: u32) -> Done {
    let (mut endpoint, _, mut channel) = join()?;
    let mut delivery = Delivery::default();
    measured(count, |number| {
        let fbuf = channel.alloc_adjacent(16 << 20).ok_or("no buffers are free")?.freeze();
        if !matches!(channel.try_send_fbuf(0, fbuf, &number.to_ne_bytes())?, Offer::Taken) {
            return Err("the queue is full".into());
        }
        endpoint.recv_into(&mut delivery);
        let whole = delivery.message().len() == 16 << 20;
        if whole { Ok(()) } else { Err("another message came".into()) }
    })
}

/// A message down through so many layers with a header of eight bytes, and up again.
fn layers(layers: u32, count: u32) -> Done {
    let mut text = String::from("tag0 = device\n");
    for layer in 1..=layers {
        text.push_str(&format!("tag{layer} = tag: tag{}\n", layer - 1));
    }
    let pool = Pool::new(PoolOptions::default())?;
    let mut graph = Graph::new(&text.parse()?, &Kinds::standard(), pool, Limits::default())?;
    let session = graph.open(&format!("tag{layers}"), Participants::default())?;
    let device = graph.node("tag0").ok_or("the device is there")?;
    let mut message = graph.pool().message(128, 64, |_| {})?;
    measured(count, |_| {
        graph.push(Instant(1), session, std::mem::take(&mut message))?;
        let frame = graph.transmitted(device).ok_or("nothing was sent")?;
        graph.receive(Instant(1), device, frame);
        message = graph.received().ok_or("nothing came")?.message;
        Ok(())
    })
}

/// A server and a binding to it.
fn export() -> Result<(Server<Calls>, Binding<Calls>), Box<dyn Error>> {
    let address = address()?;
    let options = ExportOptions { wait: Wait::Spin, ..ExportOptions::default() };
    let server = Server::<Calls>::export(&address, options)?
        .on::<Null>(|_, ()| Ok(()))
        .on::<Words>(|_, words| Ok(words));
    let options = BindOptions { wait: Wait::Spin, ..BindOptions::default() };
    let client = std::thread::spawn(move || Binding::<Calls>::bind(&address, options));
    server.serve_until(|| client.is_finished());
    Ok((server, client.join().map_err(|_| "the binding thread panicked")??))
}

/// A call of nothing, with its reply.
fn null_call(count: u32) -> Done {
    let (server, binding) = export()?;
    measured(count, |_| Ok(binding.call_serving::<Null, _>(&(), &server).executed()?))
}

/// A call with 32 bytes in and out.
fn call_32(count: u32) -> Done {
    let (server, binding) = export()?;
    measured(count, |number| {
        let words = [number; 4];
        let same = binding.call_serving::<Words, _>(&words, &server).executed()? == words;
        if same { Ok(()) } else { Err("another result came".into()) }
    })
}

/// A call of nothing that is started, served, and taken.
fn started_call(count: u32) -> Done {
    let (server, binding) = export()?;
    measured(count, |_| {
        let mut call = binding.start::<Null>(&(), None)?;
        server.poll();
        let outcome = call.try_take().ok_or("the server has not served it")?;
        outcome.executed()?;
        Ok(())
    })
}

/// A served service and a client of it.
fn serve() -> Result<(service::Server<StubsService>, StubsClient), Box<dyn Error>> {
    let address = address()?;
    let mut options = service::ServerOptions::default();
    options.export.wait = Wait::Spin;
    let server = service::Server::<StubsService>::export(&address, Echo, options)?;
    let options = BindOptions { wait: Wait::Spin, ..BindOptions::default() };
    let client = std::thread::spawn(move || StubsClient::bind(&address, options));
    server.serve_until(|| client.is_finished());
    Ok((server, client.join().map_err(|_| "the binding thread panicked")??))
}

/// The started call of nothing, through a service.
fn service_call(count: u32) -> Done {
    let (server, client) = serve()?;
    measured(count, |_| {
        let mut call = client.start_null()?;
        server.poll();
        let outcome = call.try_take().ok_or("the server has not served it")?;
        outcome.executed()?;
        Ok(())
    })
}

/// A call with a short text in and out.
fn service_text(count: u32) -> Done {
    let (server, client) = serve()?;
    measured(count, |_| {
        let mut call = client.start_text("a short text, and what it says")?;
        server.poll();
        let outcome = call.try_take().ok_or("the server has not served it")?;
        let same = outcome.executed()? == "a short text, and what it says";
        if same { Ok(()) } else { Err("another text came".into()) }
    })
}

/// Calls of eight bytes by the protocol over a channel, so many begun together; `count` in all, or a few more.
fn channel_calls(together: u64, count: u32) -> Done {
    let address = address()?;
    let addresses = std::slice::from_ref(&address);
    let mut service = Service::listen(addresses, ServiceOptions::default())?;
    let mut handler = |_: &Context, arguments: Bytes<'_>, reply: &mut Reply<'_>| {
        reply.write(arguments.as_slice().unwrap_or_default());
        Ok(())
    };
    let mut connection = Connection::begin(addresses, ConnectionOptions::default())?;
    while connection.terms().is_none() {
        connection.poll(|_| {});
        service.poll(&mut handler);
    }
    let rounds = u64::from(count).div_ceil(together) as u32;
    measured(rounds, |round| {
        let mut sum = 0;
        for number in 0..together {
            connection.start(0, &(round + number).to_ne_bytes(), How::default())?;
            sum += round + number;
        }
        connection.flush();
        service.poll(&mut handler);
        connection.poll(|end| {
            if let Outcome::Executed(reply) = end.outcome
                && let Some(Ok(number)) = reply.as_slice().map(<[u8; 8]>::try_from)
            {
                sum = sum.wrapping_sub(u64::from_ne_bytes(number));
            }
        });
        if sum == 0 { Ok(()) } else { Err("other replies came".into()) }
    })
}
