//! A whole release on each registry, with images pushed and tags read by skopeo.

use std::collections::BTreeMap;
use std::path::Path;

use libtest_mimic::Trial;
use quorate_bed::client;
use quorate_bed::image::{self, Image};
use serde_json::{Value, json};

use crate::assemblers::{OPEN, Start};
use crate::clients::Skopeo;
use crate::peers::{Peer, Peers};
use crate::project::{
    ARCHITECTURES, BUILDERS, Build, COMMIT, Project, REPOSITORY, SEQUENCE, candidate_tag, layout,
};
use crate::registries::{Access, Registry, tokens};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

pub(crate) fn trials(peers: &Peers) -> Vec<Trial> {
    let needs = [Peer::DockerRegistry, Peer::Skopeo];
    let keep = ["--preserve-digests"];
    let untag: [(Peer, Start, &str); 4] = [
        (Peer::Olareg, Registry::olareg, "removed"),
        (Peer::Distribution, OPEN, "removed"),
        (Peer::Gitea, Registry::gitea, "removed"),
        // It removes manifests alone.
        (Peer::DockerRegistry, OPEN, "kept"),
    ];
    let untag = untag.into_iter().map(|(peer, start, becomes)| {
        let name = format!("tags_of_single_images_are_removed_on_{}", peer.name());
        peers.trial(&name, [peer, Peer::Skopeo], move |[registry, skopeo]| {
            tags_of_single_images(&start(registry), skopeo, becomes);
        })
    });
    let jobs = vec![
        peers.trial("main_job_on_olareg", [Peer::Olareg, Peer::Skopeo], move |[registry, skopeo]| {
            main_job(&Registry::olareg(registry), skopeo, &keep, LAYER);
        }),
        peers.trial("main_job_on_docker_registry", needs, move |[registry, skopeo]| {
            main_job(&Registry::distribution(registry, &Access::Open), skopeo, &keep, LAYER);
        }),
        peers.trial(
            "main_job_on_distribution",
            [Peer::Distribution, Peer::Skopeo],
            move |[registry, skopeo]| {
                main_job(&Registry::distribution(registry, &Access::Open), skopeo, &keep, LAYER);
            },
        ),
        peers.trial("main_job_on_gitea", [Peer::Gitea, Peer::Skopeo], move |[registry, skopeo]| {
            main_job(&Registry::gitea(registry), skopeo, &keep, LAYER);
        }),
        peers.trial(
            "main_job_on_docker_registry_with_layers_compressed_by_skopeo",
            needs,
            |[registry, skopeo]| {
                main_job(&Registry::distribution(registry, &Access::Open), skopeo, &[], LAYER_GZIP);
            },
        ),
        peers.trial(
            "main_job_on_docker_registry_with_layers_compressed_by_skopeo_with_zstd",
            needs,
            |[registry, skopeo]| {
                let how = ["--dest-compress-format", "zstd"];
                main_job(&Registry::distribution(registry, &Access::Open), skopeo, &how, LAYER_ZSTD);
            },
        ),
        peers.trial("layers_compressed_by_skopeo_with_zstd_at_its_levels", needs, |[registry, skopeo]| {
            zstd_at_levels(&Registry::distribution(registry, &Access::Open), skopeo);
        }),
        peers.trial(
            "main_job_on_docker_registry_with_tls_and_a_password",
            needs,
            move |[registry, skopeo]| {
                main_job(&Registry::distribution(registry, &Access::TlsPassword), skopeo, &keep, LAYER);
            },
        ),
        peers.trial("main_job_on_docker_registry_with_tokens", needs, move |[registry, skopeo]| {
            let service = tokens(300, 300);
            main_job(&Registry::distribution(registry, &Access::Token(&service)), skopeo, &keep, LAYER);
        }),
    ];
    jobs.into_iter().chain(untag).collect()
}

