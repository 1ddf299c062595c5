//! Three-valued logic over what is not fully known: the set of what a condition may come out as.

/// Some of true, false and unknown (NULL). One that is sure has one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outcomes(u8);

impl Outcomes {
    pub(super) const TRUE: Self = Self(1);
    pub(super) const FALSE: Self = Self(2);
    pub(super) const NULL: Self = Self(4);
    /// True or false, but surely not NULL.
    pub(super) const EITHER: Self = Self(3);
    pub(super) const ANY: Self = Self(7);

    pub(super) fn sure(truth: Option<bool>) -> Self {
        match truth {
            Some(true) => Self::TRUE,
            Some(false) => Self::FALSE,
            None => Self::NULL,
        }
    }

    pub(super) fn has_true(self) -> bool {
        self.0 & Self::TRUE.0 != 0
    }

    fn members(self) -> impl Iterator<Item = Option<bool>> {
        let all = [(Self::TRUE, Some(true)), (Self::FALSE, Some(false)), (Self::NULL, None)];
        all.into_iter().filter(move |(bit, _)| self.0 & bit.0 != 0).map(|(_, truth)| truth)
    }

    fn or_also(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What comes out of `f` for every member.
    pub(super) fn map(self, f: impl Fn(Option<bool>) -> Option<bool>) -> Self {
        self.members().fold(Self(0), |all, m| all.or_also(Self::sure(f(m))))
    }

    /// What comes out of `f` for every pair.
    pub(super) fn pairs(
        self,
        other: Self,
        f: impl Fn(Option<bool>, Option<bool>) -> Option<bool>,
    ) -> Self {
        self.members().fold(Self(0), |all, m| all.or_also(other.map(|o| f(m, o))))
    }

    pub(super) fn and(self, other: Self) -> Self {
        self.pairs(other, |a, b| match (a, b) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        })
    }

    pub(super) fn or(self, other: Self) -> Self {
        self.not().and(other.not()).not()
    }

    pub(super) fn not(self) -> Self {
        self.map(|truth| truth.map(|t| !t))
    }

    /// The first that is not NULL.
    pub(super) fn coalesce(self, other: Self) -> Self {
        if self.0 & Self::NULL.0 == 0 {
            return self;
        }
        Self(self.0 & !Self::NULL.0).or_also(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_decides_alone_decides_whatever_the_rest_is() {
        assert_eq!(Outcomes::FALSE.and(Outcomes::ANY), Outcomes::FALSE);
        assert_eq!(Outcomes::TRUE.or(Outcomes::ANY), Outcomes::TRUE);
        assert_eq!(Outcomes::TRUE.and(Outcomes::ANY), Outcomes::ANY);
        assert!(!Outcomes::NULL.and(Outcomes::ANY).has_true());
        assert!(Outcomes::NULL.or(Outcomes::ANY).has_true());
    }

    #[test]
    fn coalesce_takes_what_is_surely_there() {
        assert_eq!(Outcomes::FALSE.coalesce(Outcomes::ANY), Outcomes::FALSE);
        assert_eq!(Outcomes::NULL.coalesce(Outcomes::TRUE), Outcomes::TRUE);
        assert_eq!(Outcomes::ANY.coalesce(Outcomes::TRUE), Outcomes::EITHER);
    }
}
