//! The matrix as tests, and as the table in the manual.

use super::cells::{self, Cell, Outcome};
use super::play::{ALL, play};
use futures::StreamExt;
use std::fmt::Write;
use std::path::Path;

/// Cells that are played at the same time.
const AT_ONCE: usize = 4;

async fn play_all(cells: &[Cell]) {
    let cases = cells.iter().flat_map(|cell| ALL.map(|when| (cell, when)));
    futures::stream::iter(cases)
        .for_each_concurrent(AT_ONCE, |(cell, when)| Box::pin(play(cell, when)))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_at_the_source() {
    play_all(cells::SOURCE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition() {
    play_all(cells::PARTITIONS).await;
}

const BEGIN: &str = "<!-- matrix: written by the test `matrix`, not by hand -->\n";
const END: &str = "<!-- end of the matrix -->\n";

fn words(outcome: Outcome) -> String {
    match outcome {
        Outcome::Followed => "followed".into(),
        Outcome::Rebuilt => "rebuilt".into(),
        Outcome::Paused(code) => format!("paused: [{code}](errors/{code}.md)"),
    }
}

fn manual() -> String {
    let mut text = String::from(BEGIN);
    writeln!(text, "| object | change | while Rowcast runs | while it is stopped |").unwrap();
    writeln!(text, "|---|---|---|---|").unwrap();
    for cell in [cells::SOURCE, cells::PARTITIONS].concat() {
        let (running, stopped) = (words(cell.running), words(cell.stopped));
        writeln!(text, "| {} | {} | {running} | {stopped} |", cell.object, cell.change).unwrap();
    }
    text + END
}

#[test]
fn the_manual_has_this_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schema-change.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = page.split_once(BEGIN).unwrap();
    let (_, tail) = rest.split_once(END).unwrap();
    let wanted = format!("{head}{}{tail}", manual());
    if std::env::var_os("ROWCAST_WRITE_DOCS").is_some() {
        std::fs::write(&path, wanted).unwrap();
        return;
    }
    assert_eq!(page, wanted, "ROWCAST_WRITE_DOCS=1 cargo test --test matrix writes it");
}
