//! The resulting TOML: settings with remarks, properties left out with their reasons, and
//! references to secrets.
//!
//! A secret's value never enters a setting or a remark. A reference to a variable takes its place,
//! and the value is kept in `hidden`, to be written to a file of its own.

use super::super::document::toml_text;
use crate::secret::Secret;
use std::fmt::Write;

/// The sections, in the order of the file.
const SECTIONS: [&str; 13] = [
    "",
    "postgres",
    "tables",
    "columns",
    "keys",
    "topics",
    "events",
    "heartbeat",
    "registry",
    "kafka",
    "kafka.client",
    "snapshot",
    "limits",
];

/// A secret that was found in an imported file.
#[derive(Clone, Debug)]
pub struct Hidden {
    /// Name of the variable that must hold the secret.
    pub variable: String,
    /// Name of the imported property that held the secret. A salt within this name is masked.
    pub from: String,
    /// Value of the secret.
    pub value: Secret,
}

#[derive(Clone, Debug)]
struct Setting {
    section: String,
    key: String,
    value: String,
    remark: String,
}

/// The result of an import while it is being built.
#[derive(Clone, Debug, Default)]
pub(super) struct Target {
    settings: Vec<Setting>,
    /// Properties that are not needed, each with the reason.
    idle: Vec<(String, String)>,
    /// Properties without a counterpart, each with the reason.
    pub refused: Vec<(String, String)>,
    /// Remarks for the operator, printed at the top of the file.
    pub remarks: Vec<String>,
    pub hidden: Vec<Hidden>,
}

impl Target {
    /// Adds a setting. `value` is TOML, and `remark` becomes a comment behind it. The setting
    /// replaces an earlier one of the same section and key.
    pub fn raw(&mut self, section: &str, key: &str, value: String, remark: &str) {
        self.settings.retain(|setting| setting.section != section || setting.key != key);
        let (section, key, remark) = (section.to_owned(), key.to_owned(), remark.to_owned());
        self.settings.push(Setting { section, key, value, remark });
    }

    pub fn text(&mut self, section: &str, key: &str, value: &str, remark: &str) {
        self.raw(section, key, toml_text(&escaped(value)), remark);
    }

    pub fn flag(&mut self, section: &str, key: &str, value: bool, remark: &str) {
        self.raw(section, key, value.to_string(), remark);
    }

    pub fn list(&mut self, section: &str, key: &str, items: &[String], remark: &str) {
        let items: Vec<String> = items.iter().map(|item| toml_text(&escaped(item))).collect();
        self.raw(section, key, format!("[{}]", items.join(", ")), remark);
    }

    pub fn has(&self, section: &str, key: &str) -> bool {
        self.settings.iter().any(|setting| setting.section == section && setting.key == key)
    }

    /// Stores a secret and returns the reference that takes its place in the file. `variable` names
    /// the environment variable, and `from` the property that held the secret. If the value is a
    /// reference to a variable already, that reference is returned and nothing is stored.
    pub fn hide(&mut self, variable: &str, from: &str, value: &str) -> String {
        if let Some(rest) = value.strip_prefix("${env:").and_then(|rest| rest.strip_suffix('}')) {
            // Connect's reference to a variable has the same form here.
            return format!("${{env:{rest}}}");
        }
        if value.starts_with("${") {
            let what = "is a reference for a Connect configuration provider: put its value into \
                the variable";
            self.remarks.push(format!("{from} {what} {variable}"));
        } else {
            let value = Secret::new(value);
            self.hidden.push(Hidden {
                variable: variable.to_owned(),
                from: from.to_owned(),
                value,
            });
        }
        format!("${{env:{variable}}}")
    }

    /// Adds a setting whose value is a secret.
    pub fn secret(&mut self, section: &str, key: &str, variable: &str, from: &str, value: &str) {
        let reference = self.hide(variable, from, value);
        self.raw(section, key, toml_text(&reference), "");
    }

    pub fn idle(&mut self, name: &str, why: &str) {
        self.idle.push((name.to_owned(), why.to_owned()));
    }

    pub fn refuse(&mut self, name: &str, why: impl Into<String>) {
        self.refused.push((name.to_owned(), why.into()));
    }

    /// The text of the configuration file.
    pub fn print(&self, files: &[String]) -> String {
        let mut text = String::new();
        let mut comment = |line: &str| {
            for line in line.lines() {
                let _ = writeln!(text, "# {line}"); // a String takes it
            }
        };
        comment(&format!("Made by `wellspring config import` from {}.", files.join(", ")));
        for remark in &self.remarks {
            comment(remark);
        }
        for hidden in &self.hidden {
            comment(&format!(
                "Set {} in the environment: the secret in {}.",
                hidden.variable, hidden.from
            ));
        }
        for (name, why) in &self.refused {
            comment(&format!("LEFT OUT: {name}: {why}"));
        }
        let mut sections: Vec<&str> = SECTIONS.to_vec();
        for setting in &self.settings {
            if !sections.contains(&setting.section.as_str()) {
                sections.push(&setting.section);
            }
        }
        for section in sections {
            let settings: Vec<_> =
                self.settings.iter().filter(|setting| setting.section == section).collect();
            if !settings.is_empty() {
                text.push('\n');
                if section.starts_with("transform.") {
                    let _ = writeln!(text, "[[transform]]");
                } else if !section.is_empty() {
                    let _ = writeln!(text, "[{section}]");
                }
            }
            for Setting { key, value, remark, .. } in settings {
                let is_bare =
                    key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
                        && !key.is_empty();
                let key = if is_bare { key.clone() } else { toml_text(key) };
                let remark =
                    if remark.is_empty() { String::new() } else { format!("  # {remark}") };
                let _ = writeln!(text, "{key} = {value}{remark}");
            }
        }
        if !self.idle.is_empty() {
            text.push_str("\n# Not needed here:\n");
        }
        for (name, why) in &self.idle {
            let _ = writeln!(text, "#   {name}: {why}");
        }
        text
    }
}

/// Doubles the `$` of a literal `${`, which is the escape in our files.
fn escaped(text: &str) -> String {
    text.replace("${", "$${")
}
