//! A whole release on servers inside this process: assemble, attest, promote, verify, dissent.
//!
//! Run with `cargo run --release --example quickstart`; `-- --keep` leaves the servers up to go
//! on by hand. Every step runs the real `quorate` binary and checks its exit code.

// An example talks on stdout, and ends at the first surprise.
#![allow(clippy::print_stdout, clippy::expect_used, clippy::panic)]

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use quorate_bed::image::{self, Image};
use quorate_bed::{Bed, RegistryOptions, client};

const COMMIT: &str = "5f1c2d9e8b7a6f5e4d3c2b1a09f8e7d6c5b4a392";
/// The committer time of that commit.
const SEQUENCE: &str = "1763700000";
const ARCHITECTURES: [(&str, &str); 2] = [("amd64", "x86_64-linux"), ("arm64", "aarch64-linux")];

fn main() {
    let keep = env::args().any(|argument| argument == "--keep");
    let binary = binary();
    let folder = tempfile::tempdir().expect("a scratch folder");
    let bed = Bed::start(RegistryOptions::default());
    let image = format!("{}/acme/app", bed.registry.host());
    let shop =
        Shop { binary, folder: folder.path().to_owned(), environment: environment(&bed, folder.path()) };

    title("A registry, a Rekor v2 log and a timestamp authority run on loopback");
    shop.write("trusted_root.json", &bed.trusted_root().to_string());
    for (name, value) in &shop.environment {
        println!("export {name}={value}");
    }

    title("CI pushed one image for each architecture");
    let candidate = format!("{image}:git-{}", &COMMIT[..12]);
    let mut built = Vec::new();
    for (architecture, system) in ARCHITECTURES {
        let build = Build::new(&shop, "result", architecture, b"hello");
        let tag = format!("git-{}-{architecture}", &COMMIT[..12]);
        let digest = build.image.push(&bed.registry.host(), "acme/app", &tag).expect("push an image");
        println!("{image}:{tag}  {digest}");
        built.push((system, build));
    }

    title("Three builders of three operators have keys; the policy wants two of them");
    for builder in ["github", "garnix", "basement"] {
        shop.run(0, &["key", "generate", &format!("{builder}.key")]);
    }
    shop.write("quorate.toml", &policy(&image));
    println!("{}", policy(&image));

    title("The merge job assembles both images into one index");
    let (amd64, arm64) = (format!("{candidate}-amd64"), format!("{candidate}-arm64"));
    let assembled = shop.run(0, &["assemble", &candidate, &amd64, &arm64]);
    let index =
        assembled.lines().next().and_then(|line| line.split_once('@')).expect("a digest").1.to_owned();

    title("The first builder attests what it built");
    shop.attest(0, &candidate, "github", &built, &[]);

    title("One of two is not enough: nothing is promoted");
    let promote = ["promote", &candidate, "--quorum", "2", "--tag", "latest", "--tag", "1.0.0"];
    let refused = shop.run(1, &promote);
    assert_eq!(refused.matches("1 of 2").count(), 2, "the matrix shows 1 of 2 for each platform");
    assert_eq!(named(&bed, "latest"), None, "`latest` does not exist");

    title("The second builder built the same");
    shop.attest(0, &candidate, "garnix", &built, &[]);

    title("Two of two: the same command moves the tags");
    let met = shop.run(0, &promote);
    assert_eq!(met.matches("2 of 2").count(), 2, "the matrix shows 2 of 2 for each platform");
    for tag in ["latest", "1.0.0"] {
        assert_eq!(named(&bed, tag).as_deref(), Some(index.as_str()), "`{tag}` names the judged index");
    }

    title("A cluster verifies before it runs the image");
    let latest = format!("{image}:latest");
    shop.run(0, &["verify", &latest]);

    title("Somebody puts another image under `latest`, behind everybody's back");
    let foreign = foreign_index(&bed, &shop);
    let status = client::put_manifest(
        &bed.registry.host(),
        "acme/app",
        "latest",
        "application/vnd.oci.image.index.v1+json",
        &foreign,
    )
    .expect("put the foreign index");
    assert_eq!(status, 201);
    println!("{latest}  {}", image::digest(&foreign));

    title("The cluster refuses it, and says why");
    let refused = shop.run(1, &["verify", &latest]);
    assert_eq!(refused.matches("0 of 2").count(), 2, "nobody attested the foreign image");

    title("The third builder got something else");
    let other: Vec<_> = ARCHITECTURES
        .iter()
        .map(|(architecture, system)| (*system, Build::new(&shop, "other-result", architecture, b"hullo")))
        .collect();
    shop.attest(1, &candidate, "basement", &other[..1], &[]);

    title("It records its dissent");
    shop.attest(0, &candidate, "basement", &other[..1], &["--record-dissent"]);

    title("The release is not promoted any further");
    let dissent = shop.run(1, &["promote", &candidate, "--tag", "1.0.1"]);
    assert!(dissent.contains("linux/amd64 basement: signed-dissent"), "the dissenter is named");
    assert_eq!(named(&bed, "1.0.1"), None, "`1.0.1` does not exist");

    println!("\nAll steps went as they should.");
    if keep {
        title("The servers stay up; go on by hand, end with Enter");
        println!("cd {}", folder.path().display());
        println!("export PATH={}:$PATH", shop.binary.parent().unwrap_or(Path::new(".")).display());
        for (name, value) in &shop.environment {
            println!("export {name}={value}");
        }
        println!("quorate verify {candidate}");
        let _ = std::io::stdin().read(&mut [0]);
    }
}

