//! The attribute `#[service]`, which `rpc-fastpath` re-exports and documents.
//!
//! A trait is read into a definition first, with all that can be said about it without knowing types;
//! then names are given, and the code is written.

mod definition;
mod names;
mod types;
mod writing;

use proc_macro::TokenStream;
use syn::{ItemTrait, parse_macro_input};

/// Makes client, server and description of a trait. `rpc_fastpath::service` has the description.
#[proc_macro_attribute]
pub fn service(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let header = parse_macro_input!(arguments as definition::Header);
    let item = parse_macro_input!(item as ItemTrait);
    let written = definition::Definition::read(header, item).and_then(|definition| {
        let names = names::Names::of(&definition)?;
        Ok(writing::write(&definition, &names))
    });
    written.unwrap_or_else(syn::Error::into_compile_error).into()
}
