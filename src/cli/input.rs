//! Reads a file or standard input whole, up to a limit.

use std::io::{self, Read};
use std::path::Path;

/// Why the input was not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    #[error(transparent)]
    Failed(#[from] io::Error),
    /// The input is longer than the limit. `bytes` is `None` if its length is not known.
    #[error(
        "it has {} bytes, and the limit is {bytes_max}",
        bytes.map_or_else(|| format!("more than {bytes_max}"), |bytes| bytes.to_string())
    )]
    TooLong { bytes: Option<u64>, bytes_max: u64 },
}

/// Reads a file of at most `bytes_max` bytes.
///
/// # Errors
/// An error of the operating system, or `TooLong`.
pub(super) fn file(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Unread> {
    let file = std::fs::File::open(path)?;
    let bytes = file.metadata()?.len();
    whole(file, Some(bytes), bytes_max)
}

/// Reads at most `bytes_max` bytes of standard input.
///
/// # Errors
/// An error of the operating system, or `TooLong`.
pub(super) fn stdin(bytes_max: u64) -> Result<Vec<u8>, Unread> {
    whole(io::stdin(), None, bytes_max)
}

/// Reads the input to its end, and refuses more than `bytes_max` bytes. `bytes` is the length of a
/// file as the operating system gives it, and only the error shows it. It is `None` for standard
/// input, and 0 for a named pipe.
fn whole(input: impl Read, bytes: Option<u64>, bytes_max: u64) -> Result<Vec<u8>, Unread> {
    let mut read = Vec::new();
    input.take(bytes_max.saturating_add(1)).read_to_end(&mut read)?;
    if read.len() as u64 > bytes_max {
        return Err(Unread::TooLong { bytes: bytes.filter(|bytes| *bytes > bytes_max), bytes_max });
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn an_input_is_read_whole_or_refused() {
        let mut written = tempfile::NamedTempFile::new().unwrap();
        written.write_all(b"12345").unwrap();
        assert_eq!(file(written.path(), 5).unwrap(), b"12345");
        let refused = file(written.path(), 4).unwrap_err();
        assert_eq!(refused.to_string(), "it has 5 bytes, and the limit is 4");
        let piped = |bytes_max| whole(&b"12345"[..], None, bytes_max);
        assert_eq!(piped(5).unwrap(), b"12345");
        let refused = piped(4).unwrap_err();
        assert_eq!(refused.to_string(), "it has more than 4 bytes, and the limit is 4");
        assert!(matches!(file(Path::new("/does/not/exist"), 4), Err(Unread::Failed(_))));
    }
}
