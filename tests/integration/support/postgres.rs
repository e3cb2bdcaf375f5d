//! A Postgres server for one test, with fresh data and a free port. It ends when it is dropped.
//!
//! It is the newest server installed under `/usr/lib/postgresql`, or the one whose `bin` directory
//! `WELLSPRING_TEST_PG_BIN` names. Postgres refuses to run as root, so it runs as `nobody` then.
//! `pg_ctl` and `psql` wait for the server, so this file has no waits of its own.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Attempts to start the server. Another process may take the free port before the server does.
const START_ATTEMPTS: usize = 3;

/// The settings of every test server. A test's own settings follow them and win. Durability is off,
/// because no test needs it.
const SETTINGS: [(&str, &str); 8] = [
    ("wal_level", "logical"),
    ("fsync", "off"),
    ("synchronous_commit", "off"),
    ("full_page_writes", "off"),
    ("max_wal_senders", "10"),
    ("max_replication_slots", "10"),
    ("max_prepared_transactions", "5"),
    ("shared_buffers", "32MB"),
];

/// A running server. The superuser is `postgres`, who needs no password. [`Server::allow`] changes
/// the rules of logging in.
pub struct Server {
    root: tempfile::TempDir,
    bin: PathBuf,
    owner: Option<u32>,
    port: u16,
}

impl Server {
    /// Starts a server with the settings every test has.
    #[must_use]
    pub fn start() -> Server {
        Server::start_with(&[])
    }

    /// Starts a server with further settings.
    #[must_use]
    pub fn start_with(settings: &[(&str, &str)]) -> Server {
        let mut server = Server::create();
        for attempt in 1.. {
            server.port = free_port();
            server.write_settings(settings);
            let started = server.try_start();
            if started.status.success() {
                break;
            }
            assert!(attempt < START_ATTEMPTS, "{}\n{}", text_of(&started), server.log());
        }
        server
    }

    fn create() -> Server {
        let root = tempfile::Builder::new().prefix("wsp").tempdir().unwrap();
        let owner = is_root().then(|| id_of("nobody"));
        if let Some(uid) = owner {
            chown(root.path(), Some(uid), None).unwrap();
        }
        let server = Server { root, bin: newest_bin(), owner, port: 0 };
        let mut initdb = server.command("initdb");
        initdb.arg("-D").arg(server.data()).args([
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "-N",
        ]);
        let made = initdb.output().unwrap();
        assert!(made.status.success(), "{}", text_of(&made));
        server
    }

    fn write_settings(&self, settings: &[(&str, &str)]) {
        let port = self.port.to_string();
        let own = [
            ("port", port.as_str()),
            ("listen_addresses", "127.0.0.1"),
            ("unix_socket_directories", self.root.path().to_str().unwrap()),
        ];
        let lines: String = own
            .iter()
            .chain(&SETTINGS)
            .chain(settings)
            .map(|(name, value)| format!("{name} = '{value}'\n"))
            .collect();
        fs::write(self.data().join("postgresql.auto.conf"), lines).unwrap();
    }

    fn try_start(&self) -> Output {
        let mut start = self.command("pg_ctl");
        start
            .arg("-D")
            .arg(self.data())
            .arg("-l")
            .arg(self.log_path())
            .args(["-w", "-t", "60", "start"]);
        // The server inherits the pipes of `pg_ctl`. A pipe to this test would never end, because
        // the server keeps it open.
        start.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let status = start.status().unwrap();
        Output { status, stdout: Vec::new(), stderr: Vec::new() }
    }