/// From two pushed images to a promoted release, its refusal when it is replaced, and its end by a
/// dissent. `how` tells skopeo how to push, which makes layers of `layer_type`.
fn main_job(registry: &Registry, skopeo: &Path, how: &[&str], layer_type: &str) {
    let project = Project::at(registry);
    let skopeo = Skopeo::new(skopeo, registry, &project);
    let candidate = project.candidate();
    let builds = builds(&project, "hello");
    let mut pushed = BTreeMap::new();
    for (architecture, _, build) in &builds {
        let layout = project.path(&format!("layout-{architecture}"));
        build.layout(&layout);
        let target = format!("{candidate}-{architecture}");
        skopeo.push(how, &layout, &target);
        let manifest = skopeo.raw(&target);
        let parsed: Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(parsed["layers"][0]["mediaType"], layer_type);
        assert_eq!(parsed["config"]["digest"], *build.image.config_digest, "skopeo keeps the configuration");
        pushed.insert(*architecture, image::digest(&manifest));
    }

    let (amd64, arm64) = (format!("{candidate}-amd64"), format!("{candidate}-arm64"));
    let assembled = project.json(0, &["assemble", &candidate, &amd64, &arm64]);
    let index = skopeo.raw(&candidate);
    let digest = image::digest(&index);
    assert_eq!(assembled["outcome"], "assembled");
    assert_eq!(assembled["image"], json!({"repository": project.image(), "digest": digest}));
    assert_eq!(children(&index), [("amd64", &pushed["amd64"]), ("arm64", &pushed["arm64"])].map(owned));
    let again = project.json(0, &["assemble", &candidate, &arm64, &amd64]);
    assert_eq!(again["image"], assembled["image"], "the same images give the same index");

    attest(registry, &project, "github", &builds, &pushed);
    let promote = ["promote", &candidate, "--quorum", "2", "--tag", "latest", "--tag", "1.0.0"];
    let refused = project.json(1, &promote);
    assert_eq!((&refused["verdict"], &refused["outcome"]), (&json!("short"), &json!("refused")));
    assert_eq!(votes(&refused), both("1 of 2", [("counted", ""), ("missing", ""), ("missing", "")]));
    assert_eq!(moved(&refused), Vec::<&str>::new());
    assert_eq!(ours(&skopeo, &project), Vec::<String>::new(), "nothing was promoted");

    attest(registry, &project, "garnix", &builds, &pushed);
    let met = project.json(0, &promote);
    assert_eq!((&met["verdict"], &met["outcome"]), (&json!("met"), &json!("moved")));
    assert_eq!(met["image"], assembled["image"]);
    assert_eq!(met["group"]["commit"], COMMIT);
    assert_eq!(met["group"]["sequence"].to_string(), SEQUENCE);
    assert_eq!(votes(&met), both("2 of 2", [("counted", ""), ("counted", ""), ("missing", "")]));
    assert_eq!(moved(&met), ["latest", "1.0.0"]);
    assert_eq!(met["ignored"], json!([]));
    for tag in ["latest", "1.0.0"] {
        let named = skopeo.raw(&format!("{}:{tag}", project.image()));
        assert_eq!(named, index, "`{tag}` names the bytes that were judged");
    }
    let unchanged = project.json(0, &promote);
    assert_eq!(unchanged["outcome"], "unchanged");
    skopeo.pull(&format!("{}:1.0.0", project.image()), &project.path("pulled"));

    let latest = format!("{}:latest", project.image());
    let verified = project.json(0, &["verify", &latest, "--expect-commit", COMMIT]);
    assert_eq!(verified["verdict"], "met");
    assert_eq!(verified["image"], assembled["image"]);
    let other_commit = COMMIT.replace('5', "6");
    let unexpected = project.json(1, &["verify", &latest, "--expect-commit", &other_commit]);
    assert_eq!(unexpected["verdict"], "short");
    let rejected = [("rejected", "commit-unexpected"), ("rejected", "commit-unexpected"), ("missing", "")];
    assert_eq!(votes(&unexpected), both("0 of 2", rejected));

    let foreign = foreign_index(&project);
    skopeo.push(&["--all", "--preserve-digests"], &project.path("foreign"), &latest);
    let refused = project.json(1, &["verify", &latest]);
    assert_eq!(refused["verdict"], "short");
    assert_eq!(refused["image"]["digest"], image::digest(&foreign));
    assert_eq!(votes(&refused), both("0 of 2", [("missing", ""); 3]));

    evidence_lies_where_it_should(registry, &skopeo, &project, &pushed, &["github", "garnix"]);
    let other = self::builds(&project, "hullo");
    for (architecture, system, build) in &other {
        let differs = project.attest(1, &candidate, "basement", system, build, &[]);
        assert_eq!((&differs["outcome"], &differs["reason"]), (&json!("differs"), &json!("config-differs")));
        let dissent = project.attest(0, &candidate, "basement", system, build, &["--record-dissent"]);
        assert_eq!(dissent["outcome"], "attested");
        assert_eq!(dissent["predicateType"], "https://quorate.dev/predicates/dissent/v1");
        assert_eq!(dissent["manifest"], pushed[architecture]);
    }
    evidence_lies_where_it_should(registry, &skopeo, &project, &pushed, &["github", "garnix", "basement"]);
    let blocked = project.json(1, &["promote", &candidate, "--tag", "1.0.1"]);
    assert_eq!((&blocked["verdict"], &blocked["outcome"]), (&json!("dissent"), &json!("refused")));
    let cells = [("counted", ""), ("counted", ""), ("dissent", "signed-dissent")];
    assert_eq!(votes(&blocked), both("2 of 2", cells));
    assert_eq!(ours(&skopeo, &project), ["1.0.0", "latest"], "`1.0.1` does not exist");
    assert_eq!(skopeo.raw(&latest), foreign, "nothing put `latest` back unasked");
}

