//! A whole agent whose publication and tables change while it streams.
