//! Proof packs: what they prove is what the registry proves, and never more.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod shop;

use std::collections::BTreeMap;
use std::fs;

use quorate::oci::media_type;
use quorate::oci::pack::{Part, Parts};
use quorate_bed::image::Image;
use quorate_bed::{Fault, RegistryOptions, client};
use serde_json::{Value, json};
use shop::{AMD64, ARM64, Release, Shop};

const BOTH: [&str; 2] = ["github", "garnix"];

/// A release that two builders attest, its reference by digest, and its pack in `pack.json`.
fn packed(shop: &Shop) -> (Release, String) {
    let release = shop.release("git-1", "hello");
    shop.attest_all(&release, &BOTH);
    let image = format!("{}@{}", shop.repository(), release.digest);
    let document = shop.quorate(&["pack", &image, "--out", "pack.json", "-o", "json"]).exits(0).json();
    assert_eq!((&document["outcome"], &document["pack"]["bundles"]), (&"packed".into(), &4.into()));
    (release, image)
}

fn verify(shop: &Shop, image: &str, pack: &str, more: &[&str]) -> shop::Run {
    shop.quorate(&[&["verify", image, "--pack", pack, "-o", "json"], more].concat())
}

/// How good a verdict is. What cannot be judged is no better than the worst.
fn rank(document: &Value) -> usize {
    let words = ["refused", "equivocation", "dissent", "short", "met"];
    document["verdict"].as_str().map_or(0, |word| words.iter().position(|w| *w == word).unwrap())
}

#[test]
fn a_pack_gives_the_verdict_that_the_registry_gives() {
    for referrers in [true, false] {
        let shop = Shop::new(RegistryOptions { referrers, ..Default::default() });
        let (release, image) = packed(&shop);
        // Somebody disagrees, and the policy waives it for now: the statement is part of the pack.
        let other = shop::build("amd64", "something else");
        let arguments = ["--record-dissent", "--bundle-out", "dissent.json", "-o", "json"];
        shop.attest_as(&release.reference, "basement", AMD64.1, &other.config_digest, &arguments).exits(0);
        let dissent = shop.quorate(&["verify", &image, "-o", "json"]).exits(1).json();
        let row = &dissent["platforms"][0]["cells"];
        let cell = row.as_array().unwrap().iter().find(|cell| cell["builder"] == "basement").unwrap();
        let statement = cell["statements"][0].as_str().unwrap();
        let waived = format!(
            "{}\n[[waive]]\nstatement = \"{statement}\"\nreason = \"a disk\"\nuntil = 2100-01-01T00:00:00Z\n",
            shop.policy(2)
        );
        shop.write("waived.toml", waived);
        let arguments =
            ["pack", &image, "--policy", "waived.toml", "--out", "pack.json", "--attach", "-o", "json"];
        let made = shop.quorate(&arguments).exits(0).json();
        assert_eq!(made["pack"]["bundles"], 5);
        let tag = made["pack"]["tag"].as_str().unwrap();
        assert_eq!(tag, format!("{}.q-pack", release.digest.replace(':', "-")));
        let attached = client::manifest(&shop.host(), "acme/app", tag).unwrap();
        assert_eq!(attached.body, fs::read(shop.path("pack.json")).unwrap(), "one pack, in both places");
        let again = shop.quorate(&arguments).exits(0).json();
        assert_eq!(again["pack"], made["pack"], "the same evidence gives the same pack");

        // Waived, heard, and under a higher quorum: each the same from the registry and the pack.
        for (more, verdict) in [
            (&["--policy", "waived.toml"][..], "met"),
            (&[], "dissent"),
            (&["--policy", "waived.toml", "--quorum", "3"], "short"),
            (&["--policy", "waived.toml", "--expect-commit", shop::OTHER_COMMIT], "short"),
            (&["--policy", "waived.toml", "--platform", "linux/arm64"], "met"),
        ] {
            let online = shop.quorate(&[&["verify", &image, "-o", "json"], more].concat()).json();
            assert_eq!(online["verdict"], verdict);
            shop.bed.registry.clear_log();
            let mut offline = verify(&shop, &image, "pack.json", more).json();
            assert!(shop.bed.registry.log().is_empty(), "no network");
            let attached = [&["verify", &image, "--evidence", "pack", "-o", "json"], more].concat();
            assert_eq!(shop.quorate(&attached).json(), offline);
            // But for the note that others may disagree elsewhere.
            let alone = offline["notes"].as_array_mut().unwrap().remove(0);
            assert_eq!(alone["code"], "pack-alone");
            assert_eq!(offline.to_string(), online.to_string());
        }
    }
}

