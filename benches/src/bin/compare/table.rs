//! The tables.

use benches::{serve::say, stats::Spread};

use crate::{Outcome, rounds::Sample};

const HEAD: &str = "\
| load | target | CPU us/request (min-max) | x limit | requests/s (min-max) | p50 ms | p99 ms | upstream CPU us | MiB | wrong |
|---|---|---|---|---|---|---|---|---|---|";

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

    fn line(&self, limit: Option<f64>) -> String {
        let cpu = self.median(|sample| sample.cpu);
        let ratio = limit
            .filter(|limit| *limit > 0.0)
            .map(|limit| format!("{:.2}", cpu / limit));
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

/// Prints the rows of one cell, each against the row called `limit`; returns how many replies were
/// wrong or missing.
pub(crate) fn print(rows: &[Row], limit: &str) -> Outcome<u64> {
    let limit = rows.iter().find(|row| row.target == limit);
    let limit = limit.map(|row| row.median(|sample| sample.cpu));
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
    Ok(rows.iter().map(Row::failures).sum())
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