/// `promote --untag`: what becomes of the tags of the single images. The images stay.
fn tags_of_single_images(registry: &Registry, skopeo: &Path, becomes: &str) {
    let project = Project::at(registry);
    let skopeo = Skopeo::new(skopeo, registry, &project);
    let candidate = project.candidate();
    let builds = builds(&project, "hello");
    for (architecture, _, build) in &builds {
        let layout = project.path(&format!("layout-{architecture}"));
        build.layout(&layout);
        skopeo.push(&["--preserve-digests"], &layout, &format!("{candidate}-{architecture}"));
    }
    let singles = ARCHITECTURES.map(|(architecture, _)| format!("{}-{architecture}", candidate_tag()));
    let [amd64, arm64] = singles.each_ref().map(|tag| format!("{}:{tag}", project.image()));
    project.json(0, &["assemble", &candidate, &amd64, &arm64]);
    for builder in ["github", "garnix"] {
        for (_, system, build) in &builds {
            project.attest(0, &candidate, builder, system, build, &[]);
        }
    }
    let met = project.json(0, &["promote", &candidate, "--tag", "latest", "--untag", &singles.join(",")]);
    assert_eq!(moved(&met), ["latest"]);
    for (tag, untagged) in singles.iter().zip(met["untagged"].as_array().unwrap()) {
        assert_eq!((&untagged["tag"], &untagged["action"]), (&json!(tag), &json!(becomes)), "{met:#}");
    }
    let tags = skopeo.tags(&project.image());
    assert_eq!(singles.iter().all(|tag| tags.contains(tag)), becomes == "kept", "{tags:?}");
    for (_, _, build) in &builds {
        let image = format!("{}@{}", project.image(), build.image.manifest_digest);
        assert_eq!(skopeo.raw(&image), build.image.manifest);
    }
    let latest = format!("{}:latest", project.image());
    assert_eq!(project.json(0, &["verify", &latest])["verdict"], "met");
    skopeo.pull(&latest, &project.path("pulled"));
}

