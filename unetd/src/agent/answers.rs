//! Answers to who asks how things are: users hear of what is theirs, root of everything.

use unet::{ChannelId, Counter, Credentials, Delivery};

use super::{Agent, Role};
use crate::report::{
    ChannelRow, DROPS, DeviceRow, Drops, LIST, Lent, List, MAX_ROWS, QueueRow, STATUS, Status,
};

/// The longest question.
const MAX_QUESTION: usize = 32;

impl Agent {
    /// Answers a question with one message. Who does not take it asks again.
    #[cold]
    pub(super) fn answer(&mut self, id: ChannelId, who: Credentials, delivery: &Delivery) {
        let mut bytes = [0; MAX_QUESTION];
        let question = delivery.inline();
        let Some(place) = bytes.get_mut(..question.len()) else { return };
        place.copy_from_slice(question);
        let question = str::from_utf8(place).unwrap_or_default();
        let only = (who.uid != 0).then_some(who.uid);
        let (what, rest) = question.split_once(' ').unwrap_or((question, ""));
        let answer = match what {
            STATUS => serde_json::to_vec(&self.status(only)),
            LIST => serde_json::to_vec(&self.list(only, rest.parse().unwrap_or(0))),
            DROPS => serde_json::to_vec(&self.drops(only)),
            _ => Ok(b"null".to_vec()),
        };
        if let (Ok(answer), Some(channel)) = (answer, self.endpoint.channel_mut(id)) {
            // It has room for one as a rule; who floods it with questions gets no answer to some.
            let _ = channel.try_send(&answer);
        }
    }

    fn status(&self, only: Option<u32>) -> Status {
        let mine = |uid: u32| only.is_none_or(|only| only == uid);
        let (mut channels, mut ports) = (0, 0);
        for (_, _, role) in self.roles.from(0) {
            match role {
                Role::Client(client) => channels += usize::from(mine(client.who.uid)),
                Role::Port(port) => ports += usize::from(mine(port.who.uid)),
                _ => {}
            }
        }
        let processes = self.accounts.processes.keys().filter(|(uid, _)| mine(*uid)).count();
        let devices = if only.is_none() { self.devices() } else { Vec::new() };
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_s: self.begun.elapsed().as_secs(),
            names: self.policy.names.clone(),
            processes,
            channels,
            ports,
            pending: self.pending.values().filter(|pending| mine(pending.who().uid)).count(),
            devices,
            lent: self.lent_to(only),
        }
    }

    fn lent_to(&self, only: Option<u32>) -> Lent {
        let mine = |row: &&QueueRow| only.is_none_or(|only| only == row.uid);
        let queues = self.lent.queues.iter().filter(mine).take(MAX_ROWS).cloned().collect();
        let counts = if only.is_none() { self.lent.counts.clone() } else { Vec::new() };
        Lent { queues, counts }
    }

    fn devices(&self) -> Vec<DeviceRow> {
        let row = |link: unet::LinkStatus| {
            let all = Counter::ALL.iter();
            let counts = all.map(|(counter, name)| ((*name).to_owned(), link.get(*counter)));
            DeviceRow {
                local: link.local.to_string(),
                mode: link.capabilities.mode.to_string(),
                listens: link.listens,
                channels: link.channels,
                free_buffers: link.buffers.0,
                buffers: link.buffers.1,
                counts: counts.filter(|(_, count)| *count > 0).collect(),
            }
        };
        self.endpoint.links().into_iter().take(MAX_ROWS).map(row).collect()
    }

    fn list(&self, only: Option<u32>, first: usize) -> List {
        let at_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut list = List { at_ms, ..List::default() };
        for (number, _, role) in self.roles.from(first) {
            let row = match role {
                Role::Client(client) => ChannelRow {
                    number,
                    kind: "channel".to_owned(),
                    mode: "mediated".to_owned(),
                    pid: client.who.pid,
                    uid: client.who.uid,
                    local: client.local.clone(),
                    remote: client.remote.clone(),
                    sent: client.sent.0,
                    sent_bytes: client.sent.1,
                    received: client.received.0,
                    received_bytes: client.received.1,
                    dropped: client.dropped,
                    waits: client.waiting.is_some(),
                },
                Role::Port(port) => ChannelRow {
                    number,
                    kind: "port".to_owned(),
                    mode: "mediated".to_owned(),
                    pid: port.who.pid,
                    uid: port.who.uid,
                    local: port.at.to_string(),
                    remote: String::new(),
                    sent: 0,
                    sent_bytes: 0,
                    received: 0,
                    received_bytes: 0,
                    dropped: 0,
                    waits: false,
                },
                _ => continue,
            };
            if only.is_some_and(|only| only != row.uid) {
                continue;
            }
            if list.rows.len() >= MAX_ROWS {
                list.next = Some(number);
                break;
            }
            list.rows.push(row);
        }
        list
    }

    fn drops(&self, only: Option<u32>) -> Drops {
        let mut rows = self.accounts.drops(only);
        rows.truncate(MAX_ROWS * 4);
        let poisoned = self.accounts.poisoned.iter();
        let poisoned = poisoned.filter(|row| only.is_none_or(|only| only == row.uid));
        Drops { rows, poisoned: poisoned.cloned().collect() }
    }
}
