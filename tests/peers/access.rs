//! Registries that ask who is there: what becomes of those they do not know, and of tokens that
//! run out.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use libtest_mimic::Trial;
use quorate_bed::{Authority, Fault, FaultAction};
use serde_json::{Value, json};

use crate::clients::Skopeo;
use crate::peers::{Peer, Peers};
use crate::project::{ARCHITECTURES, Build, Project, said, succeed};
use crate::registries::{Access, Registry, tokens};

pub(crate) fn trials(peers: &Peers) -> Vec<Trial> {
    let needs = [Peer::DockerRegistry, Peer::Skopeo];
    vec![
        peers.trial(
            "strangers_are_refused_by_docker_registry_with_a_password",
            needs,
            |[program, skopeo]| {
                let registry = Registry::distribution(program, &Access::TlsPassword);
                strangers_are_refused(&Shop::open(&registry, skopeo));
            },
        ),
        peers.trial("strangers_are_refused_by_docker_registry_with_tokens", needs, |[program, skopeo]| {
            let service = tokens(300, 300);
            let registry = Registry::distribution(program, &Access::Token(&service));
            strangers_are_refused(&Shop::open(&registry, skopeo));
        }),
        peers.trial("strangers_are_refused_by_gitea", [Peer::Gitea, Peer::Skopeo], |[program, skopeo]| {
            strangers_are_refused(&Shop::open(&Registry::gitea(program), skopeo));
        }),
        peers.trial("only_a_trusted_certificate_is_believed", needs, |[program, skopeo]| {
            let registry = Registry::distribution(program, &Access::TlsPassword);
            only_a_trusted_certificate_is_believed(&Shop::open(&registry, skopeo));
        }),
        peers.trial("loopback_is_asked_over_tls_where_that_is_wished", needs, |[program, skopeo]| {
            let registry = Registry::distribution(program, &Access::Tls);
            loopback_over_tls(&Shop::open(&registry, skopeo));
        }),
        peers.trial("a_token_may_run_out_unannounced", needs, |[program, skopeo]| {
            a_token_may_run_out(program, skopeo, 300);
        }),
        peers.trial("a_token_may_run_out_as_announced", needs, |[program, skopeo]| {
            a_token_may_run_out(program, skopeo, 1);
        }),
    ]
}

/// A project with the image of each architecture in its registry.
struct Shop<'a> {
    registry: &'a Registry,
    project: Project,
    skopeo: Skopeo,
    builds: Vec<Build>,
}

impl<'a> Shop<'a> {
    fn open(registry: &'a Registry, skopeo: &Path) -> Self {
        let project = Project::at(registry);
        let skopeo = Skopeo::new(skopeo, registry, &project);
        let builds = ARCHITECTURES
            .map(|(architecture, _)| {
                let build = Build::new(&project.path(""), architecture, "hello");
                let layout = project.path(&format!("layout-{architecture}"));
                build.layout(&layout);
                let target = format!("{}-{architecture}", project.candidate());
                skopeo.push(&["--preserve-digests"], &layout, &target);
                build
            })
            .into();
        Self { registry, project, skopeo, builds }
    }

    /// `assemble` to a tag.
    fn assemble(&self, tag: &str) -> Command {
        let target = format!("{}:{tag}", self.project.image());
        let sources =
            ARCHITECTURES.map(|(architecture, _)| format!("{}-{architecture}", self.project.candidate()));
        self.project.command(&["assemble", &target, &sources[0], &sources[1], "-o", "json"])
    }

    fn tags(&self) -> Vec<String> {
        self.skopeo.tags(&self.project.image())
    }
}

/// The error of a run that ended without a decision.
fn undecided(command: &mut Command) -> Value {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    let mut document: Value = serde_json::from_slice(&output.stdout).unwrap();
    document["error"].take()
}

fn strangers_are_refused(shop: &Shop) {
    let before = shop.tags();
    for login in [shop.registry.login_with("not-the-one"), json!({"auths": {}}).to_string()] {
        fs::write(shop.project.login(), &login).unwrap();
        let error = undecided(&mut shop.assemble("stranger"));
        assert!(error["message"].as_str().unwrap().ends_with("(registry-denied)"), "{error:#}");
        assert_eq!(error["hint"], format!("docker login {}", shop.registry.host()));
        assert!(!error.to_string().contains("not-the-one"), "the password is not shown: {error:#}");
    }
    fs::write(shop.project.login(), shop.registry.login()).unwrap();
    assert_eq!(shop.tags(), before, "nothing was written");
    assert!(shop.assemble("known").output().unwrap().status.success());
    assert_ne!(shop.tags(), before);
}

fn only_a_trusted_certificate_is_believed(shop: &Shop) {
    let before = shop.tags();
    let another = shop.project.path("another.crt");
    fs::write(&another, Authority::generate(shop.registry.host()).root()).unwrap();
    let [mut without, mut with_another] = [shop.assemble("stranger"), shop.assemble("stranger")];
    without.env_remove("QUORATE_CA_FILE");
    with_another.env("QUORATE_CA_FILE", &another);
    for mut command in [without, with_another] {
        let error = undecided(&mut command);
        assert!(error["message"].as_str().unwrap().ends_with("(registry-unreachable)"), "{error:#}");
        assert!(error["causes"].to_string().contains("certificate"), "{error:#}");
    }
    assert_eq!(shop.tags(), before, "nothing was written");
    assert!(shop.assemble("known").output().unwrap().status.success());
}

fn loopback_over_tls(shop: &Shop) {
    let before = shop.tags();
    let error = undecided(&mut shop.assemble("plain"));
    assert!(error["message"].as_str().unwrap().ends_with("(registry-refused)"), "{error:#}");
    assert_eq!(error["hint"], format!("the server wants TLS: --tls {}", shop.registry.host()));
    assert_eq!(shop.tags(), before, "nothing was written");
    let mut wished = shop.assemble("wished");
    wished.env("QUORATE_TLS", shop.registry.host());
    succeed(&mut wished);
    assert!(shop.tags().contains(&"wished".to_owned()));
}

/// A token is good for no more than two seconds, whatever is claimed, and the log takes longer:
/// what `attest` asked for when it read the image is of no use when it attaches the bundle.
fn a_token_may_run_out(registry: &Path, skopeo: &Path, claimed: u64) {
    let service = tokens(2, claimed);
    let registry = Registry::distribution(registry, &Access::Token(&service));
    let shop = Shop::open(&registry, skopeo);
    assert!(shop.assemble("known").output().unwrap().status.success());
    shop.project
        .log
        .fault(Fault::new(FaultAction::Delay(Duration::from_millis(2500))).method("POST").times(1));
    service.clear_requests();
    let candidate = format!("{}:known", shop.project.image());
    let (_, system) = ARCHITECTURES[0];
    let attested = shop.project.attest(0, &candidate, "github", system, &shop.builds[0], &[]);
    assert_eq!(attested["outcome"], "attested");
    let asked = service.requests();
    assert!(asked.len() >= 2, "a new token was asked for: {asked:#?}");
    assert!(asked.iter().all(|request| request.status == Some(200)));
    let again = shop.project.attest(0, &candidate, "github", system, &shop.builds[0], &[]);
    assert_eq!(again["outcome"], "already", "the bundle is where it belongs");
}