/// skopeo looks back 4, 8 and 32 MiB at these levels, where a layer is no single block.
fn zstd_at_levels(registry: &Registry, skopeo: &Path) {
    let project = Project::at(registry);
    let skopeo = Skopeo::new(skopeo, registry, &project);
    let (architecture, system) = ARCHITECTURES[0];
    for (level, code, key, value) in [
        ("1", 0, "outcome", "attested"),
        ("3", 0, "outcome", "attested"),
        ("20", 1, "reason", "layer-malformed"),
    ] {
        // Other content, for skopeo pushes no layer again that it compressed otherwise before.
        let numbers: Vec<_> = (0..400_000).map(|n: u32| format!("{level}{n}")).collect();
        let numbers = numbers.join(" ");
        let files: [(&str, &[u8], u32); 1] = [("numbers", numbers.as_bytes(), 0o644)];
        let mut build = Build::new(&project.path(""), architecture, level);
        build.image = Image::build("linux", architecture, None, &files);
        let layout = project.path(&format!("layout-{level}"));
        build.layout(&layout);
        let target = format!("{}:level-{level}", project.image());
        let how = ["--dest-compress-format", "zstd", "--dest-compress-level", level];
        skopeo.push(&how, &layout, &target);
        let manifest: Value = serde_json::from_slice(&skopeo.raw(&target)).unwrap();
        assert_eq!(manifest["layers"][0]["mediaType"], LAYER_ZSTD);
        let attested = project.attest(code, &target, "github", system, &build, &[]);
        assert_eq!(attested[key], value, "level {level}: {attested:#}");
    }
}

/// Every platform, built with a message in it: architecture, system, build.
fn builds(project: &Project, message: &str) -> Vec<(&'static str, &'static str, Build)> {
    ARCHITECTURES
        .iter()
        .map(|(architecture, system)| {
            (*architecture, *system, Build::new(&project.path(""), architecture, message))
        })
        .collect()
}

/// One builder attests every platform, twice: the second time there is nothing to say.
fn attest(
    registry: &Registry,
    project: &Project,
    builder: &str,
    builds: &[(&str, &str, Build)],
    pushed: &BTreeMap<&str, String>,
) {
    let candidate = project.candidate();
    for (architecture, system, build) in builds {
        let manifest = &pushed[architecture];
        let attested = project.attest(0, &candidate, builder, system, build, &[]);
        assert_eq!(attested["outcome"], "attested");
        assert_eq!(attested["manifest"], **manifest);
        let place = if registry.referrers {
            "referrers".to_owned()
        } else {
            format!("{}.q-{builder}.0", derived(manifest))
        };
        assert_eq!(attested["attached"]["place"], place);
        let again = project.attest(0, &candidate, builder, system, build, &[]);
        assert_eq!(again["outcome"], "already");
        assert_eq!(again["bundle"], attested["bundle"]);
    }
}

/// On each manifest, a bundle of each of these builders. With the referrers API, no tags; without,
/// a tag for each builder, and the fallback index. No other tags besides those of the project.
fn evidence_lies_where_it_should(
    registry: &Registry,
    skopeo: &Skopeo,
    project: &Project,
    pushed: &BTreeMap<&str, String>,
    builders: &[&str],
) {
    let mut expected = Vec::new();
    for manifest in pushed.values() {
        let listed = if registry.referrers {
            let path = format!("/v2/{REPOSITORY}/referrers/{manifest}");
            client::get(registry.host(), &path, None).unwrap().body
        } else {
            expected.push(derived(manifest));
            skopeo.raw(&format!("{}:{}", project.image(), derived(manifest)))
        };
        let listed: Value = serde_json::from_slice(&listed).unwrap();
        let listed = listed["manifests"].as_array().unwrap();
        assert_eq!(listed.len(), builders.len(), "every bundle is listed");
        let mut carriers: Vec<_> = listed.iter().map(|entry| entry["digest"].as_str().unwrap()).collect();
        for (digest, entry) in carriers.iter().zip(listed) {
            let carrier = skopeo.raw(&format!("{}@{digest}", project.image()));
            let carrier: Value = serde_json::from_slice(&carrier).unwrap();
            assert_eq!((&entry["artifactType"], &carrier["artifactType"]), (&json!(BUNDLE), &json!(BUNDLE)));
            assert_eq!(carrier["subject"]["digest"], **manifest);
        }
        if !registry.referrers {
            let tags = builders.iter().map(|builder| format!("{}.q-{builder}.0", derived(manifest)));
            let tags: Vec<_> = tags.collect();
            let mut named: Vec<_> = tags
                .iter()
                .map(|tag| image::digest(&skopeo.raw(&format!("{}:{tag}", project.image()))))
                .collect();
            named.sort();
            carriers.sort_unstable();
            assert_eq!(named, carriers, "the tags name what the fallback index lists");
            expected.extend(tags);
        }
    }
    expected.sort();
    let tags = skopeo.tags(&project.image()).into_iter();
    assert_eq!(tags.filter(|tag| tag.starts_with("sha256-")).collect::<Vec<_>>(), expected);
}

