//! Shows how executions get on while they are waited for, on standard error: a moving line each on a terminal, else a line
//! for each change.

use std::{io::IsTerminal, time::Duration};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Where progress is shown.
pub struct Progress {
    bars: Option<MultiProgress>,
}

/// The progress of one execution.
pub struct Line {
    name: String,
    bar: Option<ProgressBar>,
    last: String,
}

impl Progress {
    /// Moving lines if standard error is a terminal that can move.
    #[must_use]
    pub fn new() -> Self {
        let moves = std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { bars: moves.then(MultiProgress::new) }
    }

    /// A line for one execution.
    #[must_use]
    pub fn line(&self, name: &str) -> Line {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}  {msg}  {elapsed}") {
                bar.set_style(style);
            }
            bar.set_prefix(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Line { name: name.to_owned(), bar, last: String::new() }
    }
}

impl Line {
    /// Shows the text, if it is another one.
    pub fn show(&mut self, text: &str) {
        if self.last == text {
            return;
        }
        text.clone_into(&mut self.last);
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None => eprintln!("{}: {text}", self.name),
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
