//! What an error of the registry plane means for the run: nothing was decided.

use super::error::Error;

impl From<Error> for crate::error::Error {
    fn from(error: Error) -> Self {
        let hint = error.hint();
        Self::undecided(format!("the registry could not be asked ({})", error.reason()))
            .because(error)
            .hint(hint)
    }
}
