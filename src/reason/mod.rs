//! Reasons with stable codes: why the agent halts, why it keeps trying, and why a table is
//! not copied.
//!
//! Each class of reasons is one table. The enum, the list of all reasons, the labels of metrics and
//! the tables of the documents come from it, so that no reason can be missing in one of them.
//! Dashboards, alerts and runbooks use the codes, so that a code never changes.
//!
//! Whoever finds a cause raises its reason. `agent::supervise` decides which error of a connection
//! has which reason.

mod copy;
mod halt;
mod trouble;

pub use copy::CopyReason;
pub use halt::{By, Lifting, Proof, Reason};
pub use trouble::TroubleReason;

/// Declares one class of reasons. Each row of the table is a variant, its code and its text. The
/// function that is named above the rows returns the text.
macro_rules! reasons {
    (
        $(#[$enum_doc:meta])*
        pub enum $name:ident {
            $(#[$text_doc:meta])*
            fn $text:ident;
            $($variant:ident: $code:literal, $says:literal;)*
        }
    ) => {
        $(#[$enum_doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "the table has a text for each")]
        pub enum $name {
            $($variant,)*
        }

        impl $name {
            /// Every reason of this class, in the order of the table.
            pub const ALL: &[$name] = &[$($name::$variant,)*];

            /// Stable code of the reason.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self {
                    $($name::$variant => $code,)*
                }
            }

            $(#[$text_doc])*
            #[must_use]
            pub const fn $text(self) -> &'static str {
                match self {
                    $($name::$variant => $says,)*
                }
            }
        }
    };
}
use reasons;

/// The code of every trouble and of every halt. `/status`, the log and the label `reason` of
/// metrics show these codes.
pub fn codes() -> impl Iterator<Item = &'static str> {
    let troubles = TroubleReason::ALL.iter().map(|reason| reason.code());
    troubles.chain(Reason::ALL.iter().map(|reason| reason.code()))
}

/// The code of a trouble or a halt that equals `text`; `None` if no such code does.
#[must_use]
pub fn known(text: &str) -> Option<&'static str> {
    codes().find(|code| *code == text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_reasons_share_a_code() {
        let copies = || CopyReason::ALL.iter().map(|reason| reason.code());
        let all: BTreeSet<&str> = codes().chain(copies()).collect();
        assert_eq!(all.len(), codes().chain(copies()).count());
        assert!(codes().all(|code| known(code) == Some(code)));
        assert_eq!(known("other"), None);
    }
}
