//! Any text is a config or an error that says where and why; what is taken is taken again alike.

#![no_main]

use beian_gate::config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    // Files that a config names are read at once: not while fuzzing.
    if text.contains("file") {
        return;
    }
    match Config::parse(text, "fuzz.toml") {
        Ok(config) => {
            let again = Config::parse(text, "fuzz.toml").expect("what was taken once");
            assert_eq!(format!("{config:?}"), format!("{again:?}"));
            let _ = (config.require_gate(), config.require_provider());
        }
        Err(error) => assert!(error.to_string().contains("fuzz.toml"), "{error}"),
    }
});
