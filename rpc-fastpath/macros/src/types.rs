//! What can be seen of types without knowing them.

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit_mut::VisitMut;
use syn::{Expr, ExprLit, Ident, Lifetime, Lit, Type};

/// The types that are known to be plain data by their names.
const PLAIN: &[&str] = &[
    "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize", "f32",
    "f64", "bool", "char",
];

pub fn is_plain(ty: &Type) -> bool {
    match ty {
        Type::Path(path) => {
            path.qself.is_none()
                && path.path.get_ident().is_some_and(|name| PLAIN.iter().any(|plain| name == plain))
        }
        Type::Array(array) => {
            is_plain(&array.elem)
                && matches!(&array.len, Expr::Lit(ExprLit { lit: Lit::Int(_), .. }))
        }
        Type::Tuple(tuple) => tuple.elems.is_empty(),
        Type::Paren(paren) => is_plain(&paren.elem),
        _ => false,
    }
}

pub fn last_segment(ty: &Type) -> Option<&Ident> {
    match ty {
        Type::Path(path) => path.path.segments.last().map(|segment| &segment.ident),
        _ => None,
    }
}

/// Whether it is a `Message`, or an `Option` or a `Result` of one.
pub fn is_bulk_result(ty: &Type) -> bool {
    let Type::Path(path) = ty else { return false };
    let Some(last) = path.path.segments.last() else { return false };
    if last.ident == "Message" {
        return true;
    }
    let syn::PathArguments::AngleBracketed(arguments) = &last.arguments else { return false };
    let first = match arguments.args.first() {
        Some(syn::GenericArgument::Type(ty)) => last_segment(ty),
        _ => None,
    };
    (last.ident == "Option" || last.ident == "Result")
        && first.is_some_and(|first| first == "Message")
}

/// Takes types out of the invisible brackets in which another macro has put them.
pub struct OpenGroups;

impl VisitMut for OpenGroups {
    fn visit_type_mut(&mut self, ty: &mut Type) {
        while let Type::Group(group) = ty {
            *ty = (*group.elem).clone();
        }
        syn::visit_mut::visit_type_mut(self, ty);
    }
}

/// Calls elided lifetimes `'a`.
#[derive(Default)]
pub struct NameLifetimes {
    /// Where something is borrowed to be changed.
    pub mutable: Option<Span>,
    /// Whether something is borrowed.
    pub any: bool,
    /// Where `Self` is named.
    pub own: Option<Span>,
}

impl VisitMut for NameLifetimes {
    fn visit_type_reference_mut(&mut self, reference: &mut syn::TypeReference) {
        self.any = true;
        if let Some(word) = &reference.mutability {
            self.mutable = Some(word.span());
        }
        if reference.lifetime.is_none() {
            reference.lifetime = Some(Lifetime::new("'a", reference.span()));
        }
        syn::visit_mut::visit_type_reference_mut(self, reference);
    }

    fn visit_path_mut(&mut self, path: &mut syn::Path) {
        if let Some(first) = path.segments.first().filter(|first| first.ident == "Self") {
            self.own = Some(first.ident.span());
        }
        syn::visit_mut::visit_path_mut(self, path);
    }

    fn visit_lifetime_mut(&mut self, lifetime: &mut Lifetime) {
        self.any |= lifetime.ident != "static";
        if lifetime.ident == "_" {
            *lifetime = Lifetime::new("'a", lifetime.span());
        }
    }
}
