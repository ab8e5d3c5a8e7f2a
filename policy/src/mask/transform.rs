//! What is done to a masked value.

/// What is done to a masked value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Transform {
    /// Nothing of it is shown.
    Redact,
    Null,
    /// This text in its place.
    Fixed(Box<str>),
    /// Its last four characters are shown.
    Last4,
}

impl Transform {
    /// It shows something of the value, so that it suits only an untouched reference.
    #[must_use]
    pub fn is_revealing(&self) -> bool {
        match self {
            Self::Redact | Self::Null | Self::Fixed(_) => false,
            Self::Last4 => true,
        }
    }

    /// The one of two that shows less.
    #[must_use]
    pub fn stricter(self, other: Self) -> Self {
        if self == other { self } else { Self::Redact }
    }
}
