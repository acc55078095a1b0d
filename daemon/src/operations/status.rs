//! What an operation may be in, and what it may become.

/// Where an operation is. The numbers are the peers'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Registered; the work has not begun.
    Pending,
    /// At work.
    Running,
    /// Asked to stop; it will at its next checkpoint.
    Cancelling,
    /// Ended well.
    Success,
    /// Ended badly.
    Failure,
    /// Ended because it was asked to, after undoing what it had begun.
    Cancelled,
}

impl Status {
    /// The number on the wire; final from 200 on.
    pub fn code(self) -> u16 {
        match self {
            Self::Pending => 105,
            Self::Running => 103,
            Self::Cancelling => 104,
            Self::Success => 200,
            Self::Failure => 400,
            Self::Cancelled => 401,
        }
    }

    /// The words on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Cancelling => "Cancelling",
            Self::Success => "Success",
            Self::Failure => "Failure",
            Self::Cancelled => "Cancelled",
        }
    }

    /// Whether nothing more will happen.
    pub fn is_final(self) -> bool {
        self.code() >= 200
    }

    /// Whether an operation may go from here to `next`.
    pub fn may_become(self, next: Self) -> bool {
        match self {
            Self::Pending => next != Self::Pending,
            Self::Running => !matches!(next, Self::Pending | Self::Running),
            Self::Cancelling => next.is_final(),
            Self::Success | Self::Failure | Self::Cancelled => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    const ALL: &[Status] = &[
        Status::Pending,
        Status::Running,
        Status::Cancelling,
        Status::Success,
        Status::Failure,
        Status::Cancelled,
    ];

    proptest! {
        #[test]
        fn no_walk_leaves_a_final_status_or_comes_back(steps in vec(select(ALL), 0..20)) {
            let mut now = Status::Pending;
            let mut walked = vec![now];
            for next in steps {
                if now.may_become(next) {
                    prop_assert!(!now.is_final());
                    prop_assert!(!walked.contains(&next), "{now:?} -> {next:?}");
                    now = next;
                    walked.push(now);
                }
            }
        }
    }
}
