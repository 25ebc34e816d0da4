//! `--report`: one file that shows everything, runs nothing, and obeys nobody's text.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod shop;

use std::fs;

use shop::{AMD64, ARM64, Shop};

/// The text of a page, its tags taken out; they must be ours, and close as they open.
fn text_of(page: &str) -> String {
    const OURS: [&str; 32] = [
        "!doctype", "html", "head", "meta", "title", "style", "body", "main", "footer", "section", "h1",
        "h2", "h3", "p", "br", "ul", "li", "code", "pre", "strong", "span", "div", "table", "thead", "tbody",
        "tr", "th", "td", "details", "summary", "del", "ins",
    ];
    let (mut text, mut open) = (String::new(), Vec::new());
    let mut rest = page;
    while let Some((before, after)) = rest.split_once('<') {
        text.push_str(before);
        let (tag, after) = after.split_once('>').unwrap();
        let name = tag.trim_start_matches('/').split([' ', '\n']).next().unwrap();
        assert!(OURS.contains(&name), "<{tag}>");
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "</{name}>");
        } else if !["!doctype", "meta", "br"].contains(&name) {
            open.push(name);
        }
        // Nothing but what is known may stand in a tag: no handler, no address, no style.
        for attribute in ["on", "src", "href", "style="] {
            assert!(!tag.split(' ').skip(1).any(|word| word.starts_with(attribute)), "<{tag}>");
        }
        rest = after;
    }
    assert!(open.is_empty(), "{open:?}");
    text.push_str(rest);
    text
}

#[test]
fn the_page_shows_what_is_missing_and_who_disagrees() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    shop.attest_all(&release, &["github"]);
    let run = |code: i32| {
        shop.quorate(&["verify", &release.reference, "--report", "report.html"]).exits(code);
        text_of(&fs::read_to_string(shop.path("report.html")).unwrap())
    };
    let short = run(1);
    for said in ["✗ short", "linux/arm64 needs 1 more operator: garnix, basement can", "--builder garnix"] {
        assert!(short.contains(said), "{said}: {short}");
    }
    shop.attest_all(&release, &["garnix"]);
    let met = run(0);
    assert!(met.contains("✓ met") && met.contains("(tag git-1)") && !met.contains("Next:"), "{met}");

    let other = shop::build("amd64", "something else");
    shop.attest_as(&release.reference, "basement", AMD64.1, &other.config_digest, &["--record-dissent"])
        .exits(0);
    let dissent = run(1);
    for said in [
        "✗ dissent",
        "signed-dissent",
        "basement disagrees",
        "configuration ≠ differs",
        &other.config_digest,
        &release.images[0].config_digest,
    ] {
        assert!(dissent.contains(said), "{said}: {dissent}");
    }
}

/// Both contents, whole, in the text, the JSON, the Markdown and the page.
#[track_caller]
fn shows_all(shop: &Shop, arguments: &[&str], said: &[&str]) -> String {
    let summary = shop.path("summary.md");
    let _ = fs::remove_file(&summary);
    let job = [("GITHUB_ACTIONS", "true"), ("GITHUB_STEP_SUMMARY", summary.to_str().unwrap())];
    let verify = [&["verify"], arguments, &["--report", "report.html"]].concat();
    let text = shop.quorate_with(&verify, &job).exits(1).stdout;
    let json = shop.quorate(&[&verify[..], &["-o", "json"]].concat()).exits(1).json().to_string();
    let page = text_of(&fs::read_to_string(shop.path("report.html")).unwrap());
    let markdown = fs::read_to_string(summary).unwrap();
    for form in [&text, &json, &page, &markdown] {
        for content in said {
            assert!(form.contains(content), "{content}: {form}");
        }
    }
    assert!(text.contains('≠') && page.contains('≠') && markdown.contains('≠'), "{text}{page}{markdown}");
    assert!(markdown.contains("Next: ") && page.contains("Next: "), "{markdown}{page}");
    text
}

#[test]
fn both_sides_of_a_contradiction_are_shown_in_every_form() {
    const OTHER: &str = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    let shop = Shop::open();
    // A builder against others; one against one, where nothing is agreed; one against itself.
    let against = shop.release("git-1", "one");
    shop.attest_all(&against, &["github", "garnix"]);
    shop.attest(&against, "basement", AMD64.1, &["--nar-hash", OTHER]).exits(0);
    let text = shows_all(&shop, &[&against.reference], &[OTHER, shop::NAR_HASH]);
    assert!(text.contains("≠ basement  sha256-47D") && text.contains("≠ others    sha256-pQp"), "{text}");
    assert!(text.contains("= all       sha256:"), "the configuration is the same: {text}");

    let tie = shop.release("git-2", "two");
    shop.attest(&tie, "github", AMD64.1, &[]).exits(0);
    shop.attest(&tie, "garnix", AMD64.1, &["--nar-hash", OTHER]).exits(0);
    let text = shows_all(&shop, &[&tie.reference], &[OTHER, shop::NAR_HASH]);
    assert!(text.contains("≠ github  sha256-pQp") && text.contains("≠ garnix  sha256-47D"), "{text}");

    let itself = shop.release("git-3", "three");
    let apart = ["--nar-hash", OTHER, "--no-attach", "--bundle-out", "bundle.json"];
    shop.attest(&itself, "garnix", AMD64.1, &apart).exits(0);
    shop.attest_all(&itself, &["github", "garnix"]);
    shop.quorate(&["verify", &itself.reference]).exits(0);
    let text = shows_all(&shop, &[&itself.reference, "--bundle", "bundle.json"], &[OTHER, shop::NAR_HASH]);
    for side in ["≠ statement 1  sha256-", "≠ statement 2  sha256-", "= all          sha256:"] {
        assert!(text.contains(side), "{side}: {text}");
    }
}

