//! Memory that other processes can change.
