//! The client over real connections that go wrong.
//!
//! The modules say `cfg(test)` although nothing else is compiled here: clippy takes them for tests by it.

#[cfg(test)]
mod calls;
#[cfg(test)]
mod desk;
