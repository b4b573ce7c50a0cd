//! The table at the end: both sides, their ratio, the limit, and whether it holds. Nothing is asserted.

use std::fmt;

/// What a figure must be.
#[derive(Clone, Copy)]
pub(crate) enum Limit {
    AtLeast(f64),
    AtMost(f64),
    None,
}

impl Limit {
    fn verdict(self, value: f64) -> &'static str {
        match self {
            Self::None => "",
            Self::AtLeast(limit) if value >= limit => "ok",
            Self::AtMost(limit) if value <= limit => "ok",
            Self::AtLeast(_) | Self::AtMost(_) => "NOT OK",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::AtLeast(limit) => format!(">= {}", number(*limit)),
            Self::AtMost(limit) => format!("<= {}", number(*limit)),
            Self::None => String::new(),
        };
        f.pad(&text)
    }
}

/// The rows gathered so far.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<[String; 6]>,
}

impl Report {
    /// A figure of ours against one of another; the limit is on the ratio.
    pub(crate) fn compare(&mut self, what: &str, ours: &[f64], other: &[f64], limit: Limit) {
        let (ours, other) = (median(ours), median(other));
        let ratio = ours / other;
        self.row(what, &number(ours), &number(other), &format!("{ratio:.2}"), limit, ratio);
    }

    /// A figure of ours; the limit is on the figure.
    pub(crate) fn figure(&mut self, what: &str, ours: f64, limit: Limit) {
        self.row(what, &number(ours), "", "", limit, ours);
    }

    fn row(&mut self, what: &str, ours: &str, other: &str, ratio: &str, limit: Limit, value: f64) {
        let row = [what, ours, other, ratio, &limit.to_string(), limit.verdict(value)];
        self.rows.push(row.map(str::to_owned));
    }

    /// Prints the table.
    pub(crate) fn print(&self) {
        let titles = ["what", "ours", "other", "ratio", "limit", ""].map(str::to_owned);
        let lines = || std::iter::once(&titles).chain(&self.rows);
        let mut widths = [0; 6];
        for line in lines() {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        println!();
        for line in lines() {
            let cells = line.iter().zip(widths).enumerate().map(|(index, (cell, width))| {
                if index == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
        }
    }
}

/// The middle value.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count.is_multiple_of(2) => f64::midpoint(values[count / 2 - 1], values[count / 2]),
        count => values[count / 2],
    }
}

fn number(value: f64) -> String {
    if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}
