//! Runs in turns.

use std::{process::Stdio, time::Duration};

use benches::{load::Report, process};
use tokio::process::Command;

use crate::{
    Arguments, Outcome,
    programs::{Program, Programs, piped},
    table::Row,
};

/// How often, and for how long.
pub(crate) struct Rounds {
    count: u32,
    seconds: f64,
}

/// One run of one target.
pub(crate) struct Sample {
    pub(crate) report: Report,
    /// Processor time of the target for each reply, in microseconds.
    pub(crate) cpu: f64,
    /// The same of the upstream.
    pub(crate) upstream_cpu: Option<f64>,
    pub(crate) resident_kib: u64,
}

/// A program to put load on.
pub(crate) struct Target<'a> {
    pub(crate) program: &'a Program,
    /// The program behind it, if its processor time is of interest.
    pub(crate) upstream: Option<&'a Program>,
    /// What this target needs in the arguments of the load generator.
    pub(crate) load: Vec<String>,
}

impl Rounds {
    pub(crate) fn new(arguments: &Arguments) -> Self {
        Self {
            count: arguments.rounds,
            seconds: arguments.seconds,
        }
    }

    /// Runs `targets` in turns with the same `load`.
    pub(crate) async fn run(
        &self,
        programs: &Programs,
        title: &str,
        load: &[String],
        targets: &[Target<'_>],
    ) -> Outcome<Vec<Row>> {
        let mut rows: Vec<Row> = targets
            .iter()
            .map(|target| Row::new(title, target.program.name))
            .collect();
        let count = targets.len().max(1);
        for round in 0..self.count as usize {
            // Each round begins with another one: none is always the first or the last.
            for turn in 0..targets.len() {
                let index = (round + turn) % count;
                let target = &targets[index];
                let sample = self.sample(programs, load, target).await;
                let sample =
                    sample.map_err(|error| format!("{title}, {}: {error}", target.program.name))?;
                rows[index].samples.push(sample);
            }
        }
        Ok(rows)
    }

    async fn sample(
        &self,
        programs: &Programs,
        load: &[String],
        target: &Target<'_>,
    ) -> Outcome<Sample> {
        let mut command = Command::new(programs.path("loadgen"));
        command
            .arg(&target.program.url)
            .args(["--seconds", &self.seconds.to_string()])
            .args(load)
            .args(&target.load)
            .stdin(Stdio::null());
        let (_child, mut lines) = piped(command)?;
        let mut next = async || -> Outcome<String> {
            let line = lines.next_line().await?;
            line.ok_or_else(|| "the load generator gave up".into())
        };
        next().await?;
        let before = Usage::of(target);
        next().await?;
        let after = Usage::of(target);
        let report: Report = serde_json::from_str(&next().await?)?;
        let each = |used: Duration| used.as_secs_f64() * 1e6 / report.replies.max(1) as f64;
        Ok(Sample {
            cpu: each(after.target.saturating_sub(before.target)),
            upstream_cpu: (after.upstream > Duration::ZERO)
                .then(|| each(after.upstream.saturating_sub(before.upstream))),
            resident_kib: process::resident_kib(target.program.pid),
            report,
        })
    }
}

struct Usage {
    target: Duration,
    upstream: Duration,
}

impl Usage {
    fn of(target: &Target<'_>) -> Self {
        Self {
            target: process::cpu(target.program.pid),
            // One that is not known by itself is a child, or there is none.
            upstream: match target.upstream {
                Some(upstream) => process::cpu(upstream.pid),
                None => process::cpu_of_descendants(target.program.pid),
            },
        }
    }
}
