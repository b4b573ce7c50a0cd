//! The `followpoints` command: serve, migrate, and what an operator needs without HTTP.

mod cli;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // A `.env` file fills in what the environment does not say; to have none is usual.
    let _ = dotenvy::dotenv();
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("followpoints: {message}");
            ExitCode::FAILURE
        }
    }
}