#[test]
fn what_can_mend_is_named_and_nothing_else() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    let whole = fs::read_to_string(shop.path("quorate.toml")).unwrap();
    let verify = |policy: &str| {
        shop.write("quorate.toml", policy);
        let run = shop.quorate(&["verify", &release.reference]).exits(1);
        run.stdout + &run.stderr
    };
    let said = verify(&whole);
    assert!(said.contains("needs 2 more operators: github, garnix, basement can"), "{said}");
    assert!(said.contains("nobody whom the policy names attested this image"), "{said}");
    shop.attest_all(&release, &["github"]);
    let with = |builder: &str, line: &str| {
        let name = format!("name = \"{builder}\"\n");
        whole.replace(&name, &format!("{name}{line}\n"))
    };
    // Who is not for a platform, or is not believed any more, is not asked for more.
    let said = verify(&with("garnix", "systems = [\"x86_64-linux\"]"));
    assert!(said.contains("linux/amd64 needs 1 more operator: garnix, basement can"), "{said}");
    assert!(said.contains("linux/arm64 needs 1 more operator: basement can"), "{said}");
    for revoked in ["\"compromised\"", "{ from = 2020-01-01T00:00:00Z }"] {
        let said = verify(&with("github", &format!("revoked = {revoked}")));
        assert!(said.contains("needs 2 more operators: garnix, basement can"), "{said}");
        assert!(said.contains("the report has the reason of each"), "{said}");
    }
    // What no vote can mend asks for none.
    let said = verify(&whole.replace("\"linux/arm64\"", "\"linux/386\""));
    assert!(said.contains("assemble an index of the platforms") && !said.contains("more operator"), "{said}");
    let said = verify(&whole.replace("acme/app", "acme/other"));
    assert!(said.contains("no-rule") && said.contains("is it the image that you mean"), "{said}");
}

#[test]
fn a_page_never_says_what_an_earlier_run_found() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    shop.attest_all(&release, &["github", "garnix"]);
    let page = || text_of(&fs::read_to_string(shop.path("report.html")).unwrap());
    shop.quorate(&["verify", &release.reference, "--report", "report.html"]).exits(0);
    assert!(page().contains("✓ met"));
    shop.quorate(&["verify", &shop.at("absent"), "--report", "report.html"]).exits(2);
    assert!(page().contains("✗ undecided") && page().contains("there is no image") && !page().contains("✓"));
    // A page that cannot be written is found out before anything is asked, or moved.
    shop.bed.registry.clear_log();
    for verb in [&["verify", &release.reference][..], &["promote", &release.reference, "--tag", "latest"]] {
        let run = shop.quorate(&[verb, &["--report", "absent/report.html"]].concat()).exits(3);
        assert!(run.stdout.is_empty() && shop.bed.registry.log().is_empty(), "{}", run.stdout);
        run.says("cannot write the report");
    }
}

#[test]
fn a_promotion_and_several_images_are_one_page() {
    let shop = Shop::open();
    let release = shop.release("git-1", "hello");
    shop.attest_all(&release, &["github", "garnix"]);
    let page = || text_of(&fs::read_to_string(shop.path("report.html")).unwrap());
    let promote = ["promote", &release.reference, "--tag", "latest,1.0.0", "--report", "report.html"];
    shop.quorate(&promote).exits(0);
    for said in ["Tags: moved", "latest", "1.0.0", "created", &release.digest] {
        assert!(page().contains(said), "{said}");
    }
    shop.quorate(&["verify", &shop.at("latest"), &shop.at("absent"), "--report", "report.html"]).exits(2);
    assert!(page().contains("✓ met") && page().contains("✗ undecided"));
}

#[test]
fn names_and_fields_of_others_are_shown_as_text() {
    let shop = Shop::open();
    let evil = "<img src=x onerror=alert(1)>&\\\"'";
    let policy = shop.policy(2).replace("operator = \"Acme\"", &format!("operator = \"{evil}\""));
    let policy = policy.replace("name = \"basement\"", &format!("name = \"{evil}\"\nslots = [\"evil\"]"));
    shop.write("quorate.toml", policy);
    let release = shop.release("git-1", "hello");
    for (_, system) in [AMD64, ARM64] {
        for builder in ["github", "garnix"] {
            let target = "</code><script>alert(2)</script>";
            shop.attest(&release, builder, system, &["--target", target]).exits(0);
        }
    }
    shop.quorate(&["verify", &release.reference, "--report", "report.html"]).exits(0);
    let page = fs::read_to_string(shop.path("report.html")).unwrap();
    let text = text_of(&page);
    assert!(text.contains("&lt;img src=x onerror=alert(1)&gt;&amp;&quot;&#39;"), "{text}");
    assert!(text.contains("&lt;/code&gt;&lt;script&gt;alert(2)"), "{text}");
    assert!(page.contains("default-src 'none'"));
}