    /// The major version of the server, such as 18.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.sql("postgres", "show server_version_num").parse::<u32>().unwrap() / 10_000
    }

    /// The TCP port, and the number in the socket's name.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the Unix socket.
    #[must_use]
    pub fn socket_dir(&self) -> &Path {
        self.root.path()
    }

    /// A URL for the superuser over TCP, without TLS.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// A URL for the superuser over the Unix socket.
    #[must_use]
    pub fn unix_url(&self, database: &str) -> String {
        let dir = self.root.path().to_str().unwrap().replace('/', "%2F");
        format!("postgresql://postgres@{dir}:{}/{database}", self.port)
    }

    /// Runs SQL as the superuser and returns what `psql` prints: values only, `|` between columns.
    /// A statement that fails makes the test fail.
    #[track_caller]
    pub fn sql(&self, database: &str, text: &str) -> String {
        let answer = self.try_sql(database, text);
        assert!(answer.status.success(), "{text}\n{}", text_of(&answer));
        String::from_utf8(answer.stdout).unwrap().trim_end().to_owned()
    }

    /// Runs SQL as the superuser and returns the status and output of `psql`, also if it fails.
    pub fn try_sql(&self, database: &str, text: &str) -> Output {
        let mut psql = self
            .psql(database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        psql.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        psql.wait_with_output().unwrap()
    }

    /// `psql` as the superuser, for a session that stays open.
    pub fn psql(&self, database: &str) -> Command {
        // Some packages of the server come without `psql`. Any version of it works with any
        // server.
        let own = self.bin.join("psql");
        let mut psql = Command::new(if own.exists() { own } else { "psql".into() });
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database])
            .arg("-h")
            .arg(self.root.path())
            .args(["-p", &self.port.to_string()])
            .env("LC_ALL", "C.UTF-8");
        psql
    }

    /// A program that reads the WAL through this physical slot, as a standby does, and writes it
    /// into a folder of its own.
    pub fn receiver(&self, slot: &str) -> Command {
        let folder = self.root.path().join(slot);
        fs::create_dir(&folder).unwrap();
        if let Some(uid) = self.owner {
            chown(&folder, Some(uid), None).unwrap();
        }
        let mut receiver = self.command("pg_receivewal");
        receiver
            .arg("-D")
            .arg(folder)
            .arg("-h")
            .arg(self.root.path())
            .args(["-p", &self.port.to_string()]);
        receiver.args(["-U", "postgres", "-S", slot, "--synchronous"]);
        receiver
    }

    /// A program that holds this logical slot and throws away what it reads.
    pub fn holder(&self, database: &str, slot: &str, publication: &str) -> Command {
        let mut holder = self.command("pg_recvlogical");
        holder.arg("-h").arg(self.root.path()).args([
            "-p",
            &self.port.to_string(),
            "-U",
            "postgres",
            "-d",
            database,
        ]);
        holder.args([
            "--slot",
            slot,
            "--start",
            "-n",
            "-f",
            "/dev/null",
            "-o",
            "proto_version=1",
            "-o",
        ]);
        holder.arg(format!("publication_names={publication}"));
        holder
    }

    /// Replaces the rules of who may log in how (pg_hba.conf) and has the server read them.
    pub fn allow(&self, rules: &str) {
        fs::write(self.data().join("pg_hba.conf"), rules).unwrap();
        self.sql("postgres", "select pg_reload_conf()");
    }

    /// Writes a file into the data directory, readable by the server only: certificates, keys.
    pub fn write_private(&self, name: &str, content: &[u8]) {
        let path = self.data().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        if let Some(uid) = self.owner {
            chown(&path, Some(uid), None).unwrap();
        }
    }

    /// What the server has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// `pg_ctl stop -m fast`, waiting at most `seconds`; whether the server stopped.
    pub fn stop_fast(&self, seconds: u32) -> bool {
        self.stop("fast", seconds)
    }

    /// `pg_ctl stop -m immediate`: the server ends without a checkpoint, as after a crash.
    #[track_caller]
    pub fn crash(&self) {
        assert!(self.stop("immediate", 60), "{}", self.log());
    }

    /// Starts the server again where it was stopped, on the same port and data.
    #[track_caller]
    pub fn start_again(&self) {
        assert!(self.try_start().status.success(), "{}", self.log());
    }

    /// Makes a primary of a standby and waits until it is one.
    #[track_caller]
    pub fn promote(&self) {
        let mut promote = self.command("pg_ctl");
        let done = promote
            .arg("-D")
            .arg(self.data())
            .args(["-w", "-t", "60", "promote"])
            .output()
            .unwrap();
        assert!(done.status.success(), "{}\n{}", text_of(&done), self.log());
    }

    /// Makes a standby that follows this server. This server is stopped for a moment.
    #[track_caller]
    #[must_use]
    pub fn standby(&self) -> Server {
        assert!(self.stop_fast(60), "{}", self.log());
        let root = tempfile::Builder::new().prefix("wsp").tempdir().unwrap();
        let copied = Command::new("cp")
            .arg("-a")
            .arg(self.data())
            .arg(root.path().join("data"))
            .status()
            .unwrap();
        assert!(copied.success());
        if let Some(uid) = self.owner {
            chown(root.path(), Some(uid), None).unwrap();
        }
        self.start_again();
        let mut standby = Server { root, bin: self.bin.clone(), owner: self.owner, port: 0 };
        let primary = format!(
            "host={} port={} user=postgres",
            self.socket_dir().to_str().unwrap(),
            self.port
        )
        .replace('\'', "''");
        standby.write_private("standby.signal", b"");
        for attempt in 1.. {
            standby.port = free_port();
            standby
                .write_settings(&[("primary_conninfo", &primary), ("hot_standby_feedback", "on")]);
            if standby.try_start().status.success() {
                break;
            }
            assert!(attempt < START_ATTEMPTS, "{}", standby.log());
        }
        standby
    }

    /// The data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    fn stop(&self, mode: &str, seconds: u32) -> bool {
        let mut stop = self.command("pg_ctl");
        stop.arg("-D").arg(self.data()).args([
            "-m",
            mode,
            "-w",
            "-t",
            &seconds.to_string(),
            "stop",
        ]);
        stop.output().is_ok_and(|output| output.status.success())
    }

    fn log_path(&self) -> PathBuf {
        self.root.path().join("log")
    }

    /// A server program, run as the data's owner.
    fn command(&self, program: &str) -> Command {
        let path = self.bin.join(program);
        let mut command = match self.owner {
            None => Command::new(path),
            Some(uid) => {
                let mut command = Command::new("setpriv");
                command
                    .args([format!("--reuid={uid}"), "--clear-groups".into(), "--".into()])
                    .arg(path);
                command
            }
        };
        command.current_dir(self.root.path()).env("LC_ALL", "C.UTF-8");
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- server log ---\n{}", self.log());
        }
        self.stop("immediate", 30);
    }
}

