//! What pages in Chinese and English share: the choice between two texts, and times as clocks in China show them.

use minijinja::{Environment, State};

/// As `YYYY-MM-DD HH:MM` in UTC+8. `at_s` is Unix seconds.
#[must_use]
pub fn beijing(at_s: i64) -> Option<String> {
    let at = jiff::Timestamp::from_second(at_s).ok()?;
    Some(jiff::tz::Offset::constant(8).to_datetime(at).strftime("%Y-%m-%d %H:%M").to_string())
}

/// Teaches templates `t(中文, English)`, which goes by `lang`, and the filter `beijing`, which makes of a time in RFC 3339
/// what `beijing` does, and leaves what is no time as it is.
pub fn teach(templates: &mut Environment<'_>) {
    templates.add_function("t", |state: &State<'_, '_>, zh: String, en: String| {
        let is_english = state.lookup("lang").is_some_and(|lang| lang.as_str() == Some("en"));
        if is_english { en } else { zh }
    });
    templates.add_filter("beijing", |text: String| {
        let at = text.parse::<jiff::Timestamp>().ok();
        at.and_then(|at| beijing(at.as_second())).unwrap_or(text)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_speak() {
        let mut templates = Environment::new();
        teach(&mut templates);
        let said = |lang: &str| {
            let text =
                "{{ t('数据时间', 'as of') }} {{ '2026-11-26T01:55:11.9Z'|beijing }} {{ '—'|beijing }}";
            templates.render_str(text, minijinja::context! { lang }).unwrap()
        };
        assert_eq!(said("en"), "as of 2026-11-26 09:55 —");
        assert_eq!(said("zh"), "数据时间 2026-11-26 09:55 —");
    }
}
