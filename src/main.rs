//! The `followpoints` command: serve, migrate, and what an operator needs without HTTP.

mod cli;

use std::io::Write as _;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // A `.env` file fills in what the environment does not say; to have none is usual.
    if let Err(error) = dotenvy::dotenv()
        && !error.not_found()
    {
        // A line that cannot be read may hold a secret, so it is not repeated.
        let what = match error {
            dotenvy::Error::Io(error) => error.to_string(),
            _ => "a line is not NAME=value (quote values that hold spaces)".to_owned(),
        };
        complain(&format!("cannot read the .env file: {what}; correct it or remove it"));
        return ExitCode::FAILURE;
    }
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            complain(&message);
            ExitCode::FAILURE
        }
    }
}

/// Says on standard error what is wrong, if anybody listens there.
fn complain(message: &str) {
    let _ = writeln!(std::io::stderr(), "followpoints: {message}");
}
