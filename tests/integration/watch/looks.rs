//! Tests of the findings that two looks at a real catalog give for the statements between them.

use crate::support::postgres::Server;
use wellspring::postgres::{Config, Sql, parse_url};
use wellspring::table::TableName;
use wellspring::watch::{Code, Fingerprint, compare, query};

/// A server with a publication of two tables and a partitioned one, and a session that looks at it.
struct Catalog {
    server: Server,
    sql: Sql,
    publication: &'static str,
}

const TABLES: &str = "
    create table a (id int primary key, v varchar(10)); create table b (id int primary key);
    create table root (id int primary key) partition by range (id);
    create table leaf partition of root for values from (0) to (10);
    create table other (id int primary key); create role somebody;
    insert into a select g, 'x' from generate_series(1, 100) g;
    create publication p for table a, b, root with (publish_via_partition_root);
    create publication leaves for table root;
    create publication every for all tables with (publish_via_partition_root)";

impl Catalog {
    async fn new(publication: &'static str) -> Catalog {
        let server = Server::start();
        server.sql("postgres", TABLES);
        let config = Config::from_url(parse_url(&server.url("postgres")).unwrap()).unwrap();
        Catalog { sql: Sql::connect(&config).await.unwrap(), server, publication }
    }

    async fn look(&self, earlier: Option<&Fingerprint>) -> Fingerprint {
        let is_selected = |table: &TableName| ["a", "b", "root", "leaf"].contains(&&*table.name);
        query(&self.sql, self.publication, is_selected, earlier).await.unwrap()
    }

    /// The codes and tables that are found after the statements, each in a transaction of its own.
    async fn found(&self, statements: &[&str]) -> Vec<(Code, String)> {
        let before = self.look(None).await;
        for statement in statements {
            self.server.sql("postgres", statement);
        }
        let now = self.look(Some(&before)).await;
        assert!(before.after <= now.before, "positions rise: {before:?} {now:?}");
        let findings = compare(&before, &now);
        findings
            .into_iter()
            .map(|finding| (finding.code, finding.table.unwrap_or_default()))
            .collect()
    }
}

fn one(code: Code, table: &str) -> Vec<(Code, String)> {
    vec![(code, table.to_owned())]
}

#[tokio::test]
async fn a_look_sees_the_captured_tables_as_they_are() {
    let catalog = Catalog::new("p").await;
    let look = catalog.look(None).await;
    let publication = look.publication.as_ref().unwrap();
    assert!(
        publication.inserts && publication.updates && publication.deletes && publication.truncates
    );
    assert!(publication.via_root && publication.version > 0);
    let captured: Vec<String> =
        look.captured().map(|relation| relation.table().to_string()).collect();
    assert_eq!(captured, ["public.a", "public.b", "public.root"]);
    let a = look.captured().next().unwrap();
    assert_eq!((a.persistence, a.identity, &*a.key, a.updates_fail), ('p', 'd', "1", false));
    assert!(a.membership.0 > 0 && a.membership_version > 0 && a.filenode.0 > 0);
    assert!(a.placed.is_some_and(|version| version > 0));
    assert_eq!(a.types.as_deref(), Some("1:23:-1 2:25:-1"));
    let root = look.captured().last().unwrap();
    assert_eq!(root.parts.values().map(|part| &*part.name).collect::<Vec<_>>(), ["public.leaf"]);
    let again = catalog.look(Some(&look)).await;
    assert_eq!(
        again.relations, look.relations,
        "what has not changed is taken from the look before"
    );
    assert_eq!(catalog.look(None).await.publication, look.publication);
}

#[tokio::test]
async fn statements_that_lose_nothing_are_no_finding() {
    for publication in ["p", "every"] {
        let catalog = Catalog::new(publication).await;
        let quiet = [
            "vacuum full a",
            "vacuum full leaf",
            "cluster leaf using leaf_pkey",
            "cluster a using a_pkey",
            "analyze",
            "vacuum freeze a",
            "reindex table a",
            "reindex table concurrently a",
            "grant select on a to somebody",
            "revoke select on a from somebody",
            "comment on table a is 'x'",
            "alter table a add column w int default 7",
            "alter table a owner to somebody",
            "alter table a owner to postgres; alter table a owner to somebody",
            "alter table a rename to x; alter table x rename to a",
            "alter table a alter column v type varchar(20)",
            "alter publication p add table other",
            "truncate a",
            "create table leaf2 partition of root for values from (10) to (20)",
            "insert into root values (1), (11)",
            "analyze root",
            "truncate root",
            "create index concurrently on a (v)",
            "vacuum freeze pg_class",
            "vacuum full pg_type",
            "vacuum full pg_publication",
            "vacuum full pg_publication_rel",
            "grant create on schema public to somebody",
            "alter table b set (fillfactor = 50)",
            "update a set v = 'y'",
            "drop table other",
        ];
        for statement in quiet {
            assert_eq!(catalog.found(&[statement]).await, [], "{statement}");
        }
    }
}

