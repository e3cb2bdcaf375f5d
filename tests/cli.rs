//! The binary as a shell sees it: what it prints, where, and with which exit status.

use std::path::Path;
use std::process::{Command, Output};

fn wellspring(arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wellspring"));
    // Nothing of the surrounding environment may configure it.
    command.args(arguments).current_dir(folder).env_clear().output().unwrap()
}

fn texts(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_version_names_what_is_linked_in() {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, err) = texts(&wellspring(&["--version"], folder.path()));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with(&format!("wellspring {} (librdkafka ", env!("CARGO_PKG_VERSION"))), "{out}");
    assert!(out.contains("OpenSSL "), "{out}");
}

#[test]
fn help_lists_commands_and_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, _) = texts(&wellspring(&["--help"], folder.path()));
    assert_eq!(code, Some(0));
    for text in ["run", "check", "config", "slot", "demo", "--config", "WELLSPRING_CONFIG", "Exit status:", "  3  "] {
        assert!(out.contains(text), "{text}\n{out}");
    }
}

#[test]
fn a_broken_configuration_ends_every_command_with_all_its_faults() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("wellspring.toml"), "[postgrs]\nurl = 1\n[tables]\ninclude = \"a.b\"\n").unwrap();
    for command in [&["run"][..], &["check"], &["config", "show"], &["slot", "status"]] {
        let (code, out, err) = texts(&wellspring(command, folder.path()));
        assert_eq!((code, out.as_str()), (Some(2), ""), "{command:?}\n{err}");
        assert!(err.starts_with("error: the configuration has 6 faults\n"), "{err}");
        assert!(err.contains("\n  wellspring.toml:1:2: postgrs: unknown section; did you mean `postgres`?\n"), "{err}");
        assert!(err.contains("\n  wellspring.toml:4:1: tables.include: expected a list of texts"), "{err}");
        assert!(err.contains("\nhint: "), "{err}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, err) = texts(&wellspring(&["--config", "nowhere.toml", "run"], folder.path()));
    assert_eq!(code, Some(2));
    assert!(err.contains("nowhere.toml") && err.contains("No such file"), "{err}");
}

#[test]
fn an_unknown_command_is_a_fault_of_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, err) = texts(&wellspring(&["chek"], folder.path()));
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.contains("check"), "{err}");
}

#[test]
fn the_example_is_a_configuration_that_works() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("wellspring.example.toml");
    let folder = tempfile::tempdir().unwrap();
    let (code, out, err) =
        texts(&wellspring(&["--config", example.to_str().unwrap(), "config", "show"], folder.path()));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("slot = \"wellspring_shop\""), "{out}");
    // What is shown is a configuration again, and shows the same.
    std::fs::write(folder.path().join("wellspring.toml"), &out).unwrap();
    let (code, again, err) = texts(&wellspring(&["config", "show"], folder.path()));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let values = |text: &str| {
        let lines = text.lines().map(|line| line.split(" #").next().unwrap_or_default().trim_end().to_owned());
        lines.collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(values(&out), values(&again));
}

#[test]
fn a_secret_of_the_environment_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_wellspring"))
        .args(["config", "show"])
        .current_dir(folder.path())
        .env_clear()
        .env("WELLSPRING_SINK", "stdout")
        .env("WELLSPRING_POSTGRES__URL", "postgresql://u:hunter2@h/d")
        .env("WELLSPRING_TABLES__INCLUDE", "public.*")
        .env("WELLSPRING_TOPICS__PREFIX", "p")
        .env("WELLSPRING_SNAPSHOT__MODE", "no_data")
        .output()
        .unwrap();
    let (code, out, err) = texts(&output);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("postgresql://u:***@h/d") && !out.contains("hunter2"), "{out}");
    assert!(out.contains("# WELLSPRING_POSTGRES__URL"), "{out}");
}

#[test]
fn check_names_the_side_that_cannot_be_reached() {
    let folder = tempfile::tempdir().unwrap();
    let text = "sink = \"stdout\"\n[postgres]\nurl = \"postgresql://u@127.0.0.1:1/d\"\n[tables]\ninclude = [\"a.b\"]\n\
                [topics]\nprefix = \"p\"\n[snapshot]\nmode = \"no_data\"\n";
    std::fs::write(folder.path().join("wellspring.toml"), text).unwrap();
    let (code, out, err) = texts(&wellspring(&["check", "--json"], folder.path()));
    assert_eq!(code, Some(4), "{out}{err}");
    let findings: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(findings[0]["level"], "fail");
    assert!(findings[0]["what"].as_str().unwrap().contains("127.0.0.1:1"), "{out}");
}
