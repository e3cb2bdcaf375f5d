//! The reasons why a table is not copied, or why its copy waits.
//!
//! The codes of the first copy begin with `copy`. Those of backfills and standstills begin with
//! `window`, except for `table_detached`. A table that cannot be planned or encoded has the code of
//! the trouble or the halt instead.

super::reasons! {
    /// Reason why a table is not copied, or why its copy waits.
    pub enum CopyReason {
        /// The meaning, as `docs/operating.md` lists it.
        fn means;
        CopyRewritten: "copy_rewritten",
            "The table was rewritten, truncated or dropped before the first copy locked it. A \
             backfill copies it.";
        CopyPostponed: "copy_postponed",
            "The server did not go on reading the table: a query was cancelled, there was a \
             deadlock, a lock was not free in time, memory or disk was short, or a standby \
             replayed a conflicting change. A backfill copies it.";
        CopyQuery: "copy_query",
            "The table's query in `snapshot.query` lacks a column that is NOT NULL.";
        CopyRefused: "copy_refused",
            "The server refuses to read the table.";
        CopyUnreadable: "copy_unreadable",
            "The server sent a row that is not in the format of COPY.";
        RowRefused: "window_row_refused",
            "A row cannot be read or encoded, or the table is an outbox.";
        NotCaptured: "window_not_captured",
            "The configuration does not capture the table.";
        NotPublished: "window_not_published",
            "The table left the publication or was recreated after the copy was requested.";
        Query: "window_query",
            "The table has a query in `snapshot.query`, which only the first copy can read.";
        SurrogateKey: "window_surrogate_key",
            "The signal's `surrogate-key` is not the key of the table.";
        Unreadable: "window_unreadable",
            "The server sent rows of a chunk that are not in the format of COPY.";
        Broken: "window_broken",
            "The standstill was cut off three times after it had sent rows.";
        Cancelled: "window_cancelled",
            "A command or a signal cancelled the backfill that was to copy the rows.";
        Detached: "table_detached",
            "The table was detached while it was copied.";
        NoSlot: "window_no_slot",
            "The copy waits for a free replication slot or walsender.";
        NoRoom: "window_no_room",
            "The copy waits for disk space, memory or connections of the server.";
        Transactions: "window_waits",
            "The copy waits for the end of transactions that began before the copy.";
        Retried: "window_retried",
            "The last try of a chunk or a standstill did not succeed, and the copy waits for the \
             next try.";
        Snapshot: "window_snapshot",
            "The standstill waits for the snapshot of its temporary slot.";
    }
}
