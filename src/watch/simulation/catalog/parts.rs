//! Statements about the partitions of the root.

use super::Catalog;
use crate::watch::{Code, Part};

impl Catalog {
    pub(super) fn of_parts(&mut self, kind: u64, version: u32) -> Option<&'static str> {
        match kind {
            27 => {
                let oid = self.oid();
                let part = Part {
                    name: "public.late".into(),
                    made: 1,
                    joined: version,
                    updates_fail: false,
                    rows: 7,
                    filenode: oid,
                    version,
                };
                self.relation("root").parts.insert(oid, part);
                self.harm("root", Code::PartitionAttached);
                Some("attach a partition with rows")
            }
            28 | 29 => {
                // A partition that came after the last look and leaves before the next look is seen
                // by neither.
                let begun = self.begun;
                let parts = &mut self.relation("root").parts;
                let known = *parts.iter().find(|(_, part)| part.joined <= begun)?.0;
                if kind == 28 {
                    parts.remove(&known);
                } else {
                    parts.get_mut(&known)?.joined = version;
                }
                self.harm("root", Code::PartitionLeft);
                Some(if kind == 28 {
                    "detach a partition"
                } else {
                    "detach a partition; insert; attach it"
                })
            }
            30 => {
                let oid = self.oid();
                let part = Part {
                    name: "public.bare".into(),
                    made: version,
                    joined: version,
                    updates_fail: true,
                    rows: -1,
                    filenode: oid,
                    version,
                };
                self.relation("root").parts.insert(oid, part);
                self.harm("root", Code::IdentityLost);
                Some("create a partition without an identity")
            }
            _ => {
                let (begun, filenode) = (self.begun, self.oid());
                let parts = &mut self.relation("root").parts;
                let part = parts.values_mut().find(|part| part.joined <= begun)?;
                (part.filenode, part.version, part.rows) = (filenode, version, -1);
                self.harm("root", Code::PartitionEmptied);
                // If the partition leaves afterwards, the finding says that it left.
                self.harms.last_mut()?.codes.push(Code::PartitionLeft);
                Some("truncate a partition")
            }
        }
    }
}
