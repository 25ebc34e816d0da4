//! How many requests each verb costs, and how many of them wait for one another: on a bearer
//! registry, cold (no token yet), with latency added so that what can overlap does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod shop;

use std::time::Duration;

use quorate_bed::{Auth, RegistryOptions};
use shop::Shop;

/// A registry that wants a token, and a login for it in the scratch folder.
fn bearer(referrers: bool) -> Shop {
    let shop = Shop::new(RegistryOptions {
        referrers,
        latency: Duration::from_millis(60),
        auth: Auth::Bearer {
            user: "ci".to_owned(),
            password: "secret".to_owned(),
            lifetime: Duration::from_secs(300),
            anonymous_pull: false,
        },
        ..Default::default()
    });
    // "ci:secret" in base64.
    let login = format!(r#"{{"auths":{{"{}":{{"auth":"Y2k6c2VjcmV0"}}}}}}"#, shop.host());
    shop.write("config.json", login);
    shop
}

/// Runs, and asserts that it took no more requests in all, and no more in sequence.
#[track_caller]
fn costs(shop: &Shop, arguments: &[&str], requests: usize, depth: usize) {
    shop.bed.registry.clear_log();
    shop.quorate(arguments).exits(0);
    let log = shop.bed.registry.log();
    let shown: Vec<String> = log.iter().map(|r| format!("{} {} {:?}", r.method, r.path, r.status)).collect();
    assert!(log.len() <= requests, "{} requests, not {requests}:\n{}", log.len(), shown.join("\n"));
    let deep = shop.bed.registry.depth();
    assert!(deep <= depth, "depth {deep}, not {depth}:\n{}", shown.join("\n"));
}

#[test]
fn assemble() {
    let shop = bearer(true);
    let images = ["amd64", "arm64", "386", "riscv64", "ppc64le", "s390x", "loong64", "arm"];
    let mut sources: Vec<String> = Vec::new();
    for architecture in images {
        // `-arm` names no system; a configuration without variant is read as v7.
        shop.push(&format!("git-1-{architecture}"), architecture, "hello");
        sources.push(shop.at(&format!("git-1-{architecture}")));
    }
    let target = shop.at("git-1");
    let platforms: Vec<String> = (0..=images.len())
        .map(|n| images[..n].iter().map(|a| format!("linux/{a}")).collect::<Vec<_>>().join(","))
        .collect();
    let assemble = |n: usize| {
        let mut arguments = vec!["assemble", &target, "--platforms", &platforms[n]];
        arguments.extend(sources[..n].iter().map(String::as_str));
        arguments
    };
    costs(&shop, &assemble(2), 7, 5);
    costs(&shop, &assemble(8), 19, 5);
    // An index among the sources is one step more, however many images it holds.
    let again = shop.at("again");
    costs(&shop, &["assemble", &again, &target, "--platforms", &platforms[8]], 20, 6);
}

#[test]
fn verify_and_promote() {
    let shop = bearer(true);
    let release = shop.release("git-1", "hello");
    shop.attest_all(&release, &["github", "garnix"]);
    let by_digest = format!("{}@{}", shop.repository(), release.digest);
    costs(&shop, &["verify", &by_digest], 14, 5);
    // 2 platforms × 2 votes, 3 absent tags.
    costs(&shop, &["promote", &by_digest, "--tag", "latest,1.0.0,v1"], 23, 8);
    // Without a forward-only tag among them, nothing is read twice before it is written.
    costs(&shop, &["promote", &by_digest, "--tag", "2.0.0,2.0.1,2.0.2"], 22, 7);
    // The same again: nothing is written, the tags are read.
    costs(&shop, &["promote", &by_digest, "--tag", "latest,1.0.0,v1"], 16, 5);
}

#[test]
fn verify_from_an_attached_pack() {
    for referrers in [true, false] {
        let shop = bearer(referrers);
        let release = shop.release("git-1", "hello");
        shop.attest_all(&release, &["github", "garnix"]);
        let by_digest = format!("{}@{}", shop.repository(), release.digest);
        shop.quorate(&["pack", &by_digest, "--attach"]).exits(0);
        // The pack, refused; a token; the pack.
        costs(&shop, &["verify", &by_digest, "--evidence", "pack"], 3, 3);
    }
}

#[test]
fn promote_onto_another_release() {
    let shop = bearer(true);
    shop.write(
        "quorate.toml",
        shop.policy(2).replacen(
            "[[builder]]",
            "[[image.tag]]\nname = \"f*\"\nrule = \"forward\"\n\n\
             [[image.tag]]\nname = \"v*\"\nrule = \"immutable\"\n\n[[builder]]",
            1,
        ),
    );
    let release = |name: &str, sequence: &str| {
        let release = shop.release(name, name);
        for builder in ["github", "garnix"] {
            for system in ["x86_64-linux", "aarch64-linux"] {
                shop.attest(&release, builder, system, &["--sequence", sequence]).exits(0);
            }
        }
        format!("{}@{}", shop.repository(), release.digest)
    };
    let (first, second, third) = (release("git-1", "1"), release("git-2", "2"), release("git-3", "3"));
    shop.quorate(&["promote", &first, "--tag", "f1,f2"]).exits(0);
    // One old release, judged once although two tags name it. Forward-only tags are read once
    // more before they are written: two of them are one request more than one.
    costs(&shop, &["promote", &second, "--tag", "f1,v2"], 22 + 10 - 2, 9);
    shop.quorate(&["promote", &second, "--tag", "f2"]).exits(0);
    costs(&shop, &["promote", &third, "--tag", "f1,f2,v3"], 22 + 10 + 2, 9);
}

#[test]
fn promote_without_the_referrers_api() {
    let shop = bearer(false);
    let release = shop.release("git-1", "hello");
    shop.attest_all(&release, &["github", "garnix"]);
    let by_digest = format!("{}@{}", shop.repository(), release.digest);
    // Beside the list that is not there, each builder's tags and the shared one are read.
    costs(&shop, &["promote", &by_digest, "--tag", "latest,1.0.0,v1"], 33, 9);
}

#[test]
fn attest_and_inspect() {
    // On a registry with the referrers API, and on one without.
    for (referrers, attest, list) in [(true, (12, 9), (6, 5)), (false, (20, 14), (12, 5))] {
        let shop = bearer(referrers);
        let release = shop.release("git-1", "hello");
        let image = &release.images[0];
        let by_digest = format!("{}@{}", shop.repository(), image.manifest_digest);
        let arguments = [
            "attest",
            &by_digest,
            "--builder",
            "github",
            "--key",
            "github.key",
            "--system",
            shop::AMD64.1,
            "--config-digest",
            &image.config_digest,
            "--nar-hash",
            shop::NAR_HASH,
            "--commit",
            shop::COMMIT,
            "--sequence",
            "1",
            "--no-infer",
        ];
        costs(&shop, &arguments, attest.0, attest.1);
        costs(&shop, &["inspect", &by_digest], list.0, list.1);
    }
}