/// Random sets of what was really signed, of votes, dissents and all that counts for nothing: packed,
/// they give the verdict that they give beside the registry's image.
#[test]
fn whatever_was_signed_a_pack_gives_the_same_verdict() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    let image = format!("{}@{}", shop.repository(), release.digest);
    shop.write("quorate.toml", shop.policy(1));
    shop.quorate(&["key", "generate", "stranger.key"]).exits(0);
    let mut signed: Vec<Vec<u8>> = Vec::new();
    let mut sign = |builder: &str, system: &str, config: &str, more: &[&str]| {
        let file = format!("{}.json", signed.len());
        let arguments = [&["--no-attach", "--bundle-out", &file], more].concat();
        shop.attest_as(&release.reference, builder, system, config, &arguments).exits(0);
        signed.push(fs::read(shop.path(&file)).unwrap());
    };
    let [amd64, arm64] = [0, 1].map(|n| release.images[n].config_digest.as_str());
    for builder in ["github", "garnix", "basement"] {
        sign(builder, AMD64.1, amd64, &[]);
        sign(builder, ARM64.1, arm64, &[]);
    }
    sign("github", AMD64.1, amd64, &[]);
    sign("stranger", AMD64.1, amd64, &[]);
    sign("basement", ARM64.1, arm64, &["--commit", shop::OTHER_COMMIT]);
    let other = format!("sha256:{}", "1".repeat(64));
    sign("garnix", ARM64.1, arm64, &["--nar-hash", &other]);
    sign("basement", AMD64.1, &other, &["--record-dissent"]);
    // The same signature in other bytes, and no bundle at all.
    signed.extend([[&signed[0][..], b"\n"].concat(), b"{}".to_vec()]);
    for (n, bundle) in signed.iter().enumerate() {
        shop.write(&format!("{n}.json"), bundle);
    }

    let index = client::manifest(&shop.host(), "acme/app", &release.digest).unwrap();
    let mut whole = Parts::of(media_type::INDEX, index.body);
    for Image { manifest, config, .. } in &release.images {
        for (media_type, bytes) in [(media_type::MANIFEST, manifest), (media_type::CONFIG, config)] {
            whole.add_child(Part { media_type: media_type.to_owned(), bytes: bytes.clone() });
        }
    }
    // Numbers that are the same in each run (splitmix64).
    let mut state = 0_u64;
    let mut below = |n: u64| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    };
    let mut seen = BTreeMap::new();
    for case in 0..60 {
        let (quorum, likely) = ((1 + below(3)).to_string(), 1 + below(9));
        // What contradicts is rarer, or there would be little else.
        let chosen: Vec<usize> = (0..signed.len())
            .filter(|n| below(10) < likely && (!(9..11).contains(n) || below(3) == 0))
            .collect();
        let mut parts = whole.clone();
        for n in &chosen {
            parts.add_bundle(signed[*n].clone());
        }
        shop.write("case.json", parts.pack().unwrap().bytes());
        let files: Vec<String> = chosen.iter().map(|n| format!("{n}.json")).collect();
        let mut online = vec!["verify", &image, "-o", "json", "--quorum", &quorum];
        online.extend(files.iter().flat_map(|file| ["--bundle", file]));
        let online = shop.quorate(&online);
        shop.bed.registry.clear_log();
        let offline = verify(&shop, &image, "case.json", &["--quorum", &quorum]);
        assert!(shop.bed.registry.log().is_empty(), "no network");
        assert_eq!(offline.code, online.code, "case {case}: {chosen:?}");
        let (online, mut offline) = (online.json(), offline.json());
        assert_eq!(offline["notes"].as_array_mut().unwrap().remove(0)["code"], "pack-alone");
        assert_eq!(offline.to_string(), online.to_string(), "case {case}: {chosen:?}");
        *seen.entry(online["verdict"].as_str().unwrap().to_owned()).or_insert(0) += 1;
    }
    assert!(
        seen.len() == 4 && seen.values().all(|times| *times > 3),
        "every verdict is among them: {seen:?}"
    );
}

