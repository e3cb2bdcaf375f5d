//! The `wellspring` binary: hands the command line to the library, and its answer to the shell.

use std::process::ExitCode;

/// The allocator of the whole process, librdkafka included. A record is allocated by the row path
/// and released by a thread of librdkafka. glibc's allocator pays for that with a lock, and keeps
/// memory where small records make way for large ones.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    wellspring::cli::main(std::env::args_os()).into()
}
