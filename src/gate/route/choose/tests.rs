//! Choices against what they are to come out at.

use super::*;
use crate::config::{Ejection, Upstream, UpstreamScheme, Way};
use crate::gate::endpoint::{Endpoints, Link};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

fn members(of: &[(u32, bool)]) -> Vec<Member> {
    let endpoints = Endpoints::default();
    let way = Arc::new(Way {
        ejection: Ejection { failures: 1, ..Ejection::default() },
        slow_start: Duration::from_millis(100),
        ..Way::default()
    });
    let member = |(index, (weight, is_backup)): (usize, &(u32, bool))| {
        let port = u16::try_from(8000 + index).unwrap();
        let upstream = Upstream { scheme: UpstreamScheme::Http, host: "10.0.0.1".to_owned(), port };
        let address = (std::net::Ipv4Addr::new(10, 0, 0, 1), port).into();
        Member::new(endpoints.endpoint(&upstream, address, &way, Link::default()), *weight, *is_backup)
    };
    of.iter().enumerate().map(member).collect()
}

fn ask(number: u64) -> Ask<'static> {
    let random = hash(&number.to_le_bytes());
    Ask { key: random, sticky: None, random, now_ms: 1, tried: &[] }
}

/// How often each is chosen of a thousand times.
fn shares(members: &[Member], choice: &Choice, now_ms: u64) -> Vec<u32> {
    let (turn, mut counts) = (AtomicUsize::new(0), BTreeMap::new());
    for number in 0..1000 {
        let chosen = choose(members, choice, &turn, &Ask { now_ms, ..ask(number) });
        *counts.entry(chosen.unwrap()).or_default() += 1;
    }
    (0..members.len()).map(|index| counts.get(&index).copied().unwrap_or(0)).collect()
}

#[track_caller]
fn check(members: &[Member], choice: &Choice, expected: &[u32], slack: u32) {
    let found = shares(members, choice, 1);
    let is_near = found.iter().zip(expected).all(|(one, other)| one.abs_diff(*other) <= slack);
    assert!(is_near, "{:?}: {found:?} for {expected:?}", choice.balance);
}

const EVERY: [Balance; 4] = [Balance::P2c, Balance::RoundRobin, Balance::LeastConnections, Balance::Hash];

fn by(balance: Balance) -> Choice {
    Choice { balance, ..Choice::default() }
}

#[test]
fn by_weight() {
    let equal = members(&[(1, false), (1, false), (1, false), (1, false)]);
    check(&equal, &by(Balance::RoundRobin), &[250; 4], 0);
    check(&equal, &by(Balance::Hash), &[250; 4], 50);
    let unequal = members(&[(1, false), (3, false), (6, false)]);
    check(&unequal, &by(Balance::RoundRobin), &[100, 300, 600], 5);
    check(&unequal, &by(Balance::Hash), &[100, 300, 600], 50);
    // Idle, the heavier of two wins: each pair's heavier one, as often as the pair is drawn.
    let drawn = shares(&unequal, &by(Balance::P2c), 1);
    assert!(drawn[0] == 0 && drawn[2] > 700, "{drawn:?}");
    unequal[2].endpoint.standing.begin();
    (0..12).for_each(|_| unequal[2].endpoint.standing.begin());
    assert_eq!(choose(&unequal, &by(Balance::LeastConnections), &AtomicUsize::new(0), &ask(1)), Some(1));
}

#[test]
fn who_is_left_out() {
    for balance in EVERY {
        let (choice, members) = (by(balance), members(&[(1, false), (1, false), (1, true)]));
        let standing = |index: usize| &members[index].endpoint.standing;
        let chosen = || -> Vec<usize> {
            let shares = shares(&members, &choice, 1).into_iter().enumerate();
            shares.filter(|(_, count)| *count > 0).map(|(index, _)| index).collect()
        };
        let none = || choose(&members, &choice, &AtomicUsize::new(0), &ask(1)).is_none();
        assert_eq!(chosen(), [0, 1], "{balance:?}: backups wait");
        standing(0).check_ended(false, (1, 1), 1);
        assert_eq!(chosen(), [1], "{balance:?}: the ill one");
        standing(1).failed(&members[1].endpoint.way, 1);
        assert_eq!(chosen(), [2], "{balance:?}: the ejected one");
        standing(2).set_wish(Wish::Drain, 1);
        assert_eq!(chosen(), [0, 1], "{balance:?}: rather those than nobody");
        standing(0).set_wish(Wish::Down, 1);
        assert_eq!(chosen(), [1], "{balance:?}: never what the operator took out");
        standing(1).set_wish(Wish::Down, 1);
        assert!(none(), "{balance:?}: nobody is left");
    }
}

#[test]
fn where_too_few_are_left_all_are_used() {
    let (members, turn) = (members(&[(1, false); 4]), AtomicUsize::new(0));
    let choice = Choice { panic_below: 0.5, ..by(Balance::RoundRobin) };
    for member in &members[..2] {
        member.endpoint.standing.check_ended(false, (1, 1), 1);
    }
    check(&members, &choice, &[0, 0, 500, 500], 0);
    members[2].endpoint.standing.check_ended(false, (1, 1), 1);
    check(&members, &choice, &[250; 4], 0);
    let tried = Ask { tried: &[3], ..ask(1) };
    assert_ne!(choose(&members, &choice, &turn, &tried), Some(3), "what was tried is not tried again");
}

#[test]
fn hashes_move_only_what_they_must() {
    let (members, choice, turn) = (members(&[(1, false); 5]), by(Balance::Hash), AtomicUsize::new(0));
    let all = || (0..1000).map(|number| choose(&members, &choice, &turn, &ask(number)).unwrap());
    let before: Vec<usize> = all().collect();
    members[3].endpoint.standing.set_wish(Wish::Down, 1);
    for (before, after) in before.iter().zip(all()) {
        assert!(after == *before || *before == 3, "{before} to {after}");
    }
}

#[test]
fn cookies_bind_while_they_may() {
    let (members, choice, turn) = (members(&[(1, false); 3]), by(Balance::P2c), AtomicUsize::new(0));
    let bound = Ask { sticky: Some(members[2].id), ..ask(1) };
    let standing = &members[2].endpoint.standing;
    let check = |wish, expected: bool| {
        standing.set_wish(wish, 1);
        let always = (0..100).all(|number| {
            let random = hash(&[number]);
            choose(&members, &choice, &turn, &Ask { random, ..bound }) == Some(2)
        });
        assert_eq!(always, expected, "{wish:?}");
    };
    check(Wish::Up, true);
    check(Wish::Drain, true);
    check(Wish::Down, false);
    assert!(
        choose(&members, &choice, &turn, &Ask { sticky: Some(7), ..ask(1) }).is_some(),
        "a foreign cookie"
    );
}

#[test]
fn who_comes_back_begins_with_little() {
    let members = members(&[(1, false), (1, false)]);
    members[0].endpoint.standing.set_wish(Wish::Down, 1);
    members[0].endpoint.standing.set_wish(Wish::Up, 1000);
    let shares = |now| shares(&members, &by(Balance::RoundRobin), now)[0];
    assert!((80..=105).contains(&shares(1005)), "{}", shares(1005));
    assert!((320..=345).contains(&shares(1050)), "{}", shares(1050));
    assert_eq!(shares(1100), 500);
}