#[test]
fn what_does_not_release_is_not_packed() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    shop.attest_all(&release, &["github"]);
    shop.bed.registry.clear_log();
    let run = shop.quorate(&["pack", &release.reference, "--out", "pack.json", "--attach", "-o", "json"]);
    let document = run.exits(1).says("the quorum is not met").json();
    assert_eq!((&document["outcome"], &document["verdict"]), (&"refused".into(), &"short".into()));
    assert!(!shop.path("pack.json").exists());
    assert!(shop.bed.registry.writes().is_empty());
    shop.attest_all(&release, &["garnix"]);
    shop.quorate(&["pack", &release.reference, "--out", "pack.json", "--attach"]).exits(0);
    assert!(shop.path("pack.json").exists());
    shop.quorate(&["pack", &release.reference]).exits(2);
}

#[test]
fn what_strangers_attach_is_left_out() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    shop.attest_all(&release, &BOTH);
    shop.quorate(&["key", "generate", "stranger.key"]).exits(0);
    shop.attest(&release, "stranger", AMD64.1, &[]).exits(0);
    let image = format!("{}@{}", shop.repository(), release.digest);
    let made = shop.quorate(&["pack", &image, "--out", "pack.json", "-o", "json"]).exits(0).json();
    assert_eq!(made["pack"]["bundles"], 4);
    assert_eq!(verify(&shop, &image, "pack.json", &[]).exits(0).json()["ignored"], json!([]));
}

