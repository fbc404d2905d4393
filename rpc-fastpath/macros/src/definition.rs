//! What a service's trait says.

use std::time::Duration;

use proc_macro2::Span;
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::visit_mut::VisitMut;
use syn::{
    Attribute, Error, FnArg, Ident, ItemTrait, LitInt, LitStr, Pat, Result, ReturnType, Token,
    TraitItem, TraitItemFn, Type, parse_quote,
};

use crate::types::{NameLifetimes, OpenGroups, is_bulk_result, is_plain, last_segment};

/// `name = "…", version = N`.
pub struct Header {
    pub name: LitStr,
    pub version: LitInt,
}

pub struct Definition {
    pub header: Header,
    /// As it is written, without the marks.
    pub item: ItemTrait,
    pub methods: Vec<Method>,
}

pub struct Method {
    pub docs: Vec<Attribute>,
    pub name: Ident,
    /// The handler wants to know its call.
    pub call: bool,
    /// Without the bulk.
    pub arguments: Vec<Argument>,
    /// Where among the arguments the bulk stands.
    pub bulk: Option<Bulk>,
    pub result: Type,
    /// There is a `Message` in the result.
    pub bulk_result: bool,
    pub marks: Marks,
}

pub struct Argument {
    pub name: Ident,
    /// As it is written.
    pub ty: Type,
    /// With every elided lifetime called `'a`.
    pub named: Type,
}

pub struct Bulk {
    pub name: Ident,
    pub ty: Type,
    /// How many arguments stand before it.
    pub at: usize,
}

#[derive(Default)]
pub struct Marks {
    pub idempotent: bool,
    pub slow: bool,
    pub one_way: bool,
    pub plain: bool,
    pub deadline: Option<Duration>,
}

/// The most methods that an LRPC interface has.
const MAX_METHODS: usize = 1024;
/// The longest name of an LRPC interface.
const MAX_NAME: usize = 64;

impl Parse for Header {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let (mut name, mut version) = (None, None);
        while !input.is_empty() {
            let key: Ident = input.parse()?;
            input.parse::<Token![=]>()?;
            if key == "name" {
                name = Some(input.parse::<LitStr>()?);
            } else if key == "version" {
                version = Some(input.parse::<LitInt>()?);
            } else {
                return Err(Error::new(key.span(), "a service has a `name` and a `version`"));
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        let missing = |what| Error::new(Span::call_site(), what);
        let name = name.ok_or_else(|| missing("say what the service is called: name = \"…\""))?;
        let version = version.ok_or_else(|| missing("say which version it is: version = 1"))?;
        if name.value().is_empty() || name.value().len() > MAX_NAME {
            return Err(Error::new(name.span(), "a service's name has 1 to 64 bytes"));
        }
        version.base10_parse::<u32>()?;
        Ok(Self { name, version })
    }
}

impl Definition {
    pub fn read(header: Header, mut item: ItemTrait) -> Result<Self> {
        if let Some(parameter) = item.generics.params.first() {
            return Err(Error::new(parameter.span(), "a service has no type parameters"));
        }
        if let Some(again) = item.attrs.iter().find(|attribute| is_service(attribute)) {
            return Err(Error::new(again.span(), "a trait is one service"));
        }
        let mut methods = Vec::new();
        for member in &mut item.items {
            let TraitItem::Fn(function) = member else {
                return Err(Error::new(member.span(), "a service has methods only"));
            };
            methods.push(Method::read(function)?);
        }
        if methods.is_empty() || methods.len() > MAX_METHODS {
            return Err(Error::new(item.ident.span(), "a service has 1 to 1024 methods"));
        }
        Ok(Self { header, item, methods })
    }
}

impl Method {
    /// Reads a method, and takes its marks off.
    fn read(function: &mut TraitItemFn) -> Result<Self> {
        let marks = Marks::take(&mut function.attrs)?;
        OpenGroups.visit_signature_mut(&mut function.sig);
        let signature = &function.sig;
        if let Some(parameter) = signature.generics.params.first() {
            return Err(Error::new(parameter.span(), "a method has no parameters of its own"));
        }
        if let Some(clause) = &signature.generics.where_clause {
            let say = format!("`{}`: a method has no conditions", signature.ident);
            return Err(Error::new(clause.span(), say));
        }
        conditional(&function.attrs)?;
        if let Some(word) = &signature.unsafety {
            return Err(Error::new(word.span(), "whoever can bind can call: a method is safe"));
        }
        if let Some(abi) = &signature.abi {
            return Err(Error::new(abi.span(), "handlers are plain functions"));
        }
        if let Some(word) = &signature.asyncness {
            let say =
                "handlers are plain functions; mark a method `#[slow]` to have it run by a worker";
            return Err(Error::new(word.span(), say));
        }
        if let Some(body) = &function.default {
            return Err(Error::new(body.span(), "a method of a service has no body here"));
        }
        let mut inputs = signature.inputs.iter();
        match inputs.next() {
            Some(FnArg::Receiver(receiver))
                if receiver.reference.is_some() && receiver.mutability.is_none() =>
            {
                if let Some(lifetime) = receiver.lifetime().filter(|named| named.ident != "_") {
                    let say = format!("`{}`: a handler is borrowed as `&self`", signature.ident);
                    return Err(Error::new(lifetime.span(), say));
                }
            }
            _ => return Err(Error::new(signature.span(), "a method takes `&self` first")),
        }
        let mut method = Self {
            docs: function
                .attrs
                .iter()
                .filter(|attr| attr.path().is_ident("doc"))
                .cloned()
                .collect(),
            name: signature.ident.clone(),
            call: false,
            arguments: Vec::new(),
            bulk: None,
            result: match &signature.output {
                ReturnType::Default => parse_quote!(()),
                ReturnType::Type(_, ty) => (**ty).clone(),
            },
            bulk_result: false,
            marks,
        };
        for (at, input) in inputs.enumerate() {
            method.take_argument(at, input)?;
        }
        method.bulk_result = is_bulk_result(&method.result);
        method.check(function)?;
        Ok(method)
    }

