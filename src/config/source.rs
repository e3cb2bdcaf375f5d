//! `[postgres]`: where changes come from.

use super::reader::Reader;
use super::value;
use crate::postgres::{self, Host, UrlParts};
use crate::secret::Source;
use std::path::PathBuf;

/// The longest name Postgres keeps, in bytes; longer ones would be cut in silence.
const NAME_BYTES_MAX: usize = 63;

pub(super) struct Database {
    pub postgres: postgres::Config,
    pub slot: String,
    pub publication: String,
    pub create_publication: bool,
    pub origins: postgres::Origins,
}

/// Takes every key of the section.
pub(super) fn read(reader: &mut Reader<'_>, prefix: Option<&str>) -> Option<Database> {
    if !reader.is_given("postgres.url") {
        reader.missing("postgres.url", "url = \"postgresql://user@host:5432/database\"");
    }
    let url = reader.url("postgres.url", value::text);
    let keys = Keys {
        sslmode: reader.optional("postgres.sslmode", value::one_of(&SSL_MODES)),
        sslrootcert: reader.optional("postgres.sslrootcert", value::path),
        password: reader.secret_file("postgres.password_file"),
    };
    let default_slot = default_slot(prefix.unwrap_or_default());
    let slot = reader.or("postgres.slot", value::text, &default_slot);
    let slot = slot.filter(|name| is_slot_name(reader, name));
    let default_publication = slot.clone().unwrap_or(default_slot);
    let publication = reader.or("postgres.publication", value::text, &default_publication);
    let publication = publication.filter(|name| is_name(reader, "postgres.publication", name));
    let create_publication = reader.or("postgres.create_publication", value::flag, "true");
    let origins = [("any", postgres::Origins::Any), ("none", postgres::Origins::None)];
    let origins = reader.or("postgres.origin", value::one_of(&origins), "any");
    let postgres = url.and_then(|url| keys.join(reader, &url));
    Some(Database {
        postgres: postgres?,
        slot: slot?,
        publication: publication?,
        create_publication: create_publication?,
        origins: origins?,
    })
}

const SSL_MODES: [(&str, postgres::SslMode); 4] = [
    ("verify-full", postgres::SslMode::VerifyFull),
    ("verify-ca", postgres::SslMode::VerifyCa),
    ("require", postgres::SslMode::Require),
    ("disable", postgres::SslMode::Disable),
];

/// What the file says beside the URL.
struct Keys {
    sslmode: Option<postgres::SslMode>,
    sslrootcert: Option<PathBuf>,
    password: Option<Source>,
}

impl Keys {
    /// The URL with the keys, which must not say anything else than the URL does.
    fn join(self, reader: &mut Reader<'_>, url: &str) -> Option<postgres::Config> {
        let parts = postgres::parse_url(url).map_err(|error| reader.fault("postgres.url", error.to_string())).ok()?;
        self.note_conflicts(reader, &parts);
        let over_tcp = parts.hosts.iter().any(|host| matches!(host, Host::Tcp { .. }));
        let says_sslmode = parts.sslmode.is_some();
        let config = postgres::Config::from_url(parts);
        let mut config = config.map_err(|error| reader.fault("postgres.url", error.to_string())).ok()?;
        config.sslmode = self.sslmode.unwrap_or(config.sslmode);
        config.sslrootcert = self.sslrootcert.or(config.sslrootcert);
        config.password = self.password.or(config.password);
        if over_tcp && !says_sslmode && !reader.is_given("postgres.sslmode") {
            reader.follows("postgres.sslmode", config.sslmode.name());
        }
        Some(config)
    }

    fn note_conflicts(&self, reader: &mut Reader<'_>, parts: &UrlParts) {
        let mut conflict = |key: &str, in_url: &str| {
            reader.fault(key, format!("the URL says {in_url} as well: say it in one place"));
        };
        if let (Some(key), Some(url)) = (self.sslmode, parts.sslmode)
            && key != url
        {
            conflict("postgres.sslmode", &format!("sslmode={}", url.name()));
        }
        if let (Some(key), Some(url)) = (&self.sslrootcert, &parts.sslrootcert)
            && key != url
        {
            conflict("postgres.sslrootcert", "another sslrootcert");
        }
        if self.password.is_some() && parts.password.is_some() {
            conflict("postgres.password_file", "a password");
        }
    }
}

/// `wellspring_` and the prefix in the letters a slot may have. Cut where Postgres would refuse it.
fn default_slot(prefix: &str) -> String {
    let plain = prefix.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' });
    "wellspring_".chars().chain(plain).take(NAME_BYTES_MAX).collect()
}

fn is_slot_name(reader: &mut Reader<'_>, name: &str) -> bool {
    let fits =
        name.len() <= NAME_BYTES_MAX && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !fits {
        reader.fault("postgres.slot", "a slot's name has lower case letters, digits and _, at most 63");
    }
    fits
}

fn is_name(reader: &mut Reader<'_>, key: &str, name: &str) -> bool {
    let fits = name.len() <= NAME_BYTES_MAX && !name.contains('\0');
    if !fits {
        reader.fault(key, format!("a name in Postgres has at most {NAME_BYTES_MAX} bytes"));
    }
    fits
}

#[cfg(test)]
mod tests {
    use super::default_slot;

    #[test]
    fn the_default_slot_is_a_name_that_postgres_takes() {
        assert_eq!(default_slot("Shop.eu-1"), "wellspring_shop_eu_1");
        assert_eq!(default_slot(&"x".repeat(100)).len(), 63);
    }
}
