//! The client: values put and got whichever way fits their size, over any transport.

use rpc_fastpath::endpoint::OpenError;
use rpc_fastpath::service::{
    AllocError, Caller, FbufMut, Nearest, NearestOptions, Outcome, PendingCall, Reason,
};
use rpc_fastpath::wire::MAX_WINDOW;
use serde_bytes::Bytes;
use unet::{Address, Wait};

use crate::server::network;
use crate::service::{
    INLINE, KeyValueClient, KeyValuePut, KeyValuePutBulk, KeyValueService, Short,
};
use crate::store::PutError;

/// A client by LRPC where that leads to the store, else by a channel.
pub type Client = KeyValueClient<Nearest<KeyValueService>>;

/// Goes to the store at the first of these addresses that has one. So many calls may be under way at once;
/// by LRPC eight of each method.
///
/// # Errors
/// [`OpenError`].
pub fn open(addresses: &[Address], wait: Wait, window: u16) -> Result<Client, OpenError> {
    let mut options = NearestOptions::default();
    options.local.wait = wait;
    let connection = &mut options.remote.connection;
    connection.wait = wait;
    connection.connect.network = network();
    let limits = &mut connection.limits;
    limits.window = window.next_power_of_two().clamp(limits.window, MAX_WINDOW);
    Ok(KeyValueClient::new(Nearest::open(addresses, options)?))
}

/// A put under way.
#[derive(Debug)]
pub enum Putting<'a, C: Caller<KeyValueService> + 'a> {
    /// The value travels with the call.
    Inline(C::Pending<'a, KeyValuePut>),
    /// It has a buffer.
    Bulk(C::Pending<'a, KeyValuePutBulk>),
}

impl<C: Caller<KeyValueService>> Putting<'_, C> {
    /// The outcome, if it is here.
    #[inline]
    pub fn take(&mut self) -> Option<Outcome<Result<u64, PutError>>> {
        match self {
            Self::Inline(pending) => pending.try_take(),
            Self::Bulk(pending) => pending.try_take(),
        }
    }
}

/// Starts to put a value, and does not wait.
///
/// # Errors
/// [`Reason`]: the call was not sent. `NoBuffer` and those of [`is_back_pressure`] pass.
///
/// # Cost
/// The value is copied once: into the call, or into the buffer that is handed over.
#[inline]
pub fn start_put<'a, C: Caller<KeyValueService>>(
    store: &'a KeyValueClient<C>,
    key: &[u8],
    value: &[u8],
) -> Result<Putting<'a, C>, Reason> {
    if value.len() <= INLINE {
        return Ok(Putting::Inline(store.start_put(Bytes::new(key), Bytes::new(value))?));
    }
    let buffer = in_buffer(store.caller(), value)?;
    Ok(Putting::Bulk(store.start_put_bulk(Bytes::new(key), buffer.freeze().into())?))
}

/// Puts a value; gives the revision of the change.
pub fn put<C: Caller<KeyValueService>>(
    store: &KeyValueClient<C>,
    key: &[u8],
    value: &[u8],
) -> Outcome<Result<u64, PutError>> {
    if value.len() <= INLINE {
        return store.put(Bytes::new(key), Bytes::new(value));
    }
    match in_buffer(store.caller(), value) {
        Ok(buffer) => store.put_bulk(Bytes::new(key), buffer.freeze().into()),
        Err(reason) => Outcome::Refused(reason),
    }
}

/// Why there is no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GetError {
    /// There is no such key.
    #[error("there is no such key")]
    Missing,
    /// The client holds the buffers of values that it got before.
    #[error("no buffer is free for the value: drop those that were got before")]
    NoBuffer,
    /// The server took the value back while it was read.
    #[error("the value was taken back before it was read")]
    Revoked,
}

/// Gets a copy of a value. Who need not have a copy calls `get` of the client, and reads a long one
/// where it is.
pub fn get<C: Caller<KeyValueService>>(
    store: &KeyValueClient<C>,
    key: &[u8],
) -> Outcome<Result<Vec<u8>, GetError>> {
    store.get(Bytes::new(key)).map(|found| match found {
        Ok(value) => value.to_vec().map_err(|_| GetError::Revoked),
        Err(Short::Value(value)) => Ok(value.into_vec()),
        Err(Short::Missing) => Err(GetError::Missing),
        Err(Short::NoBuffer) => Err(GetError::NoBuffer),
    })
}

/// Whether a refusal says only that there is much under way: it passes when some of that has ended.
pub fn is_back_pressure(reason: Reason) -> bool {
    matches!(reason, Reason::NoAStack | Reason::QueueFull | Reason::NoBuffer | Reason::Overloaded)
}

fn in_buffer(way: &impl Caller<KeyValueService>, value: &[u8]) -> Result<FbufMut, Reason> {
    let mut buffer = way.alloc(value.len()).map_err(|error| match error {
        AllocError::TooLarge { .. } => Reason::TooLarge,
        _ => Reason::NoBuffer,
    })?;
    buffer.copy_from_slice(value);
    Ok(buffer)
}
