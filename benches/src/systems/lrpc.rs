//! LRPC: calls as a user makes them, with the default geometry.
//!
//! Arguments and results are types, so sizes are a choice of procedures: nothing at all, words in
//! the slot, words in the A-stack, and beyond that buffers handed over both ways. What a procedure
//! returns is what it was called with, and the client checks the sequence number in it.

use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lrpc::{BindOptions, Binding, ExportOptions, NotExecuted, Procedure};
use unet::Address;

use crate::fault::Fault;
use crate::measure::halves::{Echo, EchoLoop};
use crate::process::server::{Request, Server};
use crate::systems::unet::wait;
use crate::systems::{ClientHalf, Ready, ServerHalf, System};
use crate::task::{Bench, Task, Wait};

lrpc::interface! {
    /// What the benchmark calls.
    Calls = "unet-bench", version 1 {
        /// Does nothing.
        Null(()) -> ();
        /// Gives a word back.
        Word([u64; 1]) -> [u64; 1];
        /// Gives four words back: 32 bytes in and out.
        Words([u64; 4]) -> [u64; 4];
        /// Gives 1 KiB back, through the A-stacks.
        Page([u64; 128]) -> [u64; 128];
        /// Takes a buffer and answers with another of that size, neither touched.
        Bulk([u64; 2]) -> [u64; 1];
        /// Ends the server's loop.
        Finish(()) -> ();
    }
}

/// Our own local calls.
pub struct Lrpc;

/// The sizes for which there is a procedure; what is larger travels in buffers.
const SIZES: [usize; 4] = [0, 8, 32, 1024];
/// How often the server asks whether to stop while nobody calls.
const LOOK: Duration = Duration::from_millis(100);

impl System for Lrpc {
    fn name(&self) -> &'static str {
        "lrpc"
    }

    fn transport(&self) -> &'static str {
        "shm:"
    }

    fn about(&self) -> &'static str {
        "local calls: in the slot, through A-stacks, with buffers"
    }

    fn payload(&self, _: Bench, asked: usize) -> usize {
        SIZES.into_iter().find(|&size| size >= asked).unwrap_or(asked)
    }

    fn refuses(&self, bench: Bench, _: usize, _: Wait) -> Option<String> {
        bench.one_way().then(|| "answers every call; unet goes one way".to_owned())
    }

    fn remark(&self, bench: Bench, asked: usize) -> Option<String> {
        let payload = self.payload(bench, asked);
        if payload > SIZES[3] {
            return Some("lrpc: buffers are handed over both ways, their bytes not touched".into());
        }
        (payload != asked)
            .then(|| format!("lrpc: the next procedure's size, {payload} bytes in and out"))
    }

    fn client(&self, task: &Task, server: &Server) -> Result<ClientHalf, Fault> {
        server.ask(&Request::Open(task.clone()), &[])?;
        server.expect_ready()?;
        let bind = || {
            let options = BindOptions { wait: wait(task.wait), ..BindOptions::default() };
            Binding::<Calls>::bind(&address(task)?, options)
                .map_err(|error| Fault::Other(format!("binding failed: {error}")))
        };
        let binding = bind()?;
        let idle = (0..task.idle_bindings).map(|_| bind()).collect::<Result<_, _>>()?;
        server.expect_done()?;
        let client = Client { binding, sequence: 0, _idle: idle };
        Ok(ClientHalf::Echo(match task.payload {
            0 => Box::new(Caller::<Null>(client, PhantomData)),
            8 => Box::new(Caller::<Word>(client, PhantomData)),
            32 => Box::new(Caller::<Words>(client, PhantomData)),
            1024 => Box::new(Caller::<Page>(client, PhantomData)),
            bytes => Box::new(BulkCaller { client, bytes }),
        }))
    }

    fn server(&self, task: &Task, _: Vec<OwnedFd>, ready: Ready<'_>) -> Result<ServerHalf, Fault> {
        let finished = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&finished);
        let options = ExportOptions { wait: wait(task.wait), ..ExportOptions::default() };
        let server = lrpc::Server::export(&address(task)?, options)
            .map_err(|error| Fault::Other(format!("exporting failed: {error}")))?
            .on::<Null>(|_, ()| Ok(()))
            .on::<Word>(|_, words| Ok(words))
            .on::<Words>(|_, words| Ok(words))
            .on::<Page>(|_, words| Ok(words))
            .on::<Bulk>(|call, [sequence, bytes]| {
                drop(call.take_bulk().ok_or(NO_BUFFER)?);
                let fbuf = call.alloc(bytes as usize).map_err(|_| NO_BUFFER)?;
                call.reply_with(fbuf.freeze());
                Ok([sequence])
            })
            .on::<Finish>(move |_, ()| {
                told.store(true, Ordering::Relaxed);
                Ok(())
            });
        ready()?;
        while server.bindings() <= task.idle_bindings {
            server.serve_timeout(LOOK);
        }
        Ok(ServerHalf::Echo(Box::new(Service { server, finished })))
    }
}

