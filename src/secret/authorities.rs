//! Finds the certificates of the authorities that the operating system trusts.

use std::path::PathBuf;

/// The file or the folder with the certificates of the system's authorities. A program with its own
/// OpenSSL (feature `static`) knows no such place, so this function looks at the usual places. The
/// variables `SSL_CERT_FILE` and `SSL_CERT_DIR` have precedence, as with OpenSSL itself.
///
/// `None` for a program that is linked to the system's OpenSSL, which knows the place, and for a
/// system without authorities.
#[must_use]
pub fn system_authorities() -> Option<PathBuf> {
    if !cfg!(feature = "static") {
        return None;
    }
    let found = openssl_probe::probe();
    let places = found.cert_file.into_iter().chain(found.cert_dir);
    // The `openssl` crate accepts only paths that are UTF-8.
    places.into_iter().find(|place| place.to_str().is_some())
}
