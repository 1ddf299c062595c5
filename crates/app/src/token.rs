//! `rowcast token`: a new access token, and what the file has to say of it.

use crate::output::Output;
use crate::report::{Exit, Failure};
use rowcast_server::{TokenDigest, new_token};

/// The token is on the first line and nowhere else; the file needs only its digest.
pub(crate) fn token(output: Output) -> Result<Exit, Failure> {
    let token = new_token();
    output.line(&token)?;
    output.line(format!("sha256 = \"{}\"", TokenDigest::of(&token)))?;
    output.aside(
        "The first line is the token, for whoever asks; it is shown only now. The second is for \
         `[server] tokens` in rowcast.toml:\n  tokens = [{ name = \"…\", role = \"reader\", sha256 \
         = \"…\" }]",
    );
    Ok(Exit::Good)
}
