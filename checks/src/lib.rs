//! What the checks share.

pub mod bin_under_test;
