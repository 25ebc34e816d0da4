//! A promotion under fire, on a registry that nobody here wrote.

use std::sync::Mutex;

use libtest_mimic::Trial;
use quorate_bed::Registry as Front;

use crate::peers::{Peer, Peers};
use crate::range;
use crate::registries::{Access, Registry};

pub(crate) fn trials(peers: &Peers) -> Vec<Trial> {
    type Fire = fn(&(dyn Fn(usize) -> (Front, bool) + Sync));
    let fires: [(&str, Fire); 3] = [
        ("every_request_fails_in_every_way", range::every_request_fails_in_every_way),
        ("requests_fail_in_pairs", range::requests_fail_in_pairs),
        ("the_process_is_killed_at_every_request", range::the_process_is_killed_at_every_request),
    ];
    let on = |(name, fire): (&str, Fire)| {
        let name = format!("{name}_on_docker_registry");
        peers.trial(&name, [Peer::DockerRegistry], move |[program]| {
            let registries = Mutex::new(Vec::new());
            fire(&|_| {
                let registry = Registry::distribution(program, &Access::Open);
                let opened = (Front::before(registry.host()), registry.referrers);
                // They end with the trial.
                registries.lock().unwrap().push(registry);
                opened
            });
        })
    };
    fires.into_iter().map(on).collect()
}
