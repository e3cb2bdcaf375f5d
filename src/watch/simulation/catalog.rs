//! The model of a catalog. It also knows which changes a stream would miss.

mod parts;
mod statements;

use crate::lsn::{Lsn, Oid};
use crate::watch::{Code, Fingerprint, Publication, Relation};
use std::collections::BTreeMap;

/// Names that are captured.
const CAPTURED: [&str; 3] = ["a", "b", "root"];

/// A loss: something that happened in the database and that the stream does not show.
#[derive(Debug)]
pub(super) struct Harm {
    /// The table's name at the look before.
    pub table: String,
    /// The position of the harm in the WAL.
    pub at: Lsn,
    /// Codes of findings that do not halt the stream and that report this harm.
    pub codes: Vec<Code>,
}

/// The catalog, and the harm since the last look.
pub(super) struct Catalog {
    publication: Option<Publication>,
    relations: BTreeMap<Oid, Relation>,
    /// The names that the captured relations had at the last look.
    expected: BTreeMap<Oid, String>,
    lsn: u64,
    xid: u32,
    /// The id of the newest transaction at the last look.
    begun: u32,
    next_oid: u32,
    harms: Vec<Harm>,
    may_lose: bool,
    harmless: bool,
    /// True if the rights of the schema changed since the last look.
    rights_changed: bool,
    /// True if the schema was renamed and renamed back since the last look.
    renamed_back: bool,
}

fn relation(oid: u32, name: &str) -> Relation {
    Relation {
        oid: Oid(oid),
        namespace: "public".to_owned(),
        name: name.to_owned(),
        published: false,
        captured: false,
        membership: Oid(0),
        membership_version: 0,
        lineage: String::new(),
        columns: None,
        filter: None,
        persistence: 'p',
        identity: 'd',
        key: "1".to_owned(),
        primary_key: "1".to_owned(),
        updates_fail: false,
        filenode: Oid(oid),
        version: 1,
        namespace_version: 1,
        namespace_rights: String::new(),
        types: Some("1:23:-1 2:25:-1".to_owned()),
        placed: Some(1),
        parts: BTreeMap::new(),
    }
}

impl Catalog {
    pub(super) fn new() -> Catalog {
        let publication = Publication {
            oid: Oid(1),
            name: "p".to_owned(),
            version: 1,
            owner: Oid(10),
            inserts: true,
            updates: true,
            deletes: true,
            truncates: true,
            via_root: true,
        };
        let mut catalog = Catalog {
            publication: Some(publication),
            relations: BTreeMap::new(),
            expected: BTreeMap::new(),
            lsn: 100,
            xid: 1,
            begun: 1,
            next_oid: 100,
            harms: Vec::new(),
            may_lose: false,
            harmless: true,
            rights_changed: false,
            renamed_back: false,
        };
        for name in CAPTURED {
            catalog.create(name);
            catalog.publish(name);
        }
        catalog
    }

    /// Begins an interval between two looks: forgets the harms of the interval before, and mends
    /// what was lost in it.
    pub(super) fn begin(&mut self) {
        self.harms.clear();
        (self.may_lose, self.harmless) = (false, true);
        (self.rights_changed, self.renamed_back) = (false, false);
        // A person has mended what the last look found, so that every interval begins with
        // something to lose.
        if self.publication.is_none() {
            self.publication =
                Some(Publication { oid: self.oid(), ..Catalog::new().publication.unwrap() });
            self.relations.values_mut().for_each(|relation| relation.published = false);
        }
        if let Some(publication) = &mut self.publication {
            (publication.inserts, publication.updates) = (true, true);
            (publication.deletes, publication.truncates, publication.via_root) = (true, true, true);
        }
        for name in CAPTURED {
            if self.named(name).is_none() {
                self.create(name);
            }
            self.publish(name);
            let relation = self.relation(name);
            (relation.persistence, relation.updates_fail, relation.filter) = ('p', false, None);
            relation.key = "1".to_owned();
        }
    }

    pub(super) fn harms(&self) -> &[Harm] {
        &self.harms
    }

    pub(super) fn may_lose(&self) -> bool {
        self.may_lose
    }

    pub(super) fn was_harmless(&self) -> bool {
        self.harmless
    }

