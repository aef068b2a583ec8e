//! The `config-explorer` program: arguments in, tables and JSON out. What it prints is computed by the library.

mod arguments;
mod cli;
mod commands;
mod error;
mod exit_status;
mod output;

use std::process::ExitCode;

use exit_status::ExitStatus;

fn main() -> ExitCode {
    let status = match cli::parse(std::env::args_os()) {
        Ok(cli) => commands::run(cli).unwrap_or_else(|error| error::report(&error)),
        Err(message) => {
            // Help that nobody reads any more is no failure.
            let _ = message.print();
            if message.use_stderr() { ExitStatus::Usage } else { ExitStatus::Success }
        }
    };
    status.into()
}