/// The tags that a promotion could have written.
fn ours(skopeo: &Skopeo, project: &Project) -> Vec<String> {
    let tags = skopeo.tags(&project.image()).into_iter();
    tags.filter(|tag| !tag.starts_with("sha256-") && !tag.starts_with(&candidate_tag())).collect()
}

/// The tag that is derived from a digest.
fn derived(digest: &str) -> String {
    digest.replace(':', "-")
}

/// An index of images that nobody attested, for the same platforms; the layout `foreign` holds it.
fn foreign_index(project: &Project) -> Vec<u8> {
    let builds = builds(project, "mine-now");
    let children: Vec<_> = builds
        .iter()
        .map(|(architecture, _, Build { image, .. })| {
            json!({
                "mediaType": image::MANIFEST,
                "digest": image.manifest_digest,
                "size": image.manifest.len(),
                "platform": {"architecture": architecture, "os": "linux"},
            })
        })
        .collect();
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": children}).to_string();
    let images = builds.iter().map(|(_, _, build)| &build.image);
    let mut blobs: Vec<&[u8]> = images.flat_map(|i| [&*i.layer, &*i.config, &*i.manifest]).collect();
    blobs.push(index.as_bytes());
    layout(&project.path("foreign"), &blobs, INDEX, index.as_bytes());
    index.into_bytes()
}

/// Architecture and digest of each child of an index.
fn children(index: &[u8]) -> Vec<(String, String)> {
    let index: Value = serde_json::from_slice(index).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let manifests = index["manifests"].as_array().unwrap().iter();
    manifests.map(|child| (text(&child["platform"]["architecture"]), text(&child["digest"]))).collect()
}

fn owned((architecture, digest): (&str, &String)) -> (String, String) {
    (architecture.to_owned(), digest.to_owned())
}

/// A row of the matrix: platform, `have of need`, and builder, status and reason of each cell.
type Row = (String, String, Vec<(String, String, String)>);

/// The matrix of a verdict.
fn votes(document: &Value) -> Vec<Row> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let rows = document["platforms"].as_array().unwrap().iter();
    rows.map(|row| {
        let cells = row["cells"].as_array().unwrap().iter();
        let cells = cells.map(|cell| (text(&cell["builder"]), text(&cell["status"]), text(&cell["reason"])));
        (text(&row["platform"]), format!("{} of {}", row["have"], row["need"]), cells.collect())
    })
    .collect()
}

/// The matrix in which both platforms look alike; a cell for each of [`BUILDERS`].
fn both(votes: &str, cells: [(&str, &str); 3]) -> Vec<Row> {
    let cells: Vec<_> = BUILDERS
        .iter()
        .zip(cells)
        .map(|((builder, _), (status, reason))| ((*builder).to_owned(), status.to_owned(), reason.to_owned()))
        .collect();
    ARCHITECTURES
        .iter()
        .map(|(architecture, _)| (format!("linux/{architecture}"), votes.to_owned(), cells.clone()))
        .collect()
}

/// The tags that were created or moved.
fn moved(document: &Value) -> Vec<&str> {
    let tags = document["tags"].as_array().unwrap().iter();
    tags.filter(|tag| tag["action"] == "created" || tag["action"] == "moved")
        .map(|tag| tag["tag"].as_str().unwrap())
        .collect()
}
