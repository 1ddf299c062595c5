//! `cargo xtask check`: every look at the code that needs no server. All of them run, so that one
//! call tells everything.

use crate::run::{cargo, must};
use crate::tidy;
use anyhow::{Result, bail};

type Look = (&'static str, fn() -> Result<()>);

pub(crate) fn check() -> Result<()> {
    let looks: [Look; 4] = [
        ("format", || must(&mut cargo(&["fmt", "--all", "--check"])?)),
        ("lints", || {
            let lint = ["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"];
            must(&mut cargo(&lint)?)
        }),
        ("documentation", || {
            let document = ["doc", "--workspace", "--no-deps"];
            must(cargo(&document)?.env("RUSTDOCFLAGS", "--deny warnings"))
        }),
        ("tidy", tidy::tidy),
    ];
    let mut failed = Vec::new();
    for (name, look) in looks {
        if let Err(error) = look() {
            eprintln!("error: {error:#}");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("check failed: {}", failed.join(", "));
    }
    println!("check: all good");
    Ok(())
}
