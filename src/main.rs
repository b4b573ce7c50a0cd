//! The `followpoints` command: serve, migrate, and what an operator needs without HTTP.

mod cli;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // A `.env` file fills in what the environment does not say; to have none is usual.
    if let Err(error) = dotenvy::dotenv()
        && !error.not_found()
    {
        eprintln!("followpoints: cannot read the .env file: {error}; correct it or remove it");
        return ExitCode::FAILURE;
    }
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("followpoints: {message}");
            ExitCode::FAILURE
        }
    }
}
