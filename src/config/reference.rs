//! Resolves `${env:NAME}` and `${file:/path}` in values. `$${` is a literal `${`.

use super::document::Environment;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Largest file whose content is put into a value, in bytes. A password or token is one line. The
/// largest thing that a person might try is a certificate chain, which should be given by its path
/// instead.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Characters that are not escaped in user and password of a URL. The colon between the two may
/// also come from a reference.
const USERINFO: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');

enum Part<'a> {
    Literal(&'a str),
    Environment(&'a str),
    File(&'a Path),
}

/// Replaces references by the texts that they refer to. `None` if the text has no reference and no
/// escape.
///
/// # Errors
/// A reference has the wrong form, its variable is not set, or its file cannot be read.
pub(super) fn resolve(text: &str, environment: &Environment) -> Result<Option<String>, String> {
    put_together(text, environment, false)
}

/// Replaces references in a URL. A referenced text before the `@` is a user or password in plain
/// form, so it is percent-encoded here.
pub(super) fn resolve_url(text: &str, environment: &Environment) -> Result<Option<String>, String> {
    put_together(text, environment, true)
}

/// Returns the path, if the text is one reference to a file and nothing else. Otherwise `None`.
pub(super) fn whole_file(text: &str) -> Option<PathBuf> {
    match parts(text).ok()?[..] {
        [Part::File(path)] => Some(path.to_owned()),
        _ => None,
    }
}

/// True if the text is one reference and nothing else. Printing such a text prints no secret.
pub(super) fn is_whole(text: &str) -> bool {
    matches!(parts(text).as_deref(), Ok([Part::Environment(_) | Part::File(_)]))
}

fn put_together(
    text: &str,
    environment: &Environment,
    is_url: bool,
) -> Result<Option<String>, String> {
    if !text.contains("${") {
        return Ok(None);
    }
    let parts = parts(text)?;
    let is_part_of_more = parts.len() > 1;
    let mut whole = String::new();
    for (i, part) in parts.iter().enumerate() {
        let resolved = match part {
            Part::Literal(literal) => {
                whole.push_str(literal);
                continue;
            }
            Part::Environment(name) => {
                let value = environment.get(*name);
                value.cloned().ok_or_else(|| format!("environment variable {name} is not set"))?
            }
            Part::File(path) => content(path)?,
        };
        let before_at = parts[i + 1..]
            .iter()
            .any(|later| matches!(later, Part::Literal(text) if text.contains('@')));
        if is_url && is_part_of_more && before_at {
            whole.extend(utf8_percent_encode(&resolved, USERINFO));
        } else {
            whole.push_str(&resolved);
        }
    }
    Ok(Some(whole))
}

fn parts(text: &str) -> Result<Vec<Part<'_>>, String> {
    let (mut parts, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        if let Some(escaping) = before.strip_suffix('$') {
            parts.extend([Part::Literal(escaping), Part::Literal("${")]);
            rest = &from[2..];
            continue;
        }
        let (inside, after) =
            from[2..].split_once('}').ok_or("a `${` without its `}`; a literal `${` is `$${`")?;
        parts.push(Part::Literal(before));
        parts.push(match inside.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Part::Environment(name),
            Some(("file", path)) if !path.is_empty() => Part::File(Path::new(path)),
            _ => {
                return Err("a reference is ${env:NAME} or ${file:/path}; a literal `${` is `$${`"
                    .to_owned());
            }
        });
        rest = after;
    }
    parts.push(Part::Literal(rest));
    parts.retain(|part| !matches!(part, Part::Literal("")));
    Ok(parts)
}

/// Text of a file, without its last line break.
pub(super) fn content(path: &Path) -> Result<String, String> {
    let fault = |what: String| format!("file {}: {what}", path.display());
    let mut text = String::new();
    let read =
        File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
    let bytes = read.map_err(|error| fault(error.to_string()))?;
    if u64::try_from(bytes).is_ok_and(|bytes| bytes > FILE_BYTES_MAX) {
        return Err(fault(format!("larger than {FILE_BYTES_MAX} bytes")));
    }
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        [("PW", "p@ss/w:rd"), ("NAME", "shop")].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    }

    #[track_caller]
    fn check(text: &str, expect: &str) {
        assert_eq!(resolve(text, &environment()), Ok(Some(expect.to_owned())));
    }

    #[test]
    fn puts_the_environment_in_and_keeps_the_rest() {
        check("${env:NAME}", "shop");
        check("a ${env:NAME} and ${env:NAME}", "a shop and shop");
        check("$${env:NAME}", "${env:NAME}");
        assert_eq!(resolve("no reference, $5", &environment()), Ok(None));
    }

    #[test]
    fn a_password_in_a_url_needs_no_escaping() {
        let url = |text| resolve_url(text, &environment()).unwrap().unwrap();
        assert_eq!(
            url("postgresql://u:${env:PW}@db/${env:NAME}"),
            "postgresql://u:p%40ss%2Fw:rd@db/shop"
        );
        assert_eq!(url("${env:PW}"), "p@ss/w:rd");
    }

    #[test]
    fn says_what_is_wrong_with_a_reference() {
        for text in ["${env:NOPE}", "${NAME}", "${env:NAME", "${env:}", "${file:/does/not/exist}"] {
            assert!(resolve(text, &environment()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_loses_one_line_break() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "secret\n").unwrap();
        let text = format!("${{file:{}}}", file.path().display());
        assert_eq!(resolve(&text, &environment()), Ok(Some("secret".to_owned())));
        assert_eq!(whole_file(&text), Some(file.path().to_owned()));
        assert_eq!(whole_file(&format!("{text}x")), None);
    }

    #[test]
    fn refuses_a_file_that_is_no_secret() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![b'x'; 65 * 1024]).unwrap();
        assert!(content(file.path()).unwrap_err().contains("larger"));
    }
}
