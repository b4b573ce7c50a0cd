//! What an update does with something that may be there or not.

/// What is to become of something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Change<T> {
    /// It stays as it is.
    #[default]
    Keep,
    /// There is none any more.
    Remove,
    /// It is this from now on.
    Set(T),
}

impl<T> Change<T> {
    /// What there is after the change, with `earlier` before it.
    #[must_use]
    pub fn applied(self, earlier: Option<T>) -> Option<T> {
        match self {
            Self::Keep => earlier,
            Self::Remove => None,
            Self::Set(new) => Some(new),
        }
    }

    /// The same where what there is, is made of something new and of what there was.
    pub fn try_applied<S, E>(
        self,
        earlier: Option<S>,
        make: impl FnOnce(T, Option<S>) -> Result<Option<S>, E>,
    ) -> Result<Option<S>, E> {
        match self {
            Self::Keep => Ok(earlier),
            Self::Remove => Ok(None),
            Self::Set(new) => make(new, earlier),
        }
    }
}
