//! A new policy: what it forbids ends, and who had it is told why.

use unet::{ChannelId, CloseReason};

use super::{Agent, Asked, Reason, Role};
use crate::policy::Policy;

impl Agent {
    /// Takes over a new policy. Channels and ports that it does not allow are closed, with
    /// [`CloseReason::Forbidden`]; the others stay, on the devices on which they are. The names stay as they
    /// were: they belong to the process.
    ///
    /// How many were closed.
    pub fn reload(&mut self, mut policy: Policy) -> usize {
        if policy.names != self.policy.names {
            tracing::warn!("the names of the new policy count from the next start on");
        }
        policy.names.clone_from(&self.policy.names);
        self.policy = policy;
        let policy = &self.policy;
        self.accounts.apply(|who| policy.rule(who).cloned());
        let forbidden: Vec<ChannelId> = self
            .roles
            .from(0)
            .filter(|(_, _, role)| !is_allowed(policy, role))
            .map(|(_, id, _)| id)
            .collect();
        for id in &forbidden {
            self.forbid(*id);
        }
        forbidden.len()
    }

    fn forbid(&mut self, id: ChannelId) {
        match self.roles.get_mut(id) {
            Some(Role::Client(client)) => {
                let uid = client.who.uid;
                self.accounts.count(uid, Reason::ClosedByPolicy);
                self.end_client(id, CloseReason::Forbidden);
            }
            Some(Role::Port(port)) => {
                let uid = port.who.uid;
                self.accounts.count(uid, Reason::ClosedByPolicy);
                self.endpoint.close_because(id, CloseReason::Forbidden);
                self.closed(id, CloseReason::Forbidden);
            }
            Some(Role::Inspector(..)) => {
                self.endpoint.close_because(id, CloseReason::Forbidden);
                self.closed(id, CloseReason::Forbidden);
            }
            Some(Role::Network(_)) | None => {}
        }
    }
}

fn is_allowed(policy: &Policy, role: &Role) -> bool {
    match role {
        Role::Client(client) => match &client.asked {
            Asked::To(to) => policy.may_connect(client.who, to).is_some(),
            Asked::At(at) => policy.may_listen(client.who, at).is_some(),
        },
        Role::Port(port) => policy.may_listen(port.who, &port.at).is_some(),
        Role::Inspector(who, _) => policy.rule(*who).is_some(),
        // It ends with its client.
        Role::Network(_) => true,
    }
}
