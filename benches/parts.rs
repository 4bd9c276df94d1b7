//! What the parts of the data path cost, one by one: `cargo bench --bench parts [FILTER]`.
//!
//! Nothing here touches a socket. Names come from `domains`, the same at every run.

mod domains;
mod sessions;

use beian_gate::block_page::{BlockPages, Language, Media, PageFacts, Reason};
use beian_gate::cache::{FilingCache, Staleness, Table};
use beian_gate::config::WhenStale;
use beian_gate::domain::{Authority, DomainName, HostForm};
use beian_gate::feed::EpochKey;
use beian_gate::filing::FilingNumber;
use beian_gate::gate::buffer::WriteBuffer;
use beian_gate::gate::headers::{self, Onward};
use beian_gate::gate::http1::head::{self, HeadLimits};
use beian_gate::gate::request::RequestHead;
use beian_gate::verdict::{Filings, Policy, PolicyParts, Question, Region, Scenario, Verdict, decide};
use criterion::{BenchmarkId, Criterion, Throughput};
use domains::Numbers;
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

const FILINGS: u64 = 1_000_000;
/// Names that are asked for in turn: few, so that all stay in the processor's caches; and many, so that hardly a slot does.
const ASKED: [u64; 2] = [64, 65_536];
const LIMITS: HeadLimits = HeadLimits { bytes: 32 * 1024, fields: 100 };

const CURL: &str = "GET / HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n";
const BROWSER: &str = "GET /product/list/detail?category=3&item=10482&from=home HTTP/1.1\r\n\
    Host: www.example.com\r\n\
    Connection: keep-alive\r\n\
    sec-ch-ua: \"Chromium\";v=\"130\", \"Google Chrome\";v=\"130\", \"Not?A_Brand\";v=\"99\"\r\n\
    sec-ch-ua-mobile: ?0\r\n\
    sec-ch-ua-platform: \"Windows\"\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    User-Agent: Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
    Chrome/130.0.0.0 Safari/537.36\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-User: ?1\r\n\
    Sec-Fetch-Dest: document\r\n\
    Referer: https://www.example.com/product/list?category=3\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: zh-CN,zh;q=0.9,en;q=0.8\r\n\
    Cookie: session=0f1e2d3c4b5a69788796a5b4c3d2e1f0; visitor=8a7b6c5d4e3f2a1b; theme=light; lang=zh-CN; \
    cart=10482.1,20391.2,30017.1; consent=necessary.analytics\r\n\r\n";

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    names(&mut criterion);
    numbers(&mut criterion);
    verdicts(&mut criterion);
    cache(&mut criterion);
    heads(&mut criterion);
    pages(&mut criterion);
    sessions::sessions(&mut criterion);
    criterion.final_summary();
}

fn names(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("name");
    for (case, host) in [
        ("plain", "www.example.com"),
        ("with_port", "www.example.com:8080"),
        ("upper_case", "WWW.Example.COM"),
        ("idn_a_label", "www.xn--fsqu00a.xn--fiqs8s"),
        ("government", "www.unit.city.gov.cn"),
        ("ipv4", "192.0.2.1:8080"),
    ] {
        group.bench_function(case, |b| b.iter(|| Authority::from_wire(black_box(host.as_bytes()))));
    }
    group.bench_function("operator_unicode", |b| b.iter(|| HostForm::from_user(black_box("例子.中国"))));
}

fn numbers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("filing_number");
    for (case, text) in
        [("common", "京ICP备12345678号-1"), ("licence", "合字B2-20210001"), ("bad", "京ICP备号")]
    {
        group.bench_function(case, |b| b.iter(|| FilingNumber::parse(black_box(text))));
    }
}

