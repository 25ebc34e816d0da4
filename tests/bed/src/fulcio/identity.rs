//! What Fulcio makes of the claims of a token (its `config/identity/config.yaml`).

use serde_json::Value;

/// The subject alternative name of a certificate.
#[derive(Clone, Debug)]
pub(super) enum San {
    Uri(String),
    Email(String),
}

/// What a certificate says of the bearer of a token.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) san: San,
    pub(super) issuer: String,
    /// What the bearer signs to prove that the key is theirs.
    pub(super) challenge: String,
    /// Numbers below 1.3.6.1.4.1.57264.1, from 9 on, with their values.
    pub(super) claims: Vec<(u32, String)>,
}

impl Identity {
    pub(super) fn of(claims: &Value) -> Result<Identity, String> {
        let text = |name: &str| claims[name].as_str().unwrap_or_default().to_owned();
        let under = |base: &str, name: &str| format!("{base}/{}", text(name));
        let (san, extensions) = if claims["job_workflow_ref"].is_string() {
            let url = "https://github.com";
            let run = format!(
                "{}/actions/runs/{}/attempts/{}",
                under(url, "repository"),
                text("run_id"),
                text("run_attempt")
            );
            let extensions = vec![
                (9, under(url, "job_workflow_ref")),
                (10, text("job_workflow_sha")),
                (11, text("runner_environment")),
                (12, under(url, "repository")),
                (13, text("sha")),
                (14, text("ref")),
                (15, text("repository_id")),
                (16, under(url, "repository_owner")),
                (17, text("repository_owner_id")),
                (18, under(url, "workflow_ref")),
                (19, text("workflow_sha")),
                (20, text("event_name")),
                (21, run),
                (22, text("repository_visibility")),
                (23, text("environment")),
            ];
            (San::Uri(under(url, "job_workflow_ref")), extensions)
        } else if claims["ci_config_ref_uri"].is_string() {
            let url = "https://gitlab.com";
            let config = format!("https://{}", text("ci_config_ref_uri"));
            let kind = if claims["ref_type"] == "branch" { "heads" } else { "tags" };
            let extensions = vec![
                (9, config.clone()),
                (10, text("ci_config_sha")),
                (11, text("runner_environment")),
                (12, under(url, "project_path")),
                (13, text("sha")),
                (14, format!("refs/{kind}/{}", text("ref"))),
                (15, text("project_id")),
                (16, under(url, "namespace_path")),
                (17, text("namespace_id")),
                (18, config.clone()),
                (19, text("ci_config_sha")),
                (20, text("pipeline_source")),
                (21, format!("{}/-/jobs/{}", under(url, "project_path"), text("job_id"))),
                (22, text("project_visibility")),
                (23, text("environment")),
            ];
            (San::Uri(config), extensions)
        } else if claims["pipeline_slug"].is_string() {
            let pipeline =
                format!("{}/{}", under("https://buildkite.com", "organization_slug"), text("pipeline_slug"));
            let extensions = vec![
                (11, text("runner_environment")),
                (13, text("build_commit")),
                (20, text("build_source")),
            ];
            (San::Uri(pipeline), extensions)
        } else if let Some(email) = claims["email"].as_str() {
            if claims["email_verified"] != true {
                return Err("email_verified claim was false".to_owned());
            }
            (San::Email(email.to_owned()), Vec::new())
        } else {
            (San::Uri(text("sub")), Vec::new())
        };
        let challenge = match &san {
            San::Email(email) => email.clone(),
            San::Uri(_) => text("sub"),
        };
        if challenge.is_empty() {
            return Err("the token names no subject".to_owned());
        }
        // What a token does not say, the certificate leaves out.
        let extensions = extensions.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        Ok(Identity { san, issuer: text("iss"), challenge, claims: extensions })
    }

    pub(super) fn issued_by(mut self, issuer: &str) -> Identity {
        issuer.clone_into(&mut self.issuer);
        self
    }
}