#[tokio::test]
async fn what_happens_to_the_publication_is_found() {
    let catalog = Catalog::new("p").await;
    let altered = one(Code::PublicationAltered, "");
    let set = |operations: &str| format!("alter publication p set (publish = '{operations}')");
    let all = set("insert, update, delete, truncate");
    assert_eq!(catalog.found(&[&set("insert"), &all]).await, altered);
    assert_eq!(catalog.found(&[&set("insert")]).await, altered);
    assert_eq!(catalog.found(&[&all]).await, one(Code::PublicationExtended, ""));
    assert_eq!(
        catalog.found(&["alter publication p owner to somebody"]).await,
        one(Code::PublicationExtended, "")
    );
    assert_eq!(
        catalog.found(&["alter publication p set (publish_via_partition_root = false)"]).await,
        altered
    );
    assert_eq!(
        catalog
            .found(&["alter publication p rename to q", "alter publication q rename to p"])
            .await,
        altered
    );
    let changed = one(Code::PublicationChanged, "");
    assert_eq!(
        catalog.found(&["drop publication p", "create publication p for table a, b, root"]).await,
        changed
    );
    assert_eq!(catalog.found(&["drop publication p"]).await, one(Code::PublicationMissing, ""));
}

#[tokio::test]
async fn what_happens_to_a_member_is_found() {
    let catalog = Catalog::new("p").await;
    let left = one(Code::TableLeft, "public.a");
    let (away, back) = ("alter publication p drop table a", "alter publication p add table a");
    assert_eq!(catalog.found(&[away, back]).await, left);
    assert_eq!(catalog.found(&[away]).await, left);
    assert_eq!(catalog.found(&[back]).await, []);
    if catalog.server.major() >= 15 {
        assert_eq!(
            catalog.found(&["alter publication p set table a where (id > 5), b, root"]).await,
            left
        );
        assert_eq!(catalog.found(&["alter publication p set table a (id), b, root"]).await, left);
        assert_eq!(catalog.found(&["alter publication p set table a (id), b, root"]).await, []);
    }
    catalog.server.sql("postgres", "create schema s");
    let (there, back) = ("alter table a set schema s", "alter table s.a set schema public");
    assert_eq!(catalog.found(&[there, back]).await, left);
    let owner = "alter table a owner to somebody";
    assert_eq!(catalog.found(&[there, back, owner]).await, left, "a new owner hides nothing");
    assert_eq!(catalog.found(&["alter table a rename to x"]).await, left);
    catalog.server.sql("postgres", "alter table x rename to a");
    let schema = catalog
        .found(&["alter schema public rename to t", "alter schema t rename to public"])
        .await;
    assert_eq!(
        schema.iter().map(|(code, _)| *code).collect::<Vec<_>>(),
        [Code::NamespaceAltered; 3]
    );
}

#[tokio::test]
async fn a_leaf_that_was_detached_for_a_while_is_found() {
    let catalog = Catalog::new("leaves").await;
    let left = one(Code::TableLeft, "public.leaf");
    let detach = "alter table root detach partition leaf";
    let attach = "alter table root attach partition leaf for values from (0) to (10)";
    assert_eq!(
        catalog.found(&["alter table leaf owner to somebody", "vacuum full leaf"]).await,
        []
    );
    assert_eq!(catalog.found(&[detach, "insert into leaf values (1)", attach]).await, left);
    assert_eq!(catalog.found(&[detach]).await, left);
    // A leaf that is itself a member stays published while it is detached.
    catalog.server.sql("postgres", attach);
    catalog.server.sql("postgres", "alter publication leaves add table leaf");
    assert_eq!(catalog.found(&[detach, attach]).await, []);
}