/// The major version of the server that [`Server::start`] would start. None is started here.
#[must_use]
pub fn installed_major() -> u32 {
    let told = Command::new(newest_bin().join("postgres")).arg("--version").output().unwrap();
    let text = String::from_utf8(told.stdout).unwrap();
    // The output is like `postgres (PostgreSQL) 18.4` or `postgres (PostgreSQL) 19rc1`.
    let version = text.split_whitespace().nth(2).unwrap_or_default();
    version
        .chars()
        .take_while(char::is_ascii_digit)
        .collect::<String>()
        .parse()
        .unwrap_or_else(|_| panic!("{text}"))
}

fn newest_bin() -> PathBuf {
    if let Some(bin) = std::env::var_os("WELLSPRING_TEST_PG_BIN") {
        return bin.into();
    }
    let version = |path: &Path| {
        path.file_name().and_then(OsStr::to_str).and_then(|name| name.parse::<u32>().ok())
    };
    let installed = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    installed
        .filter(|path| path.join("bin/initdb").exists())
        .max_by_key(|path| version(path))
        .expect("no Postgres server under /usr/lib/postgresql; install one, or set WELLSPRING_TEST_PG_BIN")
        .join("bin")
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn is_root() -> bool {
    id_of("") == 0
}

/// The numeric id of a user; of the present user if the name is empty.
fn id_of(user: &str) -> u32 {
    let args: &[&str] = if user.is_empty() { &["-u"] } else { &["-u", user] };
    let output = Command::new("id").args(args).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

fn text_of(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
