//! The server of all calls.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rpc_fastpath::endpoint::{
    Bytes, Content, Context, Decline, Refusal, Reply, Service, ServiceOptions,
};
use unet::{Address, Message, Part, Pool, PoolOptions};

use super::bulk::{Bulk, fill};
use super::{ECHO, FETCH, FINISH, GIVE, STORE, TAKE, beside, limits, network};
use crate::fault::Fault;
use crate::measure::halves::EchoLoop;
use crate::measure::load::{Absorb, Absorbed, Absorbs, NAP};
use crate::systems::ServerHalf;
use crate::systems::unet::wait;
use crate::task::{Bench, Task, Wait};

/// Bursts between two looks at whether a step is over.
const BURSTS: u32 = 256;
const NOT_YET: Decline = Decline::Refuse(Refusal::ShuttingDown);

/// A service with one client, and those of flows beside it.
pub struct Called {
    service: Service,
    spins: bool,
    bench: Bench,
    answers: Answers,
    /// How many are waited for.
    clients: usize,
}

/// What the methods work with.
struct Answers {
    bulk: Bulk,
    space: Vec<u8>,
    /// What is given without a copy.
    stored: Message,
    /// The same between two numbers, where these are written for each reply.
    numbered: Option<Numbered>,
    /// Whether buffers can be handed over.
    is_here: bool,
}

impl Called {
    /// Listens.
    pub fn new(address: &Address, task: &Task) -> Result<Self, Fault> {
        let mut options = ServiceOptions { wait: wait(task.wait), ..Default::default() };
        options.limits = limits(task, options.limits);
        options.listen.network = network();
        let service = Service::listen(std::slice::from_ref(address), options)
            .map_err(|error| Fault::Other(format!("listening at {address} failed: {error}")))?;
        let bulk = Bulk::new(if task.bench == Bench::Bandwidth { task.payload } else { 0 });
        let is_here = matches!(address, Address::Shm(_));
        let numbered = task.calls.in_place && !is_here;
        let numbered = numbered.then(|| Numbered::new(&bulk)).transpose()?;
        let stored = match task.bench {
            Bench::Beside => beside::bulk(task.payload)?,
            _ => Message::default(),
        };
        let answers = Answers { bulk, space: Vec::new(), stored, numbered, is_here };
        let (spins, clients) = (task.wait == Wait::Spin, task.calls.flows + 1);
        Ok(Self { service, spins, bench: task.bench, answers, clients })
    }

    /// Serves until the clients have their sessions, which they ask for now.
    pub fn awaiting_client(mut self) -> ServerHalf {
        const LOOK: Duration = Duration::from_millis(100);
        while self.service.clients() < self.clients {
            self.service.poll_timeout(
                &mut |_: &Context, _: Bytes<'_>, _: &mut Reply<'_>| Err(NOT_YET),
                LOOK,
            );
        }
        match self.bench {
            Bench::Sweep => ServerHalf::Load(Box::new(self)),
            _ => ServerHalf::Echo(Box::new(self)),
        }
    }
}

impl Answers {
    #[inline(always)]
    fn answer(
        &mut self,
        method: u16,
        arguments: Bytes<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), Decline> {
        let Self { bulk, space, stored, numbered, is_here } = self;
        match method {
            ECHO => reply.write(arguments.whole(space)?),
            TAKE if arguments.len() == bulk.len() => {
                space.resize(bulk.len(), 0);
                arguments.copy_to(0, space)?;
                let number = bulk.number_of(space).ok_or(Refusal::InvalidArguments)?;
                reply.write(&number.to_le_bytes());
            }
            GIVE => {
                let mut word = [0; 8];
                arguments.copy_to(0, &mut word)?;
                if let Some(numbered) = numbered {
                    reply.give(numbered.message(word).ok_or(Refusal::Overload)?);
                    return Ok(());
                }
                let len = bulk.len();
                let bytes = bulk.numbered(u64::from_le_bytes(word));
                let message = is_here.then(|| reply.message(len, fill(bytes)));
                // Where no buffer is free, the service keeps a copy until one is.
                let content =
                    message.and_then(Result::ok).map_or_else(|| bytes.into(), Content::from);
                reply.give(content);
            }
            STORE => {}
            FETCH => reply.give(stored.clone()),
            _ => return Err(Refusal::InvalidArguments.into()),
        }
        Ok(())
    }
}

/// Bytes that stand in buffers, as a server's do that keeps what it gives: only the numbers at their ends are written
/// for a reply.
struct Numbered {
    pool: Pool,
    inner: Message,
}

impl Numbered {
    fn new(bulk: &Bulk) -> Result<Self, Fault> {
        let failed = |why: &dyn std::fmt::Display| Fault::Other(format!("no buffers: {why}"));
        let (mut options, inner) = (PoolOptions::default(), bulk.inner());
        if let Some(largest) = options.classes.last_mut() {
            let buffers = inner.len().div_ceil(largest.buffer_bytes as usize);
            largest.buffers = largest.buffers.max(buffers as u32);
        }
        let mut pool = Pool::new(options).map_err(|error| failed(&error))?;
        let inner = pool.message(0, inner.len(), fill(inner)).map_err(|error| failed(&error))?;
        Ok(Self { pool, inner })
    }

    /// The bytes with a number at both ends; nothing while too many replies are kept.
    fn message(&mut self, word: [u8; 8]) -> Option<Message> {
        let Self { pool, inner } = self;
        let mut end = pool.alloc(word.len()).ok()?;
        end.copy_from_slice(&word);
        let end = end.freeze();
        let mut message = Message::from(end.clone());
        message.append(inner.clone());
        message.append_part(Part::Own(end));
        Some(message)
    }
}

impl EchoLoop for Called {
    fn run(&mut self) -> Result<(), Fault> {
        let finished = AtomicBool::new(false);
        let Self { service, answers, .. } = self;
        let mut answer = |context: &Context, arguments: Bytes<'_>, reply: &mut Reply<'_>| {
            if context.method == FINISH {
                finished.store(true, Ordering::Relaxed);
                return Ok(());
            }
            answers.answer(context.method, arguments, reply)
        };
        service.serve(&mut answer, &finished);
        Ok(())
    }
}

impl Absorbs for Called {
    fn absorb(
        &mut self,
        _: &Absorb,
        over: &mut dyn FnMut() -> Result<bool, Fault>,
    ) -> Result<Absorbed, Fault> {
        let Self { service, answers, spins, .. } = self;
        let (mut received, mut bursts) = (0, 0_u32);
        let mut answer = |context: &Context, arguments: Bytes<'_>, reply: &mut Reply<'_>| {
            received += 1;
            answers.answer(context.method, arguments, reply)
        };
        loop {
            let served = match spins {
                true => service.poll(&mut answer),
                false => service.poll_timeout(&mut answer, NAP),
            };
            bursts = bursts.wrapping_add(1);
            let looks = bursts.is_multiple_of(BURSTS) || (served == 0 && !*spins);
            // The client has the replies, or has given them up, when it ends a step.
            if looks && over()? {
                break;
            }
        }
        let (in_time, refused, switches) = (received, 0, 0);
        Ok(Absorbed { received, in_time, refused, switches, spread: Vec::new() })
    }
}
