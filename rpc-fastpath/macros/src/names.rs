//! The names of what is written for a service, and which of the author's would be among them.

use std::collections::HashMap;

use quote::format_ident;
use syn::{Error, Ident, Result};

use crate::definition::Definition;

/// The functions that a client has beside those of its methods.
const OF_CLIENTS: [&str; 4] = ["new", "bind", "caller", "serving"];

pub struct Names {
    pub service: Ident,
    pub client: Ident,
    pub handler: Ident,
}

impl Names {
    /// The names for a definition.
    ///
    /// # Errors
    /// Where two things would have the same.
    pub fn of(definition: &Definition) -> Result<Self> {
        let handler = &definition.item.ident;
        let names = Self {
            service: format_ident!("{}Service", handler),
            client: format_ident!("{}Client", handler),
            handler: handler.clone(),
        };
        names.check_functions(definition)?;
        names.check_types(definition)?;
        Ok(names)
    }

    /// The type that stands for a method.
    pub fn marker(&self, method: &Ident) -> Ident {
        format_ident!("{}{}", self.handler, camel_case(method))
    }

    /// The client's functions.
    fn check_functions(&self, definition: &Definition) -> Result<()> {
        let own = OF_CLIENTS.map(|name| (name.to_owned(), "of its own".to_owned()));
        let mut functions = HashMap::from(own);
        for method in definition.methods.iter().filter(|method| !method.marks.one_way) {
            let what = format!("that starts `{}`", method.name);
            functions.insert(starting(&method.name).to_string(), what);
        }
        for method in &definition.methods {
            let name = plain(&method.name);
            if let Some(what) = functions.get(&name) {
                let say = format!("`{name}`: the client has a function {what} that is called so");
                return Err(Error::new(method.name.span(), say));
            }
        }
        Ok(())
    }

    /// The types for the methods.
    fn check_types(&self, definition: &Definition) -> Result<()> {
        let own = [(&self.service, "the description"), (&self.client, "the client")];
        let mut types = HashMap::from(own.map(|(name, what)| (name.clone(), what.to_owned())));
        for method in &definition.methods {
            let (name, marker) = (plain(&method.name), self.marker(&method.name));
            let what = format!("the type for `{name}`");
            if let Some(other) = types.insert(marker.clone(), what) {
                let say = format!("`{name}`: its type would be called `{marker}`, as {other} is");
                return Err(Error::new(method.name.span(), say));
            }
        }
        Ok(())
    }
}

/// The client's function that starts a method.
pub fn starting(method: &Ident) -> Ident {
    format_ident!("start_{}", method)
}

/// As it is read, without the mark of a raw identifier.
fn plain(name: &Ident) -> String {
    name.to_string().trim_start_matches("r#").to_owned()
}

fn camel_case(name: &Ident) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters
            .next()
            .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
    };
    plain(name).split('_').map(capital).collect()
}
