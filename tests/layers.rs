//! A builder that did not push binds every layer to its own configuration before it signs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod shop;

use quorate_bed::image::{self, Image};
use quorate_bed::{Fault, FaultAction, client};
use serde_json::Value;
use shop::{AMD64, Shop};

/// Pushes an image whose manifest was changed, with the layer blob it then names.
fn push_changed(shop: &Shop, image: &Image, layer: &[u8], change: impl Fn(&mut Value)) -> String {
    let mut manifest: Value = serde_json::from_slice(&image.manifest).unwrap();
    manifest["layers"][0]["digest"] = image::digest(layer).into();
    manifest["layers"][0]["size"] = layer.len().into();
    change(&mut manifest);
    for blob in [layer, &image.config] {
        let begun = client::send(&shop.host(), "POST", "/v2/acme/app/blobs/uploads/", &[], &[]).unwrap();
        let location = begun.header("location").unwrap().to_owned();
        let between = if location.contains('?') { '&' } else { '?' };
        let path = format!("{location}{between}digest={}", image::digest(blob));
        assert_eq!(client::send(&shop.host(), "PUT", &path, &[], blob).unwrap().status, 201);
    }
    let bytes = serde_json::to_vec(&manifest).unwrap();
    let put = client::put_manifest(&shop.host(), "acme/app", "changed", image::MANIFEST, &bytes);
    assert_eq!(put.unwrap(), 201);
    shop.at("changed")
}

fn attest(shop: &Shop, reference: &str, image: &Image) -> shop::Run {
    shop.bed.registry.clear_log();
    shop.attest_as(reference, "github", AMD64.1, &image.config_digest, &["-o", "json"])
}

#[track_caller]
fn refused(shop: &Shop, reference: &str, image: &Image, reason: &str) {
    let logged = shop.bed.log.size();
    let hint = if reason.contains("differ") { "do not release this image" } else { "push the image again" };
    let refused = attest(shop, reference, image).exits(1).says("not what was pushed").says(hint).json();
    assert_eq!(refused["reason"], reason, "{refused}");
    assert!(shop.bed.registry.writes().is_empty());
    assert_eq!(shop.bed.log.size(), logged);
}

#[test]
fn plain_and_compressed_layers_are_bound() {
    let shop = Shop::open();
    let plain = shop::build("amd64", "hello");
    plain.push(&shop.host(), "acme/app", "plain").unwrap();
    attest(&shop, &shop.at("plain"), &plain).exits(0);
    for level in [1, 9] {
        let gzip = plain.gzip(level);
        assert_eq!(gzip.config_digest, plain.config_digest);
        gzip.push(&shop.host(), "acme/app", "gzip").unwrap();
        attest(&shop, &shop.at("gzip"), &plain).exits(0);
    }
    let zstd = shop::zstd(&plain);
    assert_ne!(zstd.layer, plain.layer);
    assert_eq!(zstd.config_digest, plain.config_digest);
    zstd.push(&shop.host(), "acme/app", "zstd").unwrap();
    attest(&shop, &shop.at("zstd"), &plain).exits(0);
}

#[test]
fn other_layers_under_the_same_configuration_are_refused() {
    let shop = Shop::open();
    let image = shop::build("amd64", "hello");
    let other = shop::build("amd64", "something else");
    let reference = push_changed(&shop, &image, &other.layer, |_| {});
    refused(&shop, &reference, &image, "layer-differs");

    let (gzip, other) = (image.gzip(6), other.gzip(6));
    let reference = push_changed(&shop, &gzip, &other.layer, |_| {});
    refused(&shop, &reference, &image, "layer-differs");
    // Decoders differ on what follows the first stream.
    let reference = push_changed(&shop, &gzip, &[&gzip.layer[..], &other.layer[..]].concat(), |_| {});
    refused(&shop, &reference, &image, "layer-malformed");
    let reference = push_changed(&shop, &gzip, &gzip.layer[..gzip.layer.len() - 4], |_| {});
    refused(&shop, &reference, &image, "layer-malformed");

    let reference = push_changed(&shop, &gzip, &gzip.layer, |_| {});
    attest(&shop, &reference, &image).exits(0);
}