/// The code with which a call is declined that came without its buffer, or cannot be given one.
const NO_BUFFER: u16 = 1;

/// Where both meet.
pub fn address(task: &Task) -> Result<Address, Fault> {
    format!("shm:{}", task.rendezvous)
        .parse()
        .map_err(|error| Fault::Other(format!("the rendezvous is no address: {error}")))
}

/// What a call that was not executed means for a run.
#[cold]
pub fn failed(outcome: NotExecuted) -> Fault {
    use unet::CloseReason::{PeerClosed, PeerDied};
    match outcome {
        NotExecuted::Unknown(lrpc::UnknownReason::Closed(PeerClosed | PeerDied))
        | NotExecuted::Refused(lrpc::Reason::Closed(PeerClosed | PeerDied)) => Fault::PeerGone,
        other => Fault::Other(format!("a call failed: {other}")),
    }
}

struct Client {
    binding: Binding<Calls>,
    sequence: u64,
    _idle: Vec<Binding<Calls>>,
}

impl Client {
    fn finish(&self) -> Result<(), Fault> {
        self.binding.call::<Finish>(&()).executed().map_err(failed)
    }

    #[inline(always)]
    fn check(&self, found: u64) -> Result<(), Fault> {
        if found == self.sequence {
            return Ok(());
        }
        Err(Fault::OutOfOrder { expected: self.sequence, found })
    }
}

/// Arguments or results of one size.
trait Words64 {
    /// With a sequence number, if there is room for one.
    fn with(sequence: u64) -> Self;
    /// The sequence number, or the one that is due where there is no room.
    fn sequence(&self, due: u64) -> u64;
}

impl Words64 for () {
    #[inline(always)]
    fn with(_: u64) -> Self {}

    #[inline(always)]
    fn sequence(&self, due: u64) -> u64 {
        // The call's own number is checked by the binding.
        due
    }
}

impl<const N: usize> Words64 for [u64; N] {
    #[inline(always)]
    fn with(sequence: u64) -> Self {
        [sequence; N]
    }

    #[inline(always)]
    fn sequence(&self, due: u64) -> u64 {
        self.first().copied().unwrap_or(due)
    }
}

/// Calls one procedure again and again.
struct Caller<P>(Client, PhantomData<fn() -> P>);

impl<P> Echo for Caller<P>
where
    P: Procedure<Interface = Calls, Arguments: Words64, Results: Words64>,
{
    #[inline]
    fn round_trip(&mut self) -> Result<(), Fault> {
        let client = &mut self.0;
        client.sequence += 1;
        let arguments = P::Arguments::with(client.sequence);
        let results = client.binding.call::<P>(&arguments).executed().map_err(failed)?;
        client.check(results.sequence(client.sequence))
    }

    fn finish(&mut self) -> Result<(), Fault> {
        self.0.finish()
    }
}

/// Calls with a buffer each way.
struct BulkCaller {
    client: Client,
    bytes: usize,
}

impl Echo for BulkCaller {
    #[inline]
    fn round_trip(&mut self) -> Result<(), Fault> {
        let client = &mut self.client;
        client.sequence += 1;
        let fbuf = client
            .binding
            .alloc(self.bytes)
            .map_err(|error| Fault::Other(format!("no buffer: {error}")))?;
        let arguments = [client.sequence, self.bytes as u64];
        let outcome = client.binding.call_bulk::<Bulk>(&arguments, Some(fbuf.freeze()));
        let reply = outcome.executed().map_err(failed)?;
        if reply.bulk.is_none_or(|bulk| bulk.len() != self.bytes) {
            return Err(Fault::Other("a reply came without its buffer".into()));
        }
        client.check(reply.results[0])
    }

    fn finish(&mut self) -> Result<(), Fault> {
        self.client.finish()
    }
}

struct Service {
    server: lrpc::Server<Calls>,
    finished: Arc<AtomicBool>,
}

impl EchoLoop for Service {
    fn run(&mut self) -> Result<(), Fault> {
        self.finished.store(false, Ordering::Relaxed);
        self.server.serve_until(|| self.finished.load(Ordering::Relaxed));
        Ok(())
    }
}
