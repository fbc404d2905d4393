//! Accounts: what each user has, what was refused and dropped, and what each process may still send.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use unet::{ChannelId, Credentials};

use super::bucket::Bucket;
use crate::policy::Rule;
use crate::report::{DropRow, PoisonedRow};

/// Why something was refused or dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Reason {
    RefusedByPolicy,
    RefusedForbidden,
    RefusedQuota,
    RefusedPortTaken,
    RefusedDevice,
    RefusedNoAnswer,
    RefusedByPeer,
    RefusedBusy,
    RefusedMalformed,
    /// A client's message, too long for the network.
    TooLong,
    /// A client's message whose buffer it took back while it was read.
    Revoked,
    /// A client's message on a channel that has just ended.
    Ended,
    /// A message from the network, for which the agent had no buffer left that the client would not hold.
    NoBuffer,
    /// A message from the network, for a client whose queue is full.
    QueueFull,
    /// A message from the network with more beside its buffer than a slot takes.
    BesideTooLong,
    /// A message on a channel on which there is nothing to say.
    Unexpected,
    /// A client's queue failed a check.
    Poisoned,
    /// A channel that a new policy does not allow.
    ClosedByPolicy,
}

impl Reason {
    pub const ALL: [(Self, &'static str); 18] = [
        (Self::RefusedByPolicy, "refused-by-policy"),
        (Self::RefusedForbidden, "refused-forbidden"),
        (Self::RefusedQuota, "refused-quota"),
        (Self::RefusedPortTaken, "refused-port-taken"),
        (Self::RefusedDevice, "refused-device"),
        (Self::RefusedNoAnswer, "refused-no-answer"),
        (Self::RefusedByPeer, "refused-by-peer"),
        (Self::RefusedBusy, "refused-busy"),
        (Self::RefusedMalformed, "refused-malformed"),
        (Self::TooLong, "too-long"),
        (Self::Revoked, "revoked"),
        (Self::Ended, "ended"),
        (Self::NoBuffer, "no-buffer"),
        (Self::QueueFull, "queue-full"),
        (Self::BesideTooLong, "beside-too-long"),
        (Self::Unexpected, "unexpected"),
        (Self::Poisoned, "poisoned"),
        (Self::ClosedByPolicy, "closed-by-policy"),
    ];
}

/// What a message counts beside its bytes.
const OVERHEAD: i64 = 64;
/// What a process of weight one may send in a round.
const QUANTUM: i64 = 8 << 10;
/// How many poisoned queues are remembered.
const MAX_POISONED: usize = 64;

/// A user whom a rule names.
pub(crate) struct User {
    /// Channels and ports, those that are being opened among them.
    pub channels: usize,
    pub bytes: u64,
    /// Connections that have no outcome yet.
    pub pending: usize,
    pub bucket: Bucket,
    counts: [u64; Reason::ALL.len()],
}

/// Names a process of a client's.
pub(crate) type ProcessKey = (u32, u32);

/// A client's process.
pub(crate) struct Process {
    pub who: Credentials,
    weight: i64,
    /// What it may still send in this round.
    credit: i64,
    /// Its channels of which a message waits.
    pub waiting: VecDeque<ChannelId>,
    pub channels: usize,
    spent: bool,
}

impl Process {
    /// Whether it may send now, with none of its own messages before this one.
    pub fn has_turn(&self) -> bool {
        self.credit > 0
    }

    fn fill(&mut self) {
        let full = QUANTUM * self.weight;
        self.credit = (self.credit + full).min(full);
    }
}

/// All accounts.
#[derive(Default)]
pub(crate) struct Accounts {
    users: HashMap<u32, User>,
    /// Of all users whom no rule names.
    strangers: [u64; Reason::ALL.len()],
    pub processes: HashMap<ProcessKey, Process>,
    /// Processes that have sent in this round.
    spent: Vec<ProcessKey>,
    pub poisoned: VecDeque<PoisonedRow>,
}

impl Accounts {
    /// A user's account, which begins with the first use.
    pub fn user(&mut self, uid: u32, rule: &Rule) -> &mut User {
        self.users.entry(uid).or_insert_with(|| User {
            channels: 0,
            bytes: 0,
            pending: 0,
            bucket: Bucket::new(rule.messages_per_second, Instant::now()),
            counts: [0; Reason::ALL.len()],
        })
    }

    pub fn user_mut(&mut self, uid: u32) -> Option<&mut User> {
        self.users.get_mut(&uid)
    }

    /// Counts something that was refused or dropped.
    pub fn count(&mut self, uid: u32, reason: Reason) {
        let counts = match self.users.get_mut(&uid) {
            Some(user) => &mut user.counts,
            None => &mut self.strangers,
        };
        counts[reason as usize] += 1;
    }

    pub fn remember_poisoned(&mut self, row: PoisonedRow) {
        if self.poisoned.len() >= MAX_POISONED {
            self.poisoned.pop_front();
        }
        self.poisoned.push_back(row);
    }

    /// A process gets something.
    pub fn join(&mut self, who: Credentials, rule: &Rule) -> ProcessKey {
        let key = (who.uid, who.pid);
        let weight = i64::from(rule.weight);
        let process = self.processes.entry(key).or_insert_with(|| Process {
            who,
            weight,
            credit: QUANTUM * weight,
            waiting: VecDeque::new(),
            channels: 0,
            spent: false,
        });
        process.channels += 1;
        key
    }

    /// And gives it back.
    pub fn leave(&mut self, key: ProcessKey, id: ChannelId) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        process.waiting.retain(|other| *other != id);
        process.channels -= 1;
        if process.channels == 0 {
            self.processes.remove(&key);
        }
    }

    /// A process has sent so many bytes.
    pub fn spend(&mut self, key: ProcessKey, bytes: usize) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        process.credit -= bytes as i64 + OVERHEAD;
        if !std::mem::replace(&mut process.spent, true) {
            self.spent.push(key);
        }
    }

    /// Begins a new round for all that have sent in the last one.
    pub fn begin_round(&mut self) {
        for key in self.spent.drain(..) {
            if let Some(process) = self.processes.get_mut(&key) {
                process.spent = false;
                process.fill();
            }
        }
    }

    /// Takes over what a new policy says of users and processes that are there.
    pub fn apply(&mut self, rule_of: impl Fn(Credentials) -> Option<Rule>) {
        for process in self.processes.values_mut() {
            let Some(rule) = rule_of(process.who) else { continue };
            process.weight = i64::from(rule.weight);
            if let Some(user) = self.users.get_mut(&process.who.uid) {
                user.bucket.set(rule.messages_per_second);
            }
        }
    }

    /// What was counted, of one user or of all.
    pub fn drops(&self, only: Option<u32>) -> Vec<DropRow> {
        let mut rows = Vec::new();
        let mut add = |uid: Option<u32>, counts: &[u64]| {
            let counted = Reason::ALL.iter().zip(counts).filter(|(_, count)| **count > 0);
            rows.extend(counted.map(|((_, name), count)| DropRow {
                uid,
                reason: (*name).to_owned(),
                count: *count,
            }));
        };
        for (uid, user) in &self.users {
            if only.is_none_or(|only| only == *uid) {
                add(Some(*uid), &user.counts);
            }
        }
        if only.is_none() {
            add(None, &self.strangers);
        }
        rows.sort_by(|a, b| (a.uid, &a.reason).cmp(&(b.uid, &b.reason)));
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_stand_at_their_numbers() {
        for (number, (reason, name)) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, number, "{name}");
        }
    }
}
