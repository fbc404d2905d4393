//! The server's process: it takes sessions, hands calls to handlers, and answers.

use rpc_fastpath::protocol::{
    Failure, Identity, Refusal, Request, Server, ServerEvent, stale_answer,
};

use crate::history::Entry;
use crate::network::{Packet, Piece};
use crate::world::{Happening, PANICS, REFUSES, Running, SERVICE, World, bare, message, timers};

impl World {
    pub fn arrive_at_server(&mut self, packet: Packet) {
        if !self.server_lives {
            return;
        }
        let head = &packet.head[..packet.head_len];
        let len = packet.piece.to - packet.piece.from;
        let event = match &mut self.server {
            Some(server) => server.receive(self.now, head, len, packet.piece),
            None => Some(ServerEvent::OtherSession),
        };
        match event {
            Some(ServerEvent::Request(request)) => self.hand(request),
            Some(ServerEvent::OtherSession) => {
                let identity = Identity {
                    service: SERVICE.into(),
                    incarnation: self.incarnation,
                    epoch: self.epoch,
                };
                let cookie = self.random.word();
                match Server::accept(self.now, head, identity, cookie, self.limits, timers()) {
                    Ok(server) => self.server = Some(server),
                    Err(_) => {
                        let answer = stale_answer(head).map(|header| bare(&header));
                        answer.into_iter().for_each(|packet| self.send_to_client(packet));
                    }
                }
            }
            Some(ServerEvent::Closed) => self.server = None,
            Some(ServerEvent::Suspected | ServerEvent::Restored) | None => {}
        }
    }

    /// A handler gets a call.
    fn hand(&mut self, request: Request<Piece>) {
        let call = message(&request.payload, |call| self.calls[call].len);
        assert!(call < self.calls.len(), "arguments are mixed up: {:?}", request.payload);
        let spec = self.calls[call];
        assert_eq!((request.method, request.one_way), (spec.method, spec.one_way));
        let cookie = request.pending.request().cookie;
        let incarnation = self.incarnation;
        self.history.push(Entry::Handed { call, cookie, incarnation });
        self.running.push(Running { call, incarnation, cookie, pending: Some(request.pending) });
        let at = self.now + spec.work;
        self.network.at(at, Happening::Work(self.running.len() - 1));
    }

    pub fn work(&mut self, index: usize) {
        let running = &self.running[index];
        if running.incarnation != self.incarnation {
            return;
        }
        let spec = self.calls[running.call];
        if spec.method != REFUSES {
            self.history.push(Entry::Done { call: running.call });
        }
        self.network.at(self.now + spec.work / 2, Happening::Answer(index));
    }

    pub fn answer(&mut self, index: usize) {
        let (now, incarnation) = (self.now, self.incarnation);
        let Running { call, cookie, .. } = self.running[index];
        let Some(pending) = self.running[index].pending.take() else { return };
        let spec = self.calls[call];
        let session = self.server.as_mut().filter(|server| server.terms().cookie == cookie);
        let Some(server) = session.filter(|_| self.running[index].incarnation == incarnation)
        else {
            return;
        };
        match spec.method {
            PANICS => server.fail(now, pending, Failure::Panicked),
            REFUSES => server.refuse(now, pending, Refusal::InvalidArguments),
            _ => {
                // One that is too long is told to the client.
                let reply = server.reply(now, pending, (call, spec.reply_len), spec.reply_len);
                assert!(reply.is_ok() || spec.reply_len > 3000);
            }
        }
    }
}
