//! Reads `[postgres]`: the source of the changes.

use super::reader::Reader;
use super::sink::note_unreadable;
use super::value;
use crate::postgres::{self, Host, UrlParts};
use crate::secret::Source;
use std::path::PathBuf;

/// Longest name in Postgres, in bytes. Postgres would cut a longer one silently.
const NAME_BYTES_MAX: usize = 63;

pub(super) struct Database {
    pub postgres: postgres::Config,
    pub slot: String,
    pub publication: String,
    pub create_publication: bool,
    pub origins: postgres::Origins,
    pub failover: bool,
}

/// Reads every key of `[postgres]`.
pub(super) fn read(reader: &mut Reader<'_>, prefix: Option<&str>) -> Option<Database> {
    if !reader.is_given("postgres.url") {
        reader.missing("postgres.url", "url = \"postgresql://user@host:5432/database\"");
    }
    let url = reader.url("postgres.url", value::text);
    let keys = Keys {
        sslmode: reader.optional("postgres.sslmode", value::one_of(&SSL_MODES)),
        sslrootcert: reader.optional("postgres.sslrootcert", value::path),
        password: reader.one_secret(&["postgres.password_file", "postgres.password_command"]),
        sslcert: reader.optional("postgres.sslcert", value::path),
        sslkey: reader.optional("postgres.sslkey", value::path),
        sslpassword: reader.one_secret(&["postgres.sslpassword", "postgres.sslpassword_file"]),
        negotiation: reader.optional("postgres.sslnegotiation", value::one_of(&NEGOTIATIONS)),
    };
    note_unreadable(reader, "postgres.sslcert", keys.sslcert.as_ref());
    note_unreadable(reader, "postgres.sslkey", keys.sslkey.as_ref());
    let default_slot = default_slot(prefix.unwrap_or(""));
    let slot = reader.or("postgres.slot", value::text, &default_slot);
    let slot = slot.filter(|name| is_slot_name(reader, name));
    let default_publication = slot.clone().unwrap_or(default_slot);
    let publication = reader.or("postgres.publication", value::text, &default_publication);
    let publication = publication.filter(|name| is_name(reader, "postgres.publication", name));
    let create_publication = reader.or("postgres.create_publication", value::flag, "true");
    let origins = [("any", postgres::Origins::Any), ("none", postgres::Origins::None)];
    let origins = reader.or("postgres.origin", value::one_of(&origins), "any");
    let failover = reader.or("postgres.failover", value::flag, "false");
    let postgres = url.and_then(|url| keys.join(reader, &url));
    Some(Database {
        postgres: postgres?,
        slot: slot?,
        publication: publication?,
        create_publication: create_publication?,
        origins: origins?,
        failover: failover?,
    })
}

const SSL_MODES: [(&str, postgres::SslMode); 4] = [
    ("verify-full", postgres::SslMode::VerifyFull),
    ("verify-ca", postgres::SslMode::VerifyCa),
    ("require", postgres::SslMode::Require),
    ("disable", postgres::SslMode::Disable),
];

const NEGOTIATIONS: [(&str, postgres::SslNegotiation); 2] = [
    ("postgres", postgres::SslNegotiation::Postgres),
    ("direct", postgres::SslNegotiation::Direct),
];

/// The keys of the file that can also be parameters of the URL.
struct Keys {
    sslmode: Option<postgres::SslMode>,
    sslrootcert: Option<PathBuf>,
    password: Option<Source>,
    sslcert: Option<PathBuf>,
    sslkey: Option<PathBuf>,
    sslpassword: Option<Source>,
    negotiation: Option<postgres::SslNegotiation>,
}

