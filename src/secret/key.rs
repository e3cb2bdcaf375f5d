//! The private key of our own certificate. It is read from its file under libpq's rules for the
//! file's permissions, and decrypted if needed.
//!
//! This file does IO, as `read` does. It accepts PEM, and PKCS#8 in DER, the form that JDBC drivers
//! use. OpenSSL would ask a terminal for a missing passphrase. A callback always answers OpenSSL
//! here, so OpenSSL never asks a terminal.

use super::{Secret, Source, SourceError, read};
use openssl::pkey::{PKey, Private};
use std::fs::File;
use std::io;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Largest key file, in bytes. A key of RSA with 16,384 bits has 13 KB.
const KEY_BYTES_MAX: u64 = 64 * 1024;

/// Permission bits of group and others. [`MORE_THAN_GROUP_READS`] has the same bits without the
/// group's right to read.
const ANY_BY_OTHERS: u32 = 0o077;
const MORE_THAN_GROUP_READS: u32 = 0o037;

/// Why a private key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file of the key cannot be read.
    #[error("read the private key {}", path.display())]
    File {
        /// Path of the key file.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// The file holds no usable key, or others could read it.
    #[error("the private key {}: {what}", path.display())]
    Refused {
        /// Path of the key file.
        path: PathBuf,
        /// What is wrong, as a sentence for the operator, such as "it is not a regular file".
        what: &'static str,
        /// Why the passphrase cannot be read, if that is the fault.
        #[source]
        source: Option<SourceError>,
    },
}

/// Reads a private key now. It blocks as [`read`] does.
///
/// `File` if the file cannot be read. `Refused` if others could read it, if its passphrase is
/// missing, wrong or unreadable, or if it holds no key.
pub fn read_key(path: &Path, passphrase: Option<&Source>) -> Result<PKey<Private>, KeyError> {
    let refused = |what| KeyError::Refused { path: path.to_owned(), what, source: None };
    let unreadable = |source| KeyError::File { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let about = file.metadata().map_err(unreadable)?;
    if !about.is_file() {
        return Err(refused("it is not a regular file"));
    }
    let forbidden = if about.uid() == 0 { MORE_THAN_GROUP_READS } else { ANY_BY_OTHERS };
    if about.mode() & forbidden != 0 {
        return Err(refused(
            "it has group or world access; its permissions must be u=rw (0600) or less if it is \
             owned by the agent's user, u=rw,g=r (0640) or less if it is owned by root",
        ));
    }
    let mut bytes = Vec::new();
    file.take(KEY_BYTES_MAX).read_to_end(&mut bytes).map_err(unreadable)?;
    let passphrase = Passphrase { source: passphrase, asked: false, failed: None };
    passphrase.decode(&bytes).map_err(|(what, source)| KeyError::Refused {
        path: path.to_owned(),
        what,
        source,
    })
}

/// The passphrase of a key. It is read only when OpenSSL asks for it.
struct Passphrase<'a> {
    source: Option<&'a Source>,
    asked: bool,
    failed: Option<SourceError>,
}

