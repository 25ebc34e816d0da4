//! The registry of the distribution project, as Debian packages it.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use quorate_bed::client;
use serde_json::Value;
use tempfile::TempDir;

/// How long it may take to start; it takes a tenth of a second.
const START: Duration = Duration::from_secs(20);

/// A running `docker-registry`, empty at first, that ends when this is dropped.
pub(crate) struct DockerRegistry {
    child: Child,
    host: String,
    _folder: TempDir,
}

impl DockerRegistry {
    /// Starts it on a loopback port of its own choice.
    pub(crate) fn start(program: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (config, log) = (folder.path().join("config.yml"), folder.path().join("log"));
        let text = "version: 0.1\n\
                    log: {level: info, accesslog: {disabled: true}}\n\
                    storage: {inmemory: {}, delete: {enabled: true}}\n\
                    http: {addr: \"127.0.0.1:0\", secret: none}\n";
        fs::write(&config, text).unwrap();
        let mut child = Command::new(program)
            .arg("serve")
            .arg(&config)
            .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + START;
        let host = loop {
            let said = fs::read_to_string(&log).unwrap();
            if let Some(host) = listening(&said) {
                break host.to_owned();
            }
            let ended = child.try_wait().unwrap();
            if ended.is_some() || Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                panic!("docker-registry does not start ({ended:?}):\n{said}");
            }
            sleep(Duration::from_millis(5));
        };
        Self { child, host, _folder: folder }
    }

    /// Where it listens: `127.0.0.1:PORT`.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// All tags of a repository, sorted.
    pub(crate) fn tags(&self, repository: &str) -> Vec<String> {
        let answer = client::get(&self.host, &format!("/v2/{repository}/tags/list"), None).unwrap();
        assert_eq!(answer.status, 200, "the registry lists its tags");
        let list: Value = serde_json::from_slice(&answer.body).unwrap();
        let tags = list["tags"].as_array().unwrap().iter();
        let mut tags: Vec<_> = tags.map(|tag| tag.as_str().unwrap().to_owned()).collect();
        tags.sort();
        tags
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in the line that says where it listens.
fn listening(log: &str) -> Option<&str> {
    log.split_once("listening on ")?.1.split_once('"').map(|(host, _)| host.trim_end_matches(", tls"))
}
