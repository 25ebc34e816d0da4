use crate::{Log, Registry, RegistryOptions, Tsa, trusted_root};

/// One of each server: what an attestation needs from signing to promotion.
pub struct Bed {
    /// Where images and bundles live.
    pub registry: Registry,
    /// Where signatures are made public.
    pub log: Log,
    /// Who says when a signature was made.
    pub tsa: Tsa,
}

impl Bed {
    /// Starts all three.
    pub fn start(options: RegistryOptions) -> Bed {
        Bed { registry: Registry::start(options), log: Log::start(), tsa: Tsa::start() }
    }

    /// The trusted root that vouches for this log and this authority.
    pub fn trusted_root(&self) -> serde_json::Value {
        trusted_root(&[&self.log], &[&self.tsa])
    }
}
