//! The tables.

use std::ops::AddAssign;

use benches::{
    serve::say,
    stats::{Interval, Spread},
};

use crate::{Outcome, programs::BESIDE, rounds::Sample};

const HEAD: &str = "\
| load | target | CPU us/request (min-max) | x limit (95 %) | requests/s (min-max) | p50 ms | p99 ms | upstream CPU us | MiB | wrong |
|---|---|---|---|---|---|---|---|---|---|";

/// What the cells so far showed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Verdict {
    /// How many replies were wrong or missing.
    pub(crate) failures: u64,
    /// What a call costs at least, in the worst cell, as a multiple of what it costs beside.
    pub(crate) worst: Option<f64>,
}

impl AddAssign for Verdict {
    fn add_assign(&mut self, other: Self) {
        self.failures += other.failures;
        self.worst = self.worst.into_iter().chain(other.worst).reduce(f64::max);
    }
}

/// All runs of one target in one cell.
pub(crate) struct Row {
    title: String,
    target: &'static str,
    pub(crate) samples: Vec<Sample>,
}

impl Row {
    pub(crate) fn new(title: &str, target: &'static str) -> Self {
        Self {
            title: title.to_owned(),
            target,
            samples: Vec::new(),
        }
    }

    fn spread(&self, value: impl Fn(&Sample) -> f64) -> Option<Spread> {
        Spread::of(self.samples.iter().map(value))
    }

    fn median(&self, value: impl Fn(&Sample) -> f64) -> f64 {
        self.spread(value).map_or(0.0, |spread| spread.median)
    }

    fn failures(&self) -> u64 {
        let failures = |sample: &Sample| sample.report.wrong + sample.report.errors;
        self.samples.iter().map(failures).sum()
    }

    /// How many times the processor time of `other` this one takes, by the rounds that both ran in.
    fn over(&self, other: &Self) -> Option<Interval> {
        let pairs = self.samples.iter().zip(&other.samples);
        Interval::of(
            pairs
                .filter(|(_, other)| other.cpu > 0.0)
                .map(|(own, other)| own.cpu / other.cpu),
        )
    }

    fn line(&self, limit: Option<&Self>) -> String {
        let ratio = limit.and_then(|limit| self.over(limit)).map(interval);
        let upstream = Spread::of(self.samples.iter().filter_map(|sample| sample.upstream_cpu));
        let cells = [
            self.title.clone(),
            self.target.to_owned(),
            range(self.spread(|sample| sample.cpu), 1),
            ratio.unwrap_or_default(),
            range(self.spread(|sample| sample.report.per_second), 0),
            format!(
                "{:.2}",
                self.median(|sample| f64::from(sample.report.p50)) / 1e3
            ),
            format!(
                "{:.2}",
                self.median(|sample| f64::from(sample.report.p99)) / 1e3
            ),
            upstream
                .map(|spread| format!("{:.0}", spread.median))
                .unwrap_or_default(),
            format!(
                "{:.0}",
                self.median(|sample| sample.resident_kib as f64 / 1024.0)
            ),
            self.failures().to_string(),
        ];
        format!("| {} |", cells.join(" | "))
    }
}

/// Prints the head of a table.
pub(crate) fn head(title: &str) -> Outcome<()> {
    Ok(say(format_args!("\n## {title}\n\n{HEAD}"))?)
}

/// Prints the rows of one cell, each against the row called `limit`.
pub(crate) fn print(rows: &[Row], limit: &str) -> Outcome<Verdict> {
    let named = |name: &str| rows.iter().find(|row| row.target == name);
    let limit = named(limit);
    for row in rows {
        say(row.line(limit))?;
        let errors = row
            .samples
            .iter()
            .filter_map(|sample| sample.report.last_error.as_ref());
        for error in errors.take(1) {
            say(format_args!("last error of {}: {error}", row.target))?;
        }
    }
    let ratio = match (named("gateway"), named(BESIDE)) {
        (Some(gateway), Some(beside)) => gateway.over(beside),
        _ => None,
    };
    if let (Some(ratio), Some(row)) = (ratio, rows.first()) {
        let ratio = interval(ratio);
        say(format_args!(
            "| {} | gateway over beside | | {ratio} |",
            row.title
        ))?;
    }
    Ok(Verdict {
        failures: rows.iter().map(Row::failures).sum(),
        worst: ratio.map(|ratio| ratio.low),
    })
}

fn interval(
    Interval {
        median, low, high, ..
    }: Interval,
) -> String {
    format!("{median:.2} ({low:.2}-{high:.2})")
}

/// A median with its range.
pub(crate) fn range(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or_else(
        String::new,
        |Spread {
             median, min, max, ..
         }| { format!("{median:.digits$} ({min:.digits$}-{max:.digits$})") },
    )
}
