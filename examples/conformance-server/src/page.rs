//! Pages of a list.

use std::num::NonZeroUsize;

use rmcp::{ErrorData, model::PaginatedRequestParams};

/// Cursors carry this in front of the offset, so that no client takes them for plain numbers.
const PREFIX: &str = "after:";

/// Cuts the page that `request` asks for out of `items`; returns it and the next cursor.
///
/// # Errors
///
/// A cursor that was not issued here is an invalid parameter (MCP 2026-07-28, pagination).
pub(crate) fn cut<T>(
    mut items: Vec<T>,
    request: Option<PaginatedRequestParams>,
    size: Option<NonZeroUsize>,
) -> Result<(Vec<T>, Option<String>), ErrorData> {
    let start = match request.and_then(|request| request.cursor) {
        None => 0,
        Some(cursor) => offset(&cursor, items.len())?,
    };
    let mut page = items.split_off(start);
    let Some(size) = size else {
        return Ok((page, None));
    };
    let next = (page.len() > size.get()).then(|| format!("{PREFIX}{}", start + size.get()));
    page.truncate(size.get());
    Ok((page, next))
}

fn offset(cursor: &str, len: usize) -> Result<usize, ErrorData> {
    cursor
        .strip_prefix(PREFIX)
        .and_then(|offset| offset.parse::<usize>().ok())
        .filter(|offset| *offset <= len)
        .ok_or_else(|| ErrorData::invalid_params(format!("unknown cursor: {cursor}"), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(cursor: &str) -> Option<PaginatedRequestParams> {
        Some(PaginatedRequestParams::default().with_cursor(Some(cursor.to_owned())))
    }

    #[test]
    fn pages_cover_the_list_once() {
        let size = NonZeroUsize::new(3);
        let mut seen = Vec::new();
        let mut wanted = None;
        loop {
            let (page, next) = cut((0..8).collect(), wanted, size).unwrap();
            assert!(page.len() <= 3);
            seen.extend(page);
            let Some(next) = next else { break };
            wanted = request(&next);
        }
        assert_eq!(seen, (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn a_full_last_page_has_no_cursor() {
        let (page, next) = cut(vec![1, 2, 3], None, NonZeroUsize::new(3)).unwrap();
        assert_eq!((page.len(), next), (3, None));
    }

    #[test]
    fn foreign_cursors_are_refused() {
        for cursor in ["", "3", "after:", "after:9", "after:-1"] {
            assert!(
                cut(vec![1, 2, 3], request(cursor), None).is_err(),
                "{cursor:?}"
            );
        }
    }
}
