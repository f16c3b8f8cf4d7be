//! In-memory ports that can be told to fail. Only tests use them.
