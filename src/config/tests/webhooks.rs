//! Who is warned, as people get it wrong.

use super::{check, good};
use crate::config::WarningKind;
use std::time::Duration;

#[test]
fn webhooks() {
    let directory = tempfile::tempdir().unwrap();
    let secret = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (long, coded) =
        (secret("long", "0123456789abcdef\n"), secret("coded", "whsec_AAECAwQFBgcICQoLDA0ODw=="));
    let (short, broken) = (secret("short", "tiny"), secret("broken", "whsec_§"));
    let hook = |file: &str, more: &str| {
        format!(
            "[[webhook]]\nname = \"ops\"\nurl = \"https://h.example/x\"\nsecret_file = \"{file}\"\n{more}\n"
        )
    };
    let parsed =
        good(&(hook(&coded, "") + "[webhooks]\nremind_days = [1, 7, 7]\ngive_up_after = \"2h\"\n")).webhooks;
    assert_eq!(parsed.hooks[0].secret.0, (0..16).collect::<Vec<u8>>());
    assert_eq!(parsed.hooks[0].events, WarningKind::ALL);
    assert_eq!((parsed.remind_days, parsed.give_up_after), (vec![7, 1], Duration::from_hours(2)));
    let parsed = good(&hook(&long, "events = [\"flips_held\"]")).webhooks;
    assert_eq!(parsed.hooks[0].secret.0, b"0123456789abcdef");
    assert_eq!(parsed.hooks[0].events, [WarningKind::FlipsHeld]);
    assert!(!format!("{parsed:?}").contains("48, 49"), "a secret is not shown");

    check(
        "[[webhook]]\nname = \"a b\"\n",
        &[
            "f.toml:1:1: webhook: \"url\" is missing; write it like url = \"https://hooks.example.com/beian\"",
            "f.toml:1:1: webhook: \"secret_file\" is missing; write it like secret_file = \"config/webhook.secret\"",
            "f.toml:2:8: webhook.name: \"a b\" can't name a webhook; use 1 to 32 letters, digits, `-`, `_` or `.`, like \"ops\"",
        ],
    );
    check(
        &hook(&short, ""),
        &[
            "f.toml:4:15: webhook.secret_file: the secret in that file is shorter than 16 octets; make one with: echo whsec_$(openssl rand -base64 32)",
        ],
    );
    check(
        &hook(&broken, ""),
        &[&format!(
            "f.toml:4:15: webhook.secret_file: {broken} must hold one token, made of visible ASCII characters without spaces",
        )],
    );
    check(
        &(hook(&long, "") + &hook(&long, "")),
        &["f.toml:7:8: webhook.name: two webhooks have this name; give each its own"],
    );
    check(
        &hook(&long, "events = []"),
        &["f.toml:5:10: webhook.events: nothing would be sent; leave the key out for all events"],
    );
    check(
        "[webhooks]\nlook_every = \"10ms\"\nremind_days = []\n",
        &[
            "f.toml:2:14: webhooks.look_every: use at least \"1s\"",
            "f.toml:3:15: webhooks.remind_days: give 1 to 12 numbers of days, like [30, 14, 7, 3, 1]",
        ],
    );
}
