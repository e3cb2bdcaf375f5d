//! A throw-away Postgres server: new data in a temporary folder, a free loopback port, removed when
//! dropped.
//!
//! Postgres refuses to run as root, so root starts it as `nobody`. The server's programs run in
//! another process group. A Ctrl-C therefore reaches only our process. The demo can finish its
//! comparison before it stops the server.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The most attempts to start the server. Another process may take the free port between our check
/// and the server's start.
const START_ATTEMPTS: usize = 3;

/// Folder in which Debian's packages put their servers: `15/bin`, `18/bin`, ..
const DEBIAN: &str = "/usr/lib/postgresql";

/// Settings of the server. Thrown-away data needs no durability, and a demo that runs for a day
/// must not fill the disk.
const SETTINGS: [(&str, &str); 10] = [
    ("listen_addresses", "127.0.0.1"),
    ("wal_level", "logical"),
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("min_wal_size", "32MB"),
    ("max_wal_size", "128MB"),
    ("max_wal_senders", "4"),
    ("max_replication_slots", "4"),
    ("shared_buffers", "32MB"),
    ("logging_collector", "off"),
];

/// Why no server could be started.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The programs of a server are neither in Debian's folder nor in `PATH`.
    #[error("no Postgres server is installed: initdb is neither in {DEBIAN}/*/bin nor in PATH")]
    NotInstalled,
    /// This process runs as root, and the system has no user `nobody`.
    #[error("Postgres refuses to run as root, and there is no user `nobody` to run it as")]
    NoUser,
    /// The folder for the data cannot be created.
    #[error("make a folder for the throw-away Postgres in {}", parent.display())]
    Folder {
        /// Folder in which temporary folders are created.
        parent: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// A program of the server could not be started.
    #[error("start the throw-away Postgres ({program})")]
    Call {
        /// The program and its command.
        program: &'static str,
        /// The operating system's error.
        source: io::Error,
    },
    /// A program of the server ran and failed.
    #[error("the throw-away Postgres does not start ({program})")]
    Refused {
        /// The program and its command.
        program: &'static str,
        /// Output of the program, or the server's log.
        said: String,
    },
}

/// A running server, whose superuser is `postgres` and needs no password. [`Server::url`] is its
/// URL over the Unix socket.
pub struct Server {
    folder: PathBuf,
    bin: PathBuf,
    /// User and group that the server runs as; `None` unless we are root.
    owner: Option<(u32, u32)>,
    port: u16,
}

impl Server {
    /// Creates the data and starts the server. This takes some seconds.
    ///
    /// # Errors
    /// No server is installed, a folder or program failed, or there is no user for the server.
    pub fn start() -> Result<Self, ServerError> {
        let bin = newest_bin(Path::new(DEBIAN), std::env::var_os("PATH"))
            .ok_or(ServerError::NotInstalled)?;
        let owner = if is_root() { Some(nobody().ok_or(ServerError::NoUser)?) } else { None };
        let folder = new_folder(owner)
            .map_err(|source| ServerError::Folder { parent: std::env::temp_dir(), source })?;
        // From here on a drop removes the folder.
        let mut server = Server { folder, bin, owner, port: 0 };
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
        let made =
            initdb.output().map_err(|source| ServerError::Call { program: "initdb", source })?;
        if !made.status.success() {
            return Err(ServerError::Refused { program: "initdb", said: text_of(&made) });
        }
        for _ in 0..START_ATTEMPTS {
            if server
                .try_start()
                .map_err(|source| ServerError::Call { program: "pg_ctl start", source })?
            {
                return Ok(server);
            }
        }
        let said = fs::read_to_string(server.log()).unwrap_or_default();
        Err(ServerError::Refused { program: "pg_ctl start", said })
    }

    fn try_start(&mut self) -> io::Result<bool> {
        self.port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let own = [
            ("port", self.port.to_string()),
            ("unix_socket_directories", self.folder.display().to_string()),
        ];
        let own = own.iter().map(|(name, value)| (*name, value.as_str()));
        let lines: String = SETTINGS
            .into_iter()
            .chain(own)
            .map(|(name, value)| format!("{name} = '{value}'\n"))
            .collect();
        fs::write(self.data().join("postgresql.auto.conf"), lines)?;
        let mut start = self.command("pg_ctl");
        start
            .arg("-D")
            .arg(self.data())
            .arg("-l")
            .arg(self.log())
            .args(["-w", "-t", "60", "start"]);
        // The server inherits the output of pg_ctl, so a pipe would never reach its end.
        start.stdout(Stdio::null()).stderr(Stdio::null());
        Ok(start.status()?.success())
    }