/// Each part of the pack left out, altered, or moved to another image: never better than it was,
/// and without a vote of an exact quorum, short.
#[test]
fn a_pack_that_was_changed_is_never_better() {
    let shop = Shop::open();
    let (release, image) = packed(&shop);
    let pack: Value = serde_json::from_slice(&fs::read(shop.path("pack.json")).unwrap()).unwrap();
    let whole = verify(&shop, &image, "pack.json", &[]).exits(0).json();
    // The same release with one vote too few: no change makes it met.
    let mut short = pack.clone();
    let layers = short["layers"].as_array_mut().unwrap();
    let vote =
        layers.iter().rposition(|layer| layer["mediaType"].as_str().unwrap().contains("sigstore")).unwrap();
    layers.remove(vote);
    shop.write("short.json", short.to_string());
    assert_eq!(verify(&shop, &image, "short.json", &[]).exits(1).json()["verdict"], "short");

    for (of, best) in [(&pack, &whole), (&short, &json!({ "verdict": "short" }))] {
        let parts = of["layers"].as_array().unwrap().len();
        for at in 0..parts {
            let kind = of["layers"][at]["mediaType"].as_str().unwrap().to_owned();
            let check = |what: &str, changed: &Value| {
                shop.write("changed.json", changed.to_string());
                let run = verify(&shop, &image, "changed.json", &[]);
                let found = run.json();
                assert!(rank(&found) <= rank(best), "{what} {kind}: {found}");
                assert_eq!(run.code == 0, found["verdict"] == "met");
                found
            };
            let mut changed = of.clone();
            changed["layers"].as_array_mut().unwrap().remove(at);
            let found = check("without", &changed);
            if kind.contains("sigstore") {
                assert_eq!(found["verdict"], "short");
            } else if at > 0 {
                assert_eq!(found["refusals"][0]["reason"], "child-absent", "without {kind}");
            } else {
                assert!(found["error"]["message"].as_str().unwrap().contains("pack-incomplete"));
            }
            // A part twice says nothing twice.
            let mut changed = of.clone();
            let part = of["layers"][at].clone();
            changed["layers"].as_array_mut().unwrap().push(part);
            assert_eq!(check("twice", &changed)["verdict"], best["verdict"]);
            // As something else than it is.
            let mut changed = of.clone();
            changed["layers"][at]["mediaType"] = "application/octet-stream".into();
            check("another type of", &changed);
            // Other bytes under the same digest.
            let mut changed = of.clone();
            let data = changed["layers"][at]["data"].as_str().unwrap();
            let other = if data.starts_with('e') { "Z" } else { "e" };
            changed["layers"][at]["data"] = format!("{other}{}", &data[1..]).into();
            let found = check("altered", &changed);
            assert!(found["error"]["message"].as_str().unwrap().contains("pack-malformed"));
            // Named, and not there.
            let mut changed = of.clone();
            changed["layers"][at].as_object_mut().unwrap().remove("data");
            let found = check("only the name of", &changed);
            assert!(found["error"]["message"].as_str().unwrap().contains("pack-incomplete"));
        }
    }

    // Votes on another release help nobody.
    let other = shop.release("git-2", "other");
    for builder in ["github", "garnix", "basement"] {
        for (_, system) in [AMD64, ARM64] {
            shop.attest(&other, builder, system, &["--commit", shop::OTHER_COMMIT]).exits(0);
        }
    }
    let other = format!("{}@{}", shop.repository(), other.digest);
    shop.quorate(&["pack", &other, "--out", "other.json", "--attach"]).exits(0);
    let foreign: Value = serde_json::from_slice(&fs::read(shop.path("other.json")).unwrap()).unwrap();
    let mut mixed = short.clone();
    mixed["layers"].as_array_mut().unwrap().extend(foreign["layers"].as_array().unwrap().iter().cloned());
    shop.write("mixed.json", mixed.to_string());
    assert_eq!(verify(&shop, &image, "mixed.json", &[]).exits(1).json()["verdict"], "short");
    let amd64 = &release.images[0].config_digest;
    assert!(pack.to_string().contains(amd64), "configurations are part of it");
}

#[test]
fn a_pack_is_of_the_image_that_is_asked_for() {
    let shop = Shop::open();
    let (_, image) = packed(&shop);
    verify(&shop, &image, "pack.json", &[]).exits(0);
    verify(&shop, &shop.at("git-1"), "pack.json", &[]).exits(2).says("not known without a network");
    let other = format!("{}@sha256:{}", shop.repository(), "0".repeat(64));
    verify(&shop, &other, "pack.json", &[]).exits(2).says("the pack is of");
    // In the name of another repository the votes are about something else.
    let elsewhere = image.replace("/acme/app@", "/acme/other@");
    shop.write("other.toml", shop.policy(2).replace("/acme/app", "/acme/other"));
    let refused = verify(&shop, &elsewhere, "pack.json", &["--policy", "other.toml"]).exits(1).json();
    assert_eq!(refused["verdict"], "short");
    assert_eq!(shop::cell(&refused, "linux/amd64", "github"), "rejected name-mismatch");
    shop.quorate(&["verify", &image, &image, "--pack", "pack.json"]).exits(2).says("of one image");
    shop.quorate(&["verify", &image, "--pack", "pack.json", "--layout", "."]).exits(2);
}