    fn take_argument(&mut self, at: usize, input: &FnArg) -> Result<()> {
        let FnArg::Typed(typed) = input else {
            return Err(Error::new(input.span(), "a method takes `&self` first"));
        };
        conditional(&typed.attrs)?;
        let Pat::Ident(pattern) = &*typed.pat else {
            return Err(Error::new(typed.pat.span(), "an argument has a name"));
        };
        let (name, ty) = (pattern.ident.clone(), (*typed.ty).clone());
        if let Type::Reference(reference) = &ty
            && last_segment(&reference.elem).is_some_and(|last| last == "Call")
        {
            if at > 0 {
                return Err(Error::new(ty.span(), "the call is the first argument after `&self`"));
            }
            self.call = true;
            return Ok(());
        }
        if last_segment(&ty).is_some_and(|last| last == "Message") {
            if let Some(other) = &self.bulk {
                let say = format!("`{name}`: a call carries one message; `{}` is one", other.name);
                return Err(Error::new(ty.span(), say));
            }
            self.bulk = Some(Bulk { name, ty, at: self.arguments.len() });
            return Ok(());
        }
        let mut named = ty.clone();
        let mut naming = NameLifetimes::default();
        naming.visit_type_mut(&mut named);
        if let Some(span) = naming.own {
            let say = format!("`{name}`: a service is no type of a value, say which type it is");
            return Err(Error::new(span, say));
        }
        if let Some(span) = naming.mutable {
            let say =
                format!("`{name}`: what is changed here would not be changed at the caller's");
            return Err(Error::new(span, say));
        }
        if let Type::ImplTrait(_) = ty {
            let say = format!("`{name}`: say which type it is, both sides must agree on it");
            return Err(Error::new(ty.span(), say));
        }
        self.arguments.push(Argument { name, ty, named });
        Ok(())
    }