impl Keys {
    /// The URL combined with the keys. A key must not contradict the URL.
    fn join(self, reader: &mut Reader<'_>, url: &str) -> Option<postgres::Config> {
        let parts = postgres::parse_url(url)
            .map_err(|error| reader.fault("postgres.url", error.to_string()));
        let mut parts = parts.ok()?;
        self.note_conflicts(reader, &parts);
        parts.tls.sslcert = self.sslcert.or(parts.tls.sslcert);
        parts.tls.sslkey = self.sslkey.or(parts.tls.sslkey);
        parts.tls.negotiation = self.negotiation.or(parts.tls.negotiation);
        let over_tcp = parts.hosts.iter().any(|host| matches!(host, Host::Tcp { .. }));
        let says_sslmode = parts.tls.sslmode.is_some();
        let config = postgres::Config::from_url(parts);
        let mut config =
            config.map_err(|error| reader.fault("postgres.url", error.to_string())).ok()?;
        config.tls.sslmode = self.sslmode.unwrap_or(config.tls.sslmode);
        config.tls.sslrootcert = self.sslrootcert.or(config.tls.sslrootcert);
        config.password = self.password.or(config.password);
        config.tls.sslpassword = self.sslpassword.or(config.tls.sslpassword);
        if config.tls.negotiation == postgres::SslNegotiation::Direct
            && config.tls.sslmode == postgres::SslMode::Disable
        {
            let key =
                if self.negotiation.is_some() { "postgres.sslnegotiation" } else { "postgres.url" };
            reader.fault(
                key,
                "sslnegotiation=direct begins with TLS, and sslmode=disable forbids it: say one of \
                 them",
            );
        }
        if over_tcp && !says_sslmode && !reader.is_given("postgres.sslmode") {
            reader.follows("postgres.sslmode", config.tls.sslmode.name());
        }
        Some(config)
    }

    fn note_conflicts(&self, reader: &mut Reader<'_>, parts: &UrlParts) {
        let mut conflict = |key: &str, in_url: &str| {
            reader.fault(key, format!("the URL says {in_url} as well: say it in one place"));
        };
        if let (Some(key), Some(url)) = (self.sslmode, parts.tls.sslmode)
            && key != url
        {
            conflict("postgres.sslmode", &format!("sslmode={}", url.name()));
        }
        if let (Some(key), Some(url)) = (&self.sslrootcert, &parts.tls.sslrootcert)
            && key != url
        {
            conflict("postgres.sslrootcert", "another sslrootcert");
        }
        let paths = [
            ("postgres.sslcert", &self.sslcert, &parts.tls.sslcert, "another sslcert"),
            ("postgres.sslkey", &self.sslkey, &parts.tls.sslkey, "another sslkey"),
        ];
        for (key, ours, in_url, what) in paths {
            if ours.is_some() && in_url.is_some() && ours != in_url {
                conflict(key, what);
            }
        }
        if let (Some(key), Some(url)) = (self.negotiation, parts.tls.negotiation)
            && key != url
        {
            conflict("postgres.sslnegotiation", &format!("sslnegotiation={}", url.name()));
        }
        if self.password.is_some() && parts.password.is_some() {
            let is_command = matches!(self.password, Some(Source::Command(_)));
            conflict(
                if is_command { "postgres.password_command" } else { "postgres.password_file" },
                "a password",
            );
        }
        if self.sslpassword.is_some() && parts.tls.sslpassword.is_some() {
            let is_file = matches!(self.sslpassword, Some(Source::File(_)));
            conflict(
                if is_file { "postgres.sslpassword_file" } else { "postgres.sslpassword" },
                "an sslpassword",
            );
        }
    }
}

/// The default name of the slot: `wellspring_` and the prefix in lower case. A character that a
/// slot's name cannot have becomes `_`, and a name that is too long is cut.
fn default_slot(prefix: &str) -> String {
    let plain = prefix
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' });
    "wellspring_".chars().chain(plain).take(NAME_BYTES_MAX).collect()
}

fn is_slot_name(reader: &mut Reader<'_>, name: &str) -> bool {
    let fits = name.len() <= NAME_BYTES_MAX
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !fits {
        reader.fault(
            "postgres.slot",
            "a slot's name has lower case letters, digits and _, at most 63",
        );
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
