//! The rules of the comparison by name, so that a test can switch one off and see what it is for.

/// A rule. In the program all of them hold; the simulation breaks each in turn and must then find a
/// violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// The publication exists at both looks.
    PublicationExists,
    /// The publication has the oid that it had.
    PublicationIsTheSame,
    /// Operations and names under which partitions are published stay.
    OptionsStay,
    /// A new row version of an equal publication is an alteration that was taken back.
    PublicationVersion,
    /// A captured relation exists.
    RelationExists,
    /// A captured relation keeps its name.
    NameStays,
    /// A captured relation is published.
    StaysPublished,
    /// The row that makes a relation a member stays the same row.
    MembershipStays,
    /// A captured relation writes WAL.
    StaysLogged,
    /// A new version of the row type's name is a renaming that was taken back.
    NameVersion,
    /// A new row version of an equal namespace may be a renaming that was taken back.
    NamespaceVersion,
    /// A captured relation has a replica identity that lets UPDATE and DELETE go on.
    UpdatesGoOn,
    /// The columns of the replica identity stay.
    KeyStays,
    /// A rewrite that changed a column's type is told.
    RewriteIsTold,
    /// A partition that may have held rows before it was attached is told.
    AttachIsTold,
    /// A partition that left, or left and came back, is told.
    DetachIsTold,
    /// A partition that was truncated alone is told.
    TruncateIsTold,
}

#[cfg(test)]
impl Rule {
    /// Lists every rule. The simulation switches each of them off.
    pub(super) const ALL: [Rule; 17] = [
        Rule::PublicationExists,
        Rule::PublicationIsTheSame,
        Rule::OptionsStay,
        Rule::PublicationVersion,
        Rule::RelationExists,
        Rule::NameStays,
        Rule::StaysPublished,
        Rule::MembershipStays,
        Rule::StaysLogged,
        Rule::NameVersion,
        Rule::NamespaceVersion,
        Rule::UpdatesGoOn,
        Rule::KeyStays,
        Rule::RewriteIsTold,
        Rule::AttachIsTold,
        Rule::DetachIsTold,
        Rule::TruncateIsTold,
    ];
}

/// Which rules hold: all of them, outside of tests.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rules {
    #[cfg(test)]
    off: Option<Rule>,
}

impl Rules {
    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "in tests one of them can be off")]
    pub(super) const fn keep(self, _rule: Rule) -> bool {
        true
    }

    #[cfg(test)]
    pub(super) fn keep(self, rule: Rule) -> bool {
        self.off != Some(rule)
    }

    #[cfg(test)]
    pub(super) const fn without(off: Option<Rule>) -> Self {
        Rules { off }
    }
}
