//! Addresses within the console: where a login leads back to, and how a text stands in one.

/// Longest path to come back to, in bytes. Those of the console are below 100.
const BACK_BYTES_MAX: usize = 256;

/// `page` if it is a path of this site; a link in a message could name another one.
pub(super) fn own_page(page: &str) -> &str {
    let is_path = page.starts_with('/')
        && !page.starts_with("//")
        && page.len() <= BACK_BYTES_MAX
        // A browser reads `/\host` as `//host`, and drops tabs and line feeds.
        && page.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_path { page } else { "/" }
}

/// A text as part of a query.
pub(super) fn encoded(text: &str) -> String {
    let encode = |byte: u8| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_comes_back_to_a_page_of_this_site_only() {
        for page in ["/", "/approvals/7", "/sessions?agent=a%20b"] {
            assert_eq!(own_page(page), page);
        }
        let long = format!("/{}", "a".repeat(BACK_BYTES_MAX));
        for page in [
            "",
            "//evil.example",
            "/\\evil.example",
            "/\t/evil.example",
            "https://evil.example/",
            "javascript:alert(1)",
            long.as_str(),
        ] {
            assert_eq!(own_page(page), "/", "{page}");
        }
    }
}
