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
        "basement got",
        &other.config_digest,
        &release.images[0].config_digest,
    ] {
        assert!(dissent.contains(said), "{said}: {dissent}");
    }
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
