//! `${VAR}` and `${VAR:-default}` in values; `$${` stands for `${`.

/// Why a value cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ExpandError {
    #[error("the environment variable {0} is not set")]
    NotSet(String),
    #[error("`${{` is never closed by `}}`")]
    NotClosed,
    #[error("`${{{0}}}` does not name an environment variable")]
    NoName(String),
}

impl ExpandError {
    pub(crate) fn help(&self) -> String {
        match self {
            Self::NotSet(name) => {
                format!("set it before starting, or give a default: `${{{name}:-…}}`")
            }
            Self::NotClosed => {
                "write `${NAME}` or `${NAME:-default}`, or `$${` for `${` itself".into()
            }
            Self::NoName(_) => "names are letters, digits and underscores".into(),
        }
    }
}

/// The environment, as a function so that tests need not set it.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The text with every variable replaced. A default is taken as it stands; an empty variable
/// counts as not set when there is a default.
pub(crate) fn expand(text: &str, env: Environment<'_>) -> Result<String, ExpandError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at - 1]);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let inner = &rest[at + 2..];
        let end = inner.find('}').ok_or(ExpandError::NotClosed)?;
        let (name, default) = match inner[..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&inner[..end], None),
        };
        let good = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !good {
            return Err(ExpandError::NoName(inner[..end].into()));
        }
        match (env(name), default) {
            (Some(value), None) => out.push_str(&value),
            (Some(value), Some(_)) if !value.is_empty() => out.push_str(&value),
            (_, Some(default)) => out.push_str(default),
            (None, None) => return Err(ExpandError::NotSet(name.into())),
        }
        rest = &inner[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "USER_1" => Some("ada".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn variables_and_defaults_expand() {
        for (text, expanded) in [
            ("${USER_1}", "ada"),
            ("a ${USER_1}@${HOST:-local host} b", "a ada@local host b"),
            ("${EMPTY}|${EMPTY:-x}", "|x"),
            ("${USER_1:-x}", "ada"),
            ("$${USER_1} $5 $", "${USER_1} $5 $"),
            ("${GONE:-}", ""),
        ] {
            assert_eq!(expand(text, &env).as_deref(), Ok(expanded), "{text}");
        }
    }

    #[test]
    fn what_cannot_expand_says_why() {
        assert_eq!(expand("${GONE}", &env), Err(ExpandError::NotSet("GONE".into())));
        assert_eq!(expand("${GONE", &env), Err(ExpandError::NotClosed));
        assert_eq!(expand("${a b}", &env), Err(ExpandError::NoName("a b".into())));
        assert_eq!(ExpandError::NotClosed.to_string(), "`${` is never closed by `}`");
    }
}
