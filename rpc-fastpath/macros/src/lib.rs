//! The attribute `#[service]`, which `rpc-fastpath` re-exports and documents.
//!
//! A trait is read into a [`definition::Definition`] first, with all that can be said about it without
//! knowing types; then the code is written from that.

mod definition;
mod writing;

use proc_macro::TokenStream;
use syn::{ItemTrait, parse_macro_input};

/// Makes client, server and description of a trait. `rpc_fastpath::service` has the description.
#[proc_macro_attribute]
pub fn service(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let header = parse_macro_input!(arguments as definition::Header);
    let item = parse_macro_input!(item as ItemTrait);
    match definition::Definition::read(header, item) {
        Ok(definition) => writing::write(&definition).into(),
        Err(error) => error.into_compile_error().into(),
    }
}
