//! Which layers there are, by name.

use std::collections::BTreeMap;

use crate::description::OptionError;
use crate::{Options, Protocol, layers};

type Make = Box<dyn Fn(&Options) -> Result<Box<dyn Protocol>, OptionError>>;

/// The kinds of layers that a description may name.
pub struct Kinds(BTreeMap<String, Make>);

impl Kinds {
    /// None.
    pub fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Those of this crate.
    pub fn standard() -> Self {
        let mut kinds = Self::new();
        layers::register(&mut kinds);
        kinds
    }

    /// Adds a kind, in place of one that had the name before. `make` makes a layer from its options,
    /// once for each node of the kind.
    pub fn add<P: Protocol + 'static>(
        &mut self,
        name: &str,
        make: impl Fn(&Options) -> Result<P, OptionError> + 'static,
    ) {
        let make = move |options: &Options| Ok(Box::new(make(options)?) as Box<dyn Protocol>);
        self.0.insert(name.to_owned(), Box::new(make));
    }

    /// Makes a layer; `None` if there is no such kind.
    pub(crate) fn make(
        &self,
        kind: &str,
        options: &Options,
    ) -> Option<Result<Box<dyn Protocol>, OptionError>> {
        Some(self.0.get(kind)?(options))
    }

    /// The names of all.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl Default for Kinds {
    fn default() -> Self {
        Self::standard()
    }
}

impl std::fmt::Debug for Kinds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}
