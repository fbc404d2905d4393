//! A client, which makes the calls that the plan has for it, and writes down how they end.

use std::thread::sleep;
use std::time::{Duration, Instant};

use rpc_fastpath::service::{Method, Outcome, PendingCall, UnknownReason};
use unet::Address;

use crate::PATIENCE;
use crate::account::Account;
use crate::ledger::{Carrier, LedgerClient, Order};
use crate::plan::{Plan, Spec, Way};

/// More servers than a run has.
const SERVERS: u64 = 40;

pub struct Client<'a, C: Carrier> {
    pub address: &'a Address,
    pub account: &'a Account,
    pub number: u32,
    pub ledger: Option<LedgerClient<C::Caller>>,
    pub cookie: u64,
}

/// The reply's call, if it has as many bytes as it should.
fn read(spec: &Spec, outcome: Outcome<(u64, Vec<u8>)>) -> Outcome<usize> {
    outcome.map(|(call, bytes)| {
        let is_whole = bytes == vec![call as u8; spec.reply_len];
        if is_whole { call as usize } else { usize::MAX }
    })
}

impl<'a, C: Carrier> Client<'a, C> {
    pub fn new(address: &'a Address, account: &'a Account, number: u32) -> Self {
        Self { address, account, number, ledger: None, cookie: 0 }
    }

    /// Makes all its calls.
    pub fn run(&mut self, plan: &Plan) {
        let calls: Vec<_> = plan.of(self.number).collect();
        for together in calls.chunk_by(|_, (_, next)| !next.alone) {
            self.make(together);
        }
    }

    /// Makes some calls, of which each but the first is started before the one before it has ended. Whether all
    /// were executed.
    pub fn make(&mut self, calls: &[(usize, Spec)]) -> bool {
        self.bind();
        let Some(ledger) = &self.ledger else { return false };
        let (account, mut is_well, mut started) = (self.account, true, Vec::new());
        for (call, spec) in calls {
            let (call, deed, reply_len) = (*call, spec.deed, spec.reply_len as u32);
            let order = Order { call: call as u64, cookie: self.cookie, deed, reply_len };
            let filler = vec![7; spec.len];
            account.began(call, self.number);
            let pending = match spec.way {
                Way::Told => {
                    let told = match ledger.tell(order, &filler) {
                        // Nobody tells what became of it.
                        Ok(()) => Outcome::Unknown(UnknownReason::NoAnswer),
                        Err(why) => Outcome::Refused(why),
                    };
                    is_well &= account.ended(call, told);
                    continue;
                }
                Way::Plain if calls.len() == 1 && spec.patience.is_none() => {
                    is_well &= account.ended(call, read(spec, ledger.enter(order, &filler)));
                    continue;
                }
                Way::Plain => ledger.start_enter(order, &filler).map(Pending::Plain),
                Way::InTime => ledger.start_enter_in_time(order, &filler).map(Pending::InTime),
                Way::Slowly => ledger.start_enter_slowly(order, &filler).map(Pending::Slowly),
            };
            match pending {
                Ok(pending) => started.push((call, spec, pending)),
                Err(why) => is_well &= account.ended(call, Outcome::Refused(why)),
            }
        }
        for (call, spec, pending) in started.into_iter().rev() {
            let patience = spec.patience.map(Duration::from_micros);
            let outcome = match pending {
                Pending::Plain(pending) => wait(pending, patience),
                Pending::InTime(pending) => wait(pending, patience),
                Pending::Slowly(pending) => wait(pending, patience),
            };
            is_well &= account.ended(call, read(spec, outcome));
        }
        if !is_well && ledger.who().executed().is_err() {
            self.ledger = None;
        }
        is_well
    }

    fn bind(&mut self) {
        let begin = Instant::now();
        while self.ledger.is_none() {
            assert!(begin.elapsed() < PATIENCE, "there is no server: {}", self.account.text());
            let Some(ledger) = C::bind(self.address).map(LedgerClient::new) else {
                sleep(Duration::from_micros(200));
                continue;
            };
            let Outcome::Executed(incarnation) = ledger.who() else { continue };
            self.cookie += 1;
            let servers = if C::REBINDS { 0..SERVERS } else { incarnation..incarnation + 1 };
            for incarnation in servers {
                self.account.opened(self.number, self.cookie, incarnation);
            }
            self.ledger = Some(ledger);
        }
    }
}

enum Pending<P, T, S> {
    Plain(P),
    InTime(T),
    Slowly(S),
}

fn wait<M: Method, P: PendingCall<M>>(
    pending: P,
    patience: Option<Duration>,
) -> Outcome<M::Output> {
    match patience {
        Some(patience) => pending.wait_timeout(patience),
        None => pending.wait(),
    }
}
