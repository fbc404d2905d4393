//! The code that is written for a service.

mod client;

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Ident, Type};

use crate::definition::{Definition, Header, Method};
use crate::names::Names;

/// The trait, its description, what serves it, and its client.
pub fn write(definition: &Definition, names: &Names) -> TokenStream {
    let Definition { header, item, methods } = definition;
    let methods: Vec<Written<'_>> = methods
        .iter()
        .enumerate()
        .map(|(number, method)| Written { method, number, marker: names.marker(&method.name) })
        .collect();
    let service = write_service(definition, header, names, &methods);
    let each = methods.iter().map(|method| method.marker(definition, names));
    let client = client::write(definition, names, &methods);
    quote! {
        #item
        #service
        #(#each)*
        #client
    }
}

fn write_service(
    definition: &Definition,
    header: &Header,
    names: &Names,
    methods: &[Written<'_>],
) -> TokenStream {
    let Names { service, handler, .. } = names;
    let (vis, Header { name, version }) = (&definition.item.vis, header);
    let doc = format!("The service that [`{handler}`] defines: name, version, layout and methods.");
    let procedures = methods.iter().map(Written::procedure);
    let shapes = methods.iter().map(Written::shape);
    let markers = methods.iter().map(|method| &method.marker);
    quote! {
        #[doc = #doc]
        #[derive(::core::fmt::Debug)]
        #vis enum #service {}

        impl ::rpc_fastpath::__private::lrpc::Interface for #service {
            const NAME: &'static str = #name;
            const VERSION: u32 = #version;
            const PROCEDURES: &'static [::rpc_fastpath::__private::lrpc::Shape] = &[#(#procedures),*];
        }

        impl ::rpc_fastpath::service::Service for #service {
            const METHODS: &'static [::rpc_fastpath::service::MethodShape] = &[#(#shapes),*];
        }

        impl<__H: #handler> ::rpc_fastpath::service::Served<__H> for #service {
            fn methods<__R: ::rpc_fastpath::service::Registry<__H, Service = Self>>(
                registry: __R,
            ) -> __R {
                #(let registry =
                    ::rpc_fastpath::service::Registry::<__H>::method::<#markers>(registry);)*
                registry
            }
        }
    }
}

/// A method, and the names of what is written for it.
struct Written<'a> {
    method: &'a Method,
    number: usize,
    marker: Ident,
}

