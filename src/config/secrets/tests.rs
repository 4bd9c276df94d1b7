//! Lines as they stand in configs, and what an error may show of them.

use super::{MASK, Secrets, masked, tail};
use crate::config::Config;

/// What is shown of the text's last line.
#[track_caller]
fn check(text: &str, expected: &str) {
    let start = text.rfind('\n').map_or(0, |at| at + 1);
    let line = start..text.len();
    let hidden = Secrets::of(text).within(&line, None);
    assert_eq!(masked(text, line, &hidden), expected, "{text}");
}

#[test]
fn secrets_are_known_by_their_keys() {
    for name in [
        "token",
        "Token",
        "admin_token",
        "secret",
        "client_secret",
        "password",
        "passwd",
        "passphrase",
        "pass",
        "db-pw",
        "api_key",
        "apikey",
        "key",
        "private-key",
        "psk",
        "auth",
        "bearer",
        "\"token\"",
        "a.b.token",
        "dsn",
        "credentials",
    ] {
        check(&format!("{name} = \"S3CRET\""), &format!("{name} = \"***\""));
        check(&format!("{name}='S3CRET' # so"), &format!("{name}='***' # so"));
        check(&format!("{name} = S3CRET"), &format!("{name} = ***"));
        check(&format!("{name} = [\"S3CRET\", \"S3CRET\"]"), &format!("{name} = [\"***\", \"***\"]"));
        check(
            &format!("[x]\ny = {{ {name} = \"S3CRET\", z = 1 }}"),
            &format!("y = {{ {name} = \"***\", z = 1 }}"),
        );
        check(&format!("[{name}]\nvalue = \"S3CRET\""), "value = \"***\"");
        check(&format!("{name} = \"\"\"\nS3CRET"), MASK);
    }
    check("password = 12345678", "password = ***");
    check("token = \"S3CR\\\"ET\"", "token = \"***\"");
    check(
        "[site.request_headers]\nset = { Cookie = \"a=S3CRET\", x_y = \"S3CRET\" }",
        "set = { Cookie = \"***\", x_y = \"***\" }",
    );
    check("token = \"S3CRET", "token = \"***");
    check("a = [\n\"x\",\n[webhook]\nurl = \"https://h/S3CRET\"", "url = \"https://h/***\"");
    check("# token = \"S3CRET\"", "#***");
    check("a = 1 # was http://u:S3CRET@h", "a = 1 #***");
    check(concat!("x = \"\"\"-----BEGIN ", "PRIVATE KEY-----\nS3CRET"), MASK);
}

#[test]
fn what_is_no_secret_is_shown() {
    for line in [
        "address = \"127.0.0.1:80\" # all",
        "token_file = \"config/registry.token\"",
        "token_file = \"/run/secrets/token\"",
        "ticket_keys = \"certs/tickets\"",
        "certificates = [{ cert = \"certs/a.crt\", key = \"certs/a.key\" }]",
        "upstreams = [\"http://10.0.0.1:80\", { url = \"https://[::1]:1\", weight = 2 }]",
        "keep = { idle = 3 }",
        "exceptions = [{ host = \"a.cn\", owner = \"ops@example.cn\" }]",
        "database = \"sqlite:data/registry.db\"",
        "remove = [\"x-env\"]",
        "sticky = { cookie = \"route\" }",
        "hash_on = \"header:x-token\"",
        "blocked_by = \"https://example.cn/why\"",
        "[registry.embedded] # 名",
        "名 = \"备\"",
    ] {
        check(line, line);
    }
}

#[test]
fn a_secret_where_a_path_belongs_is_one() {
    check("token_file = \"S3CRET\"", "token_file = \"***\"");
    check("secret_file = \"whsec_AAAA/S3CRET+x==\"", "secret_file = \"***\"");
    check("token_file = \"eyJhbGciOi.eyJzdWIiOiIx.S3CRETS3CRET\"", "token_file = \"***\"");
    check(concat!("key = \"\"\"-----BEGIN ", "PRIVATE KEY-----\nS3CRET/x.y"), MASK);
}

