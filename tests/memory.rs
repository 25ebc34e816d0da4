//! Memory stays under 100 MB whatever a registry sends, measured on the real binary.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod plane;
mod shop;

use std::fs;
use std::io::Write;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use quorate_bed::image::{self, Image};
use quorate_bed::{Registry, RegistryOptions};
use serde_json::json;
use shop::{AMD64, Run, Shop};

/// In kB, as the kernel counts.
const LIMIT: u64 = 100_000;
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MIB: usize = 1024 * 1024;

type Answer = Box<dyn Fn(&mut dyn Write) -> std::io::Result<()> + Send + Sync>;

/// Runs the binary to its end; what it came to, and the most memory it held (kB).
fn measured(shop: &Shop, arguments: &[&str]) -> (Run, u64) {
    let child = shop
        .command(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    // What it prints is read while it runs: a pipe holds little.
    let run = std::thread::spawn(move || Run::finished(child));
    let mut peak = 0;
    while !run.is_finished() {
        // A high-water mark: nothing between two looks is missed.
        let text = fs::read_to_string(&status).unwrap_or_default();
        let mark = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let mark = mark.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        peak = mark.unwrap_or(0).max(peak);
        std::thread::sleep(Duration::from_millis(1));
    }
    (run.join().unwrap(), peak)
}

/// Asserts the exit code, the reason and the limit.
#[track_caller]
fn bounded(shop: &Shop, name: &str, arguments: &[&str], code: i32, reason: &str) {
    let (run, peak) = measured(shop, arguments);
    assert!(peak < LIMIT, "{name}: {peak} kB");
    assert!(peak > 1_000, "{name}: nothing was measured");
    assert_eq!(run.code, code, "{name}: {}", run.stderr);
    assert!(
        run.stderr.contains(reason) || run.stdout.contains(reason),
        "{name}: {}{}",
        run.stdout,
        run.stderr
    );
}

/// A policy for another host than the shop's own.
fn policy_for(shop: &Shop, host: &str) {
    shop.write("quorate.toml", shop.policy(2).replace(&shop.host(), host));
}

fn reply(out: &mut dyn Write, media_type: &str, more: &str, body: &[u8]) -> std::io::Result<()> {
    write!(
        out,
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: {media_type}\r\n{more}Content-Length: {}\r\n\r\n",
        body.len()
    )?;
    out.write_all(body)
}

fn endless(out: &mut dyn Write, head: &str) -> std::io::Result<()> {
    write!(out, "{head}\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    let chunk = [b"10000\r\n".as_slice(), &vec![b' '; 65536], b"\r\n"].concat();
    for _ in 0..600 * MIB / 65536 {
        out.write_all(&chunk)?;
    }
    out.write_all(b"0\r\n\r\n")
}

#[test]
fn bodies_without_measure() {
    let shop = Shop::open();
    let ok = format!("HTTP/1.1 200 OK\r\nContent-Type: {INDEX}");
    let announced = format!("{ok}\r\nContent-Length: 629145600\r\n\r\n");
    let gzip = format!("{ok}\r\nContent-Encoding: gzip");
    let trickle = format!("{ok}\r\nContent-Length: 1000\r\n\r\n");
    let cases: [(&str, &str, Answer); 5] = [
        ("600 MiB without a length", "registry-too-large", Box::new(move |out| endless(out, &ok))),
        ("600 MiB announced", "registry-too-large", Box::new(move |out| out.write_all(announced.as_bytes()))),
        ("600 MiB said to be compressed", "registry-malformed", Box::new(move |out| endless(out, &gzip))),
        ("600 MiB of an error", "registry-refused", Box::new(|out| endless(out, "HTTP/1.1 418 No"))),
        (
            "a byte now and then",
            "registry-timeout",
            Box::new(move |out| {
                out.write_all(trickle.as_bytes())?;
                loop {
                    out.write_all(b" ")?;
                    std::thread::sleep(Duration::from_secs(1));
                }
            }),
        ),
    ];
    for (name, reason, answer) in cases {
        let (host, _) = plane::raw(answer);
        policy_for(&shop, &host);
        let started = Instant::now();
        let image = format!("{host}/acme/app:v1");
        bounded(&shop, name, &["verify", &image, "--timeout", "5"], 3, reason);
        assert!(started.elapsed() < Duration::from_secs(10), "{name}");
    }
}

#[test]
fn a_release_that_is_met_is_measured_too() {
    let shop = Shop::open();
    let release = shop.release("candidate", "hello");
    shop.attest_all(&release, &["github", "garnix"]);
    bounded(&shop, "a release that is met", &["verify", &release.reference], 0, "met");
}

#[test]
fn json_that_grows_when_it_is_read() {
    let shop = Shop::open();
    let fill = |piece: &str| vec![piece; 4 * MIB / (piece.len() + 1) - 200].join(",");
    for (name, reason, filling) in [
        ("empty lists", "more than 250000 values", format!(r#""x":[{}]"#, fill("[]"))),
        ("numbers", "more than 250000 values", format!(r#""x":[{}]"#, fill("1"))),
        ("lists in lists", "index-malformed", format!(r#""x":{}{}"#, "[".repeat(100), "]".repeat(100))),
        (
            "keys",
            "more than 250000 values",
            format!(
                r#""annotations":{{{}}}"#,
                (0..300_000).map(|n| format!("\"{n}\":\"\"")).collect::<Vec<_>>().join(",")
            ),
        ),
        ("entries", "more than 250000 values", format!(r#""manifests":[{}]"#, fill("{}"))),
    ] {
        let body = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}",{filling}}}"#).into_bytes();
        assert!(body.len() <= 4 * MIB, "{name}");
        let (host, _) = plane::raw(move |out| reply(out, INDEX, "", &body));
        policy_for(&shop, &host);
        bounded(&shop, name, &["verify", &format!("{host}/acme/app:v1")], 1, reason);
    }
}

#[test]
fn many_large_children() {
    let shop = Shop::open();
    // Thirty-two images, each of whose manifest and configuration is as large as it may be.
    let digest = |bytes: &[u8]| quorate::oci::Digest::of(bytes).to_string();
    let padding = "a".repeat(4 * MIB - 20_000);
    let pieces: Vec<(String, Vec<u8>)> = (0..32)
        .flat_map(|n| {
            let config = json!({"architecture": "amd64", "os": "linux", "author": padding,
                                "config": {}, "rootfs": {"type": "layers", "diff_ids": []}, "created": format!("1970-01-01T00:00:{:02}Z", n % 60)});
            let config = format!("{config}{}", " ".repeat(n)).into_bytes();
            let manifest = json!({"schemaVersion": 2, "mediaType": image::MANIFEST, "layers": [],
                "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                           "digest": digest(&config), "size": config.len()},
                "annotations": {"a": padding}});
            let manifest = manifest.to_string().into_bytes();
            [(digest(&manifest), manifest), (digest(&config), config)]
        })
        .collect();
    let entries: Vec<_> = pieces
        .iter()
        .step_by(2)
        .map(|(digest, bytes)| {
            json!({"mediaType": image::MANIFEST, "digest": digest, "size": bytes.len(),
                   "platform": {"os": "linux", "architecture": "amd64"}})
        })
        .collect();
    let index = list(&entries);
    let (host, _) = plane::raw_for(move |target, out| {
        if target.contains("/referrers/") {
            return reply(out, INDEX, "", &list(&[]));
        }
        match pieces.iter().find(|(digest, _)| target.ends_with(digest)) {
            Some((_, bytes)) if target.contains("/manifests/") => reply(out, image::MANIFEST, "", bytes),
            Some((_, bytes)) => reply(out, "application/octet-stream", "", bytes),
            None => reply(out, INDEX, "", &index),
        }
    });
    policy_for(&shop, &host);
    bounded(
        &shop,
        "many large children",
        &["verify", &format!("{host}/acme/app:v1")],
        3,
        "registry-too-many",
    );
}

/// Serves two images and their index; `referrers` answers for both, told what was asked.
fn serve_release(
    referrers: impl Fn(&str, &mut dyn Write) -> std::io::Result<()> + Send + Sync + 'static,
) -> String {
    let images = ["amd64", "arm64"].map(|architecture| (architecture, shop::build(architecture, "hello")));
    let entries: Vec<_> = images
        .iter()
        .map(|(architecture, image)| {
            json!({"mediaType": image::MANIFEST, "digest": image.manifest_digest, "size": image.manifest.len(),
                   "platform": {"os": "linux", "architecture": architecture}})
        })
        .collect();
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string();
    plane::raw_for(move |target, out| {
        if target.contains("/referrers/") {
            return referrers(target, out);
        }
        for (_, image) in &images {
            if target.contains(&image.manifest_digest) {
                return reply(out, image::MANIFEST, "", &image.manifest);
            }
            if target.contains(&image.config_digest) {
                return reply(out, "application/octet-stream", "", &image.config);
            }
        }
        reply(out, INDEX, "", index.as_bytes())
    })
    .0
}

fn list(entries: &[serde_json::Value]) -> Vec<u8> {
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string().into_bytes()
}

#[test]
fn pages_without_end() {
    let shop = Shop::open();
    // Few entries, each as large as fits: what is kept of a page must not add up.
    let entry = json!({"mediaType": image::MANIFEST, "digest": image::digest(b"x"), "size": 1,
                       "annotations": {"a": "a".repeat(80_000)}});
    let page = list(&vec![entry; 49]);
    let asked = AtomicUsize::new(0);
    let host = serve_release(move |_, out| {
        let n = asked.fetch_add(1, Ordering::Relaxed);
        reply(out, INDEX, &format!("Link: <?n={n}>; rel=\"next\"\r\n"), &page)
    });
    policy_for(&shop, &host);
    bounded(&shop, "pages without end", &["verify", &format!("{host}/acme/app:v1")], 3, "registry-too-many");
}

#[test]
fn a_flood_of_evidence() {
    let shop = Shop::open();
    // Each as large as a bundle may be, and each another one.
    let release = shop.release("candidate", "hello");
    let subject = &release.images[0];
    let repository: quorate::oci::Repository = shop.repository().parse().unwrap();
    let descriptor = quorate::oci::Descriptor::of(image::MANIFEST, &subject.manifest);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        for n in 0..30 {
            let bundle = [n.to_string().as_bytes(), &vec![b'0'; 1_000_000]].concat();
            let slot = plane::slot("a");
            // A time limit for each, however slow the machine.
            plane::anonymous()
                .attach(true, &repository, &descriptor, &slot, &bundle, plane::annotations(plane::TYPE))
                .await
                .unwrap();
        }
    });
    bounded(&shop, "thirty bundles of 1 MB", &["verify", &release.reference], 3, "registry-too-many");
    let many = [&["verify"][..], &[release.reference.as_str(); 8]].concat();
    bounded(&shop, "… eight times at once", &many, 3, "registry-too-many");
}

#[test]
fn folders_of_bundles() {
    let shop = Shop::open();
    let release = shop.release("candidate", "hello");
    fs::create_dir(shop.path("bundles")).unwrap();
    // Each of them is another one.
    let bundle = |n: usize, bytes: usize| format!("{{\"messageSignature\":[{n},\"{}\"]}}", "0".repeat(bytes));
    for n in 0..16 {
        shop.write(&format!("bundles/{n}.json"), bundle(n, 1_000_000));
        // Larger than a bundle may be.
        shop.write(&format!("bundles/large-{n}.json"), bundle(n, 3 * MIB));
    }
    let mut arguments = vec!["verify", "--bundle", "bundles"];
    arguments.extend([release.reference.as_str(); 8]);
    bounded(&shop, "32 files for eight images", &arguments, 1, "bundle-too-large");
    let verify = ["verify", "--bundle", "bundles", &release.reference];
    let judged = shop.quorate(&[&verify[..], &["-o", "json"]].concat()).exits(1).json();
    let ignored = |reason: &str| {
        judged["ignored"].as_array().unwrap().iter().filter(|one| one["reason"] == reason).count()
    };
    assert_eq!((ignored("bundle-too-large"), ignored("bundle-version")), (16, 16));

    shop.write("bundles/one-more.json", bundle(16, 1_000_000));
    bounded(&shop, "17 MB of bundles", &verify, 2, "more than 16 MiB");
    fs::create_dir(shop.path("many")).unwrap();
    for n in 0..200 {
        shop.write(&format!("many/{n}.json"), bundle(n, 2));
    }
    let many = ["verify", "--bundle", "many", &release.reference];
    bounded(&shop, "200 bundles", &many, 1, "bundle-version");
    shop.write("many/one-more.json", "{}");
    bounded(&shop, "201 bundles", &many, 2, "more than 200 bundles");
}

#[test]
fn layers_that_are_brought_over() {
    let (shop, other) = (Shop::open(), Registry::start(RegistryOptions::default()));
    let large = vec![7; 64 * MIB];
    for (tag, architecture) in [("amd64", "amd64"), ("arm64", "arm64")] {
        let files: [(&str, &[u8], u32); 2] = [("data", &large, 0o644), ("name", tag.as_bytes(), 0o644)];
        let image = Image::build("linux", architecture, None, &files);
        image.push(&other.host(), "builds/app", tag).unwrap();
    }
    let [amd64, arm64] = ["amd64", "arm64"].map(|tag| format!("{}/builds/app:{tag}", other.host()));
    let target = shop.at("git-1");
    bounded(&shop, "to a registry", &["assemble", &target, &amd64, &arm64], 0, "git-1");
    assert!(shop.named("git-1").is_some());
    let layout = format!("oci:{}:git-1", shop.path("disk").display());
    bounded(&shop, "to a layout", &["assemble", &layout, &amd64, &arm64, "--check-content"], 0, "git-1");
}

/// A frame of zstd that looks back 8 MiB, and becomes this byte 128 KiB times `blocks`.
fn repeated(byte: u8, blocks: usize) -> Vec<u8> {
    // RFC 8878, section 3.1.1: the window; each block is its size, its kind, and one byte.
    let block = |last: u32| [&(last | 1 << 1 | (128 << 10) << 3).to_le_bytes()[..3], &[byte]].concat();
    [&[0x28, 0xb5, 0x2f, 0xfd, 0, 13 << 3], &block(0).repeat(blocks - 1)[..], &block(1)].concat()
}

#[test]
fn a_layer_that_is_a_bomb() {
    use std::io::Read as _;
    let shop = Shop::open();
    let image = shop::build("amd64", "hello");
    let mut gzip = Vec::new();
    let zeros = std::io::repeat(0).take(600 * MIB as u64);
    flate2::read::GzEncoder::new(zeros, flate2::Compression::best()).read_to_end(&mut gzip).unwrap();
    let gzip = image.with_layer(gzip, "application/vnd.oci.image.layer.v1.tar+gzip");
    // Of 600 MiB, and 1 MiB that would be 32 GiB.
    let zstd = |blocks| image.with_layer(repeated(0, blocks), shop::LAYER_ZSTD);
    for (tag, image, code, reason) in [
        ("gzip", gzip, 1, "layer-differs"),
        ("zstd", zstd(600 * 8), 1, "layer-differs"),
        ("zstd-without-measure", zstd(1 << 18), 1, "layer-malformed"),
        ("plain", image.clone(), 0, ""),
    ] {
        image.push(&shop.host(), "acme/app", tag).unwrap();
        bounded(&shop, tag, &attesting(&shop.at(tag), &image.config_digest, &[]), code, reason);
    }
}

fn attesting<'a>(reference: &'a str, config_digest: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["attest", reference, "--builder", "github", "--key", "github.key"];
    arguments.extend(["--system", AMD64.1, "--config-digest", config_digest, "--commit", shop::COMMIT]);
    arguments.extend(["--sequence", "1763700000", "--nar-hash", shop::NAR_HASH]);
    arguments.extend(more);
    arguments
}

#[test]
fn many_layers_that_look_back_far() {
    let shop = Shop::open();
    let image = shop::build("amd64", "hello");
    // 16 MiB each, of which the registry sends all but the end, and takes its time for that.
    let layers: Vec<Vec<u8>> = (0..24).map(|byte| repeated(byte, 128)).collect();
    let mut diff_ids: Vec<_> = (0..24).map(|byte| image::digest(&vec![byte; 16 * MIB])).collect();
    let mut config: serde_json::Value = serde_json::from_slice(&image.config).unwrap();
    config.as_object_mut().unwrap().remove("history");
    for (reason, code) in [("registry-denied", 3), ("layer-differs", 1)] {
        config["rootfs"]["diff_ids"] = json!(diff_ids);
        let config = config.to_string().into_bytes();
        let image = image.with_config(config);
        let mut manifest: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
        let named = layers.iter().map(
            |layer| json!({"mediaType": shop::LAYER_ZSTD, "digest": image::digest(layer), "size": layer.len()}),
        );
        manifest["layers"] = named.collect();
        let (manifest, config, layers) = (manifest.to_string(), image.config.clone(), layers.clone());
        let config_digest = image.config_digest.clone();
        let (host, _) = plane::raw_for(move |target, out| {
            if target == "/v2/" {
                return reply(out, "application/json", "", b"{}");
            }
            if target.contains("/manifests/") {
                return reply(out, image::MANIFEST, "", manifest.as_bytes());
            }
            if target.contains(&image.config_digest) {
                return reply(out, "application/octet-stream", "", &config);
            }
            // What comes once the layers are bound.
            let Some(layer) = layers.iter().find(|layer| target.contains(&image::digest(layer))) else {
                return write!(out, "HTTP/1.1 403 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
            };
            let (most, end) = layer.split_at(layer.len() - 4);
            write!(out, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", layer.len())?;
            out.write_all(most)?;
            std::thread::sleep(Duration::from_millis(200));
            out.write_all(end)
        });
        let reference = format!("{host}/acme/app:v1");
        let arguments = attesting(&reference, &config_digest, &["--timeout", "30"]);
        bounded(&shop, reason, &arguments, code, reason);
        diff_ids[23] = image::digest(b"another");
    }
}

#[test]
fn what_is_pushed_is_not_held() {
    let shop = Shop::open();
    let large = vec![b'x'; 200 * MIB];
    let image = Image::build("linux", "amd64", None, &[("bin/app", &large, 0o755)]);
    shop.write("image.tar", image.docker_archive());
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&image.docker_archive()).unwrap();
    shop.write("image.tar.gz", encoder.finish().unwrap());
    for source in ["image.tar", "image.tar.gz"] {
        let target = format!("{}/{}", shop.host(), source.replace('.', "-"));
        bounded(&shop, source, &["push", source, &target], 0, "configuration");
    }
    let compressed = ["push", "image.tar", &shop.at("compressed-amd64"), "--compress", "gzip"];
    bounded(&shop, "compressed", &compressed, 0, "configuration");

    // Whatever these store paths make, they are read whole before it is known.
    fs::create_dir_all(shop.path("root/nix/store/x")).unwrap();
    shop.write("root/nix/store/x/large", &large);
    let absent = image::digest(b"a layer that the registry does not have");
    let image = json!({
        "version": 1, "image-config": {}, "arch": "amd64", "layers": [{
            "digest": absent, "size": 1, "diff_ids": absent,
            "paths": [{"path": "/nix/store/x"}],
            "mediatype": "application/vnd.oci.image.layer.v1.tar", "History": {},
        }],
    });
    shop.write("result", image.to_string());
    let paths = ["push", "result", &shop.at("paths-amd64"), "--store-root", "root"];
    bounded(&shop, "store paths", &paths, 1, "layer-differs");
}
