//! The client's side of what is written.

use proc_macro2::TokenStream;
use quote::quote;

use super::Written;
use crate::definition::Definition;
use crate::names::{Names, starting};

/// The client: what carries its calls, and the functions.
pub fn write(definition: &Definition, names: &Names, methods: &[Written<'_>]) -> TokenStream {
    let Names { service, client, handler } = names;
    let vis = &definition.item.vis;
    let doc = format!(
        "Calls the service that [`{handler}`] defines: on this host, unless another way is named."
    );
    let calls = methods.iter().map(|method| method.calls(names));
    quote! {
        #[doc = #doc]
        #[derive(::core::fmt::Debug)]
        #vis struct #client<__C = ::rpc_fastpath::service::Local<#service>> {
            caller: __C,
        }

        impl #client {
            /// Binds to a server of this host.
            ///
            /// # Errors
            /// Which check failed.
            pub fn bind(
                address: &::rpc_fastpath::__private::unet::Address,
                options: ::rpc_fastpath::service::BindOptions,
            ) -> ::core::result::Result<Self, ::rpc_fastpath::service::BindError> {
                ::core::result::Result::Ok(Self {
                    caller: ::rpc_fastpath::service::Local::bind(address, options)?,
                })
            }
        }

        impl<__C: ::rpc_fastpath::service::Caller<#service>> #client<__C> {
            /// A client of what carries its calls.
            pub fn new(caller: __C) -> Self {
                Self { caller }
            }

            /// What carries the calls.
            #[inline(always)]
            pub fn caller(&self) -> &__C {
                &self.caller
            }

            /// The same client, which serves `server` while it waits: for calls that may come back.
            pub fn serving<'a>(
                &'a self,
                server: &'a dyn ::rpc_fastpath::service::Progress,
            ) -> #client<::rpc_fastpath::service::Serving<'a, __C>> {
                #client { caller: ::rpc_fastpath::service::Serving::new(&self.caller, server) }
            }

            #(#calls)*
        }
    }
}

impl Written<'_> {
    /// The client's functions for it.
    fn calls(&self, names: &Names) -> TokenStream {
        let Self { method, marker, .. } = self;
        let (docs, name, service) = (&method.docs, &method.name, &names.service);
        let mut parameters: Vec<TokenStream> = method
            .arguments
            .iter()
            .map(|argument| {
                let (name, ty) = (&argument.name, &argument.ty);
                quote!(#name: #ty)
            })
            .collect();
        let mut bulk_value = quote!(::core::option::Option::None);
        if let Some(bulk) = &method.bulk {
            let (name, ty) = (&bulk.name, &bulk.ty);
            parameters.insert(bulk.at, quote!(#name: #ty));
            bulk_value = quote!(::core::option::Option::Some(#name));
        }
        let taken = self.taken();
        let caller = quote!(<__C as ::rpc_fastpath::service::Caller<#service>>);
        if method.marks.one_way {
            return quote! {
                #(#docs)*
                ///
                /// Nobody waits for it: that it was sent is all that is known.
                ///
                /// # Errors
                /// It was not sent, and why.
                pub fn #name(&self, #(#parameters),*)
                    -> ::core::result::Result<(), ::rpc_fastpath::service::Reason>
                {
                    #caller::send::<#marker>(&self.caller, #taken, #bulk_value)
                }
            };
        }
        let (result, start) = (&method.result, starting(name));
        let start_doc = format!("Starts [`Self::{name}`], and does not wait.");
        quote! {
            #(#docs)*
            #[inline(always)]
            pub fn #name(&self, #(#parameters),*) -> ::rpc_fastpath::service::Outcome<#result> {
                #caller::call::<#marker>(&self.caller, #taken, #bulk_value)
            }

            #[doc = #start_doc]
            ///
            /// # Errors
            /// It was not sent, and why.
            #[inline(always)]
            pub fn #start(&self, #(#parameters),*)
                -> ::core::result::Result<#caller::Pending<'_, #marker>, ::rpc_fastpath::service::Reason>
            {
                #caller::start::<#marker>(&self.caller, #taken, #bulk_value)
            }
        }
    }
}
