//! The work on what platforms sent: taken from the inbox, understood by the platform's own module, recorded.

pub mod settings;
