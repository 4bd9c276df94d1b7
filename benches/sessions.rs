//! What finding the sessions of a name costs: at a request's begin and end, at a change, and by judging all instead.
//!
//! `cargo bench --bench parts -- sessions`. Nothing here touches a socket.

use crate::domains;
use beian_gate::cache::{FilingCache, Staleness, Table};
use beian_gate::config::WhenStale;
use beian_gate::domain::HostForm;
use beian_gate::feed::{EpochKey, Fingerprint};
use beian_gate::gate::client::Whose;
use beian_gate::gate::watch::{Clock, Serving, WatchGuard};
use beian_gate::verdict::{Policy, PolicyParts, Question, Region, Scenario, decide};
use criterion::Criterion;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::time::{Duration, Instant};

const LIVE: u64 = 50_000;
/// Live sessions of the name that changes.
const OF_THE_NAME: u64 = 1_000;
/// Changes of other names in one look.
const CHANGES: u64 = 10_000;
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const WHOSE: Whose = Whose { place: 0, address: CLIENT, caller: CLIENT, balancer: None };

pub(crate) fn sessions(criterion: &mut Criterion) {
    let cache = filled_cache();
    let clock = Clock::new();
    let live: Vec<WatchGuard> = (0..LIVE).map(|at| serve(&clock, at.max(OF_THE_NAME))).collect();
    while let Some(session) = clock.take_noted() {
        clock.index(session, &cache.at(Instant::now()));
    }
    begins_and_ends(criterion, &live[0]);
    changes(criterion, &cache, &clock);
}

fn filled_cache() -> FilingCache {
    let cache =
        FilingCache::new(Staleness { stale_after: Duration::from_secs(3600), when_stale: WhenStale::Serve });
    let mut table = Table::new(EpochKey::from_bytes([7; EpochKey::LEN]));
    (0..LIVE).for_each(|at| table.put(&domains::filed(at), &domains::record(at)));
    cache.publish(table, Instant::now());
    cache
}

fn host(at: u64) -> HostForm {
    HostForm::from_wire(domains::filed(at).as_bytes()).expect("these are hosts")
}

fn serve(clock: &Rc<Clock>, at: u64) -> WatchGuard {
    let watch = clock.watch();
    watch.serve(Some(Serving { host: &host(at), whose: WHOSE, is_acme_challenge: false }));
    watch
}

fn begins_and_ends(criterion: &mut Criterion, watch: &WatchGuard) {
    let hosts = [host(1), host(2)];
    for (case, step) in [("as the one before", 0), ("of another name", 1)] {
        let mut turn = 0;
        criterion.bench_function(&format!("sessions/a request begins and ends, {case}"), |b| {
            b.iter(|| {
                turn += step;
                let host = black_box(&hosts[turn % 2]);
                watch.serve(Some(Serving { host, whose: WHOSE, is_acme_challenge: false }));
                watch.serve(None);
            });
        });
    }
}

fn changes(criterion: &mut Criterion, cache: &FilingCache, clock: &Rc<Clock>) {
    let of = |at| match host(at) {
        HostForm::Name(name) => cache.at(Instant::now()).fingerprints(&name).collect::<Vec<_>>(),
        HostForm::Ip(_) => Vec::new(),
    };
    let one = of(OF_THE_NAME);
    let others: Vec<Fingerprint> =
        (1..=CHANGES).map(|bits| Fingerprint(bits.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    for (case, fingerprints) in
        [("the name of 1,000 among 50,000", &one), ("10,000 others among 50,000", &others)]
    {
        let mut found = Vec::new();
        criterion.bench_function(&format!("sessions/found by the index, {case}"), |b| {
            b.iter(|| {
                found.clear();
                clock.under(black_box(fingerprints), &mut found);
                found.len()
            });
        });
    }
    let policy = Policy::new(PolicyParts::default());
    criterion.bench_function("sessions/all 50,000 judged, as without the index at each change", |b| {
        b.iter(|| {
            let filings = cache.at(Instant::now());
            let cut = (0..clock.ceiling()).filter(|session| {
                clock.cut(*session, |live| {
                    let question = Question {
                        host: &live.host,
                        scenario: Scenario::Web,
                        region: Region::Mainland,
                        origin_here: false,
                        today: jiff::civil::date(2026, 1, 1),
                    };
                    decide(&question, &policy, &filings).verdict.is_forwarded()
                })
            });
            assert_eq!(cut.count(), 0, "all are filed");
        });
    });
}
