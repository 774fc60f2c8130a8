//! How many calls at once a service stands: more while it copes, fewer when it does not.

/// How a call ended, in the eyes of the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// In good time.
    Good,
    /// Too slow, refused for load or timed out.
    Overload,
    /// It says nothing.
    None,
}

/// Adds one for each full round of good calls while the limit is in use, takes a tenth off for an overload.
pub(super) fn next_limit(
    limit: f64,
    in_flight: usize,
    sign: Sign,
    least: usize,
    most: usize,
) -> f64 {
    let next = match sign {
        Sign::Good if in_flight as f64 * 2.0 >= limit => limit + 1.0 / limit.max(1.0),
        Sign::Overload => limit * 0.9,
        Sign::Good | Sign::None => limit,
    };
    next.clamp(least as f64, most as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_limit_keeps_its_bounds(signs in proptest::collection::vec(0u8..3, 0..500), least in 1usize..5, more in 0usize..50) {
            let mut limit = least as f64;
            for sign in signs {
                let sign = [Sign::Good, Sign::Overload, Sign::None][usize::from(sign)];
                limit = next_limit(limit, limit as usize, sign, least, least + more);
                prop_assert!(limit >= least as f64 && limit <= (least + more) as f64);
            }
        }
    }

    #[test]
    fn it_grows_in_use_and_shrinks_under_load() {
        let mut limit = 4.0;
        for _ in 0..100 {
            limit = next_limit(limit, 1, Sign::Good, 1, 100);
        }
        assert!(limit < 4.1, "an idle limit does not grow");
        for _ in 0..100 {
            limit = next_limit(limit, limit as usize, Sign::Good, 1, 100);
        }
        assert!(limit > 12.0, "{limit}");
        for _ in 0..10 {
            limit = next_limit(limit, limit as usize, Sign::Overload, 1, 100);
        }
        assert!(limit < 6.0, "{limit}");
    }
}
