//! The layers have to be worth it.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

#[tokio::test(start_paused = true)]
async fn more_answers_and_less_waste() {
    for seed in 1..4 {
        let with = storm::with(seed, &storm::config()).await.unwrap();
        for tries in [1, 5] {
            let without = storm::without(seed, tries).await;
            assert!(
                with.goodput > without.goodput * 1.2,
                "{with} against {without}"
            );
            assert!(with.wasted * 5 < without.wasted, "{with} against {without}");
        }
        assert!(
            with.recovery.is_some_and(|time| time.as_secs() <= 10),
            "{with}"
        );
    }
}