#[tokio::test]
async fn another_relation_under_a_captured_name_is_found() {
    let catalog = Catalog::new("p").await;
    catalog.server.sql("postgres", "create table a_new (like a including all)");
    let before = catalog.look(None).await;
    catalog.server.sql(
        "postgres",
        "begin; alter table a rename to a_old; alter table a_new rename to a; commit",
    );
    let findings = compare(&before, &catalog.look(Some(&before)).await);
    let [finding] = &findings[..] else { panic!("{findings:#?}") };
    assert_eq!((finding.code, finding.table.as_deref()), (Code::TableSwapped, Some("public.a")));
    assert!(
        finding.detail.contains("public.a_old") && finding.detail.contains("is not published"),
        "{finding:?}"
    );
    assert!(finding.next.contains("ADD TABLE ONLY \"public\".\"a\""), "{finding:?}");
    assert!(finding.next.contains("wellspring snapshot public.a"), "{finding:?}");
    let swapped = one(Code::TableSwapped, "public.b");
    assert_eq!(
        catalog.found(&["drop table b", "create table b (id int primary key)"]).await,
        swapped
    );
    let every = Catalog { publication: "every", ..catalog };
    assert_eq!(
        every.found(&["drop table b", "create table b (id int primary key)"]).await,
        swapped
    );
    assert_eq!(
        every.found(&["alter table b set unlogged"]).await,
        one(Code::TableLeft, "public.b")
    );
}

#[tokio::test]
async fn rewrites_and_lost_identities_are_found() {
    let catalog = Catalog::new("p").await;
    let rewritten = one(Code::TableRewritten, "public.a");
    assert_eq!(
        catalog.found(&["alter table a alter column v type int using length(v)"]).await,
        rewritten
    );
    let other_key = "alter table b add column k int not null default 1, drop constraint b_pkey, add primary key (k)";
    assert_eq!(catalog.found(&[other_key]).await, one(Code::KeyChanged, "public.b"));
    let lost = one(Code::IdentityLost, "public.b");
    assert_eq!(catalog.found(&["alter table b drop constraint b_pkey"]).await, lost);
    assert_eq!(
        catalog.found(&["alter table b replica identity full"]).await,
        one(Code::KeyChanged, "public.b")
    );
    let keyed = one(Code::KeyChanged, "public.b");
    let primary = "alter table b add primary key (id)";
    assert_eq!(catalog.found(&[primary]).await, keyed, "the key of records under FULL");
    assert_eq!(catalog.found(&["alter table b drop constraint b_pkey"]).await, keyed);
    let index = "create unique index b_k on b (k); alter table b replica identity using index b_k";
    catalog.server.sql("postgres", index);
    assert_eq!(catalog.found(&["reindex index concurrently b_k"]).await, []);
    assert_eq!(catalog.found(&["drop index b_k"]).await, lost);
}

#[tokio::test]
async fn partitions_that_come_with_rows_or_leave_are_found() {
    let catalog = Catalog::new("p").await;
    let late = "create table late (id int primary key); insert into late select generate_series(20, 29); analyze late";
    catalog.server.sql("postgres", late);
    let before = catalog.look(None).await;
    catalog
        .server
        .sql("postgres", "alter table root attach partition late for values from (20) to (30)");
    let findings = compare(&before, &catalog.look(Some(&before)).await);
    let [finding] = &findings[..] else { panic!("{findings:#?}") };
    assert_eq!(
        (finding.code, finding.table.as_deref()),
        (Code::PartitionAttached, Some("public.root"))
    );
    assert!(
        finding.detail.contains("public.late") && finding.detail.contains("about 10 rows"),
        "{finding:?}"
    );
    let left = one(Code::PartitionLeft, "public.root");
    let attach = "alter table root attach partition late for values from (20) to (30)";
    assert_eq!(catalog.found(&["alter table root detach partition late", attach]).await, left);
    assert_eq!(catalog.found(&["alter table root detach partition late"]).await, left);
    let two = "create table second partition of root for values from (60) to (70);
        insert into root values (1), (61), (62); analyze";
    catalog.server.sql("postgres", two);
    let before = catalog.look(None).await;
    catalog.server.sql("postgres", "truncate second");
    let findings = compare(&before, &catalog.look(Some(&before)).await);
    let [finding] = &findings[..] else { panic!("{findings:#?}") };
    assert_eq!(finding.code, Code::PartitionEmptied);
    let words = "public.second of table public.root was truncated";
    assert!(
        finding.detail.contains(words) && finding.detail.contains("about 2 rows"),
        "{finding:?}"
    );
    let bare = "create table bare (id int not null); alter table bare replica identity nothing;
                alter table root attach partition bare for values from (40) to (50)";
    let found = catalog.found(&[bare]).await;
    assert!(found.contains(&(Code::IdentityLost, "public.root".to_owned())), "{found:?}");
}

#[tokio::test]
async fn a_table_that_except_leaves_out_is_found() {
    let catalog = Catalog::new("every").await;
    if catalog.server.major() < 19 {
        return; // EXCEPT came with 19
    }
    let out = "alter publication every set all tables except (table a, root)";
    let found = catalog.found(&[out]).await;
    let left = |table: &str| (Code::TableLeft, table.to_owned());
    assert_eq!(found, [left("public.a"), left("public.root")]);
    assert_eq!(catalog.found(&["alter publication every set all tables"]).await, []);
}
