//! Sessions that the other side begins.

use super::*;
use crate::{Refusal, Upper};

/// Why nobody listens.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// There is no such node.
    #[error("there is no node `{0}` in the graph: name one of its description")]
    NoNode(String),
    /// A layer refuses.
    #[error("node `{node}`: {refusal}")]
    Refused {
        /// Which one.
        node: String,
        /// Why.
        refusal: Refusal,
    },
}

impl Graph {
    /// Listens on top of a node: a message for these participants that belongs to no session opens
    /// one, and comes as a [`Delivery`] with that session.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn listen(&mut self, node: &str, who: Participants) -> Result<(), ListenError> {
        let Some(NodeId(place)) = self.node(node) else {
            return Err(ListenError::NoNode(node.to_owned()));
        };
        self.listen_at(place, who, Up::Listener)
    }

    /// Listens at a node and at all below it.
    pub(super) fn listen_at(
        &mut self,
        place: u32,
        who: Participants,
        up: Up,
    ) -> Result<(), ListenError> {
        let mut left = vec![(place, who, up)];
        while let Some((place, mut who, up)) = left.pop() {
            let listened = if self.nodes[place as usize].multiplexes {
                let upper = self.upper(place, up);
                self.layers[place as usize].listen(&mut who, upper)
            } else {
                self.listen_linearly(place, up)
            };
            if let Err(refusal) = listened {
                let node = self.nodes[place as usize].description.name.clone();
                return Err(ListenError::Refused { node, refusal });
            }
            left.extend(
                self.nodes[place as usize].lowers.iter().map(|l| (*l, who, Up::Node(place))),
            );
        }
        Ok(())
    }

    fn listen_linearly(&mut self, place: u32, up: Up) -> Result<(), Refusal> {
        let node = &mut self.nodes[place as usize];
        match node.listener {
            Some(known) if known == up => Ok(()),
            None | Some(Up::Nowhere) => {
                node.listener = Some(up);
                Ok(())
            }
            Some(_) => Err(Refusal::InUse),
        }
    }

    /// The name under which a layer knows what is above it.
    fn upper(&mut self, place: u32, up: Up) -> Upper {
        let known = self.uppers.iter().position(|known| *known == (place, up));
        Upper(known.unwrap_or_else(|| {
            self.uppers.push((place, up));
            self.uppers.len() - 1
        }) as u32)
    }
}
