//! The rules of the comparison by name, so that a test can switch one off and see what it is for.

/// A rule of the comparison. The program keeps all of them. The simulation switches off each in
/// turn, and must then find a violation of a law.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// It is a finding if the publication does not exist at the later look.
    PublicationExists,
    /// It is a finding if the publication has another oid.
    PublicationIsTheSame,
    /// It is a finding if the publication publishes fewer operations, or has another
    /// `publish_via_partition_root`.
    OptionsStay,
    /// It is a finding if the publication's row has a new version although the publication
    /// publishes no fewer operations. If nothing else in the row is new, an alteration was taken
    /// back.
    PublicationVersion,
    /// It is a finding if a captured relation was dropped.
    RelationExists,
    /// It is a finding if a captured relation has another name.
    NameStays,
    /// It is a finding if a captured relation is no longer published.
    StaysPublished,
    /// It is a finding if another row of the catalog makes a captured relation a member of the
    /// publication.
    MembershipStays,
    /// It is a finding if a captured leaf was detached from its published root and attached again.
    LineageStays,
    /// It is a finding if a captured relation has become unlogged.
    StaysLogged,
    /// It is a finding if a captured relation was in another namespace between two looks.
    NamespaceStays,
    /// It is a finding if a namespace has a new row version, but the same name, owner and rights: a
    /// renaming may have been taken back.
    NamespaceVersion,
    /// It is a finding if UPDATE and DELETE of a captured relation or its leaf have begun to fail
    /// for lack of a replica identity.
    UpdatesGoOn,
    /// It is a finding if the replica identity or the primary key of a captured relation is another
    /// one.
    KeyStays,
    /// It is a finding if a captured relation was rewritten and a column has another type.
    RewriteIsTold,
    /// It is a finding if a partition that may have held rows before was attached to a captured
    /// table.
    AttachIsTold,
    /// It is a finding if a partition was detached from a captured table, or was detached and
    /// attached again.
    DetachIsTold,
    /// It is a finding if a partition of a captured table was truncated, unless one statement
    /// truncated all of several partitions.
    TruncateIsTold,
}

#[cfg(test)]
impl Rule {
    /// Lists every rule. The simulation switches each of them off.
    pub(super) const ALL: [Rule; 18] = [
        Rule::PublicationExists,
        Rule::PublicationIsTheSame,
        Rule::OptionsStay,
        Rule::PublicationVersion,
        Rule::RelationExists,
        Rule::NameStays,
        Rule::StaysPublished,
        Rule::MembershipStays,
        Rule::LineageStays,
        Rule::StaysLogged,
        Rule::NamespaceStays,
        Rule::NamespaceVersion,
        Rule::UpdatesGoOn,
        Rule::KeyStays,
        Rule::RewriteIsTold,
        Rule::AttachIsTold,
        Rule::DetachIsTold,
        Rule::TruncateIsTold,
    ];
}

/// The rules that are in force: all of them. A test can switch off one.
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