impl Passphrase<'_> {
    fn decode(
        mut self,
        bytes: &[u8],
    ) -> Result<PKey<Private>, (&'static str, Option<SourceError>)> {
        let is_pem = bytes.windows(11).any(|window| window == b"-----BEGIN ");
        let key = if is_pem {
            PKey::private_key_from_pem_callback(bytes, |buffer| Ok(self.give(buffer)))
        } else {
            PKey::private_key_from_der(bytes).or_else(|_| {
                PKey::private_key_from_pkcs8_callback(bytes, |buffer| Ok(self.give(buffer)))
            })
        };
        // OpenSSL's messages would not help an operator, so they are not shown.
        key.map_err(|_| match (self.asked, self.source, self.failed) {
            (true, None, _) => ("it is encrypted, and no passphrase is given", None),
            (true, Some(_), Some(error)) => {
                ("it is encrypted, and its passphrase cannot be had", Some(error))
            }
            (true, Some(_), None) => ("its passphrase is another one than the one given", None),
            (false, _, _) => ("it holds no private key in PEM, nor one of PKCS#8 in DER", None),
        })
    }

    /// Puts the passphrase into OpenSSL's buffer and returns its length. Returns 0 if there is no
    /// passphrase, or if it cannot be read or is too long for the buffer.
    fn give(&mut self, buffer: &mut [u8]) -> usize {
        self.asked = true;
        let secret = match self.source.map(read) {
            None => return 0,
            Some(Ok(secret)) => secret,
            Some(Err(error)) => {
                self.failed = Some(error);
                Secret::new("")
            }
        };
        let text = secret.reveal().as_bytes();
        match buffer.get_mut(..text.len()) {
            Some(place) => {
                place.copy_from_slice(text);
                text.len()
            }
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::rsa::Rsa;
    use openssl::symm::Cipher;
    use std::os::unix::fs::PermissionsExt as _;

    fn file(bytes: &[u8], mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    fn told(bytes: &[u8], mode: u32, passphrase: Option<&str>) -> String {
        let source = passphrase.map(|text| Source::Inline(Secret::new(text)));
        match read_key(file(bytes, mode).path(), source.as_ref()) {
            Ok(key) => format!("{} bits", key.bits()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_key_is_read_in_every_form_and_with_its_passphrase_only() {
        let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let aes = Cipher::aes_256_cbc();
        let plain = [
            key.private_key_to_pem_pkcs8().unwrap(),
            key.rsa().unwrap().private_key_to_pem().unwrap(),
            key.private_key_to_pkcs8().unwrap(),
            key.private_key_to_der().unwrap(),
        ];
        for bytes in plain {
            assert_eq!(told(&bytes, 0o600, None), "2048 bits");
            assert_eq!(told(&bytes, 0o400, Some("needless")), "2048 bits");
        }
        let encrypted = [
            key.private_key_to_pem_pkcs8_passphrase(aes, b"s3cret").unwrap(),
            key.rsa().unwrap().private_key_to_pem_passphrase(aes, b"s3cret").unwrap(),
            key.private_key_to_pkcs8_passphrase(aes, b"s3cret").unwrap(),
        ];
        for bytes in encrypted {
            assert_eq!(told(&bytes, 0o600, Some("s3cret")), "2048 bits");
            assert!(
                told(&bytes, 0o600, None).contains("no passphrase is given"),
                "{}",
                told(&bytes, 0o600, None)
            );
            let wrong = told(&bytes, 0o600, Some("hunter2"));
            assert!(wrong.contains("another one than") && !wrong.contains("hunter2"), "{wrong}");
            let nowhere =
                read_key(file(&bytes, 0o600).path(), Some(&Source::File("/nowhere".into())))
                    .unwrap_err();
            let KeyError::Refused { source: Some(source), .. } = &nowhere else {
                panic!("{nowhere:?}")
            };
            assert_eq!(source.to_string(), "read the file /nowhere");
        }
        assert!(told(b"-----BEGIN nothing", 0o600, None).contains("no private key"));
        assert!(told(b"", 0o600, Some("x")).contains("no private key"));
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_as_by_libpq() {
        let pem = PKey::from_rsa(Rsa::generate(2048).unwrap())
            .unwrap()
            .private_key_to_pem_pkcs8()
            .unwrap();
        for mode in [0o644, 0o604, 0o660, 0o610, 0o601] {
            assert!(told(&pem, mode, None).contains("group or world access"), "{mode:o}");
        }
        // The group may read a file that root owns, such as a mounted secret.
        let is_root = std::fs::metadata(file(&pem, 0o640).path()).unwrap().uid() == 0;
        assert_eq!(told(&pem, 0o640, None).contains("group or world access"), !is_root);
        let error = read_key(Path::new("/nowhere/key.pem"), None).unwrap_err();
        assert!(matches!(&error, KeyError::File { .. }), "{error:?}");
        assert!(
            read_key(Path::new("/"), None).unwrap_err().to_string().contains("not a regular file")
        );
    }
}