    /// Returns the folder of the server's Unix socket, and the port number in the socket's name.
    #[must_use]
    pub fn socket(&self) -> (&Path, u16) {
        (&self.folder, self.port)
    }

    /// Returns the URL at which the superuser connects to `database` over the Unix socket.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let folder = self.folder.display().to_string().replace('%', "%25").replace('/', "%2F");
        format!("postgresql://postgres@{folder}:{}/{database}", self.port)
    }

    /// Returns the name and version of the server, from `postgres --version`. The text is empty if
    /// this program cannot be started.
    #[must_use]
    pub fn version(&self) -> String {
        let said = self.command("postgres").arg("--version").output();
        said.map_or_else(
            |_| String::new(),
            |said| text_of(&said).trim().replace("postgres (PostgreSQL)", "Postgres"),
        )
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Makes a command that runs one of the server's programs as the owner of the data.
    fn command(&self, program: &str) -> Command {
        let path = self.bin.join(program);
        let mut command = match self.owner {
            None => Command::new(path),
            Some((user, group)) => {
                let mut command = Command::new("setpriv");
                command.args([
                    format!("--reuid={user}"),
                    format!("--regid={group}"),
                    "--clear-groups".to_owned(),
                ]);
                command.arg("--").arg(path);
                command
            }
        };
        // Environment variables that name another server must not reach this one.
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG"))
        {
            command.env_remove(name);
        }
        command
            .current_dir(&self.folder)
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .process_group(0);
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // pg_ctl takes the process id from the data folder. The file is missing if no server was
        // started.
        if self.data().join("postmaster.pid").exists() {
            let mut stop = self.command("pg_ctl");
            stop.arg("-D").arg(self.data()).args(["-m", "immediate", "-w", "-t", "30", "stop"]);
            if let Err(error) = stop.output() {
                eprintln!(
                    "the Postgres server in {} may still run: {error}",
                    self.folder.display()
                );
            }
        }
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("{} could not be removed: {error}", self.folder.display());
        }
    }
}

/// Finds the folder with the programs of the newest packaged server, or else of the first server in
/// `path`. `None` if there is neither.
fn newest_bin(packages: &Path, path: Option<OsString>) -> Option<PathBuf> {
    let version = |path: &PathBuf| {
        path.file_name().and_then(OsStr::to_str).and_then(|name| name.parse::<u32>().ok())
    };
    let installed =
        fs::read_dir(packages).into_iter().flatten().flatten().map(|entry| entry.path());
    let newest = installed.filter(|path| has_server(&path.join("bin"))).max_by_key(version);
    newest.map(|path| path.join("bin")).or_else(|| {
        // The path is made absolute, because the programs run in another folder.
        std::env::split_paths(&path?)
            .find(|bin| has_server(bin))
            .and_then(|bin| fs::canonicalize(bin).ok())
    })
}

fn has_server(bin: &Path) -> bool {
    ["initdb", "pg_ctl", "postgres"].iter().all(|program| bin.join(program).is_file())
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Reads the ids of the user and group of `nobody`. `None` if the system has no such user.
fn nobody() -> Option<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    users.lines().find_map(|line| {
        let mut fields = line.strip_prefix("nobody:")?.split(':').skip(1);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

/// Creates a folder that only its owner can enter.
fn new_folder(owner: Option<(u32, u32)>) -> io::Result<PathBuf> {
    for number in 0.. {
        let folder =
            std::env::temp_dir().join(format!("wellspring-demo-{}-{number}", std::process::id()));
        match fs::DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            made => made?,
        }
        if let Some((user, group)) = owner {
            chown(&folder, Some(user), Some(group))?;
        }
        return Ok(folder);
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn text_of(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn install(folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        for program in ["initdb", "pg_ctl", "postgres"] {
            fs::write(folder.join(program), "").unwrap();
        }
    }

    #[test]
    fn the_newest_packaged_server_comes_before_the_one_in_the_path() {
        let root = tempfile::tempdir().unwrap();
        let [packages, own] = ["packages", "own"].map(|name| root.path().join(name));
        let path = Some(own.clone().into_os_string());
        assert_eq!(newest_bin(&packages, path.clone()), None, "there is none");
        install(&own);
        assert_eq!(newest_bin(&packages, path.clone()), Some(fs::canonicalize(&own).unwrap()));
        install(&packages.join("9/bin"));
        install(&packages.join("15/bin"));
        fs::create_dir_all(packages.join("18/bin")).unwrap(); // holds client programs only
        assert_eq!(newest_bin(&packages, path), Some(packages.join("15/bin")));
    }
}