fn title(text: &str) {
    println!("\n── {text}");
}

/// The digest that a tag names.
fn named(bed: &Bed, tag: &str) -> Option<String> {
    let answer = client::manifest(&bed.registry.host(), "acme/app", tag).expect("ask the registry");
    (answer.status == 200).then(|| image::digest(&answer.body))
}

fn environment(bed: &Bed, folder: &Path) -> Vec<(&'static str, String)> {
    let file = |name: &str| folder.join(name).display().to_string();
    vec![
        ("QUORATE_POLICY", file("quorate.toml")),
        ("QUORATE_TRUSTED_ROOT", file("trusted_root.json")),
        ("QUORATE_REKOR_URL", bed.log.url()),
        ("QUORATE_TSA_URL", bed.tsa.url()),
    ]
}

fn policy(image: &str) -> String {
    let builder = |name: &str, operator: &str| {
        format!("\n[[builder]]\nname = \"{name}\"\noperator = \"{operator}\"\nkey = \"{name}.key.pub\"\n")
    };
    format!(
        "version = 1\n\n[[image]]\nrepository = \"{image}\"\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n\
         quorum = 2\n{}{}{}",
        builder("github", "GitHub"),
        builder("garnix", "Garnix"),
        builder("basement", "Acme")
    )
}

/// What a builder has after a build: the image, and the store path it came from.
struct Build {
    image: Image,
    result: PathBuf,
}

impl Build {
    fn new(shop: &Shop, folder: &str, architecture: &str, message: &[u8]) -> Self {
        let program = image::minimal_elf(architecture);
        let result = shop.folder.join(format!("{folder}-{architecture}"));
        fs::create_dir_all(result.join("bin")).expect("make the result");
        fs::write(result.join("bin/app"), &program).expect("write the program");
        fs::write(result.join("message"), message).expect("write the message");
        let files: [(&str, &[u8], u32); 2] = [("bin/app", &program, 0o755), ("message", message, 0o644)];
        Self { image: Image::build("linux", architecture, None, &files), result }
    }
}

/// An index of images that nobody attested, for the same platforms.
fn foreign_index(bed: &Bed, shop: &Shop) -> Vec<u8> {
    let children = ARCHITECTURES.map(|(architecture, _)| {
        let image = Build::new(shop, "foreign", architecture, b"mine now").image;
        image.push(&bed.registry.host(), "acme/app", &image.manifest_digest).expect("push a foreign image");
        format!(
            r#"{{"mediaType":"{}","digest":"{}","size":{},"platform":{{"architecture":"{architecture}","os":"linux"}}}}"#,
            image::MANIFEST,
            image.manifest_digest,
            image.manifest.len()
        )
    });
    format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{}]}}"#,
        children.join(",")
    )
    .into_bytes()
}

/// The binary and the folder it runs in.
struct Shop {
    binary: PathBuf,
    folder: PathBuf,
    environment: Vec<(&'static str, String)>,
}

impl Shop {
    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.join(name), text).expect("write a file");
    }

    /// One builder attests every platform it built.
    fn attest(&self, code: i32, image: &str, builder: &str, built: &[(&str, Build)], more: &[&str]) {
        for (system, build) in built {
            let key = format!("{builder}.key");
            let result = build.result.file_name().and_then(|name| name.to_str()).expect("a name");
            let mut arguments =
                vec!["attest", image, "--builder", builder, "--key", &key, "--system", system];
            arguments.extend(["--commit", COMMIT, "--sequence", SEQUENCE, "--result", result]);
            arguments.extend(["--config-digest", &build.image.config_digest]);
            arguments.extend(more);
            self.run(code, &arguments);
        }
    }

    /// Runs `quorate`, shows the command line and what it prints, and checks the exit code.
    fn run(&self, code: i32, arguments: &[&str]) -> String {
        println!("\n$ quorate {}", arguments.join(" "));
        let output = Command::new(&self.binary)
            .args(arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .output()
            .expect("run quorate");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        print!("{text}{}", String::from_utf8_lossy(&output.stderr));
        println!("(exit code {})", output.status.code().unwrap_or(-1));
        assert_eq!(output.status.code(), Some(code), "the exit code of `quorate {}`", arguments.join(" "));
        text
    }
}

/// Builds the binary in the profile of this example, and finds where cargo put it.
fn binary() -> PathBuf {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.current_dir(env!("CARGO_MANIFEST_DIR"));
    build.args(["build", "--quiet", "--bin", "quorate", "--example", "quickstart", "--message-format=json"]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    // What `cargo run` tells its child of this package; build scripts that watch these (ring's)
    // would take them for a change, and half of the tree would be built again.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            build.env_remove(&name);
        }
    }
    let output = build.stderr(Stdio::inherit()).output().expect("run cargo");
    assert!(output.status.success(), "cargo built the binary");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["kind"][0] == "bin" && message["target"]["name"] == "quorate")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("cargo names the binary")
}
