//! A page as Markdown.

use htmd::HtmlToMarkdown;

/// Converts cleaned HTML. Deep nesting is the caller's to bound.
pub(crate) fn of_html(html: &str) -> String {
    let converter = HtmlToMarkdown::builder()
        .skip_tags(vec![
            "script", "style", "noscript", "template", "svg", "canvas", "iframe", "head",
        ])
        .build();
    let text = converter.convert(html).unwrap_or_default();
    // No more than one empty line in a row.
    let mut out = String::with_capacity(text.len());
    let mut empty = 0;
    for line in text.lines() {
        let line = line.trim_end();
        empty = if line.is_empty() { empty + 1 } else { 0 };
        if empty < 2 {
            out.push_str(line);
            out.push('\n');
        }
    }
    out.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_links_lists_and_tables_come_through() {
        let html = "<h1>Shop</h1><script>x()</script><p>See <a href='/a'>this</a>.</p><ul><li>One</li><li>Two</li></ul>\
            <table><thead><tr><th>Item</th><th>Price</th></tr></thead><tbody><tr><td>Tea</td><td>3</td></tr></tbody></table>";
        let text = of_html(html);
        for part in ["# Shop", "[this](/a)", "One", "| Tea"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("x()"));
        assert_eq!(of_html(""), "");
    }
}
