//! Our own store under load.

use std::collections::VecDeque;

use rpc_fastpath::service::{Caller, Message, Outcome, PendingCall, Reason};
use serde_bytes::Bytes;

use super::workload::check;
use super::{End, LoadError, MIN_VALUE, Operation, Target};
use crate::client::{Putting, is_back_pressure, start_put};
use crate::service::{KeyValueClient, KeyValueGet, KeyValueService, Short};

/// Calls of a store, as many under way as it lets.
pub struct Calls<'c, C: Caller<KeyValueService>> {
    store: &'c KeyValueClient<C>,
    under_way: VecDeque<(u64, Call<'c, C>)>,
    /// Bytes of every value.
    value: usize,
}

enum Call<'c, C: Caller<KeyValueService> + 'c> {
    Get(u32, C::Pending<'c, KeyValueGet>),
    Put(Putting<'c, C>),
}

impl<'c, C: Caller<KeyValueService>> Calls<'c, C> {
    /// Loads that store with values of that length.
    pub fn new(store: &'c KeyValueClient<C>, value: usize) -> Self {
        Self { store, under_way: VecDeque::new(), value: value.max(MIN_VALUE) }
    }
}

impl<C: Caller<KeyValueService>> Target for Calls<'_, C> {
    #[inline]
    fn begin(&mut self, token: u64, operation: &Operation<'_>) -> Result<bool, LoadError> {
        let store = self.store;
        let started = match operation.put {
            Some(value) => start_put(store, operation.key, value).map(Call::Put),
            None => {
                let get = store.start_get(Bytes::new(operation.key));
                get.map(|get| Call::Get(operation.number, get))
            }
        };
        match started {
            Ok(call) => {
                self.under_way.push_back((token, call));
                Ok(true)
            }
            Err(reason) if is_back_pressure(reason) => Ok(false),
            Err(reason) => Err(LoadError::Other(reason.to_string())),
        }
    }

    /// In the order in which they were begun, which is the one in which a server answers them.
    #[inline]
    fn ended(&mut self, each: &mut dyn FnMut(u64, End)) -> Result<(), LoadError> {
        while let Some((token, call)) = self.under_way.front_mut() {
            let end = match call {
                Call::Get(number, get) => match get.try_take() {
                    Some(outcome) => got(*number, self.value, outcome)?,
                    None => return Ok(()),
                },
                Call::Put(put) => match put.take() {
                    Some(Outcome::Executed(Ok(_))) => End::Done,
                    Some(Outcome::Executed(Err(why))) => {
                        return Err(LoadError::Other(why.to_string()));
                    }
                    Some(Outcome::Refused(reason)) => refused(reason)?,
                    Some(Outcome::Unknown(reason)) => {
                        return Err(LoadError::Other(reason.to_string()));
                    }
                    None => return Ok(()),
                },
            };
            each(*token, end);
            self.under_way.pop_front();
        }
        Ok(())
    }
}

/// Checks what came back.
#[inline]
fn got(
    number: u32,
    expected: usize,
    outcome: Outcome<Result<Message, Short>>,
) -> Result<End, LoadError> {
    let mut head = [0; MIN_VALUE];
    let len = match outcome {
        Outcome::Executed(Err(Short::Value(value))) => {
            let start = value.first_chunk().ok_or(LoadError::WrongValue { key: number })?;
            head = *start;
            value.len()
        }
        Outcome::Executed(Ok(value)) => {
            let read = value.peek(0, &mut head);
            read.map_err(|_| LoadError::WrongValue { key: number })?;
            value.len()
        }
        Outcome::Executed(Err(Short::Missing)) => return Err(LoadError::Missing { key: number }),
        Outcome::Executed(Err(Short::NoBuffer)) => return Ok(End::Refused),
        Outcome::Refused(reason) => return refused(reason),
        Outcome::Unknown(reason) => return Err(LoadError::Other(reason.to_string())),
    };
    check(number, len, head, expected)?;
    Ok(End::Done)
}

fn refused(reason: Reason) -> Result<End, LoadError> {
    if is_back_pressure(reason) {
        return Ok(End::Refused);
    }
    Err(LoadError::Other(reason.to_string()))
}
