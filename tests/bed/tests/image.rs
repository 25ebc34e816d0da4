//! The images are what they claim to be.

use std::io::Read;

use flate2::read::GzDecoder;
use quorate_bed::image::{Image, digest, minimal_elf};
use serde_json::Value;

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[test]
fn the_programs_are_for_their_machines() {
    for (name, other, machine) in [("x86_64", "amd64", 62), ("aarch64", "arm64", 183)] {
        let file = minimal_elf(name);
        assert_eq!(file, minimal_elf(other));
        assert_eq!(file[..7], *b"\x7fELF\x02\x01\x01", "64 bits, little-endian");
        assert_eq!(u16_at(&file, 16), 2, "executable");
        assert_eq!(u16_at(&file, 18), machine);
        assert_eq!(u16_at(&file, 52), 64, "size of this header");
        assert_eq!(u16_at(&file, 54), 56, "size of a program header");
        assert_eq!(u16_at(&file, 56), 1, "one program header");
        let header = &file[u64_at(&file, 32) as usize..];
        assert_eq!(header[..8], [1, 0, 0, 0, 5, 0, 0, 0], "PT_LOAD, r-x");
        let (offset, address) = (u64_at(header, 8), u64_at(header, 16));
        assert_eq!(u64_at(header, 32), file.len() as u64, "all of the file");
        assert_eq!(address % u64_at(header, 48), offset % u64_at(header, 48));
        let entry = u64_at(&file, 24) - address + offset;
        assert_eq!(entry, 120, "the code follows the headers");
    }
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
#[test]
fn the_program_of_this_machine_runs() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("true");
    std::fs::write(&path, minimal_elf(std::env::consts::ARCH)).expect("written");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("executable");
    let status = std::process::Command::new(&path).status().expect("it runs");
    assert_eq!(status.code(), Some(0));
}

fn sample(architecture: &str, variant: Option<&str>) -> Image {
    Image::build(
        "linux",
        architecture,
        variant,
        &[("etc/notice", b"text\n", 0o644), ("usr/bin/app", &minimal_elf(architecture), 0o755)],
    )
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

#[test]
fn manifest_configuration_and_layer_name_each_other() {
    let image = sample("arm64", Some("v8"));
    assert_eq!(image, sample("arm64", Some("v8")), "the same every time");
    assert_ne!(image.diff_id, sample("amd64", None).diff_id);

    let config = json(&image.config);
    assert_eq!(config["os"], "linux");
    assert_eq!(config["architecture"], "arm64");
    assert_eq!(config["variant"], "v8");
    assert_eq!(config["created"], "1970-01-01T00:00:01Z");
    assert_eq!(config["config"]["Entrypoint"][0], "/usr/bin/app");
    assert_eq!(config["rootfs"]["type"], "layers");
    assert_eq!(config["rootfs"]["diff_ids"][0], digest(&image.layer));
    assert!(json(&sample("amd64", None).config).get("variant").is_none());

    let manifest = json(&image.manifest);
    assert_eq!(manifest["schemaVersion"], 2);
    assert_eq!(manifest["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(manifest["config"]["digest"], digest(&image.config));
    assert_eq!(manifest["config"]["size"], image.config.len());
    let layer = &manifest["layers"][0];
    assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar");
    assert_eq!(layer["digest"], digest(&image.layer));
    assert_eq!(layer["size"], image.layer.len());
    assert_eq!(image.manifest_digest, digest(&image.manifest));
}

#[test]
fn compression_changes_the_manifest_only() {
    let plain = sample("amd64", None);
    let (fast, best) = (plain.gzip(1), plain.gzip(9));
    for compressed in [&fast, &best] {
        assert_eq!(compressed.config_digest, plain.config_digest);
        assert_eq!(compressed.diff_id, plain.diff_id);
        assert_ne!(compressed.manifest_digest, plain.manifest_digest);
        let layer = &json(&compressed.manifest)["layers"][0];
        assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
        assert_eq!(layer["digest"], digest(&compressed.layer));
        let mut unpacked = Vec::new();
        GzDecoder::new(&compressed.layer[..]).read_to_end(&mut unpacked).expect("a gzip stream");
        assert_eq!(unpacked, plain.layer);
    }
    assert_ne!(fast.manifest_digest, best.manifest_digest);
}

#[test]
fn the_archive_lists_directories_before_what_is_in_them() {
    let image = sample("amd64", None);
    let mut rest = &image.layer[..];
    let mut entries = Vec::new();
    while rest[0] != 0 {
        let text = |range: std::ops::Range<usize>| {
            let field = &rest[range];
            let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
            String::from_utf8(field[..end].to_vec()).expect("text")
        };
        let sum: u32 = rest[..512]
            .iter()
            .enumerate()
            .map(|(at, byte)| match at {
                148..156 => u32::from(b' '),
                _ => u32::from(*byte),
            })
            .sum();
        assert_eq!(text(148..154), format!("{sum:06o}"), "the checksum");
        assert_eq!(text(136..148), "00000000000", "modified at the epoch");
        let size = usize::from_str_radix(&text(124..136), 8).expect("octal");
        entries.push((text(0..100), text(100..108), rest[156], size));
        rest = &rest[512 + size.next_multiple_of(512)..];
    }
    assert_eq!(rest.len(), 1024, "two empty blocks end it");
    let entry = |path: &str, mode: &str, kind, size| (path.into(), mode.into(), kind, size);
    assert_eq!(
        entries,
        [
            entry("etc/", "0000755", b'5', 0),
            entry("etc/notice", "0000644", b'0', 5),
            entry("usr/", "0000755", b'5', 0),
            entry("usr/bin/", "0000755", b'5', 0),
            entry("usr/bin/app", "0000755", b'0', minimal_elf("amd64").len()),
        ]
    );
}
