//! The service: what client and server share, and the handler that serves a store.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rpc_fastpath::service::{Call, Message, service};
use serde::{Deserialize, Serialize};
use serde_bytes::{ByteBuf, Bytes};

use crate::store::{Limits, PutError, Store, Usage};

/// The longest value that travels beside its call; a longer one has a buffer of its own.
///
/// A result beside which there may be a buffer has 510 bytes, of which this leaves what says how long
/// the value is. A value that fits is written and read with its call; for a longer one a buffer costs
/// less than the copies.
pub const INLINE: usize = 500;

/// The most entries of a page, whatever is asked for.
pub const MAX_PAGE: usize = 1_000;
/// The most bytes of keys and values of a page.
pub const PAGE_BYTES: usize = 32 << 10;

/// What a get gives when it gives no buffer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Short {
    /// The value: it has at most [`INLINE`] bytes.
    Value(ByteBuf),
    /// There is no such key.
    Missing,
    /// No buffer is free for the value: the client holds those of values it got before.
    NoBuffer,
}

/// A part of the store, in the order of its keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// At most [`MAX_PAGE`], of at most [`PAGE_BYTES`] in all.
    pub entries: Vec<Entry>,
    /// Where to go on; `None` at the end of the store.
    pub next: Option<ByteBuf>,
}

/// A key, and its value if that is short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The key.
    pub key: ByteBuf,
    /// Bytes of the value.
    pub len: u64,
    /// The value if it has at most [`INLINE`] bytes; a longer one is for `get`.
    pub value: Option<ByteBuf>,
}

/// A store that is called.
#[service(name = "key-value", version = 1)]
pub trait KeyValue {
    /// The value of a key: a buffer if it is long.
    #[idempotent]
    fn get(&self, call: &Call<'_>, key: &Bytes) -> Result<Message, Short>;
    /// Puts a value that travels with the call; gives the revision of the change.
    fn put(&self, key: &Bytes, value: &Bytes) -> Result<u64, PutError>;
    /// Puts a value that is in a buffer.
    fn put_bulk(&self, key: &Bytes, value: Message) -> Result<u64, PutError>;
    /// Takes a key away; gives the revision of the change, or nothing if there was no such key.
    fn delete(&self, key: &Bytes) -> Option<u64>;
    /// Keys from that one on, at most so many.
    #[idempotent]
    fn scan(&self, from: &Bytes, limit: u32) -> Page;
    /// What is in the store.
    #[idempotent]
    fn usage(&self) -> Usage;
}

/// A store that several threads serve, one for each transport.
///
/// # Cost
/// A lock that nobody else holds, while one thread serves.
#[derive(Debug)]
pub struct Shared(Mutex<Store>);

impl Shared {
    /// Serves this store.
    pub fn new(store: Store) -> Self {
        Self(Mutex::new(store))
    }

    /// How large its store may become.
    pub fn limits(&self) -> Limits {
        self.store().limits()
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        // The store is whole between its functions, and none of them panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyValue for Arc<Shared> {
    fn get(&self, call: &Call<'_>, key: &Bytes) -> Result<Message, Short> {
        let store = self.store();
        let value = store.get(key).ok_or(Short::Missing)?;
        if value.len() <= INLINE {
            return Err(Short::Value(ByteBuf::from(value)));
        }
        let mut buffer = call.alloc(value.len()).map_err(|_| Short::NoBuffer)?;
        buffer.copy_from_slice(value);
        Ok(buffer.freeze().into())
    }

    fn put(&self, key: &Bytes, value: &Bytes) -> Result<u64, PutError> {
        let mut store = self.store();
        store.admits(key, value.len())?;
        store.put(key, value.to_vec())
    }

    fn put_bulk(&self, key: &Bytes, value: Message) -> Result<u64, PutError> {
        self.store().admits(key, value.len())?;
        // The client can still write what it sent: the one copy is into memory of the store.
        let value = value.to_vec().map_err(|_| PutError::Revoked)?;
        self.store().put(key, value)
    }

    fn delete(&self, key: &Bytes) -> Option<u64> {
        self.store().delete(key)
    }

    fn scan(&self, from: &Bytes, limit: u32) -> Page {
        let limit = MAX_PAGE.min(limit as usize);
        let (mut page, mut bytes) = (Page::default(), 0);
        for (key, value) in self.store().scan(from) {
            let short = value.len() <= INLINE;
            bytes += key.len() + if short { value.len() } else { 0 };
            if page.entries.len() == limit || bytes > PAGE_BYTES {
                page.next = Some(ByteBuf::from(key));
                break;
            }
            page.entries.push(Entry {
                key: ByteBuf::from(key),
                len: value.len() as u64,
                value: short.then(|| ByteBuf::from(value)),
            });
        }
        page
    }

    fn usage(&self) -> Usage {
        self.store().usage()
    }
}
