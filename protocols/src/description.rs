//! What a graph is made of, as text or as a value.
//!
//! One line describes one node, the upper ones first by habit:
//!
//! ```text
//! # name = kind(option=value, …): the nodes below
//! udp: ipv4 ipv6
//! ipv4: lossy
//! ipv6: lossy
//! lossy = fault(loss=0.01, seed=7): ether
//! ether(mac=02:00:00:00:00:01): tap0
//! tap0 = device
//! ```
//!
//! A node whose name is its kind needs no `=`; one without options no parentheses; one without nodes
//! below no colon. What follows a `#` is a comment. Names and kinds are letters, digits, `-` and `_`;
//! a value is anything without white space, commas, parentheses and `#`, and not nothing. The order of the lines has no
//! meaning, the order of the nodes below one has: a layer knows them by their place.

mod options;
mod parse;

use std::fmt;

use parse::check_word;

pub use options::{OptionError, Options};
pub use parse::{ParseError, Problem};

/// The description of one node.
///
/// Whatever it is made of can be written: its [`Display`](fmt::Display) is text that parses to the same
/// description again.
#[derive(Clone, Debug)]
pub struct NodeDescription {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) options: Options,
    pub(crate) lowers: Vec<String>,
    pub(crate) line: usize,
}

/// Where it was written makes no difference.
impl PartialEq for NodeDescription {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.kind, &self.options, &self.lowers)
            == (&other.name, &other.kind, &other.options, &other.lowers)
    }
}

impl Eq for NodeDescription {}

impl NodeDescription {
    /// A node of its kind's name, without options, over nothing.
    ///
    /// # Errors
    /// [`Problem::Name`].
    pub fn new(name: &str) -> Result<Self, Problem> {
        check_word(name)?;
        let (name, kind) = (name.to_owned(), name.to_owned());
        Ok(Self { name, kind, options: Options::default(), lowers: Vec::new(), line: 0 })
    }

    /// Of another kind.
    ///
    /// # Errors
    /// [`Problem::Name`].
    pub fn of(mut self, kind: &str) -> Result<Self, Problem> {
        check_word(kind)?;
        kind.clone_into(&mut self.kind);
        Ok(self)
    }

    /// With an option.
    ///
    /// # Errors
    /// [`Problem::Option`].
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Result<Self, Problem> {
        self.options.set(name, value.to_string())?;
        Ok(self)
    }

    /// Over one more node.
    ///
    /// # Errors
    /// [`Problem::Name`].
    pub fn over(mut self, lower: &str) -> Result<Self, Problem> {
        check_word(lower)?;
        self.lowers.push(lower.to_owned());
        Ok(self)
    }

    /// Its name; no other node has it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is: see [`Kinds`](crate::Kinds).
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// How it is to behave.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The names of the nodes below it, in their order.
    pub fn lowers(&self) -> impl Iterator<Item = &str> {
        self.lowers.iter().map(String::as_str)
    }

    /// The line of the text that describes it, from 1; zero if it was built otherwise.
    pub fn line(&self) -> usize {
        self.line
    }
}

impl fmt::Display for NodeDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.kind != self.name {
            write!(f, " = {}", self.kind)?;
        }
        if !self.options.is_empty() {
            write!(f, "({})", self.options)?;
        }
        for (place, lower) in self.lowers.iter().enumerate() {
            write!(f, "{} {lower}", if place == 0 { ":" } else { "" })?;
        }
        Ok(())
    }
}

/// The description of a graph: of its nodes, in the order in which they were named.
///
/// Its [`Display`](fmt::Display) is text that parses to the same description again, unless two nodes
/// have one name: then neither the text nor the value makes a graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// The nodes.
    pub nodes: Vec<NodeDescription>,
}

impl Description {
    /// Of no nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more node.
    pub fn node(mut self, node: NodeDescription) -> Self {
        self.nodes.push(node);
        self
    }

    /// The node of that name.
    pub fn find(&self, name: &str) -> Option<&NodeDescription> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// The graph as Graphviz draws it: `dot -Tsvg`.
    pub fn to_dot(&self) -> String {
        use fmt::Write as _;
        let mut dot = String::from("digraph protocols {\n    node [shape=box];\n");
        for node in &self.nodes {
            let mut label = node.name.clone();
            if node.kind != node.name {
                label = format!("{label}\n{}", node.kind);
            }
            if !node.options.is_empty() {
                label = format!("{label}\n{}", node.options);
            }
            // Writing into a string does not fail.
            let _ = writeln!(dot, "    {} [label={}];", quoted(&node.name), quoted(&label));
        }
        for node in &self.nodes {
            for lower in &node.lowers {
                let _ = writeln!(dot, "    {} -> {};", quoted(&node.name), quoted(lower));
            }
        }
        dot.push_str("}\n");
        dot
    }
}

/// As Graphviz reads a string, whatever is in it.
fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{text}\"")
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.nodes.iter().try_for_each(|node| writeln!(f, "{node}"))
    }
}
