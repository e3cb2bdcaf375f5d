//! The `wellspring` binary: hands the command line to the library, and its answer to the shell.

use std::process::ExitCode;

fn main() -> ExitCode {
    wellspring::cli::main(std::env::args_os()).into()
}
