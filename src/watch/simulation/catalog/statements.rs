//! The statements that the model of a catalog executes, by what they change.

use super::{CAPTURED, Catalog, relation};
use crate::lsn::Oid;
use crate::watch::{Code, Part, Publication, Relation};

impl Catalog {
    pub(super) fn harmless(&mut self, kind: u64, table: &str) -> Option<&'static str> {
        let version = self.version();
        let filenode = self.oid();
        match kind {
            0 => {
                let relation = self.relation(table);
                (relation.filenode, relation.version) = (filenode, version);
                Some("vacuum full")
            }
            1 => {
                self.relation(table).version = version;
                Some("grant")
            }
            2 => {
                let relation = self.relation(table);
                relation.version = version;
                relation.types.as_mut().unwrap().push_str(&format!(" {version}:23:-1"));
                Some("add column")
            }
            3 => {
                self.relation(table).version = version;
                Some("alter owner, with or without a second that takes it back")
            }
            4 => {
                let other = Relation {
                    published: true,
                    membership: filenode,
                    ..relation(filenode.0 + 1, "other")
                };
                self.next_oid += 1;
                self.relations.insert(other.oid, other);
                Some("add an unrelated table to the publication")
            }
            5 => {
                self.relation(table).version = version;
                Some("set a storage parameter")
            }
            6 => {
                let oid = self.oid();
                let part = Part {
                    name: "public.leaf".into(),
                    made: version,
                    joined: version,
                    updates_fail: false,
                    rows: -1,
                    filenode: oid,
                    version,
                };
                self.relation("root").parts.insert(oid, part);
                Some("create a partition")
            }
            7 if !self.renamed_back => {
                self.rights_changed = true;
                for relation in self.relations.values_mut() {
                    relation.namespace_version = version;
                    relation.namespace_rights = format!("{version}");
                }
                Some("grant on the schema")
            }
            8 if self.relation(table).published => {
                self.rename(table, "away");
                self.write();
                self.rename("away", table);
                Some("rename the table; insert; rename it back")
            }
            _ => {
                self.write();
                // This insert is harmless only if the publication and the relation let its row
                // through.
                Some("insert")
            }
        }
    }

    pub(super) fn of_publication(&mut self, kind: u64) -> Option<&'static str> {
        self.publication.as_ref()?;
        let could_lose = std::mem::replace(&mut self.may_lose, true);
        match kind {
            10 => {
                self.publication = None;
                self.write();
                Some("drop publication; insert")
            }
            11 => {
                let oid = self.oid();
                self.publication = None;
                self.write();
                let made =
                    Publication { oid, version: self.version(), ..Catalog::new().publication? };
                self.publication = Some(made);
                Some("drop publication; insert; create publication")
            }
            12 => {
                self.alter(|p| p.updates = false);
                self.write();
                Some("set publish = insert; write")
            }
            13 => {
                self.alter(|p| p.deletes = false);
                self.write();
                self.alter(|p| p.deletes = true);
                Some("set publish without delete; write; set it back")
            }
            14 => {
                self.alter(|p| p.via_root = false);
                self.write();
                Some("set publish_via_partition_root = false; write")
            }
            _ => {
                self.alter(|p| p.owner = Oid(p.owner.0 + 1));
                self.may_lose = could_lose;
                Some("alter publication owner")
            }
        }
    }

    pub(super) fn of_table(&mut self, kind: u64, table: &str) -> Option<&'static str> {
        self.may_lose = true;
        match kind {
            16 => {
                self.relation(table).published = false;
                self.write();
                Some("publication drops the table; insert")
            }
            17 => {
                self.relation(table).published = false;
                self.write();
                self.publish(table);
                Some("publication drops the table; insert; publication adds the table")
            }
            18 if self.relation(table).published => {
                let version = self.version();
                self.relation(table).published = false;
                self.write();
                let relation = self.relation(table);
                relation.published = true;
                (relation.version, relation.placed) = (version, Some(version));
                Some("set another schema, which is not published; insert; set the schema back")
            }
            19 => {
                let old = self.named(table)?;
                self.create("new");
                self.rename(table, "old");
                self.rename("new", table);
                self.write();
                self.relations.get_mut(&old)?.name = format!("old_{old}");
                Some("load and swap")
            }
            20 => {
                let oid = self.named(table)?;
                self.relations.remove(&oid);
                self.create(table);
                self.write();
                Some("drop the table and create it again; insert")
            }
            21 => {
                let relation = self.relation(table);
                relation.persistence = 'u';
                relation.published = false;
                self.write();
                Some("set unlogged; insert")
            }
            22 => {
                let (membership, version) = (self.oid(), self.version());
                let relation = self.relation(table);
                (relation.membership, relation.membership_version) = (membership, version);
                relation.filter = Some("narrow".to_owned());
                self.write();
                Some("publication narrows the row filter; insert")
            }
            23 => {
                self.rename(table, &format!("gone_{}", self.next_oid));
                self.write();
                Some("rename the table; insert")
            }
            33 if self.relation(table).published => {
                let version = self.version();
                self.relation(table).published = false;
                self.write();
                let relation = self.relation(table);
                (relation.published, relation.lineage) = (true, version.to_string());
                Some("detach the leaf; insert; attach the leaf again")
            }
            _ => None,
        }
    }

    pub(super) fn of_rows(&mut self, kind: u64, table: &str) -> Option<&'static str> {
        let version = self.version();
        let is_expected = |catalog: &Catalog, name: &str| {
            catalog.named(name).is_some_and(|oid| {
                catalog.expected.get(&oid).is_some_and(|expected| expected == name)
            })
        };
        if !is_expected(self, table) {
            return None;
        }
        match kind {
            24 => {
                let filenode = self.oid();
                let relation = self.relation(table);
                relation.types = Some(format!("1:23:-1 2:9{version}:-1"));
                (relation.filenode, relation.version) = (filenode, version);
                self.harm(table, Code::TableRewritten);
                Some("alter column type using")
            }
            25 => {
                let relation = self.relation(table);
                (relation.key, relation.updates_fail, relation.version) =
                    (String::new(), true, version);
                self.harm(table, Code::IdentityLost);
                Some("drop the primary key")
            }
            26 if !self.relation(table).updates_fail => {
                let relation = self.relation(table);
                (relation.key, relation.version) = (format!("{version}"), version);
                self.harm(table, Code::KeyChanged);
                // If the key is lost afterwards, the finding says that the identity is lost.
                self.harms.last_mut()?.codes.push(Code::IdentityLost);
                Some("move the primary key")
            }
            27..=31 => self.of_parts(kind, version),
            _ if self.rights_changed => None,
            _ => {
                self.renamed_back = true;
                for relation in self.relations.values_mut() {
                    relation.namespace_version = version;
                }
                for name in CAPTURED {
                    if is_expected(self, name) {
                        self.harm(name, Code::NamespaceAltered);
                    }
                }
                Some("rename the schema; insert; rename it back")
            }
        }
    }
}
