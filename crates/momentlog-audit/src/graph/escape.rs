//! Texts in HTML, SVG and JSON, and times as text.

use std::fmt::Write as _;

/// Returns a text that stands for itself in HTML and in XML, between tags and in quoted attributes.
pub(super) fn markup(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // No characters in XML; HTML finds fault with them, too.
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

/// Returns a text as a JSON string that is safe inside of a script tag.
pub(super) fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(char));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// Returns bytes in Base64.
pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let digit = bits >> (18 - 6 * at) & 63;
            let is_padding = at > group.len();
            out.push(if is_padding {
                '='
            } else {
                char::from(DIGITS[digit as usize])
            });
        }
    }
    out
}

/// Returns a time in seconds since 1970 as UTC: `2026-11-20 08:40:00Z`. One outside of the years 0 to 9999 stands as its
/// number of seconds.
pub(super) fn utc(seconds: i64) -> String {
    match jiff::Timestamp::from_second(seconds) {
        Ok(time) if time >= FIRST => time.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        _ => format!("@{seconds}"),
    }
}

/// When the year 0 begins.
const FIRST: jiff::Timestamp = jiff::Timestamp::constant(-62_167_219_200, 0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_meaning_in_markup_or_ends_a_script_is_escaped() {
        assert_eq!(markup("a<b>&\"'"), "a&lt;b&gt;&amp;&quot;&#39;");
        assert_eq!(markup("]]>\u{ffff}"), "]]&gt;\u{fffd}");
        assert_eq!(json("</script>"), "\"\\u003c/script\\u003e\"");
        assert_eq!(
            json("a\"\\\n\u{2028}\u{2029}&é"),
            "\"a\\\"\\\\\\u000a\\u2028\\u2029\\u0026é\""
        );
    }

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00Z"),
            (-1, "1969-12-31 23:59:59Z"),
            (951_782_400, "2000-02-29 00:00:00Z"),
            (1_763_628_000, "2025-11-20 08:40:00Z"),
            (4_107_542_399, "2100-02-28 23:59:59Z"),
            (4_107_542_400, "2100-03-01 00:00:00Z"),
            (-62_167_219_200, "0000-01-01 00:00:00Z"),
            (-62_167_219_201, "@-62167219201"),
            (253_402_300_800, "@253402300800"),
            (i64::MAX, "@9223372036854775807"),
            (i64::MIN, "@-9223372036854775808"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }
}