impl Written<'_> {
    /// The type that travels beside the bulk.
    fn gives(&self) -> TokenStream {
        let result = &self.method.result;
        if self.method.bulk_result {
            quote!(<#result as ::rpc_fastpath::service::Bulky>::Head)
        } else {
            quote!(#result)
        }
    }

    /// The form of the arguments, and that of the result.
    fn forms(&self) -> (TokenStream, TokenStream) {
        let encoded = |bulk: bool| match bulk {
            true => quote!(::rpc_fastpath::service::Encoded<{ ::rpc_fastpath::service::WIDE }>),
            false => quote!(::rpc_fastpath::service::Encoded),
        };
        let plain = quote!(::rpc_fastpath::service::Plain);
        let mut takes = match self.method.plain_arguments() {
            true => plain.clone(),
            false => encoded(self.method.bulk.is_some()),
        };
        if self.method.marks.deadline.is_some() {
            takes = quote!(::rpc_fastpath::service::Timed<#takes>);
        }
        let gives = match self.method.plain_result() {
            true => plain,
            false => encoded(self.method.bulk_result),
        };
        (takes, gives)
    }

    fn takes(&self) -> TokenStream {
        let types: Vec<&Type> =
            self.method.arguments.iter().map(|argument| &argument.named).collect();
        match self.method.plain_arguments() {
            true => pairs(&types, |a, b| quote!(::rpc_fastpath::service::Pair<#a, #b>)),
            false => quote!((#(#types,)*)),
        }
    }

    /// The arguments by their names, as one value or pattern.
    fn taken(&self) -> TokenStream {
        let names: Vec<&Ident> =
            self.method.arguments.iter().map(|argument| &argument.name).collect();
        match self.method.plain_arguments() {
            true => pairs(&names, |a, b| quote!(::rpc_fastpath::service::Pair(#a, #b))),
            false => quote!((#(#names,)*)),
        }
    }

    /// What LRPC compares when a client binds: types as written, sizes, and what else changes how a call
    /// travels.
    fn procedure(&self) -> TokenStream {
        let (marker, method) = (&self.marker, self.method);
        let name = method.name.to_string();
        let types: Vec<String> =
            method.arguments.iter().map(|argument| text(&argument.ty)).collect();
        let arguments = format!(
            "({}){}{}{}{}",
            types.join(", "),
            if method.plain_arguments() { "" } else { " encoded" },
            if method.bulk.is_some() { " and bulk" } else { "" },
            if method.marks.deadline.is_some() { " until" } else { "" },
            if method.marks.one_way { " one way" } else { "" },
        );
        let results = format!(
            "{}{}",
            text(&method.result),
            if method.plain_result() { "" } else { " encoded" },
        );
        let size = |what: &str| {
            let what = format_ident!("{what}");
            let ty = quote!(<#marker as ::rpc_fastpath::__private::lrpc::Procedure>::#what);
            quote!(::core::mem::size_of::<#ty>(), ::core::mem::align_of::<#ty>())
        };
        let (argument_size, result_size) = (size("Arguments"), size("Results"));
        quote! {
            ::rpc_fastpath::__private::lrpc::Shape {
                name: #name,
                arguments: (#arguments, #argument_size),
                results: (#results, #result_size),
            }
        }
    }

    fn shape(&self) -> TokenStream {
        let name = self.method.name.to_string();
        let marks = &self.method.marks;
        let (idempotent, slow, one_way) = (marks.idempotent, marks.slow, marks.one_way);
        let deadline = match marks.deadline {
            Some(deadline) => {
                // It was read so that it fits.
                let nanos = deadline.as_nanos() as u64;
                quote!(::core::option::Option::Some(::core::time::Duration::from_nanos(#nanos)))
            }
            None => quote!(::core::option::Option::None),
        };
        quote! {
            ::rpc_fastpath::service::MethodShape {
                name: #name,
                idempotent: #idempotent,
                slow: #slow,
                one_way: #one_way,
                deadline: #deadline,
            }
        }
    }

    /// The type that stands for the method, and how it is served.
    fn marker(&self, definition: &Definition, names: &Names) -> TokenStream {
        let Self { method, number, marker } = self;
        let Names { service, handler, .. } = names;
        let (vis, name) = (&definition.item.vis, &method.name);
        let (takes, gives, (takes_form, gives_form)) = (self.takes(), self.gives(), self.forms());
        let index = *number as u16;
        let (bulk, bulk_result) = (method.bulk.is_some(), method.bulk_result);
        let in_place = method.plain_arguments()
            && method.plain_result()
            && !bulk
            && method.marks.deadline.is_none();
        let doc = format!("[`{handler}::{name}`].");
        // None of these is a name of the author's, whatever those are.
        let own = |name| Ident::new(name, Span::mixed_site());
        let (receiver, context, bulk_name) = (own("handler"), own("call"), own("bulk"));
        let (pattern, call) = (self.taken(), method.call.then(|| quote!(#context,)));
        let mut handed: Vec<&Ident> =
            method.arguments.iter().map(|argument| &argument.name).collect();
        if let Some(bulk) = &method.bulk {
            handed.insert(bulk.at, &bulk_name);
        }
        let given = quote!(<__H as #handler>::#name(#receiver, #call #(#handed),*));
        let given = match bulk_result {
            true => quote!(::rpc_fastpath::service::Bulky::split(#given)),
            false => quote!((#given, ::core::option::Option::None)),
        };
        let join = match bulk_result {
            true => quote!(::rpc_fastpath::service::Bulky::join(gives, bulk.unwrap_or_default())),
            false => quote!(gives),
        };
        // None is an empty one.
        let unwrapped = bulk.then(|| quote!(let #bulk_name = #bulk_name.unwrap_or_default();));
        let (result, checks) = (&method.result, self.checks());
        quote! {
            #[doc = #doc]
            #[derive(::core::fmt::Debug)]
            #vis enum #marker {}

            impl ::rpc_fastpath::__private::lrpc::Procedure for #marker {
                type Interface = #service;
                type Arguments = <<Self as ::rpc_fastpath::service::Method>::TakesForm as
                    ::rpc_fastpath::service::Form<'static,
                        <Self as ::rpc_fastpath::service::Method>::Takes<'static>>>::Cell;
                type Results = <<Self as ::rpc_fastpath::service::Method>::GivesForm as
                    ::rpc_fastpath::service::Form<'static,
                        <Self as ::rpc_fastpath::service::Method>::Gives>>::Cell;
                const INDEX: u16 = #index;
            }

            impl ::rpc_fastpath::service::Method for #marker {
                type Takes<'a> = #takes;
                type Gives = #gives;
                type Output = #result;
                type TakesForm = #takes_form;
                type GivesForm = #gives_form;
                const SHAPE: &'static ::rpc_fastpath::service::MethodShape =
                    &<#service as ::rpc_fastpath::service::Service>::METHODS[#number];
                const BULK_ARGUMENT: bool = #bulk;
                const BULK_RESULT: bool = #bulk_result;
                const IN_PLACE: bool = #in_place;

                #[inline(always)]
                fn join(
                    gives: Self::Gives,
                    bulk: ::core::option::Option<::rpc_fastpath::service::Message>,
                ) -> #result {
                    #join
                }
            }

            impl<__H: #handler> ::rpc_fastpath::service::Handled<__H> for #marker {
                #[inline(always)]
                #[allow(unused_variables)]
                fn handle(
                    #receiver: &__H,
                    #context: &::rpc_fastpath::service::Call<'_>,
                    #pattern: <Self as ::rpc_fastpath::service::Method>::Takes<'_>,
                    #bulk_name: ::core::option::Option<::rpc_fastpath::service::Message>,
                ) -> (
                    <Self as ::rpc_fastpath::service::Method>::Gives,
                    ::core::option::Option<::rpc_fastpath::service::Message>,
                ) {
                    #unwrapped
                    #given
                }
            }

            #checks
        }
    }

    /// Says of each type that it can travel, where it stands, so that the compiler points there.
    fn checks(&self) -> TokenStream {
        let method = self.method;
        let check = |name: Ident, ty: &Type, named: &Type, plain: bool| {
            let bound = match plain {
                true => quote!(::rpc_fastpath::service::PlainArgument),
                false => quote!(::rpc_fastpath::service::Argument<'a>),
            };
            let used = quote_spanned!(ty.span() => #name::<#named>());
            quote! {
                const _: () = {
                    const fn #name<'a, T: #bound>() {}
                    #[allow(dead_code)]
                    const fn check<'a>() { #used }
                };
            }
        };
        let plain = method.plain_arguments();
        let arguments = method.arguments.iter().map(|argument| {
            let name = format_ident!("argument_{}_of_{}", argument.name, method.name);
            check(name, &argument.ty, &argument.named, plain)
        });
        let result = (!method.bulk_result).then(|| {
            let name = format_ident!("result_of_{}", method.name);
            check(name, &method.result, &method.result, method.plain_result())
        });
        quote!(#(#arguments)* #result)
    }
}

/// Nested pairs of so many things; one is itself, none is nothing.
fn pairs<T: ToTokens>(of: &[T], pair: fn(&T, TokenStream) -> TokenStream) -> TokenStream {
    match of {
        [] => quote!(()),
        [one] => quote!(#one),
        [first, rest @ ..] => pair(first, pairs(rest, pair)),
    }
}

fn text(ty: &Type) -> String {
    quote!(#ty).to_string()
}
