//! `device`: the end of a graph, where frames go out and come in.

use crate::description::OptionError;
use crate::{
    Below, Context, Message, Opened, Options, Participants, Protocol, Refusal, Slot, Verdict,
};

/// How long a frame may be if nothing is said.
const MTU: usize = 1500;

/// A device: what is pushed into it waits in the graph until the caller takes it out, with
/// [`Graph::transmitted`](crate::Graph::transmitted), and hands it to a real device.
///
/// Options: `mtu`, the longest frame, its headers counted.
#[derive(Debug)]
pub struct Device {
    mtu: usize,
}

impl Device {
    /// From a description.
    ///
    /// # Errors
    /// [`OptionError`].
    pub fn from_options(options: &Options) -> Result<Self, OptionError> {
        options.only(&["mtu"])?;
        let wanted = "a number of bytes from 64";
        Ok(Self { mtu: options.within("mtu", 64..=usize::MAX, wanted)?.unwrap_or(MTU) })
    }
}

impl Protocol for Device {
    fn open(&mut self, _who: &mut Participants, _context: &mut Context) -> Result<Opened, Refusal> {
        Ok(Opened { slot: Slot(0), lower: 0 })
    }

    fn opened(&mut self, _slot: Slot, _below: Below) -> Below {
        Below { max_message: self.mtu, headroom: 0, local: None }
    }

    fn push(&mut self, _slot: Slot, message: &mut Message, context: &mut Context) -> Verdict {
        if message.len() > self.mtu {
            return Verdict::Drop(crate::Reason::TooLarge);
        }
        context.transmit(message)
    }

    fn pop(&mut self, _slot: Slot, _message: &mut Message, _context: &mut Context) -> Verdict {
        Verdict::Pass
    }
}