fn verdicts(criterion: &mut Criterion) {
    let policy = Policy::new(PolicyParts::default());
    let cache = filled_cache();
    let filed = (0..).map(domains::filed).find(|name| name.ends_with(".com")).expect("most do");
    let government = (0..).map(domains::filed).find(|name| name.ends_with(".gov.cn")).expect("some do");
    let mut group = criterion.benchmark_group("decide");
    for (case, host, expected) in [
        ("allow", format!("www.{filed}"), Verdict::Allow),
        ("unfiled", format!("www.{}", domains::unfiled(1)), Verdict::Unfiled),
        ("government", format!("a.b.{government}"), Verdict::Allow),
        ("ip_literal", "192.0.2.1".to_owned(), Verdict::IpLiteral),
    ] {
        let host = HostForm::from_wire(host.as_bytes()).expect("these are hosts");
        let question = Question {
            host: &host,
            scenario: Scenario::Web,
            region: Region::Mainland,
            origin_here: false,
            today: jiff::civil::date(2026, 1, 1),
        };
        let decided = |now| decide(black_box(&question), &policy, &cache.at(now)).verdict;
        assert_eq!(decided(Instant::now()), expected, "{case}");
        let now = Instant::now();
        group.bench_function(case, |b| b.iter(|| decided(now)));
    }
}

fn filled_cache() -> FilingCache {
    let mut table = Table::with_room_for(EpochKey::from_bytes([7; EpochKey::LEN]), FILINGS);
    for index in 0..FILINGS {
        table.put(&domains::filed(index), &domains::record(index));
    }
    let cache = FilingCache::new(Staleness {
        stale_after: Duration::from_secs(86_400),
        when_stale: WhenStale::Serve,
    });
    cache.publish(table, Instant::now());
    cache
}

fn cache(criterion: &mut Criterion) {
    let cache = filled_cache();
    let mut group = criterion.benchmark_group("cache");
    group.throughput(Throughput::Elements(1));
    for count in ASKED {
        let mut numbers = Numbers(1);
        let hits = (0..count).map(|_| {
            let filed = domains::filed(numbers.below(FILINGS));
            domains::host(&filed, &mut numbers)
        });
        look_up(&mut group, &cache, ("hit", count), hits);
        look_up(&mut group, &cache, ("miss", count), (0..count).map(domains::unfiled));
    }
}

fn look_up(
    group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>,
    cache: &FilingCache,
    (case, count): (&str, u64),
    hosts: impl Iterator<Item = String>,
) {
    let parse = |host: String| DomainName::from_wire(host.as_bytes()).expect("these are names");
    let names: Vec<DomainName> = hosts.map(parse).collect();
    let now = Instant::now();
    let mut next = names.iter().cycle();
    group.bench_function(BenchmarkId::new(case, count), |b| {
        b.iter(|| {
            let name = next.next().expect("a cycle has no end");
            cache.at(now).coverage(black_box(name))
        });
    });
}

fn heads(criterion: &mut Criterion) {
    for (case, raw) in [("curl", CURL), ("browser", BROWSER)] {
        let mut group = criterion.benchmark_group("request_head");
        group.throughput(Throughput::Bytes(raw.len() as u64));
        let raw = raw.as_bytes();
        let mut request = RequestHead::default();
        group.bench_function(BenchmarkId::new("parse", case), |b| {
            b.iter(|| {
                let end = head::find_end(black_box(raw), 0, LIMITS)
                    .expect("it is well-formed")
                    .expect("it is whole");
                head::parse_request(&raw[..end], LIMITS, &mut request)
            });
        });
        head::parse_request(raw, LIMITS, &mut request).expect("it is well-formed");
        let client = SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000));
        let onward = Onward {
            host: b"www.example.com",
            client,
            is_trusted: false,
            is_tls: true,
            via: "gate",
            certificate: None,
            rules: None,
            trace: None,
        };
        let mut out = WriteBuffer::default();
        group.bench_function(BenchmarkId::new("write", case), |b| {
            b.iter(|| {
                headers::write_request(black_box(&request), &onward, &mut out);
                out.written(out.len());
            });
        });
    }
}

fn pages(criterion: &mut Criterion) {
    let pages = BlockPages::embedded();
    let facts = PageFacts {
        reason: Reason::Unfiled,
        status: 451,
        domain: Some("unknown-example.cn"),
        number: None,
        verdict_id: "01j8zq4n6v-0000000001",
        synced_at: Some(1_760_000_000),
        access_under_review: false,
        operator_reason: None,
    };
    let mut group = criterion.benchmark_group("block_page");
    for (case, media) in [("html", Media::Html), ("problem_json", Media::Problem), ("text", Media::Text)] {
        group.bench_function(case, |b| b.iter(|| pages.render(black_box(&facts), media, Language::Chinese)));
    }
}
