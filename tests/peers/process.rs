//! Servers that nobody here wrote, each in a process of its own.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long one may take to start, on a busy machine too; it takes a tenth of a second.
const START: Duration = Duration::from_secs(60);

/// A program that runs until this is dropped.
pub(crate) struct Process(Child);

impl Process {
    /// Starts the program and waits until `ready` finds what it looks for, in what the program has
    /// said so far or elsewhere. What it says goes to the file `log`.
    pub(crate) fn start<T>(
        command: &mut Command,
        log: &Path,
        ready: impl Fn(&str) -> Option<T>,
    ) -> (Self, T) {
        let file = fs::File::create(log).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let mut process = Self(command.spawn().unwrap());
        let deadline = Instant::now() + START;
        loop {
            let said = fs::read_to_string(log).unwrap();
            if let Some(found) = ready(&said) {
                return (process, found);
            }
            let ended = process.0.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "{command:?} does not start ({ended:?}):\n{said}"
            );
            sleep(Duration::from_millis(5));
        }
    }

    /// Sends it a signal: `STOP` freezes it, `CONT` lets it go on.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.0.id().to_string()).status();
        assert!(sent.unwrap().success(), "kill -{name}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An address that was free just now, for a program that has to be told one.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}
