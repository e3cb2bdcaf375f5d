//! The `wellspring` binary: hands the command line to the library, and the library's exit status to
//! the shell.

use std::process::ExitCode;

/// The allocator of the whole process, librdkafka included. A record is allocated by the row path
/// and released by a thread of librdkafka. With glibc's allocator this would cost a lock, and
/// memory of small records would stay taken after large records have followed them.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    wellspring::cli::main(std::env::args_os()).into()
}