#[test]
fn hostile_packs_are_refused_with_their_reason() {
    let shop = Shop::open();
    let (_, image) = packed(&shop);
    let good = fs::read_to_string(shop.path("pack.json")).unwrap();
    let refused = |bad: String, reason: &str| {
        shop.write("bad.json", bad);
        let document = verify(&shop, &image, "bad.json", &[]).exits(2).says(reason).json();
        assert!(document["verdict"].is_null());
    };
    refused(String::new(), "pack-malformed");
    refused("{}".to_owned(), "pack-malformed");
    refused(good.replacen("\"layers\":", "\"layers\":[],\"layers\":", 1), "pack-malformed");
    refused(good.replacen("\"layers\":", "\"Layers\":[],\"layers\":", 1), "pack-malformed");
    refused(good.replacen("\"schemaVersion\":2", "\"schemaVersion\":2,\"more\":1", 1), "pack-malformed");
    refused(good.replacen("quorate.pack.v1", "quorate.pack.v2", 1), "pack-type");
    refused(format!("{good}{}", " ".repeat(4 << 20)), "larger than 4 MiB");
    let mut many: Value = serde_json::from_str(&good).unwrap();
    let empty = json!({ "mediaType": "x/y", "size": 0, "data": "",
        "digest": "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" });
    many["layers"].as_array_mut().unwrap().extend(vec![empty; 1_001]);
    refused(many.to_string(), "pack-too-large");

    // The same where the registry has it: not "no", and not "no pack".
    let pack = ["verify", &image, "--evidence", "pack", "-o", "json"];
    shop.quorate(&pack).exits(2).says("no proof pack is attached");
    shop.quorate(&["pack", &image, "--attach"]).exits(0);
    assert_eq!(shop.quorate(&pack).exits(0).json()["verdict"], "met");
    shop.quorate(&["verify", &shop.at("git-1"), "--evidence", "pack"]).exits(0);
    let tag = format!("sha256-{}.q-pack", &image[image.find("sha256:").unwrap() + 7..]);
    let bad = good.replacen("quorate.pack.v1", "quorate.pack.v2", 1);
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    client::put_manifest(&shop.host(), "acme/app", &tag, manifest, bad.as_bytes()).unwrap();
    assert!(shop.quorate(&pack).exits(3).says("pack-type").json()["verdict"].is_null());
    shop.bed.registry.fault(Fault::status(500).method("GET").path("q-pack"));
    let failing = [&pack[..], &["--timeout", "2"]].concat();
    shop.quorate(&failing).exits(3).says("registry-server-error");
}

#[test]
fn a_pack_of_one_platform_of_two_does_not_speak_for_the_other() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    for builder in BOTH {
        shop.attest(&release, builder, AMD64.1, &[]).exits(0);
    }
    shop.quorate(&["pack", &release.reference, "--out", "pack.json"]).exits(1);
    for builder in BOTH {
        shop.attest(&release, builder, ARM64.1, &[]).exits(0);
    }
    shop.quorate(&["pack", &release.reference, "--out", "pack.json"]).exits(0);
}

#[test]
fn a_pack_attached_to_another_image_is_no_wrong_request() {
    let shop = Shop::open();
    let [one, other] = [("git-1", "1"), ("git-2", "2")].map(|(name, sequence)| {
        let release = shop.agreed(name, sequence);
        let image = format!("{}@{}", shop.repository(), release.digest);
        shop.quorate(&["pack", &image, "--out", &format!("{name}.json"), "--attach"]).exits(0);
        (image, release.digest)
    });
    let verify = ["verify", &other.0, "--evidence", "pack", "-o", "json"];
    assert_eq!(shop.quorate(&verify).exits(0).json()["verdict"], "met");
    let bytes = fs::read(shop.path("git-1.json")).unwrap();
    let tag = format!("{}.q-pack", other.1.replace(':', "-"));
    let kind = "application/vnd.oci.image.manifest.v1+json";
    client::put_manifest(&shop.host(), "acme/app", &tag, kind, &bytes).unwrap();
    let run = shop.quorate(&verify).exits(3).says("pack-incomplete").says(&one.1);
    assert!(run.json()["verdict"].is_null());
}
