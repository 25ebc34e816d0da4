//! How many of the builders that agree count as distinct voices.

use std::collections::{BTreeMap, BTreeSet};

/// The most builders that can be chosen such that no two have one operator, and no two have one
/// domain. Each builder is a pair of the two, and so an edge between them: this is a maximum
/// matching, found by augmenting paths.
pub(super) fn most(builders: &BTreeSet<(&str, &str)>) -> usize {
    let mut domains: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (operator, domain) in builders {
        domains.entry(operator).or_default().push(domain);
    }
    let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
    domains.keys().filter(|operator| place(operator, &domains, &mut taken, &mut BTreeSet::new())).count()
}

/// Gives `operator` a domain of its own, if need be by moving those that have theirs to others.
fn place<'a>(
    operator: &'a str,
    domains: &BTreeMap<&'a str, Vec<&'a str>>,
    taken: &mut BTreeMap<&'a str, &'a str>,
    tried: &mut BTreeSet<&'a str>,
) -> bool {
    for &domain in domains.get(operator).into_iter().flatten() {
        if !tried.insert(domain) {
            continue;
        }
        let free = match taken.get(domain).copied() {
            None => true,
            Some(holder) => place(holder, domains, taken, tried),
        };
        if free {
            taken.insert(domain, operator);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_two_share_an_operator_or_a_domain() {
        let most = |pairs: &[(&'static str, &'static str)]| most(&pairs.iter().copied().collect());
        assert_eq!(most(&[]), 0);
        assert_eq!(most(&[("a", "a"), ("b", "b"), ("c", "c")]), 3);
        assert_eq!(most(&[("a", "x"), ("b", "x")]), 1);
        assert_eq!(most(&[("a", "x"), ("a", "y")]), 1);
        // Only one choice of two will do.
        assert_eq!(most(&[("a", "x"), ("a", "y"), ("b", "x")]), 2);
        // Three operators and three domains, and yet no three builders without a tie.
        assert_eq!(most(&[("a", "x"), ("a", "y"), ("a", "z"), ("b", "x"), ("c", "x")]), 2);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_is_what_trying_all_choices_gives(
            pairs in proptest::collection::btree_set((0..4_usize, 0..4_usize), 0..9)
        ) {
            const NAMES: [&str; 4] = ["a", "b", "c", "d"];
            let builders: Vec<_> = pairs.iter().map(|(o, d)| (NAMES[*o], NAMES[*d])).collect();
            let apart = |chosen: &[(&str, &str)]| {
                let operators: BTreeSet<_> = chosen.iter().map(|(operator, _)| operator).collect();
                let domains: BTreeSet<_> = chosen.iter().map(|(_, domain)| domain).collect();
                operators.len() == chosen.len() && domains.len() == chosen.len()
            };
            let best = (0..1_u32 << builders.len())
                .map(|set| (0..builders.len()).filter(|at| set >> at & 1 == 1).map(|at| builders[at]).collect::<Vec<_>>())
                .filter(|chosen| apart(chosen))
                .map(|chosen| chosen.len())
                .max();
            prop_assert_eq!(Some(most(&builders.iter().copied().collect())), best);
        }
    }
}
