//! How many of the builders that agree count as distinct voices.

use std::collections::{BTreeMap, BTreeSet};

use super::builder::{Builder, Domains};

/// The most builders among which may be chosen where they must differ in more than two things:
/// nothing better is known than to try.
pub(super) const MOST_TRIED: usize = 16;

/// The most of these builders that can be chosen such that no two are of one operator, and no two
/// of one further domain. One that does not name them all is none of them.
pub(super) fn most<'a>(builders: impl Iterator<Item = &'a Builder>, distinct_by: &Domains) -> usize {
    let voice = |builder: &'a Builder| distinct_by.iter().map(|domain| builder.domain(domain)).collect();
    apart(&builders.filter_map(voice).collect())
}

/// The most of these rows, all of one length, of which no two have one entry in common.
fn apart(rows: &BTreeSet<Vec<&str>>) -> usize {
    match rows.first().map_or(0, Vec::len) {
        0 | 1 => rows.len(),
        2 => matched(rows.iter().filter_map(|row| Some((*row.first()?, *row.get(1)?)))),
        // Of platforms that the rule does not want there may be more, and nothing counts there.
        _ if rows.len() > MOST_TRIED => 0,
        _ => tried(&rows.iter().collect::<Vec<_>>(), &mut Vec::new(), 0),
    }
}

/// By trying each row with and without, as long as that can give more than `best`.
fn tried<'a>(rows: &[&'a Vec<&'a str>], chosen: &mut Vec<&'a Vec<&'a str>>, best: usize) -> usize {
    let best = best.max(chosen.len());
    let Some((row, rest)) = rows.split_first() else { return best };
    if chosen.len() + rows.len() <= best {
        return best;
    }
    let shares = |other: &&Vec<&str>| row.iter().zip(other.iter()).any(|(one, other)| one == other);
    let with = if chosen.iter().any(shares) {
        best
    } else {
        chosen.push(row);
        let with = tried(rest, chosen, best);
        chosen.pop();
        with
    };
    tried(rest, chosen, with)
}

/// Each row of two is an edge between its entries: this is a maximum matching, found by augmenting
/// paths.
fn matched<'a>(rows: impl Iterator<Item = (&'a str, &'a str)>) -> usize {
    let mut domains: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (operator, domain) in rows {
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
        let most = |pairs: &[(&'static str, &'static str)]| {
            apart(&pairs.iter().map(|(one, other)| vec![*one, *other]).collect())
        };
        assert_eq!(most(&[]), 0);
        assert_eq!(most(&[("a", "a"), ("b", "b"), ("c", "c")]), 3);
        assert_eq!(most(&[("a", "x"), ("b", "x")]), 1);
        assert_eq!(most(&[("a", "x"), ("a", "y")]), 1);
        // Only one choice of two will do.
        assert_eq!(most(&[("a", "x"), ("a", "y"), ("b", "x")]), 2);
        assert_eq!(apart(&[vec!["a"], vec!["b"]].into()), 2);
        // Two that differ in two things, and share the third.
        let rows = [vec!["a", "x", "1"], vec!["b", "y", "1"], vec!["b", "x", "2"]];
        assert_eq!(apart(&rows.clone().into()), 1);
        assert_eq!(apart(&rows.into_iter().chain([vec!["b", "y", "2"]]).collect()), 2);
        // More than are tried do not count at all.
        let names: Vec<String> = (0..=MOST_TRIED).map(|n| n.to_string()).collect();
        let many = |most: usize| names[..most].iter().map(|name| vec![name.as_str(); 3]).collect();
        assert_eq!((apart(&many(MOST_TRIED)), apart(&many(MOST_TRIED + 1))), (MOST_TRIED, 0));
        // Three operators and three domains, and yet no three builders without a tie.
        assert_eq!(most(&[("a", "x"), ("a", "y"), ("a", "z"), ("b", "x"), ("c", "x")]), 2);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_is_what_trying_all_choices_gives(
            length in 1..4_usize,
            rows in proptest::collection::btree_set(proptest::collection::vec(0..4_usize, 3), 0..9)
        ) {
            const NAMES: [&str; 4] = ["a", "b", "c", "d"];
            let rows: BTreeSet<Vec<&str>> =
                rows.iter().map(|row| row[..length].iter().map(|at| NAMES[*at]).collect()).collect();
            let list: Vec<_> = rows.iter().collect();
            let differ = |chosen: &[&Vec<&str>]| {
                (0..length).all(|at| chosen.iter().map(|row| row[at]).collect::<BTreeSet<_>>().len() == chosen.len())
            };
            let best = (0..1_u32 << list.len())
                .map(|set| (0..list.len()).filter(|at| set >> at & 1 == 1).map(|at| list[at]).collect::<Vec<_>>())
                .filter(|chosen| differ(chosen))
                .map(|chosen| chosen.len())
                .max();
            prop_assert_eq!(Some(apart(&rows)), best);
        }
    }
}