#[test]
fn layers_of_zstd_are_held_to_the_same() {
    let shop = Shop::open();
    let image = shop::build("amd64", "hello");
    let (zstd, other) = (shop::zstd(&image), shop::zstd(&shop::build("amd64", "something else")));
    let skippable = [&0x184d_2a50_u32.to_le_bytes()[..], &[0; 4]].concat();
    for (what, layer, reason) in [
        ("other content", other.layer.clone(), "layer-differs"),
        ("a second frame", [&zstd.layer[..], &other.layer].concat(), "layer-malformed"),
        ("a frame to skip", [&skippable[..], &zstd.layer].concat(), "layer-malformed"),
        ("a tail", [&zstd.layer[..], &[0]].concat(), "layer-malformed"),
        ("cut short", zstd.layer[..zstd.layer.len() - 1].to_vec(), "layer-malformed"),
        ("another form", image.gzip(6).layer, "layer-malformed"),
    ] {
        println!("{what}");
        let reference = push_changed(&shop, &zstd, &layer, |_| {});
        refused(&shop, &reference, &image, reason);
    }
    // Docker has no such type.
    let docker = "application/vnd.docker.image.rootfs.diff.tar.zstd";
    let reference = push_changed(&shop, &zstd, &zstd.layer, |m| m["layers"][0]["mediaType"] = docker.into());
    refused(&shop, &reference, &image, "layer-type");

    let reference = push_changed(&shop, &zstd, &zstd.layer, |_| {});
    attest(&shop, &reference, &image).exits(0);
}

#[test]
fn what_lazy_pullers_would_believe_is_refused() {
    let shop = Shop::open();
    let image = shop::build("amd64", "hello");
    let gzip = image.gzip(6);
    let digest = image::digest(b"a table");
    for (change, reason) in [
        (
            Box::new(|m: &mut Value| m["layers"][0]["urls"] = serde_json::json!(["https://evil.example"]))
                as Box<dyn Fn(&mut Value)>,
            "layer-urls",
        ),
        (
            Box::new(|m: &mut Value| {
                m["layers"][0]["annotations"] =
                    serde_json::json!({ "containerd.io/snapshot/stargz/toc.digest": digest });
            }),
            "layer-table",
        ),
        (
            Box::new(|m: &mut Value| {
                m["layers"][0]["mediaType"] =
                    "application/vnd.oci.image.layer.nondistributable.v1.tar".into();
            }),
            "layer-type",
        ),
        (
            Box::new(|m: &mut Value| {
                let layer = m["layers"][0].clone();
                m["layers"].as_array_mut().unwrap().push(layer);
            }),
            "layers-differ",
        ),
    ] {
        let reference = push_changed(&shop, &gzip, &gzip.layer, change);
        refused(&shop, &reference, &image, reason);
    }
}

#[test]
fn a_layer_that_cannot_be_read_is_no_answer() {
    let shop = Shop::open();
    let image = shop::build("amd64", "hello");
    let gzip = image.gzip(6);
    gzip.push(&shop.host(), "acme/app", "gzip").unwrap();
    let blob = format!("/blobs/{}", gzip.layer_digest);
    for action in [
        FaultAction::Status(quorate_bed::Answer::status(403)),
        FaultAction::HalfBody,
        FaultAction::Replace(b"other bytes".to_vec()),
    ] {
        shop.bed.registry.fault(Fault::new(action).method("GET").path(&blob));
        let run = shop.attest_as(
            &shop.at("gzip"),
            "github",
            AMD64.1,
            &image.config_digest,
            &["-o", "json", "--timeout", "5"],
        );
        assert!(run.code == 3 || run.json()["reason"] == "layer-malformed", "{}", run.stderr);
        assert!(shop.bed.registry.writes().iter().all(|write| write.path.contains("gzip")) || run.code != 0);
        shop.bed.registry.clear_faults();
    }
    // A break in the middle is asked for again.
    shop.bed.registry.fault(Fault::new(FaultAction::HalfBody).method("GET").path(&blob).times(1));
    attest(&shop, &shop.at("gzip"), &image).exits(0);
}
