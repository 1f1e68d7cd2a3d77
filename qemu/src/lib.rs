//! The host tool as a library.
