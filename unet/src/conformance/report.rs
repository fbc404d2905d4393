//! What came of the suite.

/// Why a device does not conform: what was expected, and what was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

impl From<String> for Failure {
    fn from(sentence: String) -> Self {
        Self(sentence)
    }
}

/// What came of a behaviour that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The device showed it.
    Shown,
    /// It does not apply to this device or bench; why.
    LeftOut(&'static str),
}

/// What came of one behaviour.
pub type Outcome = Result<Verdict, Failure>;

/// What came of all behaviours, by name.
#[derive(Clone, Debug)]
pub struct Report(pub Vec<(&'static str, Outcome)>);

impl Report {
    /// Whether none failed.
    pub fn is_ok(&self) -> bool {
        self.failures().next().is_none()
    }

    /// Those that failed.
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, &Failure)> {
        self.0.iter().filter_map(|(name, outcome)| Some((*name, outcome.as_ref().err()?)))
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (name, outcome) in &self.0 {
            match outcome {
                Ok(Verdict::Shown) => writeln!(f, "{name}: shown")?,
                Ok(Verdict::LeftOut(why)) => writeln!(f, "{name}: left out: {why}")?,
                Err(failure) => writeln!(f, "{name}: FAILED: {failure}")?,
            }
        }
        Ok(())
    }
}
