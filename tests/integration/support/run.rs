//! The program as a process of its own.

use super::world::{PATIENCE, wait_until};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Instant;

/// A running process of the program. It is killed when this value is dropped.
pub struct Run {
    pub child: Child,
    folder: tempfile::TempDir,
    admin: u16,
    stderr: mpsc::Receiver<Vec<u8>>,
}

impl Run {
    pub fn start(config: &str, arguments: &[&str], stdout: Stdio) -> Run {
        let folder = tempfile::tempdir().unwrap();
        let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "{config}\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n[log]\nformat = \"json\"\n"
        );
        std::fs::write(folder.path().join("wellspring.toml"), config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_wellspring"));
        command.arg("run").args(arguments).current_dir(folder.path()).env_clear();
        let mut child = command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
        let mut pipe = child.stderr.take().unwrap();
        let (send, stderr) = mpsc::channel();
        std::thread::spawn(move || {
            let mut text = Vec::new();
            pipe.read_to_end(&mut text).unwrap();
            let _ = send.send(text); // a test that has given up reads nothing
        });
        Run { child, folder, admin, stderr }
    }

    /// `/status` as JSON, or null if nobody answers yet.
    pub fn status(&self) -> Value {
        let get = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.admin))?;
            stream.write_all(b"GET /status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = get().unwrap_or_default();
        let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
        serde_json::from_str(body).unwrap_or_default()
    }

    #[track_caller]
    pub fn until(&self, what: &str, condition: impl Fn(&Value) -> bool) {
        wait_until(Instant::now() + PATIENCE, || condition(&self.status()));
        let status = self.status();
        assert!(condition(&status), "waited for {what}: {status:#}");
    }

    #[track_caller]
    pub fn streams(&self) {
        self.until("streaming", |status| status["phase"] == "streaming");
    }

    pub fn signal(&self) {
        let sent =
            Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Stops the agent, and returns its exit status and its log.
    #[track_caller]
    pub fn log(self) -> (i32, String) {
        self.signal();
        self.ended_log()
    }

    /// Waits for the end, and returns the exit status and the log.
    #[track_caller]
    pub fn ended_log(mut self) -> (i32, String) {
        let deadline = Instant::now() + PATIENCE;
        let mut ended = None;
        while ended.is_none() && Instant::now() < deadline {
            ended = self.child.try_wait().unwrap();
            std::thread::yield_now();
        }
        let status = ended.unwrap_or_else(|| panic!("it does not end: {:#}", self.status()));
        let text = self.stderr.recv_timeout(PATIENCE).unwrap();
        (status.code().unwrap(), String::from_utf8(text).unwrap())
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // The process has ended by itself, or the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
