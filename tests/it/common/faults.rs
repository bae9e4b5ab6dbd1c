//! Rows of the fault matrix: a test that injected a fault and saw all hold says so here. `hack/reliability` makes the table in
//! `docs/reliability.md` of what a run left. Asserts nothing.

use std::path::PathBuf;

use serde_json::json;

/// One row. The test's own assertions come before it: a row that is written has held.
#[expect(clippy::struct_field_names, reason = "the column of the matrix is called so")]
pub struct Fault<'a> {
    /// Its name in the matrix: C1, K2 …
    pub row: &'a str,
    /// What was broken.
    pub fault: &'a str,
    /// By which means.
    pub injected: &'a str,
    /// What had to hold.
    pub asserted: &'a str,
}

impl Fault<'_> {
    /// Writes the row down. `seen` has the figures of this run; `duplicates` is how many messages came on the wire more than once.
    pub fn held(&self, seen: &str, duplicates: usize) {
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("faults");
        std::fs::create_dir_all(&directory).unwrap();
        let test = std::thread::current().name().unwrap_or_default().replace("::", ".");
        let row = json!({
            "row": self.row, "fault": self.fault, "injected": self.injected, "asserted": self.asserted,
            "seen": seen, "duplicates": duplicates, "test": test,
        });
        std::fs::write(directory.join(format!("{}-{test}.json", self.row)), row.to_string()).unwrap();
    }
}