    fn check(&self, function: &TraitItemFn) -> Result<()> {
        if let ReturnType::Type(_, ty) = &function.sig.output {
            let mut naming = NameLifetimes::default();
            let mut named = (**ty).clone();
            naming.visit_type_mut(&mut named);
            if let Some(span) = naming.own {
                let say = "a service is no type of a value, say which type the result is";
                return Err(Error::new(span, say));
            }
            if naming.any {
                return Err(Error::new(ty.span(), "a result is owned: it outlives the call"));
            }
            if self.marks.one_way {
                return Err(Error::new(ty.span(), "a one-way method has no result"));
            }
        }
        if self.marks.slow {
            if let Some(bulk) = &self.bulk {
                let say = format!("`{}`: workers are given no bulk; take a `Vec<u8>`", bulk.name);
                return Err(Error::new(bulk.ty.span(), say));
            }
            if self.bulk_result {
                return Err(Error::new(
                    self.result.span(),
                    "workers return no bulk; return a `Vec<u8>`",
                ));
            }
        }
        Ok(())
    }

    /// Whether the arguments are plain data: all are, as far as can be seen here, or so it is said.
    pub fn plain_arguments(&self) -> bool {
        self.marks.plain || self.arguments.iter().all(|argument| is_plain(&argument.ty))
    }

    /// The same of the result.
    pub fn plain_result(&self) -> bool {
        !self.bulk_result && (self.marks.plain || is_plain(&self.result))
    }
}

impl Marks {
    /// Takes the marks of this crate off a method.
    fn take(attributes: &mut Vec<Attribute>) -> Result<Self> {
        let mut marks = Self::default();
        let mut wrong = Ok(());
        attributes.retain(|attribute| {
            let read = marks.read(attribute);
            let is_mark = !matches!(read, Ok(false));
            if let (Ok(()), Err(error)) = (&wrong, read) {
                wrong = Err(error);
            }
            !is_mark
        });
        wrong.map(|()| marks)
    }

    /// Notes a mark. `false` if the attribute is none.
    fn read(&mut self, attribute: &Attribute) -> Result<bool> {
        let Some(name) = attribute.path().get_ident().map(Ident::to_string) else {
            return Ok(false);
        };
        let mark = match name.as_str() {
            "idempotent" => &mut self.idempotent,
            "slow" => &mut self.slow,
            "one_way" => &mut self.one_way,
            "plain" => &mut self.plain,
            "deadline" => {
                let deadline = duration(&attribute.parse_args()?)?;
                return once(attribute, &name, self.deadline.replace(deadline).is_some());
            }
            _ => return Ok(false),
        };
        attribute.meta.require_path_only()?;
        once(attribute, &name, std::mem::replace(mark, true))
    }
}

fn is_service(attribute: &Attribute) -> bool {
    attribute.path().segments.last().is_some_and(|last| last.ident == "service")
}

/// Refuses a mark that was there already.
fn once(attribute: &Attribute, name: &str, again: bool) -> Result<bool> {
    match again {
        true => Err(Error::new(attribute.span(), format!("`{name}` is written twice"))),
        false => Ok(true),
    }
}

/// Refuses what is there under a condition only: client and server would not agree on it.
fn conditional(attributes: &[Attribute]) -> Result<()> {
    let is_condition = |path: &syn::Path| path.is_ident("cfg") || path.is_ident("cfg_attr");
    match attributes.iter().find(|attribute| is_condition(attribute.path())) {
        Some(attribute) => {
            let say = "both sides must agree on the methods: make a service of its own of these";
            Err(Error::new(attribute.span(), say))
        }
        None => Ok(()),
    }
}

/// A time such as `5ms`.
fn duration(text: &LitStr) -> Result<Duration> {
    let value = text.value();
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (number, unit) = value.split_at(digits);
    let nanos_each = match unit {
        "us" | "µs" => Some(1_000),
        "ms" => Some(1_000_000),
        "s" => Some(1_000_000_000),
        _ => None,
    };
    let number = number.parse::<u64>().ok().filter(|number| *number > 0);
    let (Some(number), Some(nanos_each)) = (number, nanos_each) else {
        let say = "a deadline is a number of `us`, `ms` or `s`: \"5ms\"";
        return Err(Error::new(text.span(), say));
    };
    match number.checked_mul(nanos_each) {
        Some(nanos) => Ok(Duration::from_nanos(nanos)),
        None => Err(Error::new(text.span(), "a deadline is less than 585 years")),
    }
}