#[test]
fn urls_have_users_and_parameters() {
    check("upstreams = [\"http://u:S3CRET@h:1/x\"]", "upstreams = [\"http://***@h:1/x\"]");
    check("upstreams = [\n  \"http://u:S3CRET@h\",", "  \"http://***@h\",");
    check("url = \"https://S3CRET@h\"", "url = \"https://***@h\"");
    check("url = \"https://u:a/S3CRET@h/x\"", "url = \"https://***@h/x\"");
    check("url = \"https://h/x?sig=S3CRET\"", "url = \"https://h/x?***\"");
    check("to = \"u:S3CRET@h:1\"", "to = \"***@h:1\"");
    check("database = \"postgres://u:S3CRET@[::1:/x\"", "database = \"postgres://***@[::1:/x\"");
    check("database = \"postgres:u:S3CRET@h\"", "database = \"***@h\"");
    check("url = \"http://u:S3\\u0043RET@h\"", "url = \"***\"");
    check("url = http://u:S3CRET@h", "url = http://***@h");
}

#[test]
fn where_to_send_warnings_is_a_secret() {
    check("[[webhook]]\nurl = \"htp://u:S3CRET@h/S3CRET\"", "url = \"htp://***@h/***\"");
    check("[[webhook]]\nurl = \"https://h/S3CRET\"", "url = \"https://h/***\"");
    check("[[webhook]]\nurl = \"h/S3CRET\"", "url = \"***\"");
    check("[[ webhook ]]\nname = \"ops\"", "name = \"ops\"");
    check("slack_hook = \"https://h/S3CRET\"", "slack_hook = \"https://h/***\"");
    check(
        "alerts = { url = \"https://h/S3CRET\", on = \"x\" }",
        "alerts = { url = \"https://h/***\", on = \"x\" }",
    );
}

#[test]
fn a_line_that_is_no_toml_shows_its_name() {
    #[track_caller]
    fn check(line: &str, expected: Option<&str>) {
        let shown = tail(line).map(|hidden| masked(line, 0..line.len(), &[hidden]));
        assert_eq!(shown.as_deref(), expected, "{line}");
    }
    check("token \"S3CRET\"", Some("token ***"));
    check("  token: S3CRET", Some("  token: ***"));
    check("upstreams = [\"http://u:S3CRET@h\"", Some("upstreams = ***"));
    check("[[webhook] url = \"https://h/S3CRET\"", Some("[[webhook] url = ***"));
    check("db_pw S3CRET", Some("db_pw ***"));
    check("S3CRET@h", Some(MASK));
    check("address = \"127.0.0.1:80", None);
    check("token =", None);
}

#[test]
fn messages_repeat_no_secret() {
    #[track_caller]
    fn check(text: &str, message: &str, expected: &str) {
        assert_eq!(Secrets::of(text).out_of(message), expected);
    }
    let text = "url = \"http://u:S3CRET@h\"\ntoken = 'a'\nto = \"\"\"x:S3\\\"CRET@h\"\"\"";
    check(text, "\"http://u:S3CRET@h\" is no URL", "\"http://***@h\" is no URL");
    check(text, "S3CRET is bad", "*** is bad");
    check(text, "a cat; \"a\"", "a cat; \"***\"");
    check(text, "\"x:S3\\\"CRET@h\" is no URL", "\"***@h\" is no URL");
    check("", "http://u:p@h/ and <https://t:p@g>, a@b", "http://***@h/ and <https://***@g>, a@b");
}

