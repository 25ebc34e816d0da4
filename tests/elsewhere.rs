//! Evidence in another repository than the image: written there, and read where a verifier is told to
//! look, besides the image's own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod shop;

use quorate_bed::{Fault, RegistryOptions};
use shop::{AMD64, ARM64, Release, Shop, cell};

/// Where the votes are.
fn votes(shop: &Shop) -> String {
    format!("{}/acme/votes", shop.host())
}

fn attest_there(shop: &Shop, release: &Release, builders: &[&str]) {
    for builder in builders {
        for (_, system) in [AMD64, ARM64] {
            shop.attest(release, builder, system, &["--attach-to", &votes(shop)]).exits(0);
        }
    }
}

#[test]
fn votes_that_are_kept_elsewhere_count_where_they_are_looked_for() {
    for referrers in [true, false] {
        let shop = Shop::new(RegistryOptions { referrers, ..Default::default() });
        let there = votes(&shop);
        let release = shop.release("git-1", "hello");
        shop.bed.registry.clear_log();
        attest_there(&shop, &release, &["github", "garnix"]);
        let writes = shop.bed.registry.writes();
        assert!(
            !writes.is_empty() && writes.iter().all(|w| w.path.starts_with("/v2/acme/votes/")),
            "{writes:?}"
        );
        // The same is not attached twice there.
        shop.bed.registry.clear_log();
        let again = ["--attach-to", &there, "-o", "json"];
        let again = shop.attest(&release, "github", AMD64.1, &again).exits(0).json();
        assert_eq!((&again["outcome"], &again["name"]), (&"already".into(), &shop.repository().into()));
        assert!(shop.bed.registry.writes().is_empty());

        let verify = ["verify", &release.reference, "-o", "json"];
        let from = ["--evidence-from", &there];
        let short = shop.quorate(&verify).exits(1).json();
        assert_eq!(cell(&short, "linux/amd64", "github"), "missing");
        let met = shop.quorate(&[&verify[..], &from].concat()).exits(0).json();
        assert_eq!(cell(&met, "linux/arm64", "garnix"), "counted");
        shop.quorate_with(&verify, &[("QUORATE_EVIDENCE_FROM", there.as_str())]).exits(0);

        // Of one builder here, of the other there.
        let second = shop.release("git-2", "second");
        attest_there(&shop, &second, &["github"]);
        shop.attest_all(&second, &["garnix"]);
        let verify = ["verify", &second.reference];
        shop.quorate(&verify).exits(1);
        shop.quorate(&[&verify[..], &from].concat()).exits(0);
    }
}

#[test]
fn packs_and_promotions_look_there_as_well() {
    let shop = Shop::open();
    shop.write(
        "quorate.toml",
        shop.policy(2).replacen(
            "quorum = 2\n",
            "quorum = 2\n[[image.tag]]\nname = \"latest\"\nrule = \"forward\"\n",
            1,
        ),
    );
    let there = votes(&shop);
    let from = ["--evidence-from", &there];
    let release = shop.release("git-1", "hello");
    attest_there(&shop, &release, &["github", "garnix"]);

    shop.quorate(&["pack", &release.reference, "--out", "short.json"]).exits(1);
    assert!(!shop.path("short.json").exists());
    let pack = ["pack", &release.reference, "--out", "app.pack.json"];
    shop.quorate(&[&pack[..], &from].concat()).exits(0);
    let by_digest = format!("{}@{}", shop.repository(), release.digest);
    shop.quorate(&["verify", &by_digest, "--pack", "app.pack.json"]).exits(0);

    let promote = ["promote", &release.reference, "--tag", "latest"];
    shop.bed.registry.clear_log();
    shop.quorate(&promote).exits(1);
    assert!(shop.bed.registry.writes().is_empty());
    shop.quorate(&[&promote[..], &from].concat()).exits(0);
    assert_eq!(shop.named("latest").as_deref(), Some(release.digest.as_str()));

    // So is the release that a tag is to leave.
    let next = shop.release("git-2", "second");
    for builder in ["github", "garnix"] {
        for (_, system) in [AMD64, ARM64] {
            let later = ["--attach-to", &there, "--commit", shop::OTHER_COMMIT, "--sequence", "1763700001"];
            shop.attest_as(
                &next.reference,
                builder,
                system,
                &next.images[usize::from(system == ARM64.1)].config_digest,
                &later,
            )
            .exits(0);
        }
    }
    let promote = ["promote", &next.reference, "--tag", "latest"];
    shop.quorate(&[&promote[..], &from].concat()).exits(0);
    assert_eq!(shop.named("latest").as_deref(), Some(next.digest.as_str()));
}