    /// Makes a look at the catalog of the model.
    pub(super) fn look(&mut self) -> Fingerprint {
        let is_there = self.publication.is_some();
        for relation in self.relations.values_mut() {
            relation.captured =
                is_there && relation.published && CAPTURED.contains(&&*relation.name);
        }
        let captured = self.relations.values().filter(|relation| relation.captured);
        self.expected = captured.map(|relation| (relation.oid, relation.name.clone())).collect();
        self.begun = self.xid;
        let at = Lsn::new(self.lsn);
        Fingerprint {
            before: at,
            after: at,
            publication: self.publication.clone(),
            relations: self.relations.clone(),
        }
    }

    fn oid(&mut self) -> Oid {
        self.next_oid += 1;
        Oid(self.next_oid)
    }

    fn version(&mut self) -> u32 {
        self.xid += 1;
        self.lsn += 10;
        self.xid
    }

    fn named(&self, name: &str) -> Option<Oid> {
        self.relations.values().find(|relation| relation.name == name).map(|relation| relation.oid)
    }

    fn relation(&mut self, name: &str) -> &mut Relation {
        let oid = self.named(name).unwrap();
        self.relations.get_mut(&oid).unwrap()
    }

    fn create(&mut self, name: &str) {
        let (oid, version) = (self.oid(), self.version());
        let made = Relation { version, placed: Some(version), ..relation(oid.0, name) };
        self.relations.insert(oid, made);
    }

    fn publish(&mut self, name: &str) {
        if self.relation(name).published {
            return;
        }
        let (membership, version) = (self.oid(), self.version());
        let relation = self.relation(name);
        (relation.published, relation.membership, relation.membership_version) =
            (true, membership, version);
        (relation.filter, relation.columns) = (None, None);
    }

    fn rename(&mut self, from: &str, to: &str) {
        let version = self.version();
        let relation = self.relation(from);
        relation.name = to.to_owned();
        relation.version = version;
    }

    /// Changes the publication, whose row gets a new version.
    fn alter(&mut self, change: impl FnOnce(&mut Publication)) {
        let version = self.version();
        if let Some(publication) = &mut self.publication {
            publication.version = version;
            change(publication);
        }
    }

    /// Writes a row into each relation that has a captured name now, and into each that had one at
    /// the last look. A row is a harm if the stream neither shows the row nor announces that its
    /// relation has another name.
    fn write(&mut self) {
        let publication = self.publication.clone();
        let targets: Vec<(Oid, String)> =
            self.relations.values().map(|r| (r.oid, r.name.clone())).collect();
        for (oid, name) in targets {
            let expected = self.expected.get(&oid).cloned();
            // To a consumer, a name stays the same table even if another relation had the name at
            // the last look.
            let is_wanted = expected.is_some()
                || (CAPTURED.contains(&&*name)
                    && self.expected.values().any(|expected| *expected == name));
            if !is_wanted {
                continue;
            }
            self.lsn += 10;
            let relation = &self.relations[&oid];
            let published = publication
                .as_ref()
                .is_some_and(|p| p.inserts && p.updates && p.deletes && p.via_root);
            // A captured relation under another name is announced by the stream before its row.
            let comes = expected.is_some()
                && published
                && relation.published
                && relation.persistence == 'p'
                && relation.filter.is_none();
            if !comes {
                let table = format!("public.{}", expected.unwrap_or(name));
                self.harms.push(Harm {
                    table,
                    at: Lsn::new(self.lsn),
                    codes: vec![Code::PublicationExtended],
                });
            }
        }
    }

    fn harm(&mut self, table: &str, code: Code) {
        self.lsn += 10;
        let table = format!("public.{table}");
        self.harms.push(Harm { table, at: Lsn::new(self.lsn), codes: vec![code] });
    }

    /// Executes the statements that this random number selects, and returns their description.
    /// `None` if the catalog does not permit them.
    pub(super) fn execute(&mut self, number: u64) -> Option<&'static str> {
        let table = if number.is_multiple_of(2) { "a" } else { "b" };
        self.named(table)?;
        let kind = number / 2 % 34;
        let statement = match kind {
            0..=9 => self.harmless(kind, table),
            10..=15 => self.of_publication(kind),
            16..=23 | 33 => self.of_table(kind, table),
            _ => self.of_rows(kind, table),
        }?;
        if kind > 9 {
            self.harmless = false;
        }
        Some(statement)
    }
}
