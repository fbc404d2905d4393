//! From text to a description.

use std::str::FromStr;

use super::{Description, NodeDescription, Options};

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A name or kind has other characters.
    #[error("`{0}` is no name: write letters, digits, `-` and `_`")]
    Name(String),
    /// No `)` follows the `(`.
    #[error("a `)` is missing behind the options")]
    Parenthesis,
    /// An option is not `name=value`.
    #[error(
        "`{0}` is no option: write `name=value`, without spaces, `,`, `(`, `)` and `#` in the value"
    )]
    Option(String),
    /// An option is there twice.
    #[error("the option `{0}` is there twice: leave one out")]
    OptionTwice(String),
    /// Something follows where only `:` may.
    #[error("`{0}` is not expected here: write `: ` before the nodes below")]
    Unexpected(String),
    /// A colon without nodes behind it.
    #[error("no nodes follow the `:`: name them, or leave it out")]
    NoLowers,
    /// Two nodes have one name.
    #[error("`{0}` was described before: give one of them another name, as in `other = {0}`")]
    NameTwice(String),
}

/// Why a text describes no graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ParseError {
    /// Where, from 1.
    pub line: usize,
    /// What.
    pub problem: Problem,
}

impl FromStr for Description {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut description = Description::new();
        for (place, line) in text.lines().enumerate() {
            let at = |problem| ParseError { line: place + 1, problem };
            let content = line.split('#').next().unwrap_or_default().trim();
            if content.is_empty() {
                continue;
            }
            let mut node: NodeDescription = content.parse().map_err(at)?;
            node.line = place + 1;
            if description.find(&node.name).is_some() {
                return Err(at(Problem::NameTwice(node.name)));
            }
            description.nodes.push(node);
        }
        Ok(description)
    }
}

impl FromStr for NodeDescription {
    type Err = Problem;

    fn from_str(line: &str) -> Result<Self, Problem> {
        let head_end = line.find(['(', ':']).unwrap_or(line.len());
        let (head, mut rest) = line.split_at(head_end);
        let (name, kind) = match head.split_once('=') {
            Some((name, kind)) => (word(name)?, word(kind)?),
            None => (word(head)?, word(head)?),
        };
        let mut options = Options::default();
        if let Some(inside) = rest.strip_prefix('(') {
            let (inside, behind) = inside.split_once(')').ok_or(Problem::Parenthesis)?;
            for option in inside.split(',').map(str::trim).filter(|option| !option.is_empty()) {
                add_option(&mut options, option)?;
            }
            rest = behind.trim_start();
        }
        let lowers = match rest.strip_prefix(':') {
            Some(lowers) => lowers.split_whitespace().map(word).collect::<Result<Vec<_>, _>>()?,
            None if rest.is_empty() => Vec::new(),
            None => return Err(Problem::Unexpected(rest.to_owned())),
        };
        if lowers.is_empty() && !rest.is_empty() {
            return Err(Problem::NoLowers);
        }
        Ok(Self { name, kind, options, lowers, line: 0 })
    }
}

fn word(text: &str) -> Result<String, Problem> {
    let text = text.trim();
    check_word(text)?;
    Ok(text.to_owned())
}

/// Whether that can be a name or a kind.
pub(super) fn check_word(text: &str) -> Result<(), Problem> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let is_word = !text.is_empty() && text.chars().all(good);
    if is_word { Ok(()) } else { Err(Problem::Name(text.to_owned())) }
}

fn add_option(options: &mut Options, text: &str) -> Result<(), Problem> {
    let wrong = || Problem::Option(text.to_owned());
    let (name, value) = text.split_once('=').ok_or_else(wrong)?;
    let (name, value) = (word(name).map_err(|_| wrong())?, value.trim());
    if options.text(&name).is_some() {
        return Err(Problem::OptionTwice(name));
    }
    options.set(&name, value.to_owned()).map_err(|_| wrong())
}
