//! Remote calls with exact outcomes: every call ends once, as executed, refused or unknown.
//!
//! | module | what |
//! |---|---|
//! | [`wire`] | what travels: a header of 16 bytes |
//! | [`protocol`] | what both sides do with it: state machines without clock, socket or thread |
//! | [`endpoint`] | the same over U-Net channels: clients and servers |

pub mod endpoint;
pub mod protocol;
pub mod wire;