/// However a config is wrong, its error has no secret and still says where it is.
#[test]
fn no_error_shows_a_secret() {
    let rest = "provider = \"p\"\n";
    for (text, place) in [
        (
            "[[site]]\nhosts = [\"a.cn\"]\nupstreams = [\"http://u:S3CRET@10.0.0.1/x\"]",
            "f.toml:4:14: site.upstreams",
        ),
        ("[[site]]\nhosts = [\"a.cn\"]\nupstreams = [\"u:S3CRET@10.0.0.1\"]", "f.toml:4:14: site.upstreams"),
        (
            "[[site]]\nhosts = [\"http://u:S3CRET@a.cn\"]\nupstreams = [\"http://10.0.0.1\"]",
            "f.toml:3:10: site.hosts",
        ),
        ("[registry]\nurl = \"http://u:S3CRET@h:1\"", "f.toml:3:7: registry.url"),
        ("[registry]\nurl = \"http://h:1/?k=S3CRET\"", "f.toml:3:7: registry.url"),
        ("[registry]\nurl = \"http://h\"\ntoken = \"S3CRET\"", "f.toml:4:1: registry.token"),
        ("[registry]\nurl = \"http://h\"\ntoken_file = \"S3CRET\"", "f.toml:4:14: registry.token_file"),
        (
            "[registry.embedded]\ndatabase = \"postgres://u:S3CRET@[::1:/x\"",
            "f.toml:3:12: registry.embedded.database",
        ),
        (
            "[registry.embedded]\ndatabase = \"mysql://u:S3CRET@h/x\"",
            "f.toml:3:12: registry.embedded.database",
        ),
        ("[[webhook]]\nname = \"ops\"\nurl = \"htp://u:S3CRET@h/S3CRET\"", "f.toml:4:7: webhook.url"),
        ("[[webhook]]\nname = \"ops\"\nuri = \"https://h/S3CRET\"", "f.toml:4:1: webhook.uri"),
        ("[[webhook]]\nname = \"ops\"\nsecret = \"S3CRET\"", "f.toml:4:1: webhook.secret"),
        ("[otlp]\nendpoint = \"ftp://u:S3CRET@h\"", "f.toml:3:12: otlp.endpoint"),
        ("[syslog]\nto = \"http://u:S3CRET@h\"", "f.toml:3:6: syslog.to"),
        ("slack = { url = \"https://h/S3CRET\" }", "f.toml:2:1: slack"),
        ("colour = \"S3CRET\"", "f.toml:2:1: colour"),
        ("[admin]\ntoken = S3CRET", "f.toml:3:9"),
        ("[admin]\ntoken \"S3CRET\"", "f.toml:3:7"),
        ("[[webhook]]\nurl = \"https://h/S3CRET", "f.toml:3:"),
        ("[admin]\npassword = \"\"\"\nS3CRET", "f.toml:"),
        ("limits = \"http://u:S3CRET@h\"", "f.toml:2:10: limits"),
    ] {
        let error = Config::parse(&format!("{rest}{text}"), "f.toml").unwrap_err().to_string();
        assert!(!error.contains("S3CRET"), "{error}");
        assert!(error.lines().any(|line| line.starts_with(place)), "not {place}: {error}");
        assert!(error.contains('^'), "{error}");
    }
}

/// Carets stand below what is shown, not below what is not.
#[test]
fn carets_stand_below_the_mask() {
    let error =
        Config::parse("[registry]\nurl = \"http://user:S3CRET@h:1/\" # mine\n", "f.toml").unwrap_err();
    let expected = "2 | url = \"http://***@h:1/\" # mine\n  |       ^^^^^^^^^^^^^^^^^";
    assert!(error.to_string().contains(expected), "{error}");
    let error = Config::parse("prvider = \"S3CRET\"\n", "f.toml").unwrap_err();
    assert!(
        error.to_string().contains("1 | prvider = ***\n  | ^^^^^^^\n")
            || error.to_string().ends_with("^^^^^^^"),
        "{error}"
    );
}

proptest::proptest! {
    /// Any text is gone through, and what is hidden lies within it.
    #[test]
    fn any_text(text in "[a-z=\"'#\\[\\]{},.@:/\\\\\n 备]{0,60}") {
        let found = Secrets::of(&text);
        let all = 0..text.len();
        let hidden = found.within(&all, None);
        proptest::prop_assert!(hidden.windows(2).all(|pair| pair[0].end < pair[1].start));
        let _ = (masked(&text, all, &hidden), found.out_of(&text));
        for line in text.lines() {
            let _ = tail(line).map(|hidden| masked(line, 0..line.len(), &[hidden]));
        }
        let _ = Config::parse(&text, "f").map_err(|error| error.to_string());
    }
}