#[test]
fn another_place_hides_nothing_and_proves_nothing() {
    let shop = Shop::open();
    let there = votes(&shop);
    let release = shop.release("git-1", "hello");
    attest_there(&shop, &release, &["github", "garnix"]);
    let from = ["verify", &release.reference, "--evidence-from", &there, "-o", "json"];
    shop.quorate(&from).exits(0);

    // What could not be read there is not the absence of evidence.
    shop.bed.registry.fault(Fault::status(403).path("/v2/acme/votes/"));
    shop.quorate(&from).exits(3).says("registry-denied");
    shop.bed.registry.clear_faults();
    // An empty place is one where there is nothing.
    let nowhere = format!("{}/acme/nowhere", shop.host());
    shop.quorate(&["verify", &release.reference, "--evidence-from", &nowhere]).exits(1);

    // Votes of another repository's images are about those, wherever they are.
    let image = shop.push("other", "amd64", "another");
    image.push(&shop.host(), "acme/other", "other").unwrap();
    let strange = format!("{}/acme/other:other", shop.host());
    let there_too = ["--attach-to", &there];
    shop.attest_as(&strange, "basement", AMD64.1, &image.config_digest, &there_too).exits(0);
    shop.quorate(&from).exits(0);

    // A veto beside the image is heard though the votes are elsewhere, and one there as well.
    let lie = shop::build("arm64", "another");
    for more in [&["--record-dissent"][..], &["--record-dissent", "--attach-to", &there]] {
        let release = shop.release("git-3", &format!("third, {}", more.len()));
        attest_there(&shop, &release, &["github", "garnix"]);
        let from = ["verify", &release.reference, "--evidence-from", &there, "-o", "json"];
        shop.quorate(&from).exits(0);
        shop.attest_as(&release.reference, "basement", ARM64.1, &lie.config_digest, more).exits(0);
        assert_eq!(shop.quorate(&from).exits(1).json()["verdict"], "dissent", "{more:?}");
    }

    // A bundle that was signed elsewhere goes there, too.
    let more = ["--no-attach", "--bundle-out", "basement.json"];
    shop.attest(&release, "basement", AMD64.1, &more).exits(0);
    shop.bed.registry.clear_log();
    let bundle = ["attest", &release.reference, "--bundle", "basement.json", "--attach-to", &there];
    shop.quorate(&bundle).exits(0);
    let writes = shop.bed.registry.writes();
    assert!(!writes.is_empty() && writes.iter().all(|w| w.path.starts_with("/v2/acme/votes/")), "{writes:?}");
    let counted = shop.quorate(&from).exits(0).json();
    assert_eq!(cell(&counted, "linux/amd64", "basement"), "counted");
}

#[test]
fn where_to_look_is_bounded_and_unambiguous() {
    let shop = Shop::open();
    let there = votes(&shop);
    let release = shop.release("git-1", "hello");
    let verify = |more: &[&str]| shop.quorate(&[&["verify", &release.reference][..], more].concat());
    shop.bed.registry.clear_log();
    let nine = [there.as_str(); 9].join(",");
    verify(&["--evidence-from", &nine]).exits(2).says("more than 8 repositories");
    verify(&["--evidence-from", "acme/votes"]).exits(2).says("--evidence-from");
    verify(&["--evidence-from", &there, "--evidence", "pack"]).exits(2).says("leave one of them out");
    verify(&["--evidence-from", &there, "--layout", "layout"]).exits(2).says("cannot be used with");
    verify(&["--evidence-from", &there, "--pack", "app.json"]).exits(2).says("cannot be used with");
    assert!(shop.bed.registry.log().is_empty(), "nothing is asked");
    // Named twice, or the image's own: looked at once.
    shop.attest_all(&release, &["github", "garnix"]);
    shop.bed.registry.clear_log();
    verify(&[]).exits(0);
    let once = shop.bed.registry.log().len();
    shop.bed.registry.clear_log();
    let own = shop.repository();
    verify(&["--evidence-from", &own, "--evidence-from", &own]).exits(0);
    assert_eq!(shop.bed.registry.log().len(), once);
}
